//! What an operator asks of a running server, and its answers.

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
    /// Whom it is asked of.
    #[serde(deserialize_with = "body::list")]
    pub users: Vec<String>,
}

impl Presence {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`], which names the field that is wrong.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}

/// The answer to [`Presence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Online {
    /// How many connections each of them has; who has none stands there with 0.
    pub online: BTreeMap<String, usize>,
    /// Nodes of a cluster that did not answer in time, so that there may be more than is told here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// One live connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id, unique for the life of the server's process, and in a cluster.
    pub id: String,
    /// The node of a cluster that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The address at the other end of its socket: behind a proxy, the proxy's.
    pub peer: Option<String>,
    /// The events that it registered, by user. Empty while it is ending.
    pub registrations: BTreeMap<String, Vec<String>>,
    /// How long it has been open, in whole seconds.
    pub age_seconds: u64,
    /// How long ago it was last heard of, by a message or a pong, in whole seconds.
    pub silent_seconds: u64,
    /// Bytes that wait for its socket.
    pub queued_bytes: usize,
    /// Bytes that its socket has taken.
    pub written_bytes: u64,
}

/// The answer to `GET /v2/users/{user}/connections`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// How many there are.
    pub count: usize,
    /// The first thousand of them.
    pub connections: Vec<Connection>,
    /// Nodes of a cluster that did not answer in time, so that there may be more than is told here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// The body of `POST /v2/disconnect`: which connections are to be closed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// All of a user.
    User(String),
    /// Those of a user that registered an event.
    UserEvent {
        /// The user.
        user: String,
        /// The event.
        event: String,
    },
    /// One.
    Connection(String),
    /// Those that registered with this token. A secret: `Debug` leaves it out.
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
    /// [`BodyError`], which names the field that is wrong and holds nothing of a token.
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

    /// The body as a client posts it.
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
    /// Those that were not ending already.
    pub closed: usize,
    /// Nodes of a cluster that did not answer in time, so that there may be more than is told here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// The body of `PUT /v2/connections/{id}/registrations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// For whom.
    pub user: String,
    /// For what.
    pub event: String,
}

impl Registration {
    /// Reads the body.
    ///
    /// # Errors
    /// [`BodyError`], which names the field that is wrong.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse(input)
    }
}

/// What became of a registration, or of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Whether anything is different now: false where it was registered, or was not, before.
    pub changed: bool,
}

/// The answer to `GET /v2/node`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// The server's version.
    pub version: String,
    /// How long it has been running.
    pub uptime_seconds: u64,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// WebSocket connections, registered or not.
    pub connections: usize,
    /// The most there may be.
    pub connections_max: usize,
    /// Users with at least one registration.
    pub users: usize,
    /// Registrations of all connections.
    pub registrations: usize,
    /// Bytes that wait for sockets, over all connections.
    pub queued_bytes: usize,
    /// Pushes accepted since it started.
    pub pushes_total: u64,
    /// Messages that sockets or queues took since it started.
    pub deliveries_total: u64,
    /// What it is called in its cluster, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its id in the cluster, another one each time it is started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why it has no part in its cluster now, if it is in one and has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// How long its answer took, where another node asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
}

/// The answer to `GET /v2/nodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// What carries messages between them: `redis`, `nats`; left out without a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// The node that answers first, and then the others by name.
    pub nodes: Vec<NodeInfo>,
    /// Those that did not answer in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// The answer to `GET /v2/explain`: why a push of an event to a user would, or would not, arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The user asked after.
    pub user: String,
    /// The event asked after.
    pub event: String,
    /// What holds at this moment.
    pub now: Now,
    /// What was refused, dropped or closed for this user lately, oldest first.
    pub recent: Vec<Entry>,
    /// What was refused lately on connections whose user was never proven, oldest first; only where
    /// this user has no connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<Entry>,
    /// All of it in plain words, what matters most first.
    pub sentences: Vec<String>,
    /// Nodes of a cluster that did not answer in time, so that there may be more than is told here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes_missing: Vec<String>,
}

/// What holds for a user and an event at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    /// How many connections a push would go to.
    pub would_deliver_to: usize,
    /// The user's connections, the first hundred.
    pub connections: Vec<Connection>,
    /// How many the user has, where there may be more than are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_count: Option<usize>,
}

macro_rules! answers {
    ($($answer:ty)*) => {$(
        impl $answer {
            /// Reads the body of a `200`.
            ///
            /// # Errors
            /// [`BodyError`] when it is none.
            pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
                body::parse_answer(input)
            }
        }
    )*};
}

answers!(Online Connection Connections Closed Registered NodeInfo Nodes Explanation);
