//! What the server says without being asked.

use serde::{Deserialize, Serialize};

use super::reply::Gap;

/// What the server says without being asked. All times are relative, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The server lives; the next beat comes within so many seconds.
    Beat(u64),
    /// A registration expires after so many seconds.
    Expiring {
        /// Whole seconds until then.
        in_seconds: u64,
    },
    /// The server closes the connection.
    Leaving {
        /// Why: `shutdown` or `cut_off`.
        reason: String,
        /// After how many seconds to come back.
        in_seconds: u64,
    },
    /// Messages that are kept were lost before this server had them.
    Gap {
        /// Why, and when to fetch.
        gap: Gap,
        /// The client's position from now on.
        at: String,
    },
    /// An operator has registered the connection for these events.
    Registered(Vec<String>),
    /// Registrations were ended.
    Unregistered {
        /// The events.
        events: Vec<String>,
        /// Why: `operator`.
        reason: String,
    },
}

/// The fields of all notices; each has some of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    beat: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiring: Option<Expiring>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaving: Option<Leaving>,
    #[serde(skip_serializing_if = "Option::is_none")]
    registered: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unregistered: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Expiring {
    in_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Leaving {
    #[serde(default)]
    reason: String,
    in_seconds: u64,
}

impl Fields {
    /// The notice that they are, if this release knows it.
    pub(super) fn notice(self) -> Option<Notice> {
        let Self { beat, expiring, leaving, registered, unregistered, reason, gap, at } = self;
        None.or_else(|| beat.map(Notice::Beat))
            .or_else(|| expiring.map(|Expiring { in_seconds }| Notice::Expiring { in_seconds }))
            .or_else(|| {
                leaving.map(|Leaving { reason, in_seconds }| Notice::Leaving { reason, in_seconds })
            })
            .or_else(|| gap.zip(at).map(|(gap, at)| Notice::Gap { gap, at }))
            .or_else(|| registered.map(Notice::Registered))
            .or_else(|| {
                let reason = reason.unwrap_or_default();
                unregistered.map(|events| Notice::Unregistered { events, reason })
            })
    }
}

impl Notice {
    /// The message as the server sends it.
    #[must_use]
    pub fn encode(&self) -> String {
        let none = Fields::default();
        let fields = match self {
            Self::Beat(seconds) => Fields { beat: Some(*seconds), ..none },
            Self::Expiring { in_seconds } => {
                Fields { expiring: Some(Expiring { in_seconds: *in_seconds }), ..none }
            }
            Self::Leaving { reason, in_seconds } => {
                let leaving = Leaving { reason: reason.clone(), in_seconds: *in_seconds };
                Fields { leaving: Some(leaving), ..none }
            }
            Self::Gap { gap, at } => {
                Fields { gap: Some(gap.clone()), at: Some(at.clone()), ..none }
            }
            Self::Registered(events) => Fields { registered: Some(events.clone()), ..none },
            Self::Unregistered { events, reason } => {
                Fields { unregistered: Some(events.clone()), reason: Some(reason.clone()), ..none }
            }
        };
        serde_json::to_string(&fields).expect("its keys are text")
    }
}
