//! The state of a node, which its attachments, walkers and sweep share: its tables, and how it
//! writes to a connection, closes it and forgets it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use wserver_core::{Binder, CloseReason, ConnectionId, ConnectionsPerUserPolicy, Limits, UserId};

use crate::acks::AckTable;
use crate::counters::Counters;
use crate::entry::What;
use crate::interest::Interest;
use crate::journal::Journal;
use crate::lane::Lane;
use crate::outbox::{CloseFrame, Outbox, OutboxRules, Run, Sent, Wire};
use crate::receipt::NoDelivery;
use crate::replay::Replays;
use crate::tasks::Tasks;

/// The bits of a connection's id below those that tell its node from others.
const NODE_SHIFT: u32 = 40;
/// Shards of the connection table; each is swept separately.
pub(crate) const SHARDS: usize = 64;

pub(crate) struct NodeState<W: Wire> {
    /// Registrations; written by attachments and by code that closes connections, limited by
    /// `connections_max` times `bindings_per_connection_max`.
    pub(crate) binder: Binder<Arc<Outbox<W>>, Lane>,
    /// Every live connection; written by `open` and `detach`, limited by `connections_max`.
    pub(crate) connections: [Mutex<Shard<W>>; SHARDS],
    pub(crate) connections_open: AtomicUsize,
    /// Notified when the last connection has gone.
    pub(crate) connections_gone: Notify,
    pub(crate) outbox_rules: OutboxRules,
    /// Bytes of users and events over all registrations that were requested. Limited by
    /// `names_bytes_max`, plus what registrations under way are about to give back. It is negative
    /// only while a registration ends that is not counted yet.
    pub(crate) name_bytes: AtomicIsize,
    /// Held during a search for the longest queues: a second search then finds that there is room.
    pub(crate) making_room: Mutex<()>,
    /// The messages that are kept for connections that come back, if any are.
    pub(crate) replays: Option<Replays>,
    pub(crate) journal: Journal,
    /// Pushes that wait for acknowledgements. Its lock comes last, behind that of a user.
    pub(crate) acks: Arc<AckTable>,
    pub(crate) counters: Counters,
    pub(crate) tasks: Tasks,
    pub(crate) next_connection: AtomicU64,
    next_walk: AtomicU32,
    /// Set when the node stops accepting connections, with the pushes and deliveries until then.
    pub(crate) drain_began: OnceLock<(u64, u64)>,
    /// Nothing is left to sweep.
    pub(crate) is_drained: AtomicBool,
    /// The binder has a member that no count may include.
    pub(crate) has_probe: AtomicBool,
    /// Receives reports about users, if anybody needs them.
    pub(crate) interest: Option<Box<dyn Interest>>,
    epoch: Instant,
    pub(crate) limits: Limits,
}

pub(crate) type Shard<W> = HashMap<ConnectionId, Arc<Outbox<W>>, BuildHasherDefault<IdHasher>>;

/// Removes a connection. A table never shrinks by itself, so it would stay as large as a past wave
/// of connections made it. O(1) amortised.
fn forget<T>(
    connections: &mut HashMap<ConnectionId, T, BuildHasherDefault<IdHasher>>,
    id: ConnectionId,
) {
    connections.remove(&id);
    let (len, capacity) = (connections.len(), connections.capacity());
    if capacity > 256 && len < capacity / 8 {
        connections.shrink_to(len * 2);
    }
}

