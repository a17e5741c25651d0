//! The body that a publisher posts: a message for one event of one user.
//!
//! This file does not know who may push, or whether any connection gets the message.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{PushError, json};

/// One message for every connection that registered `event` for `user_id`.
///
/// After [`PushRequest::parse`], each field has at least one byte; the caller limits how long it
/// may be.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushRequest<'a> {
    /// The user who gets the message, by the id from the authenticator.
    pub user_id: Cow<'a, str>,
    /// The event that the message belongs to.
    pub event: Cow<'a, str>,
    /// The text that is delivered verbatim as one text frame. `Debug` leaves it out.
    pub message: Cow<'a, str>,
}

impl<'a> PushRequest<'a> {
    /// Reads the body of one request, by the same rules as [`Register::parse`].
    ///
    /// [`Register::parse`]: crate::Register::parse
    ///
    /// # Errors
    /// [`PushError`] if the body is not a JSON object, or one of its fields is empty.
    pub fn parse(input: &'a [u8]) -> Result<Self, PushError> {
        let [user_id, event, message] = json::read_strings(input, &["userId", "event", "message"])?;
        for (field, text) in [("userId", &user_id), ("event", &event), ("message", &message)] {
            if text.is_empty() {
                return Err(PushError::Empty { field });
            }
        }
        Ok(Self { user_id, event, message })
    }

    /// The body as a publisher posts it.
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
