//! A message of a client, as the server reads it: a request, or acknowledgements.

use serde_json::{Value, json};

use super::code::Code;
use super::request::{self, Request, RequestError};

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FromClient {
    /// A request, which gets a reply.
    Request(Request),
    /// The client has handled the pushes with these ids; there is no reply.
    Ack(Vec<String>),
}

impl FromClient {
    /// Reads the payload of one text or binary message.
    ///
    /// A message with `ack` is no request, so an `id` in it is ignored like every unknown field.
    ///
    /// # Errors
    /// [`RequestError`] as for [`Request::parse`]; [`Code::Malformed`] also if `ack` is not a list of
    /// strings, or the message is a request as well.
    pub fn parse(input: &[u8]) -> Result<Self, RequestError> {
        let mut fields = request::fields(input)?;
        let Some(ids) = fields.remove("ack") else {
            return Request::of(fields).map(Self::Request);
        };
        let malformed = |detail| RequestError::Refused { id: None, code: Code::Malformed, detail };
        if request::KNOWN.iter().any(|name| fields.contains_key(*name)) {
            return Err(malformed("a message with ack is no request"));
        }
        ids_of(ids).map(Self::Ack).ok_or_else(|| malformed("ack must be a list of ids of pushes"))
    }

    /// The message as a client sends it.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Self::Request(request) => request.encode(),
            Self::Ack(ids) => json!({ "ack": ids }).to_string(),
        }
    }
}

fn ids_of(value: Value) -> Option<Vec<String>> {
    let Value::Array(items) = value else { return None };
    let ids = items.into_iter().map(|item| match item {
        Value::String(id) => Some(id),
        _ => None,
    });
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Asked;

    #[test]
    fn what_is_written_is_read() {
        for message in [
            FromClient::Ack(Vec::new()),
            FromClient::Ack(vec!["5f3a9c01-12".to_owned(), "anything".to_owned()]),
            FromClient::Request(Request { id: 7, asked: Asked::Ping }),
        ] {
            assert_eq!(FromClient::parse(message.encode().as_bytes()), Ok(message));
        }
        let message = FromClient::parse(br#"{"id":1,"at":"x","ack":["a"]}"#);
        assert_eq!(message, Ok(FromClient::Ack(vec!["a".to_owned()])));
    }

    #[test]
    fn a_mistake_is_named() {
        let of_list = "ack must be a list of ids of pushes";
        for (input, expected) in [
            (r#"{"ack":"5f3a9c01-12"}"#, of_list),
            (r#"{"ack":[1]}"#, of_list),
            (r#"{"ack":null}"#, of_list),
            (r#"{"ack":{}}"#, of_list),
            (r#"{"id":1,"ack":["a"],"ping":{}}"#, "a message with ack is no request"),
        ] {
            let refused =
                RequestError::Refused { id: None, code: Code::Malformed, detail: expected };
            assert_eq!(FromClient::parse(input.as_bytes()), Err(refused), "{input}");
        }
        assert_eq!(FromClient::parse(b"[]"), Err(RequestError::NotAnObject));
        let unknown = FromClient::parse(br#"{"id":1,"Ack":[]}"#);
        assert!(matches!(unknown, Err(RequestError::Refused { code: Code::UnknownRequest, .. })));
    }
}
