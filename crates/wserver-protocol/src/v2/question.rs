//! What one node of a cluster asks another about its users and connections, and how it is answered.
//!
//! Not for clients: nodes speak it among themselves. An answer is what the same request of the HTTP
//! API is answered with, about the answering node alone; both are read leniently, so that nodes of
//! two releases understand each other.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Question {
    /// [`Online`](super::Online).
    Presence {
        /// Whom it is asked of.
        users: Vec<String>,
    },
    /// [`Connections`](super::Connections).
    UserConnections {
        /// Whose.
        user: String,
    },
    /// [`Connection`](super::Connection).
    Connection {
        /// Which.
        id: String,
    },
    /// [`Closed`](super::Closed).
    Disconnect {
        /// [`Disconnect`](super::Disconnect) as a client posts it. It may hold a token, so `Debug`
        /// leaves it out.
        body: String,
    },
    /// [`Registered`](super::Registered).
    Register {
        /// Which connection.
        id: String,
        /// For whom.
        user: String,
        /// For what.
        event: String,
    },
    /// [`Registered`](super::Registered).
    Unregister {
        /// Which connection.
        id: String,
        /// For whom.
        user: String,
        /// For what.
        event: String,
    },
    /// [`Explanation`](super::Explanation).
    Explain {
        /// Whom a push is for.
        user: String,
        /// And what it is about.
        event: String,
    },
    /// Entries of this user are to be sent to a stream of the asking node, for some seconds or until
    /// it is asked again. The answer is `null`.
    Trace {
        /// Whom to follow.
        user: String,
        /// Which stream.
        stream: u64,
    },
    /// [`NodeInfo`](super::NodeInfo).
    Node,
}

impl Question {
    /// Reads one; `None` if it is none that this release knows.
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

/// What a node answers: what was asked for, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It is done.
    Ok(T),
    /// It was refused.
    Problem(Problem),
}

/// Whatever can be answered.
pub trait Said: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Said for T {}

impl<T: DeserializeOwned> Answer<T> {
    /// Reads one; `None` if it is none.
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
        for question in [
            Question::Presence { users: vec!["jack".to_owned()] },
            Question::Disconnect { body: "{}".to_owned() },
            Question::Trace { user: "jack".to_owned(), stream: u64::MAX },
            Question::Node,
        ] {
            let read = Question::parse(v2::encode(&question).as_bytes());
            assert!(read.as_ref() == Some(&question), "{}", v2::encode(&question));
        }
        assert!(Question::parse(br#"{"ask":"something_new"}"#).is_none());
        let answer = Answer::Ok(Closed { closed: 2, nodes_missing: Vec::new() });
        assert_eq!(v2::encode(&answer), r#"{"ok":{"closed":2}}"#);
        assert_eq!(Answer::parse(v2::encode(&answer).as_bytes()), Some(answer));
        let later = br#"{"ok":{"closed":2,"reopened":1}}"#;
        assert!(Answer::<Closed>::parse(later).is_some(), "what is new is passed over");
    }
}
