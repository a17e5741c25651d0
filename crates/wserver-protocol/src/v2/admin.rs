//! The requests that an operator sends to a running server, and its answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};
use super::encode::encode;
use super::entry::Entry;

/// The body of `POST /v2/presence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// The users whose connections are counted.
    #[serde(deserialize_with = "body::list")]
    pub users: Vec<String>,
}

impl Presence {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`], which names the wrong field.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}

/// The answer to [`Presence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Online {
    /// How many connections each user has; 0 for a user without any.
    pub online: BTreeMap<String, usize>,
    /// In a cluster: the nodes that did not answer in time, so that the answer may be incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// One live connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id, unique while the server's process lives, and in its cluster.
    pub id: String,
    /// In a cluster: the node that it is connected to, if that is not the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The address at the other end of its socket; behind a proxy, the proxy's.
    pub peer: Option<String>,
    /// The events that it registered, by user; empty while the connection is ending.
    pub registrations: BTreeMap<String, Vec<String>>,
    /// Whole seconds since it was opened.
    pub age_seconds: u64,
    /// Whole seconds since its last message or pong.
    pub silent_seconds: u64,
    /// Bytes waiting for its socket.
    pub queued_bytes: usize,
    /// Bytes that its socket has taken.
    pub written_bytes: u64,
}

/// The answer to `GET /v2/users/{user}/connections`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many connections the user has.
    pub count: usize,
    /// The first thousand of them.
    pub connections: Vec<Connection>,
    /// In a cluster: the nodes that did not answer in time, so that the answer may be incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// The body of `POST /v2/disconnect`: which connections to close.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// All connections of a user.
    User(String),
    /// The connections of a user that registered an event.
    UserEvent {
        /// The user.
        user: String,
        /// The event.
        event: String,
    },
    /// The connection with this id.
    Connection(String),
    /// The connections that registered with this token. It is a secret: `Debug` leaves it out.
    Token(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectFields {
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(default, deserialize_with = "body::present", skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Disconnect {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`], which names the wrong field and contains no part of a token.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        let DisconnectFields { user, event, connection, token } = body::parse(input)?;
        match (user, event, connection, token) {
            (Some(user), None, None, None) => Ok(Self::User(user)),
            (Some(user), Some(event), None, None) => Ok(Self::UserEvent { user, event }),
            (None, None, Some(connection), None) => Ok(Self::Connection(connection)),
            (None, None, None, Some(token)) if token.is_empty() => {
                Err(BodyError::new("token", "is empty"))
            }
            (None, None, None, Some(token)) => Ok(Self::Token(token)),
            (None, Some(_), None, None) => Err(BodyError::new("event", "needs a user")),
            (None, None, None, None) => {
                Err(BodyError::whole("must have one of user, connection and token"))
            }
            _ => Err(BodyError::whole(
                "may have only one of user, connection and token, and event only with user",
            )),
        }
    }

    /// The body as an operator's program posts it.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut fields =
            DisconnectFields { user: None, event: None, connection: None, token: None };
        match self.clone() {
            Self::User(user) => fields.user = Some(user),
            Self::UserEvent { user, event } => {
                (fields.user, fields.event) = (Some(user), Some(event));
            }
            Self::Connection(connection) => fields.connection = Some(connection),
            Self::Token(token) => fields.token = Some(token),
        }
        encode(&fields)
    }
}

impl fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => f.debug_tuple("User").field(user).finish(),
            Self::UserEvent { user, event } => {
                f.debug_tuple("UserEvent").field(user).field(event).finish()
            }
            Self::Connection(id) => f.debug_tuple("Connection").field(id).finish(),
            Self::Token(_) => f.debug_tuple("Token").finish_non_exhaustive(),
        }
    }
}

/// How many connections were closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Closed connections, except those that were already ending.
    pub closed: usize,
    /// In a cluster: the nodes that did not answer in time, so that the answer may be incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// The body of `PUT /v2/connections/{id}/registrations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The user.
    pub user: String,
    /// The event.
    pub event: String,
}

impl Registration {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`], which names the wrong field.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}

/// What became of a registration, or of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Whether the request changed anything: false if the registration already existed, or already
    /// did not.
    pub changed: bool,
}

/// The answer to `GET /v2/node`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The server's version.
    pub version: String,
    /// Whole seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// WebSocket connections, registered or not.
    pub connections: usize,
    /// The most WebSocket connections that it takes.
    pub connections_max: usize,
    /// Users with at least one registration.
    pub users: usize,
    /// Registrations of all connections.
    pub registrations: usize,
    /// Bytes waiting for sockets, over all connections.
    pub queued_bytes: usize,
    /// Pushes accepted since it started.
    pub pushes_total: u64,
    /// Messages that sockets or queues took since it started.
    pub deliveries_total: u64,
    /// Its name in the cluster, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its id in the cluster, a new one at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In a cluster: why it does not take part now, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// How many milliseconds its answer took, if another node asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
}

/// The answer to `GET /v2/nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// What carries messages between the nodes, `redis` or `nats`; absent without a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// First the node that answers, then the others by name.
    pub nodes: Vec<NodeInfo>,
    /// The nodes that did not answer in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// The answer to `GET /v2/explain`: why a push of an event to a user would, or would not, arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The user in question.
    pub user: String,
    /// The event in question.
    pub event: String,
    /// What holds at this moment.
    pub now: Now,
    /// What was recently refused, dropped or closed for this user, oldest first.
    pub recent: Vec<Entry>,
    /// If this user has no connection: what was recently refused on connections whose user was
    /// never verified, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<Entry>,
    /// The same in plain words, the most important first.
    pub sentences: Vec<String>,
    /// In a cluster: the nodes that did not answer in time, so that the answer may be incomplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// What holds for a user and an event at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// How many connections would get a push.
    pub would_deliver_to: usize,
    /// The first hundred of the user's connections.
    pub connections: Vec<Connection>,
    /// How many connections the user has, if there may be more than are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_count: Option<usize>,
    /// What is kept for replay; absent if no event is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayNow>,
}

/// What is kept for clients that come back, seen from one user and one event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayNow {
    /// Whether the messages of the event are kept, for users who have a log.
    pub is_kept: bool,
    /// The logs of the user: in a cluster one on each node that has one, otherwise at most one.
    pub logs: Vec<LogNow>,
}

/// What one log of a user holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogNow {
    /// In a cluster: the node that keeps it, if that is not the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Kept messages, of all events.
    pub messages: usize,
    /// The bytes that they take.
    pub bytes: usize,
}

macro_rules! answers {
    ($($answer:ty)*) => {$(
        impl $answer {
            /// Reads the body of a `200`.
            ///
            /// # Errors
            /// [`BodyError`] if the body is not such an answer.
            pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
                body::parse_answer(input)
            }
        }
    )*};
}

answers!(Online Connection Connections Closed Registered NodeInfo Nodes Explanation);
