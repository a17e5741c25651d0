//! An [`Attachment`] is a live connection; dropping it unbinds the connection, however it ended.

use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use wserver_core::{
    Bound, CloseReason, ConnectionId, EventName, PushId, Registration, TokenDigest, UserId,
};
use wserver_protocol::DecodeError;

use crate::entry::What;
use crate::outbox::{Flush, Outbox, Sent, Wire};
use crate::registration::RegisterError;
use crate::replay::GapReason;
use crate::resume::{After, Held, Missed, Registered};
use crate::state::NodeState;

/// One live connection of the node, held by the task that drives it.
///
/// Dropping it unbinds the connection, removes it from the node's table and counts its end: with
/// the reason of its close if there was one, as [`CloseReason::Internal`] if its task panicked,
/// otherwise as [`CloseReason::PeerGone`].
pub struct Attachment<W: Wire> {
    node: Arc<NodeState<W>>,
    outbox: Arc<Outbox<W>>,
}

impl<W: Wire> fmt::Debug for Attachment<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<W: Wire> Attachment<W> {
    pub(crate) fn new(node: Arc<NodeState<W>>, outbox: Arc<Outbox<W>>) -> Self {
        Self { node, outbox }
    }

    /// The connection's id.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.outbox.id()
    }

    /// The connection's outbox.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox<W>> {
        &self.outbox
    }

    /// Binds the connection to `user` and `event`; `token` is the digest of its token.
    ///
    /// If the user then has one connection too many, `connections_per_user_policy` decides whether
    /// to close this one or those that were opened first.
    ///
    /// # Errors
    /// [`RegisterError`] if the connection has reached its limit of registrations or bytes of
    /// names, the user its limit of connections, or if the connection is ending.
    pub fn register(
        &self,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        self.node.bind_or_close(&self.outbox, user, event, token)
    }

    /// Binds the connection to several events of `user`, as [`register`](Self::register), and sends
    /// the frames that `reply` makes of the result: before any message of these events that is kept
    /// for replay, and, if `after` is given, followed by those that the connection has missed.
    ///
    /// Only the first registration of a connection may have an `after`; another could get a message
    /// twice. `reply` runs under a lock and must not call the node.
    ///
    /// If `after` is a position of another of several nodes, the reply waits: see [`Held`].
    pub fn register_together(
        &self,
        user: &UserId,
        events: &[EventName],
        token: TokenDigest,
        after: Option<After>,
        reply: impl FnOnce(Registered) -> Bytes,
    ) -> Option<Held> {
        self.node.register_together(&self.outbox, user, events, token, after, reply)
    }

    /// Sends the reply of a registration that was held, then the messages that another node has
    /// kept for it, or none if that is a gap, and then what was held back.
    pub fn release(
        &self,
        held: Held,
        kept: Result<Vec<Missed>, GapReason>,
        reply: impl FnOnce(Registered) -> Bytes,
    ) {
        self.node.release(&self.outbox, held, kept, reply);
    }

    /// The connection's registrations; those of one user are adjacent.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.node.binder.registrations(self.id())
    }

    /// Ends one registration; returns false if it does not exist.
    pub fn unregister(&self, user: &UserId, event: &EventName) -> bool {
        self.node.unregister(self.id(), user, event)
    }

    /// Notes that a registration was refused: under `user` if the token has proven the user,
    /// otherwise among strangers. `reason` is a label from a closed list.
    pub fn note_refused(
        &self,
        user: Option<&UserId>,
        event: Option<&EventName>,
        reason: &'static str,
    ) {
        let what = What::RegistrationRefused { reason };
        self.node.journal.note(what, Some(self.id()), user, event);
    }

    /// Notes which rule of the protocol the peer broke, under each user for which the connection is
    /// registered, or otherwise among strangers. Call it before closing the connection.
    pub fn note_protocol_broken(&self, rule: DecodeError) {
        let what = What::ProtocolBroken { rule };
        let registrations = self.node.binder.registrations(self.id());
        if registrations.is_empty() {
            self.node.journal.note(what, Some(self.id()), None, None);
        }
        // Registrations of one user are adjacent.
        for of_user in registrations.chunk_by(|one, next| one.user == next.user) {
            let user = of_user.first().map(|it| &it.user);
            self.node.journal.note(what, Some(self.id()), user, None);
        }
    }

    /// Notes that the client has handled a push. It counts if the push waits for that and was given
    /// to this connection; otherwise nothing changes.
    pub fn acknowledge(&self, push: PushId) {
        if self.node.acks.acknowledged(self.id(), push) {
            self.node.counters.acks_total.increment();
        }
    }

    /// Sends one whole frame to this connection only.
    pub fn send(&self, frame: &Bytes) -> Sent {
        self.node.send(&self.outbox, frame)
    }

    /// Answers a ping; at most one answer waits at a time.
    pub fn send_pong(&self, pong: &Bytes) {
        match self.outbox.send_pong(&self.node.outbox_rules, pong) {
            None => self.node.counters.pongs_skipped_total.increment(),
            Some(sent) => self.node.after_send(&self.outbox, sent),
        }
    }

    /// Begins the end of the connection: queues the Close of `reason` and unbinds.
    pub fn close(&self, reason: CloseReason) -> bool {
        self.node.close(&self.outbox, reason)
    }

    /// As [`close`](Self::close), with a Close frame of the caller's that answers the peer's own.
    pub fn close_with(&self, reason: CloseReason, frame: &Bytes) -> bool {
        self.node.close_with(&self.outbox, reason, frame)
    }

    /// Writes as much of the queue as the socket takes, and registers the task to be woken when
    /// there is more to do: bytes to write, or a change of phase.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Flush {
        let (flush, expired) = self.outbox.poll_flush(&self.node.outbox_rules, cx);
        if expired > 0 {
            self.node.after_expiry(&self.outbox, expired);
        }
        flush
    }

    /// Stores `now` as the peer's last sign of life.
    pub fn seen(&self, now: Instant) {
        self.outbox.set_alive_at(self.node.seconds_at(now));
    }

    /// Whether it has ever been registered, by itself or by others.
    #[must_use]
    pub fn was_registered(&self) -> bool {
        self.outbox.was_bound()
    }

    /// Asks the sweep to wake this connection's task at `deadline`, as precisely as the sweep can;
    /// `None` means never.
    pub fn wake_at(&self, deadline: Option<Instant>) {
        self.outbox.set_wake_at(deadline.map_or(u64::MAX, |deadline| self.node.clock_at(deadline)));
    }
}

impl<W: Wire> Drop for Attachment<W> {
    fn drop(&mut self) {
        let is_panic = std::thread::panicking();
        if is_panic {
            self.node.counters.panics_total.increment();
            self.node.close(&self.outbox, CloseReason::Internal);
        }
        let reason = if is_panic { CloseReason::Internal } else { CloseReason::PeerGone };
        self.node.detach(&self.outbox, reason);
    }
}
