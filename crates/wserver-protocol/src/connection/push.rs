//! A push as a connection of version 2 gets it: a head, one line feed, and the message verbatim.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use bytes::Bytes;

use crate::frame;

/// What stands around the event and the id of a head: `{"event":…,"id":"…"}` and the line feed.
const AROUND: [&str; 3] = ["{\"event\":", ",\"id\":\"", "\"}\n"];

/// The text frame of a push, unmasked, in one allocation of exactly its length.
///
/// `id` is visible ASCII without `"` and `\`, since it goes into JSON as it is.
#[must_use]
pub fn push(event: &str, id: impl fmt::Display, message: &str) -> Bytes {
    let len = payload_len(event, &id, message.len());
    frame::text_with(len, |payload| {
        payload.extend_from_slice(AROUND[0].as_bytes());
        // JSON escapes control characters, so the first line feed is the one behind the head.
        serde_json::to_writer(&mut *payload, event).expect("a string is always JSON");
        write!(payload, "{}{id}{}{message}", AROUND[1], AROUND[2]).expect("a vector takes it");
    })
}

/// The length of that frame for a message of so many bytes.
#[must_use]
pub fn push_len(event: &str, id: impl fmt::Display, message_len: usize) -> usize {
    frame::frame_len(payload_len(event, &id, message_len))
}

fn payload_len(event: &str, id: &impl fmt::Display, message_len: usize) -> usize {
    let mut id_len = Length(0);
    write!(id_len, "{id}").expect("counting takes it");
    let around: usize = AROUND.iter().map(|it| it.len()).sum();
    around + json_len(event) + id_len.0 + message_len
}

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
