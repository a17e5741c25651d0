//! WebSocket frames as bytes (RFC 6455, section 5): heads, masks, and whole frames to send.
//!
//! The decoder reads streams of frames, and knows which frames can follow each other.

use bytes::Bytes;

use crate::CloseCode;

/// The longest payload of a Ping, Pong or Close (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest close reason: a Close also holds a code.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The longest head: two bytes, eight of length, four of mask.
pub(crate) const HEAD_BYTES_MAX: usize = 14;

/// In the first byte: the frame ends its message.
pub(crate) const FIN: u8 = 0x80;

/// In the first byte: bits for extensions; the server never agrees on any.
pub(crate) const RESERVED: u8 = 0x70;

/// In the second byte: a masking key follows the length.
pub(crate) const MASKED: u8 = 0x80;

/// What a frame is (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further piece of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text, or the first piece of it.
    Text = 0x1,
    /// Bytes, or the first piece of them.
    Binary = 0x2,
    /// The end of the connection.
    Close = 0x8,
    /// A question whether the peer is alive.
    Ping = 0x9,
    /// The answer to a Ping, or an unsolicited sign of life.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with these four bits; the other ten values are reserved.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    /// Whether it is a control frame: short, never fragmented, allowed between fragments.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A whole text frame as a server sends it, unmasked.
///
/// It makes one allocation of exactly the frame's length. The first clone adds the counter that all
/// clones share, however many there are.
#[must_use]
pub fn text(text: &str) -> Bytes {
    whole(Opcode::Text, text.as_bytes())
}

/// The same of a text that `write` appends, which has `len` bytes.
pub(crate) fn text_with(len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = Vec::with_capacity(frame_len(len));
    push_head(&mut frame, FIN | Opcode::Text as u8, None, len);
    write(&mut frame);
    debug_assert_eq!(frame.len(), frame_len(len), "the head tells the length");
    frame.into()
}

/// A whole binary frame as a server sends it, unmasked.
#[must_use]
pub fn binary(payload: &[u8]) -> Bytes {
    whole(Opcode::Binary, payload)
}

/// An empty Ping as a server sends it. It allocates nothing.
#[must_use]
pub fn ping() -> Bytes {
    Bytes::from_static(&[FIN | Opcode::Ping as u8, 0])
}

/// A Pong as a server sends it, with the payload of the Ping it answers.
///
/// A payload beyond [`CONTROL_BYTES_MAX`] bytes is truncated; no valid Ping has one.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    whole(Opcode::Pong, &payload[..payload.len().min(CONTROL_BYTES_MAX)])
}

/// A Close as a server sends it.
///
/// A reason beyond [`REASON_BYTES_MAX`] bytes is truncated after the last character that fits.
#[must_use]
pub fn close(code: CloseCode, reason: &str) -> Bytes {
    let mut reason_len = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(reason_len) {
        reason_len -= 1;
    }
    let reason = &reason[..reason_len];
    let mut frame = Vec::with_capacity(frame_len(2 + reason.len()));
    push_head(&mut frame, FIN | Opcode::Close as u8, None, 2 + reason.len());
    frame.extend_from_slice(&code.as_u16().to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame.into()
}

/// The length of an unmasked head for a payload of this length, in bytes: 2, 4 or 10.
#[must_use]
pub const fn head_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// The length of a whole unmasked frame with a payload of this length, in bytes.
#[must_use]
pub const fn frame_len(payload_len: usize) -> usize {
    head_len(payload_len) + payload_len
}

/// The first frame boundary at or after `offset` in `run`, a sequence of whole unmasked frames.
/// Zero counts as a boundary.
///
/// A queue of frames can be cut there, so that the rest begins with a whole frame. The function
/// reads heads only, one step for each frame before the answer. If `offset` is beyond the run, or
/// the run does not end with a whole frame, the answer is `run.len()`.
#[must_use]
pub fn boundary_after(run: &[u8], offset: usize) -> usize {
    let mut at = 0;
    while at < offset {
        let Some(len) = unmasked_frame_len(&run[at..]) else { return run.len() };
        at += len;
    }
    at
}

/// The length of the unmasked frame that `run` begins with, if it is whole.
fn unmasked_frame_len(run: &[u8]) -> Option<usize> {
    let (head, payload) = match *run.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(*run.get(2..)?.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*run.get(2..)?.first_chunk()?)),
        len => (2, u64::from(len)),
    };
    let len = usize::try_from(payload).ok()?.checked_add(head)?;
    (len <= run.len()).then_some(len)
}

/// A whole unfragmented frame as a client sends it, masked with `key`.
///
/// RFC 6455, section 5.3, requires a fresh key for each frame, one that the sender of the payload
/// cannot foresee.
#[must_use]
pub fn masked(opcode: Opcode, payload: &[u8], key: [u8; 4]) -> Bytes {
    let mut frame = Vec::with_capacity(frame_len(payload.len()) + key.len());
    append(&mut frame, Fin::Last, opcode, Some(key), payload);
    frame.into()
}

/// Whether a frame ends its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fin {
    /// More fragments follow.
    More,
    /// The message ends here.
    Last,
}

/// Appends one frame, masked if there is a key: the building block of fragmented messages.
///
/// It checks neither the order of frames nor the length of control frames.
pub fn append(out: &mut Vec<u8>, fin: Fin, opcode: Opcode, key: Option<[u8; 4]>, payload: &[u8]) {
    let fin = if fin == Fin::Last { FIN } else { 0 };
    push_head(out, fin | opcode as u8, key, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        apply_mask(&mut out[start..], key, 0);
    }
}

fn whole(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(frame_len(payload.len()));
    append(&mut frame, Fin::Last, opcode, None, payload);
    frame.into()
}

fn push_head(out: &mut Vec<u8>, first: u8, key: Option<[u8; 4]>, payload_len: usize) {
    let masked = if key.is_some() { MASKED } else { 0 };
    out.push(first);
    match payload_len {
        #[expect(clippy::cast_possible_truncation, reason = "at most 125")]
        0..=125 => out.push(masked | payload_len as u8),
        #[expect(clippy::cast_possible_truncation, reason = "at most 65535")]
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

/// Masks or unmasks `payload`, which starts at byte `offset` of its frame's payload (RFC 6455,
/// section 5.3).
pub(crate) fn apply_mask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let key: [u8; 4] = std::array::from_fn(|at| key[offset.wrapping_add(at) % 4]);
    let word = u64::from_ne_bytes(std::array::from_fn(|at| key[at % 4]));
    let (chunks, tail) = payload.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word by word is the same as byte by byte, wherever a piece begins and ends.
    #[test]
    fn masks_piece_by_piece() {
        let key = [0x12, 0x34, 0x56, 0x78];
        let payload: Vec<u8> = (0..40).collect();
        for start in 0..payload.len() {
            for end in start..=payload.len() {
                let expected: Vec<u8> = (start..end).map(|at| payload[at] ^ key[at % 4]).collect();
                let mut piece = payload[start..end].to_vec();
                apply_mask(&mut piece, key, start);
                assert_eq!(piece, expected, "{start}..{end}");
            }
        }
    }
}
