//! One running node: its connections, its binder, and its operations.
//!
//! It knows no HTTP and no JSON, and of sockets only [`Wire`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tokio::runtime::Handle;
use wserver_core::{
    Bound, CloseReason, ConnectionId, Counts, EventName, Limits, Position, PushId, RegistrationKey,
    TokenDigest, UserId,
};
use wserver_protocol::Protocol;
use wserver_protocol::connection::Notice;

use crate::attachment::Attachment;
use crate::counters::Counters;
use crate::interest::Interest;
use crate::message::Message;
use crate::outbox::{CloseFrame, Outbox, Sent, Wire};
use crate::probe::Probe;
use crate::receipt::{PushOptions, PushReceipt};
use crate::registration::RegisterError;
use crate::replay::{GapReason, Kept, ReplayCounters};
use crate::state::NodeState;
use crate::tasks::Tasks;

/// The connections that a disconnect concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection<'a> {
    /// Every connection of a user.
    User(&'a UserId),
    /// The connections of a user that registered an event.
    UserEvent(&'a UserId, &'a EventName),
    /// The connections that registered with a token.
    Token(&'a str),
    /// One connection.
    Connection(ConnectionId),
}

/// Why a connection was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The node has reached its limit of connections (`connections_max`).
    #[error("the server has reached connections_max, which is {max}")]
    Full {
        /// The limit.
        max: usize,
    },
    /// The node is shutting down.
    #[error("the server is shutting down")]
    Draining,
}

/// Why there is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// No event is kept for replay (`replay`).
    #[error("no event is kept for replay (replay)")]
    Off,
    /// Messages and logs have reached their limit (`replay_bytes_max`).
    #[error("what is kept for replay has reached replay_bytes_max, which is {max}")]
    Full {
        /// The limit.
        max: usize,
    },
}

/// A place of `connections_max`, reserved for a connection that is not there yet. Dropping it unused
/// gives the place back.
pub struct Reservation<W: Wire> {
    /// `None` once the connection is open: from then on the attachment gives the place back.
    node: Option<Arc<NodeState<W>>>,
}

impl<W: Wire> fmt::Debug for Reservation<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").finish_non_exhaustive()
    }
}

impl<W: Wire> Reservation<W> {
    /// Opens the connection, which speaks `protocol` and lives as long as the attachment.
    ///
    /// # Errors
    /// [`OpenError::Draining`] if the node has begun to shut down meanwhile.
    pub fn open(mut self, wire: W, protocol: Protocol) -> Result<Attachment<W>, OpenError> {
        let Some(node) = self.node.take() else { return Err(OpenError::Draining) };
        let id = ConnectionId::new(node.next_connection.fetch_add(1, Ordering::Relaxed));
        let outbox = Arc::new(Outbox::new(id, wire, protocol, node.seconds_at(Instant::now())));
        {
            let mut shard = node.shard(id);
            // Checked under the shard's lock, so that a drain that has passed this shard is
            // noticed.
            if node.drain_began.get().is_some() {
                drop(shard);
                node.count_out();
                return Err(OpenError::Draining);
            }
            shard.insert(id, Arc::clone(&outbox));
        }
        node.counters.connections_opened_total.increment();
        Ok(Attachment::new(node, outbox))
    }
}

impl<W: Wire> Drop for Reservation<W> {
    fn drop(&mut self) {
        if let Some(node) = &self.node {
            node.count_out();
        }
    }
}

/// One running node. A clone is the same node.
pub struct Node<W: Wire> {
    pub(crate) state: Arc<NodeState<W>>,
}

impl<W: Wire> Clone for Node<W> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<W: Wire> fmt::Debug for Node<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl<W: Wire> Node<W> {
    /// A node that runs its tasks on `runtime`.
    ///
    /// `close_frame` encodes the Close frame for a reason, if one is sent: only the edge knows the
    /// codes on the wire.
    #[must_use]
    pub fn new(limits: Limits, close_frame: CloseFrame, runtime: Handle) -> Self {
        Self::start(NodeState::new(limits, close_frame, runtime, 1, None))
    }

    /// The same for one of several nodes that appear to clients as one server: `interest` learns
    /// which users come and go, and ids of connections are counted from `first_connection` on, so
    /// that no two nodes use the same id. Its upper 24 bits are the number of the node, which is
    /// also the [`home`](wserver_core::LogId::home) of its positions.
    #[must_use]
    pub fn one_of_several(
        limits: Limits,
        close_frame: CloseFrame,
        runtime: Handle,
        first_connection: u64,
        interest: impl Interest,
    ) -> Self {
        let interest: Box<dyn Interest> = Box::new(interest);
        Self::start(NodeState::new(limits, close_frame, runtime, first_connection, Some(interest)))
    }

