//! Why a request was refused, in JSON (RFC 9457).

use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};

/// A refusal that programs can act on. Its content type is [`CONTENT_TYPE`](Self::CONTENT_TYPE).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The kind of problem: [`TYPE_PREFIX`](Self::TYPE_PREFIX) and a name from a closed list.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words, always the same for one kind.
    pub title: String,
    /// The status of the answer, or of the item in a batch.
    pub status: u16,
    /// What exactly was wrong with this request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which field of the body, parameter or header was wrong, for example `users[2]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that the request exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The name of that limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_name: Option<String>,
    /// The server's setting that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// After how many seconds to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// The content type of an answer that is a problem.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";
    /// The beginning of every problem's type.
    pub const TYPE_PREFIX: &'static str = "urn:wserver:problem:";

    /// Its name without the prefix, or the whole type if that has another prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(Self::TYPE_PREFIX).unwrap_or(&self.kind)
    }

    /// Reads the body of an answer that is a problem.
    ///
    /// # Errors
    /// [`BodyError`] if the body is not a problem.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}
