//! A circuit breaker: after some failures in a row nobody calls for a while, and then one tries.
//!
//! The clock is a parameter. A page of our own: the libraries for it wrap calls in types of theirs
//! and count in windows, and none lets go of a probe whose caller went away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Breaker {
    failures_max: u32,
    rest: Duration,
    /// Written before and after each call; nothing waits while it is held.
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Calls are made; so many have failed since the last that did not.
    Closed { failures: u32 },
    /// No calls before this moment; from then on one, which `probing` says to be under way.
    Open { until: Instant, probing: bool },
}

/// What a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Opened,
    Closed,
}

/// Nobody calls at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resting;

/// A call that may be made. Dropped without a result, it leaves everything as it was.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    pub(crate) fn new(failures_max: u32, rest: Duration) -> Self {
        Self { failures_max, rest, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Whether there is any use in waiting for a call.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Resting> {
        match *self.lock() {
            State::Open { until, probing } if probing || now < until => Err(Resting),
            _ => Ok(()),
        }
    }

    /// Leave to call now.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admission<'_>, Resting> {
        match &mut *self.lock() {
            State::Closed { .. } => Ok(Admission { breaker: self, probe: false }),
            State::Open { until, probing } if now >= *until && !*probing => {
                *probing = true;
                Ok(Admission { breaker: self, probe: true })
            }
            State::Open { .. } => Err(Resting),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    pub(crate) fn succeeded(mut self) -> Option<Change> {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.breaker.lock();
        match &mut *state {
            State::Closed { failures } => {
                *failures = 0;
                None
            }
            State::Open { .. } if probe => {
                *state = State::Closed { failures: 0 };
                Some(Change::Closed)
            }
            // It was called before the others failed; they know better.
            State::Open { .. } => None,
        }
    }

    pub(crate) fn failed(mut self, now: Instant) -> Option<Change> {
        let probe = std::mem::take(&mut self.probe);
        let mut state = self.breaker.lock();
        let until = now + self.breaker.rest;
        match &mut *state {
            State::Closed { failures } => {
                *failures += 1;
                (*failures >= self.breaker.failures_max).then(|| {
                    *state = State::Open { until, probing: false };
                    Change::Opened
                })
            }
            State::Open { .. } => {
                if probe {
                    *state = State::Open { until, probing: false };
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
    use super::*;

    const REST: Duration = Duration::from_secs(5);

    fn open(now: Instant) -> Breaker {
        let breaker = Breaker::new(2, REST);
        assert_eq!(breaker.admit(now).unwrap().failed(now), None);
        assert_eq!(breaker.admit(now).unwrap().failed(now), Some(Change::Opened));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let now = Instant::now();
        let breaker = Breaker::new(2, REST);
        assert_eq!(breaker.admit(now).unwrap().failed(now), None);
        assert_eq!(breaker.admit(now).unwrap().succeeded(), None);
        assert_eq!(breaker.admit(now).unwrap().failed(now), None);
        assert_eq!(breaker.check(now), Ok(()));
        // Who left says nothing of the backend.
        drop(breaker.admit(now));
        assert_eq!(breaker.admit(now).unwrap().failed(now), Some(Change::Opened));
        assert_eq!(breaker.check(now), Err(Resting));
        assert!(breaker.admit(now + REST - Duration::from_millis(1)).is_err());
    }

    #[test]
    fn after_a_rest_one_tries() {
        let now = Instant::now();
        let breaker = open(now);
        let later = now + REST;
        let probe = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "one is enough");
        assert_eq!(breaker.check(later), Err(Resting));
        assert_eq!(probe.failed(later), None);
        assert!(breaker.admit(later).is_err(), "it rests anew");
        let later = later + REST;
        assert_eq!(breaker.admit(later).unwrap().succeeded(), Some(Change::Closed));
        assert_eq!(breaker.admit(later).unwrap().failed(later), None, "it counts anew");
    }

    #[test]
    fn a_probe_that_is_dropped_is_tried_again() {
        let now = Instant::now();
        let breaker = open(now);
        drop(breaker.admit(now + REST).unwrap());
        assert_eq!(breaker.admit(now + REST).unwrap().succeeded(), Some(Change::Closed));
    }

    #[test]
    fn who_was_called_before_decides_nothing() {
        let now = Instant::now();
        let breaker = Breaker::new(1, REST);
        let [early, earlier] = [(); 2].map(|()| breaker.admit(now).unwrap());
        assert_eq!(breaker.admit(now).unwrap().failed(now), Some(Change::Opened));
        assert_eq!(early.succeeded(), None);
        assert_eq!(earlier.failed(now + REST), None);
        assert!(breaker.admit(now).is_err());
        assert!(breaker.admit(now + REST).is_ok());
    }
}
