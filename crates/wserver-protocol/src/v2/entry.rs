//! One thing that happened, as explanations list it and traces stream it.

use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};
use super::push::Delivery;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, as `2026-01-31T12:00:00.000Z`.
    pub at: String,
    /// On which node, where it is another one of a cluster than the one that tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// On which connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// To which user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With which event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What: `registered`, `unregistered`, `registration_refused`, `dropped`, `protocol_broken`,
    /// `closed`, `pushed` or `push_refused`.
    pub what: String,
    /// Why, as a label, where there is a why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of it, of a push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// The same in a sentence.
    pub sentence: String,
}

impl Entry {
    /// Reads the data of one event of a trace.
    ///
    /// # Errors
    /// [`BodyError`] when it is none.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

/// What a trace could not tell because its reader was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many entries are missing before the next one.
    pub missed: u64,
}

impl Missed {
    /// Reads the data of a trace's event `missed`.
    ///
    /// # Errors
    /// [`BodyError`] when it is none.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}
