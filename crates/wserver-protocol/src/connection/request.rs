//! What a client asks for.

use std::fmt;

use serde_json::{Map, Value};

use super::code::Code;

/// The largest id of a request: beyond it a number of JavaScript is not exact.
const ID_MAX: u64 = (1 << 53) - 1;

/// What a request asks for, by its field.
pub(super) const KNOWN: [&str; 4] = ["register", "unregister", "refresh", "ping"];

/// One request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The number that the reply repeats, at most 2⁵³ − 1.
    pub id: u64,
    /// What it asks for.
    pub asked: Asked,
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Asked {
    /// To register events.
    Register {
        /// The events: at least one, none empty, in the client's order. Names may repeat.
        events: Vec<String>,
        /// The token, not empty, if the request has one. It is a secret: `Debug` leaves it out.
        token: Option<String>,
        /// The position behind which the client has missed what was pushed, if it has one.
        after: Option<String>,
    },
    /// To end registrations.
    Unregister {
        /// The events, as for [`Register`](Self::Register).
        events: Vec<String>,
    },
    /// To renew every registration.
    Refresh {
        /// The newer token, not empty. It is a secret: `Debug` leaves it out.
        token: String,
    },
    /// To answer.
    Ping,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Register { events, token: _, after } => f
                .debug_struct("Register")
                .field("events", events)
                .field("after", after)
                .finish_non_exhaustive(),
            Self::Unregister { events } => {
                f.debug_struct("Unregister").field("events", events).finish()
            }
            Self::Refresh { token: _ } => f.debug_struct("Refresh").finish_non_exhaustive(),
            Self::Ping => f.write_str("Ping"),
        }
    }
}

/// Why a message is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is not a JSON object at all, so the sender does not speak this protocol.
    #[error("a message must be a JSON object")]
    NotAnObject,
    /// It is to be answered with an error.
    #[error("{detail}")]
    Refused {
        /// The request's id, if it has a valid one.
        id: Option<u64>,
        /// [`Code::Malformed`] or [`Code::UnknownRequest`].
        code: Code,
        /// What is wrong. It repeats no part of the message.
        detail: &'static str,
    },
}

impl Request {
    /// Reads the payload of one text or binary message that is a request.
    ///
    /// Fields are matched exactly, unknown ones are ignored, and the last of duplicates wins.
    ///
    /// # Errors
    /// [`RequestError`] says whether the message can be answered.
    pub fn parse(input: &[u8]) -> Result<Self, RequestError> {
        fields(input).and_then(Self::of)
    }

    pub(super) fn of(mut fields: Map<String, Value>) -> Result<Self, RequestError> {
        let id = fields.get("id").and_then(Value::as_u64).filter(|id| *id <= ID_MAX);
        let refused = |code, detail| RequestError::Refused { id, code, detail };
        let malformed = |detail| refused(Code::Malformed, detail);
        let given = id.ok_or_else(|| malformed("id must be a whole number from 0 to 2^53 - 1"))?;
        let mut asked = KNOWN.into_iter().filter_map(|name| Some((name, fields.remove(name)?)));
        let Some((name, value)) = asked.next() else {
            let detail = "none of register, unregister, refresh and ping";
            return Err(refused(Code::UnknownRequest, detail));
        };
        if asked.next().is_some() {
            return Err(malformed("a request asks for one thing"));
        }
        drop(asked);
        let asked = match name {
            "register" => {
                let events = events(value).ok_or_else(|| malformed(EVENTS))?;
                let token = token(&mut fields).map_err(malformed)?;
                Asked::Register { events, token, after: after(&mut fields).map_err(malformed)? }
            }
            "unregister" => {
                let events = events(value).ok_or_else(|| malformed(EVENTS))?;
                Asked::Unregister { events }
            }
            "refresh" => match value {
                Value::String(token) if !token.is_empty() => Asked::Refresh { token },
                _ => return Err(malformed("refresh must be a token")),
            },
            _ if value.is_object() => Asked::Ping,
            _ => return Err(malformed("ping must be an object")),
        };
        Ok(Self { id: given, asked })
    }

    /// The message as a client sends it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        set("id", self.id.into());
        match &self.asked {
            Asked::Register { events, token, after } => {
                set("register", events.clone().into());
                for (name, value) in [("token", token), ("after", after)] {
                    if let Some(value) = value {
                        set(name, value.clone().into());
                    }
                }
            }
            Asked::Unregister { events } => _ = set("unregister", events.clone().into()),
            Asked::Refresh { token } => _ = set("refresh", token.clone().into()),
            Asked::Ping => _ = set("ping", Map::new().into()),
        }
        Value::Object(fields).to_string()
    }
}

/// The fields of a message.
pub(super) fn fields(input: &[u8]) -> Result<Map<String, Value>, RequestError> {
    match serde_json::from_slice(input) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(RequestError::NotAnObject),
    }
}

const EVENTS: &str =
    "register and unregister take a list of at least one event, none of them empty";

