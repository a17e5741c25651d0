//! One user's kept messages: a window of positions without a hole.
//!
//! It knows no lock, no socket and no other log, and reads no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wserver_core::{EventName, LogId, Position, PushId, words};
use wserver_protocol::{Protocol, events};

/// What a kept message costs besides its frame: its slot, and the allocator's overhead.
const ENTRY_BYTES: usize = size_of::<Kept>() + 32;
/// A log with fewer messages takes no more room than it needs.
const FEW: usize = 16;
/// What a log costs besides its messages and the user's id: itself, its slot in the table, and the
/// allocator's overhead.
pub(super) const LOG_BYTES: usize = size_of::<Log>() + 160;

words! {
    /// Why a client does not get what it may have missed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum GapReason {
        /// The server was restarted, or the position is none that it gave.
        Restarted = "restarted",
        /// The messages, or the whole log, are older than `replay_window`.
        Expired = "expired",
        /// The messages had to make room: `replay_bytes_per_user_max`, `replay_bytes_max`.
        Evicted = "evicted",
        /// The messages do not fit into the connection's queue.
        TooFar = "too_far",
        /// A push was lost between two nodes.
        Lost = "lost",
        /// The node that kept the messages is gone, or does not answer.
        NodeGone = "node_gone",
    }
}

/// A message that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its event.
    pub event: EventName,
    /// Its push.
    pub id: PushId,
    /// The position behind it.
    pub at: Position,
    /// Its frame for connections of version 2, with the position.
    pub(crate) frame: Bytes,
    /// The length of the message, which is the end of the frame.
    pub(crate) message_bytes: usize,
    /// From this time on it is not sent any more.
    pub(crate) expires_at: Option<Instant>,
    pub(crate) accepted: Instant,
}

impl Kept {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &str {
        let message = &self.frame[self.frame.len() - self.message_bytes..];
        std::str::from_utf8(message).unwrap_or_default()
    }

    /// Its frame for a connection that speaks `protocol`.
    pub(crate) fn frame_of(&self, protocol: Protocol) -> Bytes {
        match protocol {
            Protocol::V1 | Protocol::V2 => self.frame.clone(),
            Protocol::Sse => events::event(self.event.as_str(), Some(self.at), self.message()),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.frame.len() + ENTRY_BYTES
    }
}

/// The kept messages of one user.
#[derive(Debug)]
pub(crate) struct Log {
    id: LogId,
    /// The offset behind the newest message.
    head: u64,
    /// Invariant: the messages up to `head`, without a hole.
    entries: VecDeque<Kept>,
    /// Invariant: the sum of the entries' bytes.
    bytes: usize,
    /// Why the message before the first entry is not here any more, if there was one.
    lost: Option<GapReason>,
    /// When a connection or a backend last needed it.
    pub(super) needed_at: Instant,
    /// It is no longer in the table: take the one that is.
    pub(super) is_ended: bool,
}

impl Log {
    pub(super) fn new(id: LogId, now: Instant) -> Self {
        Self {
            id,
            head: 0,
            entries: VecDeque::new(),
            bytes: 0,
            lost: None,
            needed_at: now,
            is_ended: false,
        }
    }

    /// The position of a client that has missed nothing so far.
    pub(crate) fn position(&self) -> Position {
        Position { log: self.id, offset: self.head }
    }

    /// The position behind the next message.
    pub(crate) fn next(&self) -> Position {
        Position { log: self.id, offset: self.head + 1 }
    }

    /// The bytes of its messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of its messages.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends the next message, and drops the oldest ones until all fit into `bytes_max`. If it
    /// does not fit alone, it is not kept, and then none before it is either. Returns how many
    /// messages were dropped, or not kept, for want of room.
    pub(super) fn append(&mut self, kept: Kept, bytes_max: usize) -> u64 {
        debug_assert_eq!(kept.at, self.next(), "positions have no hole");
        let bytes = kept.bytes();
        self.head += 1;
        let mut evicted = 0;
        while self.bytes + bytes > bytes_max {
            evicted += 1;
            if !self.drop_first(GapReason::Evicted) {
                self.lost = Some(GapReason::Evicted);
                return evicted;
            }
        }
        self.bytes += bytes;
        if self.entries.len() < FEW && self.entries.len() == self.entries.capacity() {
            // Most users have a message or two, and by itself the queue begins with room for four.
            self.entries.reserve_exact(2);
        }
        self.entries.push_back(kept);
        evicted
    }

    /// Takes note of a message that is missing: nothing before it is of use any more.
    pub(super) fn lose(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
        self.head += 1;
        self.lost = Some(GapReason::Lost);
    }

    /// Whether it has a message of this push.
    pub(super) fn has(&self, id: PushId) -> bool {
        self.entries.iter().rev().any(|kept| kept.id == id)
    }

    /// Drops the messages that are older than `window`.
    pub(super) fn drop_old(&mut self, window: Duration, now: Instant) {
        while let Some(first) = self.entries.front()
            && now.saturating_duration_since(first.accepted) >= window
        {
            self.drop_first(GapReason::Expired);
        }
        if self.entries.is_empty() {
            // A past flood leaves no room behind.
            self.entries.shrink_to_fit();
        }
    }

    /// Returns false if there is none.
    fn drop_first(&mut self, why: GapReason) -> bool {
        let Some(first) = self.entries.pop_front() else { return false };
        self.bytes -= first.bytes();
        self.lost = Some(why);
        true
    }

    /// The messages behind a position, all of them.
    ///
    /// # Errors
    /// Why not all of them are here.
    pub(crate) fn since(&self, after: Position) -> Result<impl Iterator<Item = &Kept>, GapReason> {
        if after.log != self.id {
            return Err(GapReason::Expired);
        }
        let missed = self.head.checked_sub(after.offset).ok_or(GapReason::Restarted)?;
        let first = usize::try_from(missed).ok().and_then(|it| self.entries.len().checked_sub(it));
        match first {
            Some(first) => Ok(self.entries.range(first..)),
            None => Err(self.lost.unwrap_or(GapReason::Restarted)),
        }
    }
}
