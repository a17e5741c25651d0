//! A circuit breaker: after some consecutive failures it allows no calls for a while, and then one
//! test call.
//!
//! The clock is a parameter. We wrote this page ourselves because libraries wrap calls in their own
//! types and count in windows, and none releases a test call whose caller went away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::permits::Peer;

/// The most addresses that are told apart; a limit on failures beyond that means that calls never
/// stop.
const PEERS_MAX: usize = 1000;

#[derive(Debug)]
pub(crate) struct Breaker {
    failures_max: u32,
    rest: Duration,
    /// Written before and after each call; nothing waits while the lock is held.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Calls are allowed. `failures` counts failures since the last success that were not due to a
    /// token, each of the addresses in `peers` once.
    Closed { failures: u32, peers: Vec<Peer> },
    /// No calls are allowed before `until`; after it one test call, which `probing` says is in
    /// progress. The address for which the last call failed waits for another rest, and leaves the
    /// test call to others.
    Open { until: Instant, probing: bool, failed_for: Option<Peer> },
}

/// What a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Opened,
    Closed,
}

/// No calls are allowed at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resting;

/// Permission for a call. If it is dropped without a result, it changes nothing.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    peer: Peer,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, rest: Duration) -> Self {
        Self { failures_max, rest, state: Mutex::new(State::closed()) }
    }

    /// Whether it makes sense to wait for a call.
    pub(crate) fn check(&self, peer: Peer, now: Instant) -> Result<(), Resting> {
        if self.lock().permits(peer, now, self.rest) { Ok(()) } else { Err(Resting) }
    }

    /// Asks for permission to call now.
    pub(crate) fn admit(&self, peer: Peer, now: Instant) -> Result<Admission<'_>, Resting> {
        let mut state = self.lock();
        if !state.permits(peer, now, self.rest) {
            return Err(Resting);
        }
        let probe = match &mut *state {
            State::Closed { .. } => false,
            State::Open { probing, .. } => {
                *probing = true;
                true
            }
        };
        Ok(Admission { breaker: self, peer, probe })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn closed() -> Self {
        Self::Closed { failures: 0, peers: Vec::new() }
    }

    fn permits(&self, peer: Peer, now: Instant, rest: Duration) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { until, probing, failed_for } => {
                let from = if *failed_for == Some(peer) { *until + rest } else { *until };
                now >= from && !probing
            }
        }
    }
}

