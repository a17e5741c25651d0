//! A push as a connection of version 2 gets it: a head, one line feed, and the message verbatim.

use bytes::Bytes;
use serde::Serialize;

use crate::frame;

#[derive(Serialize)]
struct Head<'a> {
    event: &'a str,
    id: &'a str,
}

/// The text frame of a push, unmasked, in one allocation of exactly its length.
#[must_use]
pub fn push(event: &str, id: &str, message: &str) -> Bytes {
    let head = head(event, id);
    frame::text_of(&[head.as_bytes(), b"\n", message.as_bytes()])
}

/// The length of that frame for a message of so many bytes.
#[must_use]
pub fn push_len(event: &str, id: &str, message_len: usize) -> usize {
    frame::frame_len(head(event, id).len() + 1 + message_len)
}

fn head(event: &str, id: &str) -> String {
    // JSON escapes control characters, so that the first line feed is the one behind the head.
    serde_json::to_string(&Head { event, id }).expect("strings are always JSON")
}
