//! The node's one timer: it wakes the connections whose deadline has come, so that no connection
//! owns a timer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use wserver_core::Limits;

use crate::outbox::Wire;
use crate::replay::SHARDS as LOG_SHARDS;
use crate::state::{NodeState, SHARDS, lock};
use crate::tasks::Tasks;

/// The longest interval between two looks at a connection's deadlines.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(1);

impl<W: Wire> NodeState<W> {
    /// Starts the sweep, which ends with the node.
    pub(crate) fn start_sweep(self: &Arc<Self>) {
        let interval = sweep_interval(&self.limits);
        self.tasks.spawn(sweep(Arc::downgrade(self), self.tasks.clone(), interval));
        if let Some(replays) = &self.replays {
            let interval = replays.sweep_interval();
            self.tasks.spawn(sweep_logs(Arc::downgrade(self), self.tasks.clone(), interval));
        }
    }

    /// Drops old messages of one shard of the logs, and the logs that nobody needs any more.
    fn sweep_logs_of(&self, shard: usize) {
        let Some(replays) = &self.replays else { return };
        let ended = replays.sweep(shard, Instant::now(), |user| {
            self.binder.with_user(user, |group| group.lane.is_resumable()) == Some(true)
        });
        if let Some(interest) = &self.interest {
            ended.iter().for_each(|user| interest.left(user));
        }
    }

    /// Wakes the connections of one shard whose deadline has come, and checks the progress of those
    /// that have something queued.
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

/// Four sweeps within the shortest timeout.
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

/// Looks at every log once per `interval`, one shard at a time.
async fn sweep_logs<W: Wire>(node: Weak<NodeState<W>>, tasks: Tasks, interval: Duration) {
    let mut ticks = tokio::time::interval(interval.div_f64(LOG_SHARDS as f64));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for shard in (0..LOG_SHARDS).cycle() {
        tokio::select! {
            () = tasks.stopped() => return,
            _ = ticks.tick() => {}
        }
        let Some(node) = node.upgrade() else { return };
        if node.is_drained.load(Ordering::Relaxed) {
            return;
        }
        node.sweep_logs_of(shard);
    }
}

/// Checks every connection's deadline once per `interval`, an eighth of the shards at a time.
async fn sweep<W: Wire>(node: Weak<NodeState<W>>, tasks: Tasks, interval: Duration) {
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