    fn start(state: Arc<NodeState<W>>) -> Self {
        state.start_sweep();
        Self { state }
    }

    /// Reserves a place for a connection whose socket is not there yet.
    ///
    /// # Errors
    /// [`OpenError`] if the node is full or draining.
    pub fn reserve(&self) -> Result<Reservation<W>, OpenError> {
        let state = &self.state;
        let max = state.limits.connections_max;
        let before = state.connections_open.fetch_add(1, Ordering::Relaxed);
        // Its drop gives the place back, also after an error below.
        let reservation = Reservation { node: Some(Arc::clone(state)) };
        let error = if state.drain_began.get().is_some() {
            OpenError::Draining
        } else if before >= max {
            OpenError::Full { max }
        } else {
            return Ok(reservation);
        };
        Err(error)
    }

    /// Opens a connection that speaks `protocol`; it lives as long as the attachment.
    ///
    /// # Errors
    /// As [`Node::reserve`] and [`Reservation::open`].
    pub fn open(&self, wire: W, protocol: Protocol) -> Result<Attachment<W>, OpenError> {
        self.reserve()?.open(wire, protocol)
    }

    /// Sends `message` to every connection of `user` that registered its event.
    ///
    /// It waits only if more than `walk_bytes_max` are already on their way to this user; it never
    /// waits for a slow reader.
    ///
    /// # Cancel safety
    /// A push that is dropped while it waits may not have been accepted; otherwise only its count
    /// is lost.
    pub async fn push(&self, user: &UserId, mut message: Message<'_>) -> PushReceipt {
        self.push_with(user, &mut message, &PushOptions::default()).await
    }

    /// As [`push`](Self::push), but only to some of the connections, or only for a limited time.
    /// Frames that were encoded for one user are reused for the next.
    ///
    /// # Cancel safety
    /// As [`push`](Self::push).
    pub async fn push_with(
        &self,
        user: &UserId,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> PushReceipt {
        let state = &self.state;
        let receipt = state.push_to(user, message, options).await;
        state.counters.pushes_total.increment();
        receipt
    }

    /// Sends a Close (1000) to the selected connections and unbinds them; returns their number.
    pub fn disconnect(&self, selection: Selection<'_>) -> usize {
        let binder = &self.state.binder;
        let selected = match selection {
            Selection::User(user) => binder.user_connections(user, None),
            Selection::UserEvent(user, event) => binder.user_connections(user, Some(event)),
            Selection::Token(token) => binder.token_connections(binder.digest(token)),
            Selection::Connection(id) => {
                self.connection(id).map(|outbox| (id, outbox)).into_iter().collect()
            }
        };
        selected
            .iter()
            .filter(|(_, outbox)| self.state.close(outbox, CloseReason::Disconnected))
            .count()
    }

    /// Registers a live connection for an event of `user`, as if it had asked for it.
    ///
    /// The registration has no token and does not expire. A connection of version 2 gets a notice.
    ///
    /// # Errors
    /// [`RegisterError`] as for [`Attachment::register`], but the connection stays open;
    /// [`RegisterError::Ending`] also if there is no such connection.
    pub fn register(
        &self,
        id: ConnectionId,
        user: &UserId,
        event: &EventName,
    ) -> Result<Bound, RegisterError> {
        let outbox = self.connection(id).ok_or(RegisterError::Ending)?;
        // No register message has an empty token, so this matches none.
        let bound = self.state.bind(&outbox, user, event, self.digest(""))?;
        if bound != Bound::Already {
            self.tell(&outbox, &Notice::Registered(vec![event.as_str().to_owned()]));
        }
        Ok(bound)
    }

    /// Ends one registration of a live connection; returns false if it does not exist.
    ///
    /// A connection of version 2 gets a notice. If the registration has an expiry, the connection
    /// still ends at that time.
    pub fn unregister(&self, id: ConnectionId, user: &UserId, event: &EventName) -> bool {
        let is_ended = self.state.unregister(id, user, event);
        if is_ended && let Some(outbox) = self.connection(id) {
            let (events, reason) = (vec![event.as_str().to_owned()], "operator".to_owned());
            self.tell(&outbox, &Notice::Unregistered { events, reason });
        }
        is_ended
    }

    /// Sends a notice to a connection, unless it speaks version 1.
    fn tell(&self, outbox: &Outbox<W>, notice: &Notice) {
        if let Some(said) = outbox.protocol().say(&notice.encode()) {
            self.state.send(outbox, &said);
        }
    }

    /// A live connection by its id.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> Option<Arc<Outbox<W>>> {
        self.state.shard(id).get(&id).cloned()
    }

