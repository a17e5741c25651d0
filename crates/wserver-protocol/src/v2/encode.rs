//! Encodes answers as JSON.

use serde::Serialize;

/// The JSON of an answer, as it is sent.
#[must_use]
pub fn encode(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("answers have text for keys, which is always JSON")
}
