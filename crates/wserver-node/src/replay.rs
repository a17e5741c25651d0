//! Replay: the latest messages of each user, for connections that come back.
//!
//! A user has one log over all its replayable events, from its first connection of version 2 that
//! registers such an event until `replay_window` after the last one. A push is put into the log and
//! accepted for the connections under the log's lock, and so is a registration that asks for what
//! it has missed: whatever is pushed is either replayed to it or sent to it, in one order.
//!
//! The log is beside the binder and not in a user's lane, because it outlives the user's last
//! connection. Its lock comes before all others; only the table's shards are locked inside of it,
//! and a shard is never held while a log is locked.

mod log;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wserver_core::{EventName, Limits, LogId, Patterns, Position, PushId, UserId};
use wserver_protocol::Protocol;

use crate::counters::Counter;
use crate::message::Message;
use crate::receipt::is_over;

use log::LOG_BYTES;
pub(crate) use log::Log;
pub use log::{GapReason, Kept};

/// Shards of the table.
pub(crate) const SHARDS: usize = 64;

/// The logs of one node.
pub(crate) struct Replays {
    events: Patterns,
    window: Duration,
    bytes_per_user_max: usize,
    bytes_max: usize,
    /// The node's number in its positions.
    home: u32,
    keys: RandomState,
    shards: Vec<Mutex<HashMap<UserId, Arc<Mutex<Log>>>>>,
    /// The messages of all logs and the logs themselves: at most `bytes_max`.
    bytes: AtomicUsize,
    /// Logs in the table.
    logs: AtomicUsize,
    counters: ReplayCounters,
}

/// What a node has done for replay.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReplayCounters {
    /// Messages that were put into a log.
    pub kept_total: Counter,
    /// Messages that were dropped, or not kept, for want of room.
    pub evicted_total: Counter,
    /// Logs that were not begun for want of room.
    pub refused_total: Counter,
    /// Connections that got everything they had missed.
    pub resumed_total: Counter,
    /// Messages that were replayed to them.
    pub replayed_total: Counter,
    /// Connections that were told of a gap, by [`GapReason::ALL`].
    gaps_total: [Counter; GapReason::ALL.len()],
}

impl ReplayCounters {
    /// Connections that were told of a gap for this reason.
    #[must_use]
    pub fn gaps_total(&self, reason: GapReason) -> &Counter {
        &self.gaps_total[reason as usize]
    }
}

impl Replays {
    /// `None` if no event is kept. `home` is the node's number in its positions; without one it is
    /// random.
    pub(crate) fn new(limits: &Limits, home: Option<u32>) -> Option<Self> {
        if limits.replay.is_empty() {
            return None;
        }
        let keys = RandomState::new();
        Some(Self {
            events: limits.replay.clone(),
            window: limits.replay_window,
            bytes_per_user_max: limits.replay_bytes_per_user_max,
            bytes_max: limits.replay_bytes_max,
            home: LogId::new(home.unwrap_or_else(|| low_bits(keys.hash_one("home"))), 0).home(),
            keys,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            bytes: AtomicUsize::new(0),
            logs: AtomicUsize::new(0),
            counters: ReplayCounters::default(),
        })
    }

    /// Whether messages of this event are kept.
    pub(crate) fn covers(&self, event: &EventName) -> bool {
        self.events.cover(event.as_str())
    }

    /// The node's number in its positions.
    pub(crate) fn home(&self) -> u32 {
        self.home
    }

    pub(crate) fn counters(&self) -> &ReplayCounters {
        &self.counters
    }

    /// The bytes of all logs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The number of logs.
    pub(crate) fn logs(&self) -> usize {
        self.logs.load(Ordering::Relaxed)
    }

    /// Runs `act` with the user's log under its lock. If there is none, `act` runs before one can
    /// begin.
    pub(crate) fn with_log<R>(&self, user: &UserId, act: impl FnOnce(Option<&mut Log>) -> R) -> R {
        loop {
            let shard = lock(self.shard(user));
            let Some(found) = shard.get(user).cloned() else { return act(None) };
            drop(shard);
            let mut log = lock(&found);
            if !log.is_ended {
                return act(Some(&mut log));
            }
            drop(log);
            self.remove(user, &found);
        }
    }

