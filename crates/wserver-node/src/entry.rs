//! An event in the life of a user or a connection, as the journal and traces show it.

use std::time::SystemTime;

use wserver_core::{CloseReason, ConnectionId, EventName, UserId};
use wserver_protocol::DecodeError;

use crate::acks::Acks;
use crate::receipt::{NoDelivery, PushReceipt};
use crate::replay::GapReason;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// When, by the clock of the machine.
    pub at: SystemTime,
    /// The connection, if it concerns one.
    pub connection: Option<ConnectionId>,
    /// The user. `None` if no user was proven.
    pub user: Option<UserId>,
    /// The event, if it concerns one.
    pub event: Option<EventName>,
    /// What happened.
    pub what: What,
}

impl Entry {
    /// Something that happened now, to a connection, for a user and an event if there are any.
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
    /// The connection is bound to the user and the event; not kept in the journal.
    Registered,
    /// The connection is no longer bound to them, but lives; not kept.
    Unregistered,
    /// A registration was refused.
    RegistrationRefused {
        /// A label from a closed list.
        reason: &'static str,
    },
    /// The connection came back and gets all that it has missed; not kept.
    Resumed {
        /// How many messages.
        count: usize,
    },
    /// The connection was told that messages are missing.
    Gap {
        /// Why.
        reason: GapReason,
    },
    /// A message did not reach the connection; without a connection, it concerns all that had not
    /// got it yet.
    Dropped {
        /// Why.
        reason: NoDelivery,
    },
    /// The peer broke a rule of the WebSocket protocol, or exceeded one of its limits; the
    /// connection begins to end for that.
    ProtocolBroken {
        /// The rule.
        rule: DecodeError,
    },
    /// The connection began to end.
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// A push was answered; not kept.
    Pushed {
        /// Its receipt.
        receipt: PushReceipt,
    },
    /// The wait for the acknowledgements of a push is over; not kept.
    Waited {
        /// What had come by then, over all nodes.
        acks: Acks,
    },
    /// A push was refused.
    PushRefused {
        /// A label from a closed list.
        reason: &'static str,
    },
}

impl What {
    /// A fixed `snake_case` label for the kind of entry.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Unregistered => "unregistered",
            Self::RegistrationRefused { .. } => "registration_refused",
            Self::Resumed { .. } => "resumed",
            Self::Gap { .. } => "gap",
            Self::Dropped { .. } => "dropped",
            Self::ProtocolBroken { .. } => "protocol_broken",
            Self::Closed { .. } => "closed",
            Self::Pushed { .. } => "pushed",
            Self::Waited { .. } => "waited",
            Self::PushRefused { .. } => "push_refused",
        }
    }

    pub(crate) const fn is_kept(&self) -> bool {
        match self {
            Self::Registered
            | Self::Unregistered
            | Self::Resumed { .. }
            | Self::Pushed { .. }
            | Self::Waited { .. } => false,
            Self::RegistrationRefused { .. }
            | Self::Gap { .. }
            | Self::Dropped { .. }
            | Self::ProtocolBroken { .. }
            | Self::Closed { .. }
            | Self::PushRefused { .. } => true,
        }
    }
}
