//! What went wrong with a request, in JSON (RFC 9457).

use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};

/// A refusal in terms that programs can act on. Its content type is
/// [`CONTENT_TYPE`](Self::CONTENT_TYPE).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which problem it is: [`TYPE_PREFIX`](Self::TYPE_PREFIX) and a name from a closed list.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same in words; it does not change from one occurrence to the next.
    pub title: String,
    /// The status of the answer, or of the item in a batch.
    pub status: u16,
    /// What exactly was wrong this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which field of the body, parameter or header was wrong, as `users[2]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What that limit is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_name: Option<String>,
    /// Which setting of the server decides about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// After how many seconds it is worth to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// The content type of an answer that is one.
    pub const CONTENT_TYPE: &'static str = "application/problem+json";
    /// What the type of each begins with.
    pub const TYPE_PREFIX: &'static str = "urn:wserver:problem:";

    /// Its name, without the prefix; all of the type if it has another.
    #[must_use]
    pub fn name(&self) -> &str {
        self.kind.strip_prefix(Self::TYPE_PREFIX).unwrap_or(&self.kind)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`BodyError`] when it is none.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}
