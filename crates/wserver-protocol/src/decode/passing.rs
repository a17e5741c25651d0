//! Skips a stream that nobody reads any more, up to the peer's Close.

use super::head::HeadBytes;
use crate::frame::{self, Opcode};

/// The position within the frames of a stream that is skipped.
///
/// It accepts any frame: unmasked, too long, with reserved bits. Only the ends of frames matter.
#[derive(Default)]
pub(super) struct Passing {
    /// A head that has begun.
    pub(super) head: HeadBytes,
    /// How many payload bytes are missing of a frame whose head was read.
    pub(super) missing: u64,
    /// Whether that frame is a Close.
    pub(super) is_close: bool,
}

impl Passing {
    /// Whether nothing is half read.
    pub(super) const fn is_idle(&self) -> bool {
        self.head.is_empty() && self.missing == 0
    }

    /// Skips `input`, or up to the end of a Close in it; returns whether a Close has ended.
    pub(super) fn pass_over(&mut self, mut input: &[u8]) -> bool {
        loop {
            let step = usize::try_from(self.missing).map_or(input.len(), |it| it.min(input.len()));
            self.missing -= step as u64;
            input = &input[step..];
            if self.missing == 0 && self.is_close {
                return true;
            }
            if input.is_empty() {
                return false;
            }
            let begun = self.head;
            let bytes = begun.followed_by(input);
            let Some((opcode, head_len, payload_len)) = parse(bytes.as_slice()) else {
                self.head = bytes;
                return false;
            };
            self.head = HeadBytes::default();
            input = &input[head_len - begun.as_slice().len()..];
            self.missing = payload_len;
            self.is_close = opcode == Opcode::Close as u8;
        }
    }
}

/// The opcode of the head at the start of `bytes`, its length and that of its payload; `None` if it
/// is not complete.
fn parse(bytes: &[u8]) -> Option<(u8, usize, u64)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match second & !frame::MASKED {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*len), rest)
        }
        len => (u64::from(len), rest),
    };
    let rest = if second & frame::MASKED == 0 { rest } else { rest.get(4..)? };
    Some((first & 0x0f, bytes.len() - rest.len(), len))
}
