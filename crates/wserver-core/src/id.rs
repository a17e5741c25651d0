//! What connections and pushes are known by.

use std::fmt;

/// One connection, for as long as this process lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// Names the connection that its owner counts as `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number it was made from.
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

/// Names one push: unique in a process, and hardly the same in two.
///
/// It is what a publisher's answer, the log, `explain` and connections of version 2 call the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PushId {
    process: u32,
    number: u64,
}

impl PushId {
    /// The push with this number, of the process that drew this random number for itself.
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
