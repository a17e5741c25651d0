//! Whether the broker carries messages: each node constantly sends itself messages over every lane.
//!
//! An open connection, or a broker that answers, proves nothing: after a fail-over both can hold
//! while published messages reach nobody.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The maximum time between two messages of a node to itself.
const NONCE_INTERVAL_MAX: Duration = Duration::from_secs(2);
/// How long after such a message has come back everything sent before it has arrived.
const SETTLED_AFTER: Duration = Duration::from_millis(200);
/// The number of consecutive misses after which the node is not ready.
const MISSES_MAX: u64 = 3;
/// The number of consecutive misses after which the node opens a new link.
const MISSES_UNTIL_NEW_LINK: u64 = 2;

/// The most messages per lane that are remembered until they come back.
const ON_THEIR_WAY_MAX: usize = 8;
/// The number of recent round trips whose minimum counts as the current one.
const ROUND_TRIPS_MAX: usize = 3;

/// What this node knows of the broker's ability to carry messages.
#[derive(Debug)]
pub(crate) struct Reachability {
    interval: Duration,
    lease: Duration,
    /// When this node started.
    since: Instant,
    /// Written by the task that checks, the one that keeps the link, and those that receive.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the link was opened, or why there is none.
    link: Result<Instant, String>,
    lanes: Vec<Lane>,
    /// The last reported verdict, so that a change is reported once.
    is_well: bool,
}

#[derive(Debug, Clone, Default)]
struct Lane {
    sent: u64,
    /// The number of the last message before this link.
    sent_before: u64,
    returned: u64,
    sent_at: Option<Instant>,
    /// Recent messages that may still come back: number and time.
    on_their_way: VecDeque<(u64, Instant)>,
    /// Recent round trips.
    round_trips: VecDeque<Duration>,
    /// For the last message that came back: when it was sent, and when it arrived.
    proof: Option<Proof>,
    /// The same for the last message that came back at least [`SETTLED_AFTER`] ago.
    settled: Option<Proof>,
}

/// The broker carried messages at some time between these two.
#[derive(Debug, Clone, Copy)]
struct Proof {
    sent_at: Instant,
    returned_at: Instant,
}

impl Lane {
    /// Consecutive misses since this link was opened.
    fn misses(&self) -> u64 {
        self.sent - self.returned.max(self.sent_before)
    }

    fn is_proven(&self) -> bool {
        self.returned > self.sent_before
    }

    fn settle(&mut self, now: Instant) {
        if self.proof.is_some_and(|proof| now >= proof.returned_at + SETTLED_AFTER) {
            self.settled = self.proof;
        }
    }
}

/// What to do after a check of the lanes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The messages to itself that the node must send: lane and number.
    pub(crate) nonces: Vec<(u16, u64)>,
    /// Whether the link must be replaced.
    pub(crate) is_stuck: bool,
}

impl Reachability {
    /// The health of a node with this lease.
    pub(crate) fn new(lanes: u16, lease: Duration) -> Self {
        let interval = NONCE_INTERVAL_MAX.min(lease * 2 / 5);
        let link = Err("there is no connection yet".to_owned());
        let lanes = vec![Lane::default(); usize::from(lanes)];
        Self {
            interval,
            lease,
            since: Instant::now(),
            state: Mutex::new(State { link, lanes, is_well: false }),
        }
    }

    /// Records a new link.
    pub(crate) fn linked(&self, now: Instant) {
        let mut state = self.state();
        state.link = Ok(now);
        for lane in &mut state.lanes {
            lane.sent_before = lane.sent;
            lane.sent_at = None;
            // Messages sent over the last link may still come back over it, and prove nothing about
            // this one.
            lane.on_their_way.clear();
        }
    }

    /// Records that there is no link any more, and why.
    pub(crate) fn unlinked(&self, why: String) {
        self.state().link = Err(why);
    }

    /// When the link was opened.
    pub(crate) fn linked_since(&self) -> Option<Instant> {
        self.state().link.as_ref().ok().copied()
    }

    /// Checks every lane: what to send, and whether the link is stuck.
    pub(crate) fn check(&self, now: Instant) -> Checked {
        let mut state = self.state();
        if state.link.is_err() {
            return Checked::default();
        }
        let mut checked = Checked::default();
        for (number, lane) in (0..).zip(&mut state.lanes) {
            let is_due = lane.sent_at.is_none_or(|at| now >= at + self.interval);
            if !is_due {
                continue;
            }
            checked.is_stuck |= lane.misses() >= MISSES_UNTIL_NEW_LINK;
            lane.sent += 1;
            lane.sent_at = Some(now);
            remember(&mut lane.on_their_way, (lane.sent, now), ON_THEIR_WAY_MAX);
            checked.nonces.push((number, lane.sent));
        }
        checked
    }

