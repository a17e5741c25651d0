//! The ids of connections and pushes.

use std::fmt;

/// Identifies one connection within this process; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The id of the connection with this number, which its owner counts.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number in the id.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Identifies one push: unique within a process, and practically unique across processes.
///
/// A publisher's answer, the log, `explain` and connections of version 2 use this id for the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PushId {
    process: u32,
    number: u64,
}

impl PushId {
    /// The id of the push with this number, in the process with this random number.
    #[must_use]
    pub const fn new(process: u32, number: u64) -> Self {
        Self { process, number }
    }

    /// The random number of its process.
    #[must_use]
    pub const fn process(self) -> u32 {
        self.process
    }

    /// Its number in its process.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }
}

/// As `5f3a9c01-12`: at most 29 bytes of hexadecimal and decimal digits and a hyphen.
impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.process, self.number)
    }
}
