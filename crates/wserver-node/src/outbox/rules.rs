//! What all outboxes of a node share: their limits, and the room for their bytes.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use wserver_core::{CloseReason, Limits};
use wserver_protocol::Protocol;

/// Encodes the Close frame that tells a connection why it ends, if one is sent.
pub type CloseFrame = fn(CloseReason, Protocol) -> Option<Bytes>;

/// All queues together have no room for these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// Nothing was taken; so many bytes would have to wait.
    Refused { bytes: usize },
    /// The socket took a part, so the rest is queued beyond the limit.
    Partial,
}

/// What all outboxes of a node share.
#[derive(Debug)]
pub(crate) struct OutboxRules {
    /// The limit of one queue.
    pub(super) bytes_max: usize,
    /// The limit of all queues together.
    all_bytes_max: usize,
    /// Bytes queued over all outboxes. Written when a queue grows or shrinks, so never by a write
    /// that the socket takes at once. Only these exceed `all_bytes_max`: Close frames, the rest of
    /// a frame that was partly sent when its connection began to close, and for a moment the rest
    /// of a frame that a socket took in part when there was no more room.
    all_bytes: AtomicUsize,
    /// Encodes the Close frame for a reason, if one is sent for it.
    pub(super) close_frame: CloseFrame,
}

impl OutboxRules {
    pub(crate) fn new(limits: &Limits, close_frame: CloseFrame) -> Self {
        Self {
            bytes_max: limits.outbox_bytes_max,
            all_bytes_max: limits.outboxes_bytes_max,
            all_bytes: AtomicUsize::new(0),
            close_frame,
        }
    }

    /// Bytes queued over all outboxes.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.all_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that may still be queued; `None` above the limit.
    pub(crate) fn room_bytes(&self) -> Option<usize> {
        self.all_bytes_max.checked_sub(self.queued_bytes())
    }

    /// Whether a queue with so many bytes has room for `more`, at this moment.
    pub(crate) fn has_room(&self, queued: usize, more: usize) -> bool {
        queued + more <= self.bytes_max && self.room_bytes() >= Some(more)
    }

    /// Takes room for bytes from that of all queues; returns false if there is none.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let grown = |all: usize| all.checked_add(bytes).filter(|all| *all <= self.all_bytes_max);
        self.all_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    /// Takes room unconditionally.
    pub(super) fn charge(&self, bytes: usize) {
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: usize) {
        let before = self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "what is released was taken");
    }
}
