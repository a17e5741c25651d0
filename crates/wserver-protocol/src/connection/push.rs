//! A push as a connection of version 2 gets it: a head, one line feed, and the message verbatim.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use bytes::Bytes;

use crate::frame;

/// The head of a push: what a connection of version 2 learns of it besides the message.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a, I> {
    /// The event.
    pub event: &'a str,
    /// The id of the push: visible ASCII without `"` and `\`, since it goes into JSON as it is.
    pub id: I,
    /// Whether the push waits for an acknowledgement.
    pub ack: bool,
}

impl<'a, I: fmt::Display> Head<'a, I> {
    /// The head of a push that waits for nothing.
    pub const fn new(event: &'a str, id: I) -> Self {
        Self { event, id, ack: false }
    }

    /// The text frame of a push, unmasked, in one allocation of exactly its length.
    #[must_use]
    pub fn frame(&self, message: &str) -> Bytes {
        let (id, end) = (&self.id, self.end());
        frame::text_with(self.bytes() + message.len(), |payload| {
            payload.extend_from_slice(START.as_bytes());
            // JSON escapes control characters, so the first line feed is the one behind the head.
            serde_json::to_writer(&mut *payload, self.event).expect("a string is always JSON");
            write!(payload, "{MIDDLE}{id}{end}{message}").expect("a vector takes it");
        })
    }

    /// The length of that frame for a message of so many bytes.
    #[must_use]
    pub fn frame_len(&self, message_len: usize) -> usize {
        frame::frame_len(self.bytes() + message_len)
    }

    /// The length of the head and its line feed.
    fn bytes(&self) -> usize {
        let mut id_len = Length(0);
        write!(id_len, "{}", self.id).expect("counting takes it");
        START.len() + json_len(self.event) + MIDDLE.len() + id_len.0 + self.end().len()
    }

    /// What follows the id, with the line feed.
    const fn end(&self) -> &'static str {
        if self.ack { "\",\"ack\":true}\n" } else { "\"}\n" }
    }
}

const START: &str = "{\"event\":";
const MIDDLE: &str = ",\"id\":\"";

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

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
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
