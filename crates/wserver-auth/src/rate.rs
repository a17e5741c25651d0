//! How often something may happen: a token bucket in one atomic number.
//!
//! It is kept as the moment at which the bucket will be full again (the generic cell rate
//! algorithm), which says the same as a count of tokens and the time of its last change. Twenty
//! lines: a rate-limiting library would bring keyed stores and clocks that are not needed here.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a publisher may push: so many a second in the long run, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushRate {
    /// Pushes a second that may go on for ever.
    pub pushes_per_second: NonZeroU32,
    /// Pushes that may come at once after a pause; at least one.
    pub burst: NonZeroU32,
}

/// The bucket of one publisher.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Time between two pushes at the rate, in nanoseconds.
    interval: u64,
    /// How far ahead of now `full_at` may be for a push to pass, in nanoseconds.
    tolerance: u64,
    origin: Instant,
    /// When the bucket is full, in nanoseconds since `origin`. Written by every push that passes.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: PushRate, origin: Instant) -> Self {
        let interval = 1_000_000_000 / u64::from(rate.pushes_per_second.get());
        let interval = interval.max(1);
        let tolerance = interval.saturating_mul(u64::from(rate.burst.get() - 1));
        Self { interval, tolerance, origin, full_at: AtomicU64::new(0) }
    }

    /// Whether both were made for the same rate.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.interval, self.tolerance) == (other.interval, other.tolerance)
    }

    /// Takes one out.
    ///
    /// # Errors
    ///
    /// When there is none: how long until there will be one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = self.nanoseconds(now);
        let mut wait = 0;
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now);
            wait = (full_at - now).saturating_sub(self.tolerance);
            (wait == 0).then(|| full_at.saturating_add(self.interval))
        });
        taken.map(|_before| ()).map_err(|_unchanged| Duration::from_nanos(wait))
    }

    /// Takes out `count` that were let in together with one that was taken, be they there or not:
    /// who comes next waits until they would have been.
    pub(crate) fn charge(&self, now: Instant, count: u32) {
        let now = self.nanoseconds(now);
        let time = self.interval.saturating_mul(u64::from(count));
        let charge = |full_at: u64| Some(full_at.max(now).saturating_add(time));
        // Never refused.
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        let now = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(now).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(pushes_per_second: u32, burst: u32, origin: Instant) -> Bucket {
        let rate = PushRate {
            pushes_per_second: pushes_per_second.try_into().unwrap(),
            burst: burst.try_into().unwrap(),
        };
        Bucket::new(rate, origin)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let bucket = bucket(10, 3, start);
        let at = |milliseconds| bucket.take(start + Duration::from_millis(milliseconds));
        assert_eq!([at(0), at(0), at(0)], [Ok(()); 3]);
        assert_eq!(at(0), Err(Duration::from_millis(100)));
        assert_eq!(at(40), Err(Duration::from_millis(60)));
        assert_eq!(at(100), Ok(()));
        assert_eq!(at(100), Err(Duration::from_millis(100)));
        // A pause fills it to the burst and no further.
        assert_eq!([at(9000), at(9000), at(9000)], [Ok(()); 3]);
        assert_eq!(at(9000), Err(Duration::from_millis(100)));
    }

    #[test]
    fn what_was_let_in_together_is_waited_for_afterwards() {
        let start = Instant::now();
        let bucket = bucket(10, 3, start);
        let at = |milliseconds| bucket.take(start + Duration::from_millis(milliseconds));
        assert_eq!(at(0), Ok(()));
        bucket.charge(start, 9);
        assert_eq!(at(0), Err(Duration::from_millis(800)));
        assert_eq!([at(800), at(900)], [Ok(()); 2]);
        assert_eq!(at(900), Err(Duration::from_millis(100)));
    }

    #[test]
    fn the_least_and_the_greatest_rates_are_no_overflow() {
        let start = Instant::now();
        let slow = bucket(1, u32::MAX, start);
        assert_eq!(slow.take(start), Ok(()));
        slow.charge(start, u32::MAX);
        slow.charge(start, u32::MAX);
        let fast = bucket(u32::MAX, 1, start);
        assert_eq!(fast.take(start), Ok(()));
        assert_eq!(fast.take(start + Duration::from_secs(u64::from(u32::MAX) * 8)), Ok(()));
    }

    /// In one second of model time, however it is cut, burst and rate pass and not one more.
    #[test]
    fn never_more_than_burst_and_rate() {
        let start = Instant::now();
        for (rate, burst, step) in [(7, 1, 13), (100, 20, 1), (3, 9, 50)] {
            let bucket = bucket(rate, burst, start);
            let times = (0..=1000).step_by(step).flat_map(|at| [at; 40]);
            let passed =
                times.filter(|at| bucket.take(start + Duration::from_millis(*at)).is_ok()).count();
            let most = (rate + burst) as usize;
            assert!((most - 2..=most).contains(&passed), "{rate} {burst}: {passed}");
        }
    }
}
