//! One thing that happened to a user or a connection, as the journal keeps it and a trace tells it.

use std::time::SystemTime;

use wserver_core::{CloseReason, ConnectionId, EventName, UserId};
use wserver_protocol::DecodeError;

use crate::receipt::{NoDelivery, PushReceipt};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// When, by the clock of the machine.
    pub at: SystemTime,
    /// To which connection, if it was one.
    pub connection: Option<ConnectionId>,
    /// To whom. `None` where nobody had proven to be anybody.
    pub user: Option<UserId>,
    /// For which event, if it was one.
    pub event: Option<EventName>,
    /// What it was.
    pub what: What,
}

impl Entry {
    /// That this happened, to a connection, for a user and an event where there is one.
    #[must_use]
    pub fn new(
        at: SystemTime,
        connection: Option<ConnectionId>,
        user: Option<UserId>,
        event: Option<EventName>,
        what: What,
    ) -> Self {
        Self { at, connection, user, event, what }
    }
}

/// What happened: a closed list, which answers follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The connection is bound to the user and the event; not kept.
    Registered,
    /// It is no longer, although it lives; not kept.
    Unregistered,
    /// A registration was refused.
    RegistrationRefused {
        /// A label from a closed list.
        reason: &'static str,
    },
    /// A message that was meant for the connection did not reach it; without a connection, those
    /// that had not got it by then.
    Dropped {
        /// Why.
        reason: NoDelivery,
    },
    /// The peer broke a rule of the WebSocket protocol, or went beyond a bound of it; the connection
    /// begins to end for it.
    ProtocolBroken {
        /// Which.
        rule: DecodeError,
    },
    /// The connection began to end.
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// A push was answered; not kept.
    Pushed {
        /// With what.
        receipt: PushReceipt,
    },
    /// A push was refused.
    PushRefused {
        /// A label from a closed list.
        reason: &'static str,
    },
}

impl What {
    /// A fixed `snake_case` label for its kind.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Unregistered => "unregistered",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::Dropped { .. } => "dropped",
            Self::ProtocolBroken { .. } => "protocol_broken",
            Self::Closed { .. } => "closed",
            Self::Pushed { .. } => "pushed",
            Self::PushRefused { .. } => "push_refused",
        }
    }

    pub(crate) const fn is_kept(&self) -> bool {
        match self {
            Self::Registered | Self::Unregistered | Self::Pushed { .. } => false,
            Self::RegistrationRefused { .. }
            | Self::Dropped { .. }
            | Self::ProtocolBroken { .. }
            | Self::Closed { .. }
            | Self::PushRefused { .. } => true,
        }
    }
}
