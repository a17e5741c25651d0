//! The insides of a node, which its attachments, walkers and sweep share: its tables, and how a connection is bound, closed and let go.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use wserver_core::{
    BindError, Binder, Bound, CloseReason, ConnectionId, ConnectionsPerUserPolicy, EventName,
    Limits, Scope, TokenDigest, Unbound, UserId,
};

use crate::attachment::RegisterError;
use crate::counters::Counters;
use crate::fanout::{FannedOut, Lane};
use crate::interest::Interest;
use crate::journal::{Journal, What};
use crate::outbox::{Outbox, OutboxRules, Phase, Run, Sent, Wire};
use crate::receipt::{NoDelivery, PushOptions, PushReceipt};
use crate::tasks::Tasks;

/// Shards of the connection table; each is swept on its own.
const SHARDS: usize = 64;
/// How often each connection's deadlines are looked at, at most.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Inner<W: Wire> {
    /// Who is bound to what; written by attachments and closers, bounded by `connections_max` times
    /// `bindings_per_connection_max`.
    pub(crate) binder: Binder<Arc<Outbox<W>>, Lane>,
    /// Every live connection; written by `open` and `detach`, bounded by `connections_max`.
    pub(crate) connections: [Mutex<Shard<W>>; SHARDS],
    pub(crate) connections_open: AtomicUsize,
    /// Told when the last connection has gone.
    pub(crate) connections_gone: Notify,
    pub(crate) outbox_rules: OutboxRules,
    /// Bytes of users and events over all registrations, as they were asked for. Bounded by
    /// `names_bytes_max`, and by what registrations under way are about to give back. Below zero only
    /// while one ends that is not counted yet.
    name_bytes: AtomicIsize,
    /// Held by whoever looks for hoarders: the second finds that there is room.
    pub(crate) making_room: Mutex<()>,
    pub(crate) journal: Journal,
    pub(crate) counters: Counters,
    pub(crate) tasks: Tasks,
    pub(crate) next_connection: AtomicU64,
    next_walk: AtomicU64,
    /// Set when nobody is taken in any more, with the pushes and deliveries until then.
    pub(crate) drain_began: OnceLock<(u64, u64)>,
    /// Nothing is left to sweep.
    pub(crate) is_drained: AtomicBool,
    /// The binder holds a member that no count is to show.
    pub(crate) has_probe: AtomicBool,
    /// Told of users that come and go, where somebody wants to know.
    pub(crate) interest: OnceLock<Box<dyn Interest>>,
    epoch: Instant,
    pub(crate) limits: Limits,
}

pub(crate) type Shard<W> = HashMap<ConnectionId, Arc<Outbox<W>>, BuildHasherDefault<IdHasher>>;

/// Takes a connection out. A table never shrinks by itself, and after a wave this one would stay as large
/// as it was. O(1) amortised.
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

