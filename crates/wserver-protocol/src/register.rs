//! The message with which a client registers: a token and an event.
//!
//! This file does not know whether the token is valid, or whose it is.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::{RegisterError, json};

/// The request of one connection for one event of the user that the token belongs to.
///
/// The server does not answer it. After [`Register::parse`], both fields have at least one byte;
/// the caller limits how long they may be.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Register<'a> {
    /// The token that the authenticator maps to a user. It is a secret: `Debug` leaves it out.
    pub token: Cow<'a, str>,
    /// The event that the connection wants to receive.
    pub event: Cow<'a, str>,
}

impl<'a> Register<'a> {
    /// Reads the payload of one text or binary message.
    ///
    /// Keys match in any case, unknown keys are ignored, the last of duplicate keys wins, `null`
    /// counts as absent, and everything after the first JSON value is ignored. The fields borrow
    /// from `input` unless they hold escapes.
    ///
    /// # Errors
    /// [`RegisterError`] if the message is not a JSON object, or its token or event is empty.
    pub fn parse(input: &'a [u8]) -> Result<Self, RegisterError> {
        Self::parse_with_token(input, "")
    }

    /// Like [`parse`](Self::parse), on a connection whose handshake carried a token:
    /// `handshake_token` replaces a token that is absent or empty here, unless it is empty itself.
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