fn events(value: Value) -> Option<Vec<String>> {
    let Value::Array(items) = value else { return None };
    let names = items.into_iter().map(|item| match item {
        Value::String(name) if !name.is_empty() => Some(name),
        _ => None,
    });
    names.collect::<Option<Vec<_>>>().filter(|names| !names.is_empty())
}

/// A token that is absent is no mistake; an empty one is, since a program that has none sends none.
fn token(fields: &mut Map<String, Value>) -> Result<Option<String>, &'static str> {
    match fields.remove("token") {
        None => Ok(None),
        Some(Value::String(token)) if !token.is_empty() => Ok(Some(token)),
        Some(_) => Err("token must be a string that is not empty"),
    }
}

/// Whatever a string holds is a position: one that this server did not give is answered with a gap.
fn after(fields: &mut Map<String, Value>) -> Result<Option<String>, &'static str> {
    match fields.remove("after") {
        None => Ok(None),
        Some(Value::String(position)) => Ok(Some(position)),
        Some(_) => Err("after must be a string"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(input: &str) -> (Option<u64>, Code, &'static str) {
        match Request::parse(input.as_bytes()) {
            Err(RequestError::Refused { id, code, detail }) => (id, code, detail),
            other => panic!("{input}: {other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let events = || vec!["order".to_owned(), "chät\n".to_owned()];
        for asked in [
            Asked::Register { events: events(), token: None, after: None },
            Asked::Register {
                events: events(),
                token: Some("aaa".to_owned()),
                after: Some("5f3a9c01b2d4.0000002a".to_owned()),
            },
            Asked::Unregister { events: events() },
            Asked::Refresh { token: "bbb".to_owned() },
            Asked::Ping,
        ] {
            let request = Request { id: ID_MAX, asked };
            assert_eq!(Request::parse(request.encode().as_bytes()), Ok(request));
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_the_last_of_duplicates_wins() {
        let request = Request::parse(br#"{"id":1,"id":2,"after":"x","ping":{"deep":[1]}}"#);
        assert_eq!(request, Ok(Request { id: 2, asked: Asked::Ping }));
        // Another spelling is another field.
        assert_eq!(refusal(r#"{"id":1,"Ping":{}}"#).1, Code::UnknownRequest);
    }

    #[test]
    fn what_is_no_object_cannot_be_answered() {
        for input in ["", "1", "[]", "\"\"", "null", "{", "{}x", "\u{feff}{}", "{\"id\":1}{}"] {
            assert_eq!(Request::parse(input.as_bytes()), Err(RequestError::NotAnObject), "{input}");
        }
        assert_eq!(Request::parse(b"{\"id\":\"\xff\"}"), Err(RequestError::NotAnObject));
        let deep = format!("{{\"id\":1,\"ping\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(Request::parse(deep.as_bytes()), Err(RequestError::NotAnObject));
    }

    #[test]
    fn a_mistake_is_named_and_keeps_its_id() {
        let of_id = "id must be a whole number from 0 to 2^53 - 1";
        for id in ["\"1\"", "-1", "1.5", "9007199254740992", "null", "[]"] {
            let input = format!("{{\"id\":{id},\"ping\":{{}}}}");
            assert_eq!(refusal(&input), (None, Code::Malformed, of_id), "{id}");
        }
        assert_eq!(refusal(r#"{"ping":{}}"#), (None, Code::Malformed, of_id));
        for events in ["[]", "\"order\"", "{}", "[\"\"]", "[1]", "[\"order\",null]", "null"] {
            for name in ["register", "unregister"] {
                let input = format!("{{\"id\":7,\"{name}\":{events}}}");
                assert_eq!(refusal(&input), (Some(7), Code::Malformed, EVENTS), "{input}");
            }
        }
        for token in ["\"\"", "1", "null", "[]"] {
            let input = format!("{{\"id\":7,\"register\":[\"order\"],\"token\":{token}}}");
            assert_eq!(refusal(&input).2, "token must be a string that is not empty");
            let input = format!("{{\"id\":7,\"refresh\":{token}}}");
            assert_eq!(refusal(&input).2, "refresh must be a token");
        }
        let after = r#"{"id":7,"register":["order"],"after":1}"#;
        assert_eq!(refusal(after).2, "after must be a string");
        assert_eq!(refusal(r#"{"id":7,"ping":1}"#).2, "ping must be an object");
        let two = r#"{"id":7,"register":["a"],"unregister":["b"]}"#;
        assert_eq!(refusal(two), (Some(7), Code::Malformed, "a request asks for one thing"));
    }

    #[test]
    fn debug_leaves_tokens_out() {
        let events = vec!["order".to_owned()];
        for asked in [
            Asked::Register { events, token: Some("s3cret".to_owned()), after: None },
            Asked::Refresh { token: "s3cret".to_owned() },
        ] {
            let shown = format!("{:?}", Request { id: 1, asked });
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }
}
