//! The options of a push, and what became of it.

use std::time::Instant;

use wserver_core::{ConnectionId, words};

use crate::outbox::Sent;

/// The options of a push. The default has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PushOptions {
    /// A connection that does not get the message, for example the one whose user sent it.
    pub exclude: Option<ConnectionId>,
    /// From this time on the message is no longer sent; a frame that is partly sent is completed.
    pub expires_at: Option<Instant>,
}

impl PushOptions {
    pub(crate) fn is_expired(&self) -> bool {
        is_over(self.expires_at)
    }

    /// Whether other frames of the same event may not share a run with it.
    pub(crate) fn is_apart(&self) -> bool {
        self.exclude.is_some() || self.expires_at.is_some()
    }
}

/// Whether a frame has expired. It reads the clock only for frames that can expire.
pub(crate) fn is_over(expires_at: Option<Instant>) -> bool {
    expires_at.is_some_and(|at| at <= Instant::now())
}

/// What became of a push.
///
/// `matched` is the sum of the other three. The counts are exact for connections that stay alive; a
/// surplus in `written` and `queued` can only belong to a connection that was ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PushReceipt {
    /// Connections that were registered for the event when the push was accepted, without excluded
    /// ones.
    pub matched: usize,
    /// Connections whose socket took the message during the call.
    pub written: usize,
    /// Connections for which the message waits: in their queue, or behind a fan-out under way.
    pub queued: usize,
    /// Connections that were closed as too slow, or found ending, when the message was handed to
    /// them.
    pub dropped: usize,
    /// Why nobody got the message, if nobody did.
    pub reason: Option<NoDelivery>,
    /// Whether the message is kept for connections of the user that come back.
    pub is_kept: bool,
}

impl PushReceipt {
    /// N: connections whose socket or bounded queue took the message.
    #[must_use]
    pub const fn delivered(&self) -> usize {
        self.written + self.queued
    }

    /// The receipt of a push that concerned no connection.
    pub(crate) const fn nobody(reason: NoDelivery) -> Self {
        Self { matched: 0, written: 0, queued: 0, dropped: 0, reason: Some(reason), is_kept: false }
    }

    /// The same receipt, with a reason only if nobody got the message.
    pub(crate) fn settled(mut self) -> Self {
        if self.delivered() > 0 {
            self.reason = None;
        }
        debug_assert_eq!(self.matched, self.delivered() + self.dropped, "each is counted once");
        self
    }
}

/// What became of a push to everyone who is registered for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EveryoneReceipt {
    /// Users to whom it was handed out.
    pub users: usize,
    /// The sum over all of them.
    pub total: PushReceipt,
}

impl EveryoneReceipt {
    /// Adds the receipt for one user.
    pub(crate) fn add(&mut self, receipt: PushReceipt) {
        self.users += usize::from(receipt.matched > 0);
        let total = &mut self.total;
        total.matched += receipt.matched;
        total.written += receipt.written;
        total.queued += receipt.queued;
        total.dropped += receipt.dropped;
        total.reason = total.reason.max(receipt.reason);
        total.is_kept |= receipt.is_kept;
    }

    pub(crate) fn settled(mut self) -> Self {
        self.total.reason = self.total.reason.or(Some(NoDelivery::NoRegistrationForEvent));
        self.total = self.total.settled();
        self
    }
}

words! {
    /// Why nobody got a push, in ascending order of how much the reader can do about it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum NoDelivery {
        /// The user has no connection.
        UserOffline = "user_offline",
        /// The user has connections, but none is registered for the event.
        NoRegistrationForEvent = "no_registration_for_event",
        /// The push excludes the only connection that is registered for the event.
        Excluded = "excluded",
        /// The push expired before it was accepted.
        Expired = "expired",
        /// Every connection that was registered for it was found ending.
        ConnectionEnding = "connection_ending",
        /// Every connection that was registered for it was ending, and at least one was closed
        /// because it reads too slowly.
        SlowConsumer = "slow_consumer",
    }
}

impl NoDelivery {
    pub(crate) const fn of(sent: Sent) -> Option<Self> {
        match sent {
            Sent::Written | Sent::Queued => None,
            Sent::Ended => Some(Self::ConnectionEnding),
            Sent::Overflow | Sent::NoRoom => Some(Self::SlowConsumer),
        }
    }
}