    /// Records a message that has come back.
    pub(crate) fn returned(&self, lane: u16, number: u64, now: Instant) {
        let mut state = self.state();
        let Some(lane) = state.lanes.get_mut(usize::from(lane)) else { return };
        if number > lane.sent || number <= lane.returned {
            return;
        }
        lane.returned = number;
        let sent_at = lane.on_their_way.iter().find(|(it, _)| *it == number).map(|(_, at)| *at);
        if let Some(sent_at) = sent_at {
            lane.settle(now);
            lane.proof = Some(Proof { sent_at, returned_at: now });
            let took = now.saturating_duration_since(sent_at);
            remember(&mut lane.round_trips, took, ROUND_TRIPS_MAX);
        }
        lane.on_their_way.retain(|(it, _)| *it > number);
    }

    /// The fastest recent round trip to the broker and back, over the slowest lane.
    pub(crate) fn round_trip(&self) -> Duration {
        let state = self.state();
        let least = state.lanes.iter().filter_map(|lane| lane.round_trips.iter().min());
        least.max().copied().unwrap_or_default()
    }

    /// Since when there is no proof that messages get through over every lane. A message that comes
    /// back proves it for the time when it was sent.
    pub(crate) fn unproven_since(&self) -> Instant {
        self.state().unproven_since(self.since)
    }

    /// Every lane carried messages at this time or later, and everything sent by then has arrived.
    pub(crate) fn open_since(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let proofs = state.lanes.iter_mut().map(|lane| {
            lane.settle(now);
            lane.settled.map(|proof| proof.sent_at)
        });
        // `None` is less than any.
        proofs.min().flatten()
    }

    /// Whether messages get through, or why not.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.verdict_at(Instant::now())
    }

    fn verdict_at(&self, now: Instant) -> Result<(), String> {
        let state = self.state();
        if let Err(why) = &state.link {
            return Err(why.clone());
        }
        // A process that was suspended has missed nothing by its own count.
        let unproven = now.saturating_duration_since(state.unproven_since(self.since));
        if state.lanes.iter().all(Lane::is_proven) && unproven > self.lease {
            return Err(format!(
                "this node has received none of its messages to itself for {} s",
                unproven.as_secs()
            ));
        }
        for (number, lane) in state.lanes.iter().enumerate() {
            if lane.misses() >= MISSES_MAX || !lane.is_proven() {
                let which = if state.lanes.len() > 1 {
                    format!(" on lane {number}")
                } else {
                    String::new()
                };
                return Err(format!("messages of this node to itself do not come back{which}"));
            }
        }
        Ok(())
    }

    /// Whether the verdict has changed since the last call.
    pub(crate) fn has_changed(&self, is_well: bool) -> bool {
        std::mem::replace(&mut self.state().is_well, is_well) != is_well
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave these numbers half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unproven_since(&self, start: Instant) -> Instant {
        let proofs = self.lanes.iter().map(|lane| lane.proof.map(|proof| proof.sent_at));
        proofs.min().flatten().unwrap_or(start)
    }
}

