//! What a node knows about users and connections, now and recently, for administrators.
//!
//! No answer is a snapshot of one instant.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wserver_core::{ConnectionId, EventName, UserId};

use crate::acks::Acks;
use crate::entry::{Entry, What};
use crate::node::Node;
use crate::outbox::{Outbox, Wire};
use crate::state::NodeState;
use crate::trace::{Trace, TraceError};

/// The maximum number of events of one user in an answer.
const USER_EVENTS_MAX: usize = 128;

/// One live connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its id, for as long as the process lives.
    pub id: ConnectionId,
    /// Its registrations, including those of other users. Empty while it is ending.
    pub registrations: Vec<(UserId, EventName)>,
    /// How long it has been open, in whole seconds.
    pub age: Duration,
    /// The address of the peer, if the wire knows it.
    pub peer: Option<SocketAddr>,
    /// Bytes that wait for its socket.
    pub queued_bytes: usize,
    /// Bytes that its socket has taken.
    pub written_bytes: u64,
    /// The time since its last sign of life, a message or a pong, in whole seconds.
    pub last_sign_of_life: Duration,
}

/// What a node keeps for replay, seen from one user and one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayInfo {
    /// Whether messages of the event are kept for users who have a log.
    pub is_kept: bool,
    /// What the user's log holds; `None` if there is no log.
    pub log: Option<LogInfo>,
}

/// What one user's log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogInfo {
    /// The messages of all events.
    pub messages: usize,
    /// What they take, without the log itself.
    pub bytes: usize,
}

impl ConnectionInfo {
    /// The events it is registered for under `user`.
    pub fn events<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a EventName> {
        self.registrations.iter().filter(move |(of, _)| of == user).map(|(_, event)| event)
    }
}

impl<W: Wire> Node<W> {
    /// The connections of a user, at most `max`.
    #[must_use]
    pub fn user_connections(&self, user: &UserId, max: usize) -> Vec<ConnectionInfo> {
        let found = self.state.binder.some_user_connections(user, None, max);
        found.iter().map(|(_, outbox)| self.state.info(outbox)).collect()
    }

    /// One live connection; `None` if it does not exist or has ended.
    #[must_use]
    pub fn connection_info(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.connection(id).map(|outbox| self.state.info(&outbox))
    }

    /// The number of connections of each of `users`.
    #[must_use]
    pub fn presence(&self, users: &[UserId]) -> Vec<usize> {
        let count = |user| self.state.binder.with_user(user, |group| group.members.len());
        users.iter().map(|user| count(user).unwrap_or_default()).collect()
    }

    /// The number of connections of a user that are registered for an event: a push would go to
    /// them now.
    #[must_use]
    pub fn registered(&self, user: &UserId, event: &EventName) -> usize {
        let count = self.state.binder.with_user(user, |group| {
            let Some(event) = group.members.event(event) else { return 0 };
            group.members.iter().filter(|member| member.registered(event).is_some()).count()
        });
        count.unwrap_or_default()
    }

    /// The events that connections of a user are registered for, at most 128, in no particular order.
    #[must_use]
    pub fn user_events(&self, user: &UserId) -> Vec<EventName> {
        let events = self.state.binder.with_user(user, |group| {
            group.members.events().take(USER_EVENTS_MAX).cloned().collect()
        });
        events.unwrap_or_default()
    }

    /// What is kept for replay of `user` and `event`; `None` if no event is kept.
    #[must_use]
    pub fn replay_info(&self, user: &UserId, event: &EventName) -> Option<ReplayInfo> {
        let replays = self.state.replays.as_ref()?;
        let log = replays.size(user, Instant::now());
        let log = log.map(|(messages, bytes)| LogInfo { messages, bytes });
        Some(ReplayInfo { is_kept: replays.covers(event), log })
    }

    /// The recent entries of `user`: its newest `max`, in order of time.
    ///
    /// Refusals, drops and ends, as far back as `journal_bytes_max` reaches.
    #[must_use]
    pub fn recent(&self, user: &UserId, max: usize) -> Vec<Entry> {
        self.state.journal.recent(Some(user), max)
    }

    /// The same for strangers.
    #[must_use]
    pub fn recent_strangers(&self, max: usize) -> Vec<Entry> {
        self.state.journal.recent(None, max)
    }

    /// The number of entries in the journal, and the bytes that they take.
    #[must_use]
    pub fn journal_size(&self) -> (usize, usize) {
        (self.state.journal.len(), self.state.journal.bytes())
    }

    /// Follows what happens to `user` from now on, including registrations and pushes.
    ///
    /// # Errors
    /// [`TraceError`] if the limit of traces is reached, or if the node is shutting down.
    pub fn trace(&self, user: &UserId) -> Result<Trace, TraceError> {
        self.state.journal.trace(user)
    }

    /// Notes that the registration of a connection that was never opened was refused: under `user`
    /// if the token has proven the user, otherwise among strangers.
    pub fn note_registration_refused(
        &self,
        user: Option<&UserId>,
        event: Option<&EventName>,
        reason: &'static str,
    ) {
        self.state.journal.note(What::RegistrationRefused { reason }, None, user, event);
    }

    /// Notes that a push was refused: under `user` if the publisher may name any user, otherwise
    /// among strangers. `reason` is a label from a closed list.
    pub fn note_push_refused(
        &self,
        user: Option<&UserId>,
        event: Option<&EventName>,
        reason: &'static str,
    ) {
        self.state.journal.note(What::PushRefused { reason }, None, user, event);
    }

    /// Notes what a push of `event` to `user` that waited for acknowledgements has got, for those
    /// who follow the user.
    pub fn note_waited(&self, user: &UserId, event: &EventName, acks: Acks) {
        if self.state.journal.is_traced() {
            self.state.journal.note(What::Waited { acks }, None, Some(user), Some(event));
        }
    }
}

impl<W: Wire> NodeState<W> {
    fn info(&self, outbox: &Outbox<W>) -> ConnectionInfo {
        let now = self.seconds_at(Instant::now());
        let since = |then: u32| Duration::from_secs(now.saturating_sub(then).into());
        let registrations = self.binder.registrations(outbox.id());
        ConnectionInfo {
            id: outbox.id(),
            registrations: registrations.into_iter().map(|it| (it.user, it.event)).collect(),
            age: since(outbox.opened_at()),
            peer: outbox.wire().peer(),
            queued_bytes: outbox.queued_bytes(),
            written_bytes: outbox.written_bytes(),
            last_sign_of_life: since(outbox.alive_at()),
        }
    }
}
