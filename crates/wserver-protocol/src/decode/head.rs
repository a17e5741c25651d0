//! Frame heads: their bytes, and every check that needs only the head.

use super::limits::{DecodeLimits, Role};
use super::message::Message;
use crate::DecodeError;
use crate::frame::{self, CONTROL_BYTES_MAX, Fin, HEAD_BYTES_MAX, Opcode};

/// A whole head that was checked.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) fin: Fin,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) payload_len: usize,
}

impl Head {
    /// Reads the head at the start of `bytes`, and its length; `None` if it is not complete.
    ///
    /// `message` is the fragmented message in which it arrives. Each byte is checked as soon as it
    /// is there, so that a bad peer is refused early, and so that the result does not depend on how
    /// the stream was split.
    pub(super) fn parse(
        bytes: &[u8],
        role: Role,
        message: Option<&Message>,
        limits: &DecodeLimits,
    ) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & frame::RESERVED != 0 {
            return Err(DecodeError::ReservedBit);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(DecodeError::ReservedOpcode)?;
        let fin = if first & frame::FIN != 0 { Fin::Last } else { Fin::More };
        match (opcode, message) {
            (Opcode::Continuation, None) => return Err(DecodeError::ContinuationUnexpected),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(DecodeError::ContinuationExpected);
            }
            _ if opcode.is_control() && fin == Fin::More => {
                return Err(DecodeError::ControlFragmented);
            }
            _ => {}
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let is_masked = second & frame::MASKED != 0;
        match role {
            Role::Server if !is_masked => return Err(DecodeError::NotMasked),
            Role::Client if is_masked => return Err(DecodeError::Masked),
            Role::Server | Role::Client => {}
        }
        let short_len = second & !frame::MASKED;
        if opcode.is_control() && usize::from(short_len) > CONTROL_BYTES_MAX {
            return Err(DecodeError::ControlTooLong);
        }

        let rest = &bytes[2..];
        let (len, least, rest) = match short_len {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), 126, rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), 0x1_0000, rest),
                None => return Ok(None),
            },
            len => (u64::from(len), 0, rest),
        };
        if len < least {
            return Err(DecodeError::LengthNotShortest);
        }
        let payload_len = if opcode.is_control() {
            usize::from(short_len)
        } else {
            let (fragments, arrived) =
                message.map_or((0, 0), |message| (message.fragments, message.payload.len()));
            if fragments >= limits.fragments_max {
                return Err(DecodeError::TooManyFragments);
            }
            // A length with its highest bit set, which the RFC forbids, also ends here.
            usize::try_from(len)
                .ok()
                .filter(|len| *len <= limits.message_bytes_max.saturating_sub(arrived))
                .ok_or(DecodeError::MessageTooLong)?
        };

        let (mask, rest) = if is_masked {
            match rest.split_first_chunk() {
                Some((key, rest)) => (Some(*key), rest),
                None => return Ok(None),
            }
        } else {
            (None, rest)
        };
        Ok(Some((Self { fin, opcode, mask, payload_len }, bytes.len() - rest.len())))
    }

    /// Unmasks a piece of the payload that starts at byte `offset`.
    pub(super) fn unmask(&self, piece: &mut [u8], offset: usize) {
        if let Some(key) = self.mask {
            frame::apply_mask(piece, key, offset);
        }
    }
}

/// The first bytes of a head.
#[derive(Default, Clone, Copy)]
pub(super) struct HeadBytes {
    bytes: [u8; HEAD_BYTES_MAX],
    len: u8,
}

impl HeadBytes {
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// These bytes, and as many bytes of `more` as fit into a head.
    pub(super) fn followed_by(mut self, more: &[u8]) -> Self {
        let room = &mut self.bytes[usize::from(self.len)..];
        for (slot, byte) in room.iter_mut().zip(more) {
            *slot = *byte;
            self.len += 1;
        }
        self
    }
}
