//! The node's counters: one atomic per fact, labels from closed lists, never a name that a stranger
//! chooses.

use std::sync::atomic::{AtomicU64, Ordering};

use wserver_core::CloseReason;

use crate::histogram::Histogram;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of one node since it started.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that were opened.
    pub connections_opened_total: Counter,
    /// Connections that ended, by [`CloseReason::ALL`].
    connections_closed_total: [Counter; CloseReason::ALL.len()],
    /// Panics of connections' tasks and of fan-outs. The connection ends as
    /// [`CloseReason::Internal`]; after a panic of a fan-out, all connections of its user do.
    pub panics_total: Counter,
    /// Registrations that were bound.
    pub registrations_bound_total: Counter,
    /// Pushes that were answered, even if nobody got them.
    pub pushes_total: Counter,
    /// Pushes that had to wait for a fan-out under way.
    pub pushes_waited_total: Counter,
    /// Acknowledgements that a push waited for.
    pub acks_total: Counter,
    /// Requests that could not wait for acknowledgements, because `waits_max` others did.
    pub waits_refused_total: Counter,
    /// Messages taken by a socket or a queue: the sum of all N.
    pub deliveries_total: Counter,
    /// Messages that were not taken, because their connection was closed as too slow or was found
    /// ending when they were handed to it: the sum of `dropped` of all receipts.
    pub deliveries_dropped_total: Counter,
    /// Messages that N includes, but whose connection was then found ending.
    pub deliveries_lost_total: Counter,
    /// Messages that N includes, but that expired before they were sent.
    pub deliveries_expired_total: Counter,
    /// Connections closed because their queue would have exceeded its limit.
    pub slow_evictions_total: Counter,
    /// Connections closed because all queues together would have exceeded `outboxes_bytes_max`.
    pub outboxes_full_evictions_total: Counter,
    /// Connections closed because their peer took nothing of their queue for `stall_timeout`.
    pub stalled_evictions_total: Counter,
    /// Pongs not sent because one was already waiting.
    pub pongs_skipped_total: Counter,
    /// How long pushes took from being accepted until the socket or the queue of their last
    /// connection had taken them.
    ///
    /// A push is accepted when it gets its position in the order of its user's messages. This
    /// leaves out pushes that were for no connection, and those whose user's connections all left
    /// before they were written. Pushes that are written together, in one run of one event, all
    /// count with the time of the first of them. A push to everyone counts once for each of its
    /// users.
    pub push_delivery: Histogram,
}

impl Counters {
    /// Connections that ended for `reason`.
    #[must_use]
    pub fn connections_closed_total(&self, reason: CloseReason) -> &Counter {
        &self.connections_closed_total[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let counters = Counters::default();
        for reason in CloseReason::ALL {
            counters.connections_closed_total(reason).increment();
        }
        for reason in CloseReason::ALL {
            assert_eq!(counters.connections_closed_total(reason).value(), 1, "{reason}");
        }
    }
}
