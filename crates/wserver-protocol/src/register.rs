//! What a client sends to be sent to: a token and an event.
//!
//! Whether the token is worth anything, and whose it is, is decided elsewhere.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{RegisterError, json};

/// The request of one connection for one event of whoever the token stands for.
///
/// The server does not answer it. Both fields have at least one byte when they come from
/// [`Register::parse`]; how long they may be is the reader's business.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Register<'a> {
    /// What the authenticator turns into a user. A secret: `Debug` leaves it out.
    pub token: Cow<'a, str>,
    /// What the connection wants to hear of.
    pub event: Cow<'a, str>,
}

impl<'a> Register<'a> {
    /// Reads the payload of one text or binary message.
    ///
    /// Keys match in any case, unknown ones are ignored, of duplicates the last wins, `null` is as
    /// if absent, and whatever follows the first JSON value is not looked at. The fields are lent
    /// from `input` unless they hold escapes.
    ///
    /// # Errors
    /// [`RegisterError`] when that is no JSON object, or its token or event is empty.
    pub fn parse(input: &'a [u8]) -> Result<Self, RegisterError> {
        Self::parse_with_token(input, "")
    }

    /// The same on a connection that presented a token before: `handshake_token` stands in for one
    /// that is absent or empty here, unless it is empty itself.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with_token(
        input: &'a [u8],
        handshake_token: &'a str,
    ) -> Result<Self, RegisterError> {
        let [mut token, event] = json::read_strings(input, &["token", "event"])?;
        if token.is_empty() {
            token = Cow::Borrowed(handshake_token);
        }
        for (field, text) in [("token", &token), ("event", &event)] {
            if text.is_empty() {
                return Err(RegisterError::Empty { field });
            }
        }
        Ok(Self { token, event })
    }

    /// The message as a client sends it.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("strings are always JSON")
    }
}

impl fmt::Debug for Register<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Register").field("event", &self.event).finish_non_exhaustive()
    }
}