    /// The same with a log that begins now if there is none; `None` if there is no room for one.
    /// Also returns whether it began now.
    pub(crate) fn with_new_log<R>(
        &self,
        user: &UserId,
        now: Instant,
        act: impl FnOnce(Option<&mut Log>) -> R,
    ) -> (R, bool) {
        loop {
            let mut shard = lock(self.shard(user));
            let (found, is_new) = match shard.get(user) {
                Some(found) => (Arc::clone(found), false),
                None if self.reserve(log_bytes(user)) => {
                    // A number that repeats for another user does no harm.
                    let number = RandomState::new().hash_one(self.home);
                    let log = Log::new(LogId::new(self.home, low_bits(number)), now);
                    let begun = Arc::new(Mutex::new(log));
                    shard.insert(user.clone(), Arc::clone(&begun));
                    self.logs.fetch_add(1, Ordering::Relaxed);
                    (begun, true)
                }
                None => {
                    self.counters.refused_total.increment();
                    return (act(None), false);
                }
            };
            drop(shard);
            let mut log = lock(&found);
            if !log.is_ended {
                log.needed_at = now;
                return (act(Some(&mut log)), is_new);
            }
            drop(log);
            self.remove(user, &found);
        }
    }

    /// Puts an accepted push, which has its position there, into the log of its user, if there is
    /// room.
    pub(crate) fn keep(
        &self,
        log: &mut Log,
        message: &mut Message<'_>,
        expires_at: Option<Instant>,
        now: Instant,
    ) {
        let kept = Kept {
            event: message.event().clone(),
            id: message.id(),
            at: log.next(),
            message_bytes: message.text().len(),
            frame: message.frame(Protocol::V2).clone(),
            expires_at,
            accepted: now,
        };
        self.drop_old(log, now);
        let before = log.bytes();
        let bytes = kept.bytes();
        let reserved = if self.reserve(bytes) { bytes } else { 0 };
        // Without room among all logs, this one makes room for itself.
        let bytes_max = if reserved > 0 { self.bytes_per_user_max } else { log.bytes() };
        let evicted = log.append(kept, bytes_max.min(self.bytes_per_user_max));
        self.release(before + reserved - log.bytes());
        self.counters.kept_total.increment();
        if evicted > 0 {
            self.counters.evicted_total.add(evicted);
        }
    }

    /// Drops the messages of a log that are older than the window.
    pub(crate) fn drop_old(&self, log: &mut Log, now: Instant) {
        let before = log.bytes();
        log.drop_old(self.window, now);
        self.release(before - log.bytes());
    }

    /// The number of a user's messages and their bytes; `None` if the user has no log.
    pub(crate) fn size(&self, user: &UserId, now: Instant) -> Option<(usize, usize)> {
        self.with_log(user, |log| {
            let log = log?;
            self.drop_old(log, now);
            Some((log.len(), log.bytes()))
        })
    }

    /// The messages of a user's log behind a position, all of them.
    pub(crate) fn missed(&self, user: &UserId, after: Position) -> Result<Vec<Kept>, GapReason> {
        if after.log.home() != self.home {
            return Err(GapReason::Restarted);
        }
        self.with_log(user, |log| {
            let log = log.ok_or(GapReason::Expired)?;
            self.drop_old(log, Instant::now());
            let missed = log.since(after)?.filter(|kept| !is_over(kept.expires_at));
            Ok(missed.cloned().collect())
        })
    }

    /// Takes note of a push that may not have come: without it in the log, the log is broken there,
    /// and `tell` tells the user's connections. With no push, any may be missing.
    pub(crate) fn lose(&self, user: &UserId, push: Option<PushId>, tell: impl FnOnce(Position)) {
        self.with_log(user, |log| {
            let Some(log) = log else { return };
            if push.is_some_and(|push| log.has(push)) {
                return;
            }
            self.release(log.bytes());
            log.lose();
            tell(log.position());
        });
    }

