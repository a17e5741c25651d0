//! What is half read, and how much room it takes.

use std::str;

use super::head::{Head, HeadBytes};
use super::passing::Passing;
use crate::DecodeError;
use crate::frame::Opcode;

/// What is kept of a stream while something is half read.
#[derive(Default)]
pub(super) struct Partial {
    /// A head that has begun.
    pub(super) head: HeadBytes,
    /// A frame whose head was read and whose payload goes on.
    pub(super) frame: Option<Frame>,
    /// The payload so far of that frame, if it is a control frame.
    pub(super) control: Vec<u8>,
    /// The fragments so far, that frame's part included unless it is a control frame.
    pub(super) message: Option<Message>,
    /// Instead of all of these, when nothing is kept any more.
    pub(super) passing: Option<Passing>,
}

impl Partial {
    /// Whether nothing is half read. Asked between frames, so a head has not begun.
    pub(super) fn is_idle(&self) -> bool {
        debug_assert!(self.head.is_empty() && self.control.is_empty());
        self.frame.is_none() && self.message.is_none()
    }
}

/// A frame under way.
pub(super) struct Frame {
    pub(super) head: Head,
    /// How much of its payload was read.
    pub(super) arrived: usize,
}

/// A message that has begun.
pub(super) struct Message {
    /// Text or Binary, as its first frame said.
    pub(super) opcode: Opcode,
    /// Frames that have begun.
    pub(super) fragments: usize,
    pub(super) payload: Vec<u8>,
    /// How far `payload` is known to be UTF-8; what follows is at most one unfinished character.
    /// Stays 0 in binary messages.
    utf8_len: usize,
}

impl Message {
    pub(super) const fn new(opcode: Opcode) -> Self {
        Self { opcode, fragments: 0, payload: Vec::new(), utf8_len: 0 }
    }

    /// Adds what arrived of a frame of which `missing` bytes were missing.
    ///
    /// Room grows by doubling what has arrived, not beyond what was announced: an announcement
    /// alone costs nothing, and a long message is not copied once for each piece.
    pub(super) fn append(&mut self, chunk: &[u8], missing: usize) {
        let len = self.payload.len();
        let needed = len + chunk.len();
        if needed > self.payload.capacity() {
            let room = needed.max(2 * len).min(len + missing);
            self.payload.reserve_exact(room - len);
        }
        self.payload.extend_from_slice(chunk);
    }

    /// Refuses text at the first piece that cannot belong to UTF-8 any more.
    pub(super) fn check_text(&mut self, is_last: bool) -> Result<(), DecodeError> {
        if self.opcode != Opcode::Text {
            return Ok(());
        }
        match str::from_utf8(&self.payload[self.utf8_len..]) {
            Ok(text) => self.utf8_len += text.len(),
            Err(error) if error.error_len().is_none() && !is_last => {
                self.utf8_len += error.valid_up_to();
            }
            Err(_) => return Err(DecodeError::NotUtf8),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However a payload arrives, the room for it is at most twice what has arrived, and at most
    /// what was announced.
    #[test]
    fn room_follows_what_arrives() {
        let announced = 10_000;
        for piece in [1, 7, 999, announced] {
            let mut message = Message::new(Opcode::Binary);
            let mut missing = announced;
            let mut growths = 0;
            while missing > 0 {
                let before = message.payload.capacity();
                let chunk = vec![0; piece.min(missing)];
                message.append(&chunk, missing);
                missing -= chunk.len();
                let (len, room) = (message.payload.len(), message.payload.capacity());
                assert!(room <= (2 * len).min(announced), "{room} for {len}");
                growths += usize::from(room != before);
            }
            assert!(growths <= 16, "{growths} growths in pieces of {piece}");
        }
    }

    /// A character may be cut anywhere; what cannot become one is refused at once.
    #[test]
    fn text_is_checked_as_it_arrives() {
        let mut message = Message::new(Opcode::Text);
        for byte in "aé☃𝄞".bytes() {
            message.append(&[byte], 1);
            assert_eq!(message.check_text(false), Ok(()));
            assert!(message.payload.len() - message.utf8_len < 4);
        }
        assert_eq!(message.check_text(true), Ok(()));
        for (payload, unfinished) in
            [(&b"\xe2\x98"[..], Ok(())), (b"\xe2\xff", Err(DecodeError::NotUtf8))]
        {
            let mut message = Message::new(Opcode::Text);
            message.append(payload, payload.len());
            assert_eq!(message.check_text(false), unfinished);
            let mut message = Message::new(Opcode::Text);
            message.append(payload, payload.len());
            assert_eq!(message.check_text(true), Err(DecodeError::NotUtf8));
        }
    }
}