impl Admission<'_> {
    /// The backend has answered.
    pub(crate) fn succeeded(mut self) -> Option<Change> {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.breaker.lock();
        match &mut *state {
            State::Closed { failures, peers } => {
                *failures = 0;
                peers.clear();
                None
            }
            State::Open { .. } if probe => {
                *state = State::closed();
                Some(Change::Closed)
            }
            // This call began before the others failed; they know better.
            State::Open { .. } => None,
        }
    }

    /// The call failed, perhaps because of its token: it counts once per address.
    pub(crate) fn failed(self, now: Instant) -> Option<Change> {
        let peer = self.peer;
        self.count(now, Some(peer))
    }

    /// The call failed whatever its token.
    pub(crate) fn failed_for_all(self, now: Instant) -> Option<Change> {
        self.count(now, None)
    }

    fn count(mut self, now: Instant, peer: Option<Peer>) -> Option<Change> {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.breaker.lock();
        let until = now + self.breaker.rest;
        match &mut *state {
            State::Closed { failures, peers } => {
                match peer {
                    Some(peer) if peers.contains(&peer) => return None,
                    Some(peer) if peers.len() < PEERS_MAX => peers.push(peer),
                    Some(_) | None => {}
                }
                *failures = failures.saturating_add(1);
                (*failures >= self.breaker.failures_max).then(|| {
                    *state = State::Open { until, probing: false, failed_for: None };
                    Change::Opened
                })
            }
            State::Open { .. } => {
                if probe {
                    *state = State::Open { until, probing: false, failed_for: peer };
                }
                None
            }
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe
            && let State::Open { probing, .. } = &mut *self.breaker.lock()
        {
            *probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Another address each time.
    fn someone() -> Peer {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Peer::of(Ipv4Addr::from_bits(NEXT.fetch_add(1, Ordering::Relaxed)).into())
    }

    const REST: Duration = Duration::from_secs(5);

    fn open(now: Instant) -> Breaker {
        let breaker = Breaker::new(2, REST);
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), None);
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), Some(Change::Opened));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let now = Instant::now();
        let breaker = Breaker::new(2, REST);
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), None);
        assert_eq!(breaker.admit(someone(), now).unwrap().succeeded(), None);
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), None);
        assert_eq!(breaker.check(someone(), now), Ok(()));
        // Who left says nothing of the backend.
        drop(breaker.admit(someone(), now));
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), Some(Change::Opened));
        assert_eq!(breaker.check(someone(), now), Err(Resting));
        assert!(breaker.admit(someone(), now + REST - Duration::from_millis(1)).is_err());
    }

    #[test]
    fn after_a_rest_one_tries() {
        let now = Instant::now();
        let breaker = open(now);
        let later = now + REST;
        let probe = breaker.admit(someone(), later).unwrap();
        assert!(breaker.admit(someone(), later).is_err(), "one is enough");
        assert_eq!(breaker.check(someone(), later), Err(Resting));
        assert_eq!(probe.failed(later), None);
        assert!(breaker.admit(someone(), later).is_err(), "it rests anew");
        let later = later + REST;
        assert_eq!(breaker.admit(someone(), later).unwrap().succeeded(), Some(Change::Closed));
        assert_eq!(breaker.admit(someone(), later).unwrap().failed(later), None, "it counts anew");
    }

    #[test]
    fn a_probe_that_is_dropped_is_tried_again() {
        let now = Instant::now();
        let breaker = open(now);
        drop(breaker.admit(someone(), now + REST).unwrap());
        assert_eq!(breaker.admit(someone(), now + REST).unwrap().succeeded(), Some(Change::Closed));
    }

    #[test]
    fn who_was_called_before_decides_nothing() {
        let now = Instant::now();
        let breaker = Breaker::new(1, REST);
        let [early, earlier] = [(); 2].map(|()| breaker.admit(someone(), now).unwrap());
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), Some(Change::Opened));
        assert_eq!(early.succeeded(), None);
        assert_eq!(earlier.failed(now + REST), None);
        assert!(breaker.admit(someone(), now).is_err());
        assert!(breaker.admit(someone(), now + REST).is_ok());
    }

    /// Nor is it opened by one address, however often its calls fail.
    #[test]
    fn one_address_counts_once() {
        let now = Instant::now();
        let breaker = Breaker::new(2, REST);
        let stranger = someone();
        for _ in 0..100 {
            assert_eq!(breaker.admit(stranger, now).unwrap().failed(now), None);
        }
        assert_eq!(breaker.admit(someone(), now).unwrap().failed(now), Some(Change::Opened));
        // What no token can cause counts each time.
        let breaker = Breaker::new(2, REST);
        assert_eq!(breaker.admit(stranger, now).unwrap().failed_for_all(now), None);
        let change = breaker.admit(stranger, now).unwrap().failed_for_all(now);
        assert_eq!(change, Some(Change::Opened));
    }

    /// Whose try failed leaves the next one to somebody else, and tries again if nobody came.
    #[test]
    fn one_address_does_not_keep_it_open() {
        let now = Instant::now();
        let breaker = open(now);
        let stranger = someone();
        let later = now + REST;
        assert_eq!(breaker.admit(stranger, later).unwrap().failed(later), None);
        let later = later + REST;
        assert_eq!(breaker.check(stranger, later), Err(Resting));
        assert!(breaker.admit(stranger, later).is_err());
        drop(breaker.admit(someone(), later).unwrap());
        assert!(breaker.admit(stranger, later + REST).is_ok());
    }
}
