//! The ids of connections and pushes.

use std::fmt;
use std::str::FromStr;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// The text is not the id of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a push")]
pub struct NoPushId;

impl FromStr for PushId {
    type Err = NoPushId;

    /// Reads what `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, NoPushId> {
        let (process, number) = text.split_once('-').ok_or(NoPushId)?;
        let is_written = process.len() == 8
            && process.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'));
        if !is_written {
            return Err(NoPushId);
        }
        let process = u32::from_str_radix(process, 16).map_err(|_too_large| NoPushId)?;
        let number = number.parse().map_err(|_too_large| NoPushId)?;
        Ok(Self { process, number })
    }
}

/// As `5f3a9c01-12`: at most 29 bytes of hexadecimal and decimal digits and a hyphen.
impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.process, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        for id in [PushId::new(0, 0), PushId::new(0x5f3a_9c01, 12), PushId::new(u32::MAX, u64::MAX)]
        {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "-",
            "5f3a9c01",
            "5f3a9c01-",
            "5f3a9c01-012",
            "5f3a9c01-+1",
            "5F3A9C01-1",
            "f3a9c01-1",
            "+f3a9c01-1",
            " 5f3a9c01-1",
            "5f3a9c01-1 ",
            "5f3a9c01-18446744073709551616",
        ] {
            assert_eq!(text.parse::<PushId>(), Err(NoPushId), "{text}");
        }
    }
}