    /// Sends one whole frame to one connection.
    pub fn send(&self, outbox: &Outbox<W>, frame: &Bytes) -> Sent {
        self.state.send(outbox, frame)
    }

    /// Begins the end of one connection; returns false if it was already ending.
    pub fn close(&self, outbox: &Outbox<W>, reason: CloseReason) -> bool {
        self.state.close(outbox, reason)
    }

    /// The keyed digest under which registrations remember a token.
    #[must_use]
    pub fn digest(&self, token: &str) -> TokenDigest {
        self.state.binder.digest(token)
    }

    /// The key for a user's event in the sessions of its connections.
    #[must_use]
    pub fn registration_key(&self, user: &UserId, event: &EventName) -> RegistrationKey {
        self.state.binder.registration_key(user, event)
    }

    /// The number of users, connections and registrations in the binder, without a [`Probe`].
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counts = self.state.binder.counts();
        let probes = usize::from(self.state.has_probe.load(Ordering::Relaxed));
        Counts {
            users: counts.users.saturating_sub(probes),
            connections: counts.connections.saturating_sub(probes),
            registrations: counts.registrations.saturating_sub(probes),
        }
    }

    /// A connection to itself over `wire`, by which the node can show that it delivers; `None`
    /// while there is another one.
    pub fn probe(&self, wire: W) -> Option<Probe<W>> {
        Probe::new(Arc::clone(&self.state), wire)
    }

    /// Connections that are open, registered or not.
    #[must_use]
    pub fn connections_open(&self) -> usize {
        self.state.connections_open.load(Ordering::Relaxed)
    }

    /// Bytes queued over all connections; shared bytes count once for each connection that waits
    /// for them.
    #[must_use]
    pub fn outboxes_bytes(&self) -> usize {
        self.state.outbox_rules.queued_bytes()
    }

    /// The position of a client of `user` that has everything that was pushed so far, for a page
    /// that fetches its data and then connects. From now on the user's messages are kept.
    ///
    /// # Errors
    /// [`PositionError`] if no event is kept for replay, or if there is no room.
    pub fn position(&self, user: &UserId) -> Result<Position, PositionError> {
        let state = &self.state;
        let replays = state.replays.as_ref().ok_or(PositionError::Off)?;
        let (position, is_new) =
            replays.with_new_log(user, Instant::now(), |log| log.map(|log| log.position()));
        if is_new && let Some(interest) = &state.interest {
            interest.came(user);
        }
        position.ok_or(PositionError::Full { max: state.limits.replay_bytes_max })
    }

    /// The messages of `user` that are kept here behind a position, all of them: what another node
    /// asks for when a connection comes back there.
    ///
    /// # Errors
    /// Why not all of them are here.
    pub fn missed(&self, user: &UserId, after: Position) -> Result<Vec<Kept>, GapReason> {
        let Some(replays) = &self.state.replays else { return Err(GapReason::Restarted) };
        replays.missed(user, after)
    }

    /// Takes note of a push to `user` that may not have come from another node. If it is not among
    /// what is kept, there is a gap: the user's connections of version 2 are told at once, and those
    /// that come back are told then.
    pub fn lost(&self, user: &UserId, push: PushId) {
        self.state.lost(user, Some(push));
    }

    /// The same for every user, of whom any number of pushes may not have come.
    pub fn all_lost(&self) {
        let Some(replays) = &self.state.replays else { return };
        replays.users().iter().for_each(|user| self.state.lost(user, None));
    }

    /// Ends all that is kept for replay: the node has been asked for it for the last time.
    pub fn end_replay(&self) {
        let Some(replays) = &self.state.replays else { return };
        let ended = replays.end();
        if let Some(interest) = &self.state.interest {
            ended.iter().for_each(|user| interest.left(user));
        }
    }

    /// What is kept for replay: the bytes of all logs with their messages, and the number of logs.
    #[must_use]
    pub fn replay_gauges(&self) -> (usize, usize) {
        self.state.replays.as_ref().map_or((0, 0), |it| (it.bytes(), it.logs()))
    }

    /// The counters of replay, if any event is kept.
    #[must_use]
    pub fn replay_counters(&self) -> Option<&ReplayCounters> {
        self.state.replays.as_ref().map(|it| it.counters())
    }

    /// The node's counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.state.limits
    }

    /// The only place that spawns the tasks of this node.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.state.tasks
    }
}
