//! A push as a connection of version 2 gets it: a head, one line feed, and the message verbatim.

use std::fmt;
use std::io;

use bytes::Bytes;

use crate::frame;

/// The head of a push: what a connection of version 2 learns of it besides the message.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a, I, A = &'static str> {
    /// The event.
    pub event: &'a str,
    /// The id of the push: visible ASCII without `"` and `\`, since it goes into JSON as it is.
    pub id: I,
    /// The position behind it, of the same characters, if the message is kept for replay.
    pub at: Option<A>,
    /// Whether the push waits for an acknowledgement.
    pub ack: bool,
}

impl<'a, I: fmt::Display> Head<'a, I> {
    /// The head of a push that is not kept and waits for nothing.
    pub const fn new(event: &'a str, id: I) -> Self {
        Self { event, id, at: None, ack: false }
    }
}

impl<I: fmt::Display, A: fmt::Display> Head<'_, I, A> {
    /// The text frame of a push, unmasked, in one allocation of exactly its length.
    #[must_use]
    pub fn frame(&self, message: &str) -> Bytes {
        frame::text_with(self.bytes() + message.len(), |payload| {
            payload.extend_from_slice(EVENT.as_bytes());
            // JSON escapes control characters, so the first line feed is the one behind the head.
            serde_json::to_writer(&mut *payload, self.event).expect("a string is always JSON");
            self.write_rest(payload).expect("a vector takes it");
            payload.extend_from_slice(message.as_bytes());
        })
    }

    /// The length of that frame for a message of so many bytes.
    #[must_use]
    pub fn frame_len(&self, message_len: usize) -> usize {
        frame::frame_len(self.bytes() + message_len)
    }

    /// The length of the head with its line feed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let mut rest = Length(0);
        self.write_rest(&mut rest).expect("counting takes it");
        EVENT.len() + json_len(self.event) + rest.0
    }

    /// What follows the event.
    fn write_rest(&self, to: &mut impl io::Write) -> io::Result<()> {
        write!(to, ",\"id\":\"{}\"", self.id)?;
        if let Some(at) = &self.at {
            write!(to, ",\"at\":\"{at}\"")?;
        }
        to.write_all(if self.ack { b",\"ack\":true}\n" } else { b"}\n" })
    }
}

const EVENT: &str = "{\"event\":";

/// The length of a string in JSON, quotes included.
fn json_len(text: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
        0..0x20 => 6,
        _ => 1,
    };
    2 + text.bytes().map(escaped).sum::<usize>()
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_json_is_known_without_writing_it() {
        for c in (0..0x100).filter_map(char::from_u32).chain(['\u{2028}', '\u{10ffff}']) {
            let text = format!("a{c}b");
            assert_eq!(json_len(&text), serde_json::to_string(&text).unwrap().len(), "{c:?}");
        }
    }
}