    /// Drops old messages, and ends the logs that nobody has needed for long enough; returns their
    /// users. `is_needed` is asked under the lock of a log.
    pub(crate) fn sweep(
        &self,
        shard: usize,
        now: Instant,
        is_needed: impl Fn(&UserId) -> bool,
    ) -> Vec<UserId> {
        let logs: Vec<_> = {
            let shard = lock(&self.shards[shard]);
            shard.iter().map(|(user, log)| (user.clone(), Arc::clone(log))).collect()
        };
        let mut ended = Vec::new();
        for (user, found) in logs {
            let mut log = lock(&found);
            self.drop_old(&mut log, now);
            if is_needed(&user) {
                log.needed_at = now;
            }
            // It may have been needed until just before this sweep.
            let unneeded = now.saturating_duration_since(log.needed_at);
            if !log.is_empty() || unneeded < self.window + self.sweep_interval() || log.is_ended {
                continue;
            }
            log.is_ended = true;
            drop(log);
            self.remove(&user, &found);
            ended.push(user);
        }
        ended
    }

    /// Ends all logs, and returns their users.
    pub(crate) fn end(&self) -> Vec<UserId> {
        let mut ended = Vec::new();
        for user in self.users() {
            let found = lock(self.shard(&user)).get(&user).cloned();
            let Some(found) = found else { continue };
            let mut log = lock(&found);
            if !std::mem::replace(&mut log.is_ended, true) {
                self.release(log.bytes());
                drop(log);
                self.remove(&user, &found);
                ended.push(user);
            }
        }
        ended
    }

    /// Time between two sweeps of a shard.
    pub(crate) fn sweep_interval(&self) -> Duration {
        (self.window / 8).clamp(Duration::from_millis(50), Duration::from_secs(15))
    }

    /// The users with a log.
    pub(crate) fn users(&self) -> HashSet<UserId> {
        let mut users = HashSet::with_capacity(self.logs());
        for shard in &self.shards {
            users.extend(lock(shard).keys().cloned());
        }
        users
    }

    /// Removes a log that has ended; whoever comes first does.
    fn remove(&self, user: &UserId, ended: &Arc<Mutex<Log>>) {
        let mut shard = lock(self.shard(user));
        if shard.get(user).is_some_and(|log| Arc::ptr_eq(log, ended)) {
            shard.remove(user);
            // A table never shrinks by itself.
            let (len, capacity) = (shard.len(), shard.capacity());
            if capacity > 64 && len < capacity / 8 {
                shard.shrink_to(len * 2);
            }
            self.logs.fetch_sub(1, Ordering::Relaxed);
            self.release(log_bytes(user));
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "below SHARDS")]
    fn shard(&self, user: &UserId) -> &Mutex<HashMap<UserId, Arc<Mutex<Log>>>> {
        &self.shards[(self.keys.hash_one(user) % SHARDS as u64) as usize]
    }

    fn reserve(&self, bytes: usize) -> bool {
        let grown = |all: usize| all.checked_add(bytes).filter(|all| *all <= self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code under these locks can panic in the middle of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a log without messages costs.
fn log_bytes(user: &UserId) -> usize {
    LOG_BYTES + user.as_str().len()
}

#[expect(clippy::cast_possible_truncation, reason = "a random number has enough bits")]
const fn low_bits(number: u64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use wserver_core::LimitSettings;

    use super::*;

    /// Whoever looks at a log may be the first to find that its messages are too old.
    #[test]
    fn what_is_too_old_gives_its_room_back() {
        let limits =
            LimitSettings { replay: ["order"].into_iter().collect(), ..Default::default() };
        let limits = limits.build().unwrap();
        let replays = Replays::new(&limits, None).unwrap();
        let (user, order) =
            (UserId::parse("ann", 8).unwrap(), EventName::parse("order", 8).unwrap());
        let later = Instant::now();
        let long_ago = later.checked_sub(limits.replay_window).unwrap();
        let fill = || {
            let (before, _) = replays.with_new_log(&user, later, |log| {
                let log = log.unwrap();
                let before = log.position();
                let mut message = Message::new(&order, PushId::new(1, 1), "message");
                replays.keep(log, &mut message, None, long_ago);
                before
            });
            assert!(replays.bytes() > log_bytes(&user));
            before
        };
        let before = fill();
        assert!(matches!(replays.missed(&user, before), Err(GapReason::Expired)));
        assert_eq!(replays.bytes(), log_bytes(&user));
        fill();
        (0..SHARDS).for_each(|shard| assert_eq!(replays.sweep(shard, later, |_| true), []));
        assert_eq!(replays.bytes(), log_bytes(&user));
    }
}
