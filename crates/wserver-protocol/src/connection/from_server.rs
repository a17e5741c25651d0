//! A message of the server, as a client reads it.

use serde::Deserialize;
use serde_json::Value;

use super::notice::{Fields, Notice};
use super::reply::Reply;

/// A message of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FromServer<'a> {
    /// A push.
    Push {
        /// The event that it was pushed to.
        event: String,
        /// The id of the push; empty if it has none.
        id: String,
        /// The position behind it, if it is kept for replay.
        at: Option<String>,
        /// Whether the publisher waits for an acknowledgement.
        ack: bool,
        /// What was pushed.
        message: &'a str,
    },
    /// The reply to a request.
    Reply(Reply),
    /// A notice.
    Notice(Notice),
    /// Something that a later release says.
    Unknown,
}

#[derive(Deserialize)]
struct Head {
    event: String,
    #[serde(default)]
    id: String,
    at: Option<String>,
    #[serde(default)]
    ack: bool,
}

impl<'a> FromServer<'a> {
    /// Reads the payload of one text message; `None` if it is none of version 2.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (head, message) = text.split_once('\n').unwrap_or((text, ""));
        let fields: Value = serde_json::from_str(head).ok().filter(Value::is_object)?;
        if fields.get("event").is_some() {
            let Head { event, id, at, ack } = Head::deserialize(fields).ok()?;
            return Some(Self::Push { event, id, at, ack, message });
        }
        if fields.get("re").is_some() {
            // A reply without `ok` and `error` is one that a later release has invented.
            return Some(Reply::deserialize(fields).map_or(Self::Unknown, Self::Reply));
        }
        let notice = Fields::deserialize(fields).ok().and_then(Fields::notice);
        Some(notice.map_or(Self::Unknown, Self::Notice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{self, Code, Gap, Granted, Hello, Refused, RefusedEvent};

    #[test]
    fn what_the_server_says_is_read() {
        let refused = Refused::new(Code::Busy, "later").with_retry_after(5);
        let granted = Granted {
            registered: Some(vec!["order".to_owned()]),
            refused: vec![RefusedEvent { event: "chat".to_owned(), refused: refused.clone() }],
            expires_in: Some(60),
            at: Some("5f3a9c01b2d4.0000002a".to_owned()),
            gap: Some(Gap { reason: "evicted".to_owned(), spread_seconds: 15 }),
            ..Granted::default()
        };
        let hello = Hello { connection: "17".to_owned(), heartbeat: 25, features: Vec::new() };
        let first = Reply { hello: Some(hello), ..Reply::ok(1, granted) };
        let replies = [
            first,
            Reply::ok(2, Granted::default()),
            Reply::ok(4, Granted { replaying: Some(0), ..Granted::default() }),
            Reply::error(Some(3), refused.clone()),
            Reply::error(None, refused),
        ];
        for reply in replies {
            let text = reply.encode();
            assert_eq!(FromServer::parse(&text), Some(FromServer::Reply(reply)), "{text}");
        }
        let events = || vec!["order".to_owned()];
        for notice in [
            Notice::Beat(25),
            Notice::Expiring { in_seconds: 30 },
            Notice::Leaving { reason: "shutdown".to_owned(), in_seconds: 4 },
            Notice::Gap {
                gap: Gap { reason: "lost".to_owned(), spread_seconds: 15 },
                at: "5f3a9c01b2d4.0000002a".to_owned(),
            },
            Notice::Registered(events()),
            Notice::Unregistered { events: events(), reason: "operator".to_owned() },
        ] {
            let text = notice.encode();
            assert_eq!(FromServer::parse(&text), Some(FromServer::Notice(notice)), "{text}");
        }
    }

    #[test]
    fn a_push_is_read_whatever_it_holds() {
        for event in ["order", "a\"b\\c", "line\nfeed", "\u{2028}ü"] {
            for message in ["", "paid", "\n", "a\n\nb", "{\"event\":\"x\"}"] {
                for (at, ack) in [
                    (None, false),
                    (None, true),
                    (Some("5f3a9c01b2d4.0000002a"), false),
                    (Some("5f3a9c01b2d4.0000002a"), true),
                ] {
                    let head = connection::Head { event, id: "5f3a9c01-12", at, ack };
                    let frame = head.frame(message);
                    assert_eq!(frame.len(), head.frame_len(message.len()));
                    let payload = &frame[crate::frame::head_len(frame.len() - 2)..];
                    let text = std::str::from_utf8(payload).unwrap();
                    assert_eq!(&text[head.bytes()..], message);
                    let expected = FromServer::Push {
                        event: event.to_owned(),
                        id: "5f3a9c01-12".to_owned(),
                        at: at.map(str::to_owned),
                        ack,
                        message,
                    };
                    assert_eq!(FromServer::parse(text), Some(expected));
                }
            }
        }
    }

    #[test]
    fn a_later_release_is_no_error_and_garbage_is() {
        for text in
            ["{}", "{\"re\":1}", "{\"re\":1,\"maybe\":{}}", "{\"beat\":\"x\"}", "{\"at\":1}"]
        {
            assert_eq!(FromServer::parse(text), Some(FromServer::Unknown), "{text}");
        }
        let text = r#"{"re":1,"error":{"code":"of_tomorrow"},"more":1}"#;
        let Some(FromServer::Reply(reply)) = FromServer::parse(text) else { panic!() };
        assert_eq!(reply, Reply::error(Some(1), Refused::new(Code::Unknown, "")));
        for text in ["", "paid", "[]", "1", "\n", "{\"event\":1}\nx", "{\"event\":\"a\"}}\nx"] {
            assert_eq!(FromServer::parse(text), None, "{text}");
        }
    }
}
