//! Where a client stands in the messages of its user that are kept for replay.

use std::fmt;

/// Identifies one log of kept messages: which node keeps it, and which of its logs it is.
///
/// Both numbers are random. A log that is forgotten and begun again is another log, so that a
/// position of the first one is never taken for one of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId {
    home: u32,
    number: u32,
}

/// The bits that are used of each number of a [`LogId`].
const BITS: u32 = 24;
const MASK: u32 = (1 << BITS) - 1;

impl LogId {
    /// The log with this number at the node with this number. Of each only the lower 24 bits count.
    #[must_use]
    pub const fn new(home: u32, number: u32) -> Self {
        Self { home: home & MASK, number: number & MASK }
    }

    /// The number of the node that keeps the log, below 2²⁴.
    #[must_use]
    pub const fn home(self) -> u32 {
        self.home
    }
}

/// How many messages of a log a client has behind it.
///
/// On the wire it is 12 hexadecimal digits for the log, a period, and at least 8 for the offset, as
/// in `5f3a9c01b2d4.0000002a`. To a client it is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The log.
    pub log: LogId,
    /// The number of messages that were put into the log up to here: 0 before the first one.
    pub offset: u64,
}

impl Position {
    /// The longest text of a position, in bytes.
    pub const TEXT_BYTES_MAX: usize = 12 + 1 + 16;

    /// Reads the text of a position; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (log, offset) = text.split_once('.')?;
        let is_hex = |text: &str| text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        if log.len() != 12 || !(8..=16).contains(&offset.len()) || !is_hex(log) || !is_hex(offset) {
            return None;
        }
        let (home, number) = log.split_at(6);
        let [home, number] = [home, number].map(|half| u32::from_str_radix(half, 16));
        let offset = u64::from_str_radix(offset, 16).ok()?;
        Some(Self { log: LogId::new(home.ok()?, number.ok()?), offset })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}{:06x}.{:08x}", self.log.home, self.log.number, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (home, number, offset, text) in [
            (0, 0, 0, "000000000000.00000000"),
            (0x5f_3a9c, 0x01_b2d4, 42, "5f3a9c01b2d4.0000002a"),
            (u32::MAX, u32::MAX, u64::MAX, "ffffffffffff.ffffffffffffffff"),
        ] {
            let position = Position { log: LogId::new(home, number), offset };
            assert_eq!(position.to_string(), text);
            assert!(text.len() <= Position::TEXT_BYTES_MAX);
            assert_eq!(Position::parse(text), Some(position));
        }
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in [
            "",
            ".",
            "5f3a9c01b2d4",
            "5f3a9c01b2d4.",
            "5f3a9c01b2d4.2a",
            "5f3a9c01b2d4.0000002A",
            "5f3a9c01b2d4.+000002a",
            "5f3a9c01b2d.0000002a",
            "5f3a9c01b2d4e.0000002a",
            "5f3a9c01b2d4.00000000000000001",
            "5f3a9c01b2d4.0000002a ",
            "5f3a9c01b2\u{e4}.0000002a",
        ] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }
}
