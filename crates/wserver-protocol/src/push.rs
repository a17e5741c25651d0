//! What a backend posts: a message for one event of one user.
//!
//! Who may push, and whether anybody listens, is decided elsewhere.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{PushError, json};

/// One message on its way to every connection that registered `event` for `user_id`.
///
/// Each field has at least one byte when it comes from [`PushRequest::parse`]; how long they may be
/// is the reader's business.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushRequest<'a> {
    /// Whom it is for, as the authenticator named them.
    pub user_id: Cow<'a, str>,
    /// What it is about.
    pub event: Cow<'a, str>,
    /// What is delivered, verbatim, as one text frame. `Debug` leaves it out.
    pub message: Cow<'a, str>,
}

impl<'a> PushRequest<'a> {
    /// Reads the body of one request, by the same rules as [`Register::parse`].
    ///
    /// [`Register::parse`]: crate::Register::parse
    ///
    /// # Errors
    /// [`PushError`] when that is no JSON object, or one of its fields is empty.
    pub fn parse(input: &'a [u8]) -> Result<Self, PushError> {
        let [user_id, event, message] = json::read_strings(input, &["userId", "event", "message"])?;
        for (field, text) in [("userId", &user_id), ("event", &event), ("message", &message)] {
            if text.is_empty() {
                return Err(PushError::Empty { field });
            }
        }
        Ok(Self { user_id, event, message })
    }

    /// The body as a client posts it.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("strings are always JSON")
    }
}

impl fmt::Debug for PushRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushRequest")
            .field("user_id", &self.user_id)
            .field("event", &self.event)
            .field("message_bytes", &self.message.len())
            .finish_non_exhaustive()
    }
}
