//! The questions that nodes of a cluster ask each other about their users and connections, and the
//! answers.
//!
//! This is not for clients. A node answers a question the way the HTTP API answers the same
//! request, but only about itself. Questions and answers are read leniently, so that nodes of two
//! releases understand each other.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// A question.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Question {
    /// How many connections do these users have? The answer is [`Online`](super::Online).
    Presence {
        /// The users.
        users: Vec<String>,
    },
    /// Which connections does a user have? The answer is [`Connections`](super::Connections).
    UserConnections {
        /// The user.
        user: String,
    },
    /// What is known of a connection? The answer is [`Connection`](super::Connection).
    Connection {
        /// The id of the connection.
        id: String,
    },
    /// Close connections. The answer is [`Closed`](super::Closed).
    Disconnect {
        /// A [`Disconnect`](super::Disconnect) in its posted form. It may hold a token, so `Debug`
        /// leaves it out.
        body: String,
    },
    /// Which messages of a user are kept behind a position? The answer is [`Kept`](super::Kept).
    Kept {
        /// The user.
        user: String,
        /// The position.
        after: String,
    },
    /// Is a request with an `Idempotency-Key` known? The answer is
    /// [`KnownRequest`](super::KnownRequest).
    Repeated {
        /// A digest of the publisher and the key.
        id: String,
        /// A digest of the request.
        request: String,
    },
    /// Pushes may not have reached this node. The answer is `null`.
    Lost {
        /// The pushes; `None` if any push to any user may be lost.
        pushes: Option<Vec<LostPush>>,
    },
    /// Add or end a registration. The answer is [`Registered`](super::Registered).
    Register {
        /// The id of the connection.
        id: String,
        /// The user.
        user: String,
        /// The event.
        event: String,
    },
    /// Add or end a registration. The answer is [`Registered`](super::Registered).
    Unregister {
        /// The id of the connection.
        id: String,
        /// The user.
        user: String,
        /// The event.
        event: String,
    },
    /// Why does a push arrive, or not? The answer is [`Explanation`](super::Explanation).
    Explain {
        /// The user of the push.
        user: String,
        /// The event of the push.
        event: String,
    },
    /// Send this user's entries to a stream of the asking node, for some seconds or until it asks
    /// again. The answer is `null`.
    Trace {
        /// The user to follow.
        user: String,
        /// The number of the stream.
        stream: u64,
    },
    /// The node in numbers. The answer is [`NodeInfo`](super::NodeInfo).
    Node,
}

/// What a node knows of a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRequest {
    /// `nothing`, `under_way`, `answered`, or `another`: the key belongs to another request.
    pub state: String,
    /// Its answer, if it is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A push that may not have reached a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostPush {
    /// Its user.
    pub user: String,
    /// The first part of its id.
    pub process: u32,
    /// The second part of its id.
    pub number: u64,
}

impl Question {
    /// Reads a question; `None` if this release does not know it.
    #[must_use]
    pub fn parse(input: &[u8]) -> Option<Self> {
        serde_json::from_slice(input).ok()
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").finish_non_exhaustive()
    }
}

/// A node's answer: the result, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// The result.
    Ok(T),
    /// The refusal.
    Problem(Problem),
}

/// Any value that an answer can carry.
pub trait AnswerValue: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> AnswerValue for T {}

impl<T: DeserializeOwned> Answer<T> {
    /// Reads an answer; `None` if the input is not one of this type.
    #[must_use]
    pub fn parse(input: &[u8]) -> Option<Self> {
        serde_json::from_slice(input).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::{self, Closed};

    #[test]
    fn questions_and_answers_are_read_as_they_are_written() {
        let (id, user, event) = ("7".to_owned(), "jack".to_owned(), "news".to_owned());
        for (question, json) in [
            (
                Question::Presence { users: vec![user.clone()] },
                r#"{"ask":"presence","users":["jack"]}"#,
            ),
            (
                Question::UserConnections { user: user.clone() },
                r#"{"ask":"user_connections","user":"jack"}"#,
            ),
            (Question::Connection { id: id.clone() }, r#"{"ask":"connection","id":"7"}"#),
            (Question::Disconnect { body: "{}".to_owned() }, r#"{"ask":"disconnect","body":"{}"}"#),
            (
                Question::Register { id: id.clone(), user: user.clone(), event: event.clone() },
                r#"{"ask":"register","id":"7","user":"jack","event":"news"}"#,
            ),
            (
                Question::Unregister { id, user: user.clone(), event: event.clone() },
                r#"{"ask":"unregister","id":"7","user":"jack","event":"news"}"#,
            ),
            (
                Question::Explain { user: user.clone(), event },
                r#"{"ask":"explain","user":"jack","event":"news"}"#,
            ),
            (
                Question::Trace { user, stream: u64::MAX },
                r#"{"ask":"trace","user":"jack","stream":18446744073709551615}"#,
            ),
            (
                Question::Kept { user: "jack".to_owned(), after: "x".to_owned() },
                r#"{"ask":"kept","user":"jack","after":"x"}"#,
            ),
            (
                Question::Repeated { id: "0a".to_owned(), request: "0b".to_owned() },
                r#"{"ask":"repeated","id":"0a","request":"0b"}"#,
            ),
            (Question::Lost { pushes: None }, r#"{"ask":"lost","pushes":null}"#),
            (
                Question::Lost {
                    pushes: Some(vec![LostPush { user: "jack".to_owned(), process: 7, number: 8 }]),
                },
                r#"{"ask":"lost","pushes":[{"user":"jack","process":7,"number":8}]}"#,
            ),
            (Question::Node, r#"{"ask":"node"}"#),
        ] {
            assert_eq!(v2::encode(&question), json);
            assert!(Question::parse(json.as_bytes()) == Some(question), "{json}");
        }
        assert!(Question::parse(br#"{"ask":"something_new"}"#).is_none());
        let answer = Answer::Ok(Closed { closed: 2, nodes_missing: Vec::new() });
        assert_eq!(v2::encode(&answer), r#"{"ok":{"closed":2}}"#);
        assert_eq!(Answer::parse(v2::encode(&answer).as_bytes()), Some(answer));
        let later = br#"{"ok":{"closed":2,"reopened":1}}"#;
        assert!(Answer::<Closed>::parse(later).is_some(), "what is new is passed over");
    }
}
