//! Holding an [`Attachment`] is being connected; dropping it unbinds, whatever ended the connection.

use std::fmt;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use wserver_core::{
    Bound, CloseReason, ConnectionId, EventName, Registration, TokenDigest, UserId,
};
use wserver_protocol::DecodeError;

use crate::entry::What;
use crate::outbox::{Flush, Outbox, Sent, Wire};
use crate::registration::RegisterError;
use crate::state::NodeState;

/// One live connection of the node, held by the task that drives it.
///
/// Dropping it unbinds the connection, takes it off the node's table and counts its end: by the
/// reason of its close if there was one, as [`CloseReason::Internal`] if its task panicked,
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

    /// The connection's way out.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox<W>> {
        &self.outbox
    }

    /// Binds the connection to `user` and `event`; `token` is the digest of its token.
    ///
    /// Where the user has one connection more than it may have then, either this one is closed or
    /// those opened first are, by `connections_per_user_policy`.
    ///
    /// # Errors
    /// [`RegisterError`] when the connection has its most registrations or bytes of names, the user its
    /// most connections, or the connection is ending.
    pub fn register(
        &self,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        let bound = self.node.bind(&self.outbox, user, event, token);
        if let Err(RegisterError::UserFull { .. }) = bound {
            self.node.close(&self.outbox, CloseReason::UserFull);
        }
        bound
    }

    /// What the connection is registered for, those of one user together.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        self.node.binder.registrations(self.id())
    }

    /// Ends one registration; false when there is no such registration.
    pub fn unregister(&self, user: &UserId, event: &EventName) -> bool {
        self.node.unregister(self.id(), user, event)
    }

    /// Notes that a registration was refused: under `user` if its token has proven who it is, or
    /// else among strangers. `reason` is a label from a closed list.
    pub fn note_refused(
        &self,
        user: Option<&UserId>,
        event: Option<&EventName>,
        reason: &'static str,
    ) {
        let what = What::RegistrationRefused { reason };
        self.node.journal.note(what, Some(self.id()), user, event);
    }

    /// Notes which rule of the protocol the peer broke, under each user that the connection is
    /// registered for, or else among strangers. To be called before it is closed for it.
    pub fn note_protocol_broken(&self, rule: DecodeError) {
        let what = What::ProtocolBroken { rule };
        let registrations = self.node.binder.registrations(self.id());
        if registrations.is_empty() {
            self.node.journal.note(what, Some(self.id()), None, None);
        }
        // Registrations of one user stand together.
        for of_user in registrations.chunk_by(|one, next| one.user == next.user) {
            let user = of_user.first().map(|it| &it.user);
            self.node.journal.note(what, Some(self.id()), user, None);
        }
    }

    /// Sends one whole frame to this connection alone.
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

    /// Begins the end: queues the Close of `reason` and unbinds.
    pub fn close(&self, reason: CloseReason) -> bool {
        self.node.close(&self.outbox, reason)
    }

    /// Begins the end with a Close frame of the caller's, as the answer to the peer's own.
    pub fn close_with(&self, reason: CloseReason, frame: &Bytes) -> bool {
        self.node.close_with(&self.outbox, reason, frame)
    }

    /// Writes what is queued as far as the socket takes it, and registers the task to be woken
    /// when there is more to do: bytes to write, or a change of phase.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Flush {
        let (flush, expired) = self.outbox.poll_flush(&self.node.outbox_rules, cx);
        if expired > 0 {
            self.node.after_expiry(&self.outbox, expired);
        }
        flush
    }

    /// Remembers that the peer was heard of at `now`.
    pub fn seen(&self, now: Instant) {
        self.outbox.set_alive_at(self.node.seconds_at(now));
    }

    /// Whether it has been registered for anything, be it not by itself.
    #[must_use]
    pub fn was_registered(&self) -> bool {
        self.outbox.was_bound()
    }

    /// Asks the sweep to wake this connection's task at `deadline`, to the precision of a sweep, or never.
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
