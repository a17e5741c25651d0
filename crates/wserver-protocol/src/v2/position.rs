//! Where a client of a user stands in the messages that are kept for replay.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};

/// The body of `POST /v2/position`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionOf {
    /// The user.
    pub user: String,
}

impl PositionOf {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`], which names the wrong field.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}

/// The answer to [`PositionOf`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionNow {
    /// The position of a client that has everything that was pushed so far.
    pub at: String,
}

impl PositionNow {
    /// Reads the body of a `200`.
    ///
    /// # Errors
    /// [`BodyError`] if the body is not such an answer.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

/// The answer of a node to another that asks which messages of a user it has kept behind a position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// All of them, in order.
    #[serde(default)]
    pub messages: Vec<KeptMessage>,
    /// Why not all of them are here; then there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// A message that a node has kept. `Debug` leaves the message out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    /// Its event.
    pub event: String,
    /// The id of its push.
    pub id: String,
    /// The position behind it.
    pub at: String,
    /// The message.
    pub message: String,
}

impl fmt::Debug for KeptMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptMessage")
            .field("event", &self.event)
            .field("id", &self.id)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