/// Connection ids are a sequence of our own, so they need mixing but no secret key.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the golden ratio spreads a sequence evenly over the high bits.
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map whose insert or remove panicked is still a valid map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Wire> NodeState<W> {
    pub(crate) fn new(
        limits: Limits,
        close_frame: CloseFrame,
        runtime: Handle,
        first_connection: u64,
        interest: Option<Box<dyn Interest>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            binder: Binder::new(limits.bindings_per_connection_max)
                .with_connections_per_user_max(connections_refused_from(&limits)),
            connections: std::array::from_fn(|_| Mutex::default()),
            connections_open: AtomicUsize::new(0),
            connections_gone: Notify::new(),
            outbox_rules: OutboxRules::new(&limits, close_frame),
            name_bytes: AtomicIsize::new(0),
            making_room: Mutex::default(),
            replays: Replays::new(&limits, home_of(first_connection)),
            journal: Journal::new(&limits),
            acks: Arc::new(AckTable::new(&limits)),
            counters: Counters::default(),
            tasks: Tasks::new(runtime),
            next_connection: AtomicU64::new(first_connection),
            next_walk: AtomicU32::new(1),
            drain_began: OnceLock::new(),
            is_drained: AtomicBool::new(false),
            has_probe: AtomicBool::new(false),
            interest,
            epoch: Instant::now(),
            limits,
        })
    }

    pub(crate) fn shard(&self, id: ConnectionId) -> MutexGuard<'_, Shard<W>> {
        // The remainder of a division by 64 fits any usize.
        #[expect(clippy::cast_possible_truncation, reason = "below SHARDS")]
        lock(&self.connections[(id.as_u64() % SHARDS as u64) as usize])
    }

    /// A number for a walk, never zero. It repeats after 4 billion walks, when none of the first is
    /// still under way.
    pub(crate) fn next_walk(&self) -> u32 {
        self.next_walk.fetch_add(1, Ordering::Relaxed).max(1)
    }

    pub(crate) fn send(&self, outbox: &Outbox<W>, frame: &Bytes) -> Sent {
        let sent = self.deliver(outbox, &[Run::lasting(frame)]);
        self.after_send(outbox, sent);
        sent
    }

    /// Counts a reader that was too slow, and unbinds a connection that is ending.
    pub(crate) fn after_send(&self, outbox: &Outbox<W>, sent: Sent) {
        match sent {
            Sent::Overflow => self.counters.slow_evictions_total.increment(),
            Sent::NoRoom => self.counters.outboxes_full_evictions_total.increment(),
            Sent::Written | Sent::Queued | Sent::Ended => {}
        }
        if !sent.is_taken() {
            self.unbind(outbox);
        }
    }

    pub(crate) fn close(&self, outbox: &Outbox<W>, reason: CloseReason) -> bool {
        let is_first = outbox.close(&self.outbox_rules, reason);
        self.unbind(outbox);
        is_first
    }

    /// As [`Self::close`], with a Close frame of the caller's.
    pub(crate) fn close_with(
        &self,
        outbox: &Outbox<W>,
        reason: CloseReason,
        frame: &Bytes,
    ) -> bool {
        let is_first = outbox.close_with(&self.outbox_rules, reason, frame);
        self.unbind(outbox);
        is_first
    }

    /// Counts frames that expired before a connection got them, and notes that under each of its
    /// users.
    pub(crate) fn after_expiry(&self, outbox: &Outbox<W>, frames: usize) {
        self.counters.deliveries_expired_total.add(frames as u64);
        let mut users: Vec<UserId> =
            self.binder.registrations(outbox.id()).into_iter().map(|it| it.user).collect();
        users.dedup();
        for user in &users {
            let what = What::Dropped { reason: NoDelivery::Expired };
            self.journal.note(what, Some(outbox.id()), Some(user), None);
        }
    }

    pub(crate) fn detach(&self, outbox: &Outbox<W>, reason: CloseReason) {
        let reason = outbox.end(&self.outbox_rules, reason);
        if !self.unbind(outbox) && !outbox.was_bound() {
            self.journal.note(What::Closed { reason }, Some(outbox.id()), None, None);
        }
        forget(&mut self.shard(outbox.id()), outbox.id());
        self.counters.connections_closed_total(reason).increment();
        self.count_out();
    }

    /// Counts one connection less. A refused connection was counted for a moment, so a drain may
    /// see this one last.
    pub(crate) fn count_out(&self) {
        if self.connections_open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.connections_gone.notify_waiters();
        }
    }

    /// `instant` on the node's clock, in seconds.
    pub(crate) fn seconds_at(&self, instant: Instant) -> u32 {
        let since = instant.saturating_duration_since(self.epoch);
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    }

    /// `instant` on the node's clock, in milliseconds, rounded up.
    pub(crate) fn clock_at(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.epoch) + Duration::from_micros(999);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The number of one of several nodes, which is in the upper bits of its first connection's.
fn home_of(first_connection: u64) -> Option<u32> {
    let home = first_connection >> NODE_SHIFT;
    u32::try_from(home).ok().filter(|home| *home > 0)
}

/// The number of connections of a user from which on the binder refuses; zero means never.
fn connections_refused_from(limits: &Limits) -> usize {
    match limits.connections_per_user_policy {
        ConnectionsPerUserPolicy::RefuseNew => limits.connections_per_user_max,
        ConnectionsPerUserPolicy::CloseOldest => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_leaves_no_large_table() {
        let mut connections = HashMap::default();
        connections.extend((0..10_000).map(|id| (ConnectionId::new(id), ())));
        for id in 100..10_000 {
            forget(&mut connections, ConnectionId::new(id));
        }
        assert_eq!(connections.len(), 100);
        assert!(connections.capacity() < 1000, "{}", connections.capacity());
        assert!(connections.contains_key(&ConnectionId::new(99)));
    }
}
