//! An entry of the journal, as explanations list it and traces stream it.

use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};
use super::push::{Acks, Delivery};

/// One thing that happened to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it happened, in the form `2026-01-31T12:00:00.000Z`.
    pub at: String,
    /// In a cluster: the node on which it happened, if that is not the node that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The connection concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The user concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The event concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// What happened: `registered`, `unregistered`, `registration_refused`, `resumed`, `gap`,
    /// `dropped`, `protocol_broken`, `closed`, `pushed`, `waited` or `push_refused`.
    pub what: String,
    /// The reason as a label, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For a push: what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// For a connection that came back: how many messages it got that it had missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<usize>,
    /// For a push that waited: what became of its acknowledgements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<Acks>,
    /// The same in a sentence; empty between nodes of a cluster, which tell each other facts.
    #[serde(default)]
    pub sentence: String,
}

impl Entry {
    /// Reads the data of one event of a trace.
    ///
    /// # Errors
    /// [`BodyError`] if the data is of another kind.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}

/// How much of a trace was lost because its reader was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// How many entries are missing before the next one.
    pub missed: u64,
}

impl Missed {
    /// Reads the data of a trace's event `missed`.
    ///
    /// # Errors
    /// [`BodyError`] if the data is of another kind.
    pub fn parse(input: &[u8]) -> Result<Self, BodyError> {
        body::parse_answer(input)
    }
}