/// Connection ids are our own sequence, so they need mixing but no key.
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
    // A map whose insert or remove panicked is still a map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Wire> Inner<W> {
    /// A node's insides, with the sweep running.
    pub(crate) fn new(
        limits: Limits,
        close_frame: fn(CloseReason) -> Option<Bytes>,
        runtime: Handle,
    ) -> Arc<Self> {
        let inner = Arc::new(Self {
            binder: Binder::new(limits.bindings_per_connection_max)
                .with_connections_per_user_max(connections_refused_from(&limits)),
            connections: std::array::from_fn(|_| Mutex::default()),
            connections_open: AtomicUsize::new(0),
            connections_gone: Notify::new(),
            outbox_rules: OutboxRules::new(&limits, close_frame),
            name_bytes: AtomicIsize::new(0),
            making_room: Mutex::default(),
            journal: Journal::new(&limits),
            counters: Counters::default(),
            tasks: Tasks::new(runtime),
            next_connection: AtomicU64::new(1),
            next_walk: AtomicU64::new(1),
            drain_began: OnceLock::new(),
            is_drained: AtomicBool::new(false),
            has_probe: AtomicBool::new(false),
            interest: OnceLock::new(),
            epoch: Instant::now(),
            limits,
        });
        inner.tasks.spawn(sweep(
            Arc::downgrade(&inner),
            inner.tasks.clone(),
            sweep_interval(&inner.limits),
        ));
        inner
    }

    pub(crate) fn shard(&self, id: ConnectionId) -> MutexGuard<'_, Shard<W>> {
        // The rest of a division by 64 fits any usize.
        #[expect(clippy::cast_possible_truncation, reason = "below SHARDS")]
        lock(&self.connections[(id.as_u64() % SHARDS as u64) as usize])
    }

    /// One push to one user, counted and told to those who trace the user.
    pub(crate) async fn push(
        self: &Arc<Self>,
        user: &UserId,
        event: &EventName,
        frame: &Bytes,
        options: &PushOptions,
    ) -> PushReceipt {
        let FannedOut { receipt, took } = self.fan_out(user, event, frame, options).await;
        if let Some(took) = took {
            self.counters.push_delivery.observe(took, 1);
        }
        self.counters.deliveries_total.add(receipt.delivered() as u64);
        if receipt.dropped > 0 {
            self.counters.deliveries_dropped_total.add(receipt.dropped as u64);
        }
        if self.journal.is_traced() {
            self.journal.note(What::Pushed { receipt }, None, Some(user), Some(event));
        }
        receipt
    }

    pub(crate) fn next_walk(&self) -> u64 {
        self.next_walk.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn send(&self, outbox: &Outbox<W>, frame: &Bytes) -> Sent {
        let sent = self.deliver(outbox, &[Run::lasting(frame)]);
        self.after_send(outbox, sent);
        sent
    }

    /// Counts a reader that was too slow, and unbinds whoever is ending.
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

    /// Unbinds a connection that is ending, and notes that under each of its users. Whoever finds
    /// it bound does so, which is one of all who try; says whether that was it.
    pub(crate) fn unbind(&self, outbox: &Outbox<W>) -> bool {
        let unbound = self.binder.unbind_connection(outbox.id());
        self.let_go(&unbound);
        let (Phase::Closing(reason) | Phase::Ended(reason)) = outbox.phase() else { return false };
        self.note_closed(outbox.id(), reason, &unbound);
        !unbound.is_empty()
    }

    /// Notes the end of a connection under each user that it was unbound from.
    pub(crate) fn note_closed(&self, id: ConnectionId, reason: CloseReason, unbound: &[Unbound]) {
        // Bindings of one user stand together.
        for of_user in unbound.chunk_by(|one, next| one.user == next.user) {
            let user = of_user.first().map(|binding| &binding.user);
            self.journal.note(What::Closed { reason }, Some(id), user, None);
        }
    }

    /// Gives back the room of the names of what was unbound, and tells whoever wants to know which
    /// users have no registration left.
    pub(crate) fn let_go(&self, unbound: &[Unbound]) {
        if unbound.is_empty() {
            return;
        }
        let bytes = unbound.iter().map(|it| name_bytes(&it.user, &it.event)).sum::<usize>();
        self.name_bytes.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
        let Some(interest) = self.interest.get() else { return };
        for binding in unbound.iter().filter(|binding| binding.last_for == Scope::User) {
            interest.left(&binding.user);
        }
    }

    /// Binds a connection, whoever asks for it; notes it, or why not.
    pub(crate) fn bind(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        let bound = self.bind_quietly(outbox, user, event, token);
        match &bound {
            Ok(_) => {
                self.counters.registrations_bound_total.increment();
                if self.journal.is_traced() {
                    self.journal.note(What::Registered, Some(outbox.id()), Some(user), Some(event));
                }
            }
            Err(error) => {
                let what = What::RegistrationRefused { reason: error.as_str() };
                self.journal.note(what, Some(outbox.id()), Some(user), Some(event));
            }
        }
        bound
    }

    fn bind_quietly(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        let bound =
            self.binder.bind(outbox.id(), outbox, user, event, token).map_err(
                |error| match error {
                    BindError::TooMany { max } => RegisterError::TooMany { max },
                    BindError::UserFull { max } => RegisterError::UserFull { max },
                    _ => RegisterError::Ending,
                },
            )?;
        if let (Bound::New { first_for: Scope::User }, Some(interest)) =
            (bound, self.interest.get())
        {
            interest.came(user);
        }
        if bound != Bound::Already {
            self.charge_names(outbox, user, event)?;
            self.close_oldest(user);
        }
        // Whoever closes a connection first marks it and then unbinds it, so one of the two sees the other.
        if outbox.mark_bound() != Phase::Open {
            self.unbind(outbox);
            return Err(RegisterError::Ending);
        }
        Ok(bound)
    }

    /// Counts the names of a new registration, or ends it where they are too long together.
    ///
    /// Counted once it is bound, since only then it is known to be new.
    fn charge_names(
        &self,
        outbox: &Outbox<W>,
        user: &UserId,
        event: &EventName,
    ) -> Result<(), RegisterError> {
        let bytes = name_bytes(user, event);
        // A sum that is kept would cost every connection eight bytes, and few have more than one.
        let registrations = self.binder.registrations(outbox.id());
        let own: usize = registrations.iter().map(|it| name_bytes(&it.user, &it.event)).sum();
        let all = self.name_bytes.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
        let own_max = self.limits.names_per_connection_bytes_max;
        let all_max = self.limits.names_bytes_max;
        let error = if own > own_max {
            RegisterError::NamesTooLong { max: own_max }
        } else if usize::try_from(all.saturating_add_unsigned(bytes)).is_ok_and(|it| it > all_max) {
            RegisterError::NamesFull { max: all_max }
        } else {
            return Ok(());
        };
        self.let_go(self.binder.unbind(outbox.id(), user, event).as_slice());
        Err(error)
    }

    /// Counts frames that came too late for a connection, and notes that under each of its users.
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

    /// Closes those connections of a user that were opened first, as many as there are too many.
    ///
    /// Who is too many is decided under the user's lock, after each binding, from those who are bound
    /// then. Closing one twice does nothing, so users who bind at once keep exactly as many as they
    /// may. O(connections of the user) when there are too many, O(1) otherwise.
    pub(crate) fn close_oldest(&self, user: &UserId) {
        let max = self.limits.connections_per_user_max;
        let is_bounded =
            self.limits.connections_per_user_policy == ConnectionsPerUserPolicy::CloseOldest;
        if max == 0 || !is_bounded {
            return;
        }
        let surplus = self.binder.with_user(user, |group| {
            let surplus = group.members.len().saturating_sub(max);
            if surplus == 0 {
                return Vec::new();
            }
            let mut members: Vec<_> =
                group.members.iter().map(|member| (member.id(), member.handle())).collect();
            // Ids are a running number.
            members.select_nth_unstable_by_key(surplus - 1, |(id, _)| *id);
            members[..surplus].iter().map(|(_, outbox)| Arc::clone(outbox)).collect()
        });
        for outbox in surplus.unwrap_or_default() {
            self.close(&outbox, CloseReason::Replaced);
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

    /// One connection less; one that was refused was counted for a moment, and may be what a drain sees last.
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

    /// Wakes the connections of one shard whose deadline has come, and looks whether those go on that
    /// have something queued.
    fn sweep_shard(&self, shard: usize) {
        let now = self.clock_at(Instant::now());
        let due: Vec<_> = lock(&self.connections[shard])
            .values()
            .filter(|outbox| outbox.wake_at() <= now || outbox.queued_bytes() > 0)
            .cloned()
            .collect();
        for outbox in due {
            if outbox.queued_bytes() > 0 {
                self.check_progress(&outbox, now);
            }
            if outbox.wake_at() <= now {
                outbox.wake();
            }
        }
    }
}

/// What a registration counts for among names.
fn name_bytes(user: &UserId, event: &EventName) -> usize {
    user.as_str().len() + event.as_str().len()
}

/// Beyond how many connections of a user the binder refuses; zero is never.
fn connections_refused_from(limits: &Limits) -> usize {
    match limits.connections_per_user_policy {
        ConnectionsPerUserPolicy::RefuseNew => limits.connections_per_user_max,
        ConnectionsPerUserPolicy::CloseOldest => 0,
    }
}

/// The shortest timeout is looked at four times in its length.
fn sweep_interval(limits: &Limits) -> Duration {
    let timeouts = [
        limits.register_timeout,
        limits.ping_interval,
        limits.pong_timeout,
        limits.close_timeout,
        limits.stall_timeout,
    ];
    let shortest = timeouts
        .into_iter()
        .filter(|timeout| !timeout.is_zero())
        .min()
        .unwrap_or(SWEEP_INTERVAL_MAX);
    (shortest / 4).clamp(Duration::from_millis(10), SWEEP_INTERVAL_MAX)
}

/// Looks at every connection's deadline once per `interval`, an eighth of the shards at a time.
async fn sweep<W: Wire>(node: Weak<Inner<W>>, tasks: Tasks, interval: Duration) {
    const STEPS: usize = 8;
    let mut ticks = tokio::time::interval(interval / 8);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut step = 0;
    loop {
        tokio::select! {
            () = tasks.stopped() => return,
            _ = ticks.tick() => {}
        }
        let Some(node) = node.upgrade() else { return };
        if node.is_drained.load(Ordering::Relaxed) {
            return;
        }
        for shard in (step..SHARDS).step_by(STEPS) {
            node.sweep_shard(shard);
        }
        step = (step + 1) % STEPS;
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
