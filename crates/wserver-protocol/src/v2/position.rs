//! Where a client of a user stands in the messages that are kept for replay.

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
