//! A half-read message: its fragments so far, and whether they can still be valid text.

use std::str;

use crate::DecodeError;
use crate::frame::Opcode;

/// A message that has begun.
pub(super) struct Message {
    /// Text or Binary, as its first frame said.
    pub(super) opcode: Opcode,
    /// Frames that have begun.
    pub(super) fragments: usize,
    pub(super) payload: Vec<u8>,
    /// How many bytes of `payload` are known to be UTF-8; the rest is at most one unfinished
    /// character. It stays 0 in binary messages.
    utf8_len: usize,
}

impl Message {
    pub(super) const fn new(opcode: Opcode) -> Self {
        Self { opcode, fragments: 0, payload: Vec::new(), utf8_len: 0 }
    }

    /// Adds the arrived part of a frame, of which `missing` bytes were missing.
    ///
    /// The buffer doubles as data arrives, but does not grow beyond the announced length: an
    /// announcement alone costs nothing, and a long message is not copied once per piece.
    pub(super) fn append(&mut self, chunk: &[u8], missing: usize) {
        let len = self.payload.len();
        let needed = len + chunk.len();
        if needed > self.payload.capacity() {
            let room = needed.max(2 * len).min(len + missing);
            self.payload.reserve_exact(room - len);
        }
        self.payload.extend_from_slice(chunk);
    }

    /// Refuses text at the first piece that cannot be UTF-8.
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
