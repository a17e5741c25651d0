//! What a request is answered.

use serde::{Deserialize, Serialize};

use super::code::Refused;

/// The one reply to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The id of the request; `None` if it had no valid one.
    pub re: Option<u64>,
    /// What was granted, or why nothing was.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What the client should know of the server: part of the first reply of a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hello: Option<Hello>,
}

/// Whether a request was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was, at least in part.
    Ok(Granted),
    /// It was not, and changed nothing.
    Error(Refused),
}

/// What was granted. Each request fills what concerns it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The events of the request that are registered now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Vec<String>>,
    /// The events of the request that are not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedEvent>,
    /// Whole seconds until the first registration of the connection expires; `None` is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
    /// The events that were registered and are not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unregistered: Option<Vec<String>>,
    /// The client's position from now on, if an event that it registered is kept for replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// How many messages follow that the client has missed: the answer to its position, if none is
    /// missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaying: Option<u64>,
    /// Why none follows although some may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}

/// Messages that a client has missed and that the server does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// A word that says why.
    pub reason: String,
    /// Within how many seconds, at a random moment, the client should fetch what it has missed: all
    /// clients may have to. 0 is at once.
    #[serde(default)]
    pub spread_seconds: u64,
}

/// One event that is not registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedEvent {
    /// The event.
    pub event: String,
    /// Why.
    #[serde(flatten)]
    pub refused: Refused,
}

/// What a client should know of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The connection's id, as operators see it.
    pub connection: String,
    /// The longest time between two messages of the server, in whole seconds; 0 is never.
    pub heartbeat: u64,
    /// What the server knows beyond the first release of version 2: nothing yet.
    #[serde(default)]
    pub features: Vec<String>,
}

impl Reply {
    /// A request is granted.
    #[must_use]
    pub const fn ok(id: u64, granted: Granted) -> Self {
        Self { re: Some(id), outcome: Outcome::Ok(granted), hello: None }
    }

    /// A request is refused, and changes nothing.
    #[must_use]
    pub const fn error(id: Option<u64>, refused: Refused) -> Self {
        Self { re: id, outcome: Outcome::Error(refused), hello: None }
    }

    /// The message as the server sends it.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("its keys are text")
    }
}
