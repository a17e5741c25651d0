//! Why a request, or one event of it, is refused.

use serde::{Deserialize, Serialize};

/// Why a request, or one event of it, is refused: a closed list of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// The request has no valid id, or a field has the wrong type or is empty.
    Malformed,
    /// The request has none of the fields that the server knows.
    UnknownRequest,
    /// There is no token.
    TokenMissing,
    /// The token is unknown, malformed, or not valid yet.
    TokenRefused,
    /// The token has expired.
    TokenExpired,
    /// The token is of another user than the connection.
    OtherUser,
    /// The token does not permit this event.
    NotPermitted,
    /// The connection has its most registrations (`bindings_per_connection_max`).
    TooManyEvents,
    /// A token, an event, or all names together are longer than the limit.
    NameTooLong,
    /// The server cannot decide now.
    Busy,
    /// The connection is ending.
    Draining,
    /// A code of a later release.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// Whether the token itself is refused, so that another one is needed.
    #[must_use]
    pub const fn is_of_token(self) -> bool {
        matches!(
            self,
            Self::TokenMissing | Self::TokenRefused | Self::TokenExpired | Self::OtherUser
        )
    }
}

/// A refusal: its code, and a sentence for a developer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// The word for programs.
    pub code: Code,
    /// What exactly is wrong, in words that may change. It never holds a token.
    #[serde(default)]
    pub detail: String,
    /// After how many seconds to try again; `None` if trying again is no use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Refused {
    /// A refusal after which trying again is no use.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}