fn remember<T>(those_of_late: &mut VecDeque<T>, one: T, max: usize) {
    if those_of_late.len() == max {
        those_of_late.pop_front();
    }
    those_of_late.push_back(one);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_when_messages_come_back_by_every_lane() {
        let reachability = Reachability::new(2, Duration::from_secs(5));
        let start = Instant::now();
        assert_eq!(reachability.verdict(), Err("there is no connection yet".to_owned()));
        assert_eq!(reachability.check(start), Checked::default());
        reachability.linked(start);
        assert_eq!(reachability.check(start).nonces, [(0, 1), (1, 1)]);
        assert_eq!(reachability.check(start).nonces, [], "not yet");
        reachability.returned(0, 1, start);
        let missing = "messages of this node to itself do not come back on lane 1";
        assert_eq!(reachability.verdict(), Err(missing.to_owned()));
        reachability.returned(1, 1, start);
        assert_eq!(reachability.verdict(), Ok(()));
        for seconds in [2, 4, 6] {
            let checked = reachability.check(start + Duration::from_secs(seconds));
            assert_eq!(checked.is_stuck, seconds == 6);
            reachability.returned(1, checked.nonces[1].1, start);
            assert_eq!(reachability.verdict().is_ok(), seconds < 6, "{seconds}");
        }
        reachability.unlinked("it was cut".to_owned());
        assert_eq!(reachability.verdict(), Err("it was cut".to_owned()));
        reachability.linked(start);
        // What comes back now must have been sent by the new link.
        reachability.returned(0, 4, start);
        assert!(reachability.verdict().is_err());
        assert_eq!(reachability.check(start).nonces, [(0, 5), (1, 5)]);
        reachability.returned(0, 5, start);
        reachability.returned(1, 5, start);
        reachability.returned(1, 99, start);
        assert_eq!(reachability.verdict(), Ok(()));
    }

    #[test]
    fn the_way_was_open_when_what_came_back_was_sent() {
        let reachability = Reachability::new(2, Duration::from_secs(5));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        reachability.linked(start);
        assert_eq!(reachability.open_since(at(500)), None);
        reachability.check(start);
        reachability.returned(0, 1, at(10));
        assert_eq!(reachability.open_since(at(500)), None, "one lane is not both");
        reachability.returned(1, 1, at(20));
        assert_eq!(
            reachability.open_since(at(100)),
            None,
            "what came before it may not be here yet"
        );
        assert_eq!(reachability.open_since(at(220)), Some(start));
        reachability.check(at(2000));
        reachability.returned(0, 2, at(2001));
        reachability.returned(1, 2, at(2001));
        assert_eq!(reachability.open_since(at(2100)), Some(start));
        assert_eq!(reachability.open_since(at(2300)), Some(at(2000)));
        assert_eq!(reachability.unproven_since(), at(2000));
        // One that is late shows what was when it was sent, and not that the way is open now.
        reachability.check(at(4000));
        reachability.check(at(6000));
        reachability.returned(0, 3, at(6001));
        reachability.returned(1, 3, at(6001));
        assert_eq!(reachability.open_since(at(7000)), Some(at(4000)));
    }

    #[test]
    fn a_round_trip_longer_than_the_interval_is_measured_and_is_the_least_of_late() {
        let reachability = Reachability::new(2, Duration::from_secs(5));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        reachability.linked(start);
        assert_eq!(reachability.round_trip(), Duration::ZERO);
        for number in 0..12 {
            reachability.check(at(2000 * number));
            reachability.returned(0, number + 1, at(2000 * number + 10));
            if number >= 2 {
                reachability.returned(1, number - 1, at(2000 * number));
            }
        }
        assert_eq!(reachability.round_trip(), Duration::from_secs(4), "by the slowest lane");
        assert_eq!(reachability.unproven_since(), at(18_000));
        for number in 12..22 {
            reachability.check(at(2000 * number));
            reachability.returned(1, number + 1, at(2000 * number + 5));
            reachability.returned(0, number + 1, at(2000 * number + 10));
        }
        assert_eq!(reachability.round_trip(), Duration::from_millis(10));
    }

    #[test]
    fn a_node_that_stood_still_is_cut_off_until_it_knows_better() {
        let lease = Duration::from_millis(40);
        let reachability = Reachability::new(1, lease);
        let start = Instant::now();
        reachability.linked(start);
        reachability.check(start);
        reachability.returned(0, 1, start);
        let now = start + 2 * lease;
        let why = reachability.verdict_at(now).unwrap_err();
        assert_eq!(why, "this node has received none of its messages to itself for 0 s");
        reachability.check(now);
        reachability.returned(0, 2, now);
        assert_eq!(reachability.verdict_at(now), Ok(()));
    }

    #[test]
    fn what_comes_back_over_the_last_link_or_too_late_proves_nothing() {
        let reachability = Reachability::new(1, Duration::from_secs(5));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        reachability.linked(start);
        reachability.check(start);
        reachability.unlinked("it was cut".to_owned());
        reachability.linked(at(1));
        reachability.returned(0, 1, at(1));
        assert_eq!(reachability.round_trip(), Duration::ZERO);
        assert_eq!(reachability.open_since(at(2)), None);
        for seconds in [1, 3, 5] {
            reachability.check(at(seconds));
        }
        reachability.returned(0, 4, at(5));
        // One that the broker brings again.
        reachability.returned(0, 2, at(5));
        assert!(!reachability.check(at(7)).is_stuck);
    }
}
