//! Room for queued bytes: if all queues together are full, the connection with the longest queue is
//! closed; and a connection whose peer takes nothing of its queue is closed too.
//!
//! Signs of life prove nothing about reading, so both ignore them.
//!
//! Memory is counted by connection and not by message, because each message would need an owner
//! that subtracts it again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use wserver_core::{CloseReason, ConnectionId};

use crate::outbox::{NoRoom, Outbox, Phase, Run, Sent, Wire};
use crate::state::{NodeState, lock};

/// The maximum number of connections to close in one search.
const HOARDERS_MAX: usize = 64;

/// A search looks at all connections, so it frees at least the limit divided by this, and not only
/// the room for one message.
const ROOM_SHARE: usize = 64;

impl<W: Wire> NodeState<W> {
    /// Sends runs of whole frames, in order and all or nothing; closes the connections with the
    /// longest queues if there is no room. Do not call it under a lock.
    pub(crate) fn deliver(&self, outbox: &Outbox<W>, runs: &[Run<'_>]) -> Sent {
        match outbox.send(&self.outbox_rules, runs) {
            Ok(sent) => sent,
            Err(no_room) => self.deliver_without_room(outbox, runs, no_room),
        }
    }

    #[cold]
    fn deliver_without_room(&self, outbox: &Outbox<W>, runs: &[Run<'_>], no_room: NoRoom) -> Sent {
        let sent = match no_room {
            NoRoom::Refused { bytes } if self.make_room(outbox, bytes) => {
                outbox.send(&self.outbox_rules, runs).ok()
            }
            NoRoom::Partial if self.make_room(outbox, 0) => Some(Sent::Queued),
            NoRoom::Refused { .. } | NoRoom::Partial => None,
        };
        // It has the longest queue, or another thread has closed the others.
        let close = || match outbox.close(&self.outbox_rules, CloseReason::Slow) {
            true => Sent::NoRoom,
            false => Sent::Ended,
        };
        sent.unwrap_or_else(close)
    }

    /// Closes connections that have more queued than `outbox` would have with `bytes` more, the
    /// longest queues first; returns whether there is room then.
    fn make_room(&self, outbox: &Outbox<W>, bytes: usize) -> bool {
        let rules = &self.outbox_rules;
        let _one_at_a_time = lock(&self.making_room);
        if rules.room_bytes() >= Some(bytes) {
            return true;
        }
        let target = bytes.max(self.limits.outboxes_bytes_max / ROOM_SHARE);
        for hoarder in self.hoarders(outbox.queued_bytes() + bytes) {
            if hoarder.close(rules, CloseReason::Slow) {
                self.counters.outboxes_full_evictions_total.increment();
            }
            self.unbind(&hoarder);
            if rules.room_bytes() >= Some(target) {
                break;
            }
        }
        rules.room_bytes() >= Some(bytes)
    }

    /// Open connections with more than `bytes` queued, the longest queues first, at most
    /// [`HOARDERS_MAX`].
    fn hoarders(&self, bytes: usize) -> Vec<Arc<Outbox<W>>> {
        let mut largest: BinaryHeap<Reverse<(usize, ConnectionId)>> = BinaryHeap::new();
        for shard in &self.connections {
            for (id, outbox) in &*lock(shard) {
                let queued = outbox.queued_bytes();
                let least = match largest.peek() {
                    Some(Reverse((least, _))) if largest.len() == HOARDERS_MAX => *least,
                    _ => bytes,
                };
                if queued > least && outbox.phase() == Phase::Open {
                    if largest.len() == HOARDERS_MAX {
                        largest.pop();
                    }
                    largest.push(Reverse((queued, *id)));
                }
            }
        }
        let ids = largest.into_sorted_vec();
        ids.into_iter().filter_map(|Reverse((_, id))| self.shard(id).get(&id).cloned()).collect()
    }

    /// Closes a connection whose peer has taken nothing of its queue for `stall_timeout`.
    pub(crate) fn check_progress(&self, outbox: &Outbox<W>, now: u64) {
        let timeout = u64::try_from(self.limits.stall_timeout.as_millis()).unwrap_or(u64::MAX);
        if outbox.is_stalled(now, timeout) && outbox.close(&self.outbox_rules, CloseReason::Slow) {
            self.counters.stalled_evictions_total.increment();
            self.unbind(outbox);
        }
    }
}
