//! A limit on how often something may happen: a token bucket, stored as one number.
//!
//! The number is the moment at which the bucket is full again (the generic cell rate algorithm). It
//! contains as much as a count of tokens and the time of its last change. The caller stores it
//! anywhere, as a field of a connection, an atomic or an entry of a map, in nanoseconds since a
//! moment of its choice; a bucket that begins as 0 is full. A rate-limiting library would add
//! stores, clocks and waiting that are not needed here.

use std::time::Duration;

/// So many per second in the long run, and so many at once.
///
/// ```
/// use wserver_core::Rate;
///
/// let rate = Rate::new(2, 3);
/// let mut full_at = 0;
/// for _ in 0..3 {
///     full_at = rate.take(full_at, 0, 1).expect("a burst of three");
/// }
/// assert_eq!(rate.take(full_at, 0, 1), None);
/// assert_eq!(rate.wait(full_at, 0, 1).as_millis(), 500);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time for one token, in nanoseconds; at least 1.
    token: u64,
    /// The time to fill an empty bucket, in nanoseconds; at least that of one token.
    burst: u64,
}

impl Rate {
    /// Adds `per_second` tokens a second, up to `burst`; 0 counts as 1.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let token = match 1_000_000_000_u64.checked_div(per_second as u64) {
            Some(0) => 1,
            Some(token) => token,
            None => 1_000_000_000,
        };
        // At most 2³² seconds, of which a u64 holds four times as many in nanoseconds.
        let burst = if burst == 0 { 1 } else { burst as u64 };
        Self { token, burst: token * burst }
    }

    /// Takes `count` tokens at `now` out of a bucket that is full at `full_at`, and returns when it
    /// is full again. Returns `None`, and takes nothing, if the bucket has fewer.
    pub fn take(self, full_at: u64, now: u64, count: u32) -> Option<u64> {
        let full_at = self.full_after(full_at, now, count);
        // An empty bucket is full again after the time of a burst.
        (full_at <= now.saturating_add(self.burst)).then_some(full_at)
    }

    /// How long to wait at `now` until `count` tokens are available, if nobody takes any meanwhile.
    pub fn wait(self, full_at: u64, now: u64, count: u32) -> Duration {
        let ahead = self.full_after(full_at, now, count) - now;
        Duration::from_nanos(ahead.saturating_sub(self.burst))
    }

    /// How long an empty bucket takes to be full.
    pub const fn time_to_fill(self) -> Duration {
        Duration::from_nanos(self.burst)
    }

    fn full_after(self, full_at: u64, now: u64, count: u32) -> u64 {
        full_at.max(now).saturating_add(self.token.saturating_mul(count.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MILLISECOND: u64 = 1_000_000;

    /// Takes the same number of tokens at each of these milliseconds, and shows when that was
    /// refused and for how long, in milliseconds too.
    fn check(rate: Rate, takes: &[(u64, u32)], expected: &[Option<u64>]) {
        let mut full_at = 0;
        let mut refused = Vec::new();
        for &(at, count) in takes {
            let now = at * MILLISECOND;
            let wait = rate.wait(full_at, now, count);
            match rate.take(full_at, now, count) {
                Some(full_then) => {
                    assert!(wait.is_zero(), "at {at}: told to wait {wait:?}, and there are enough");
                    full_at = full_then;
                    refused.push(None);
                }
                None => refused.push(Some(u64::try_from(wait.as_millis()).unwrap())),
            }
        }
        assert_eq!(refused, expected, "{takes:?}");
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        check(
            Rate::new(10, 3),
            &[(0, 1), (0, 1), (0, 1), (0, 1), (40, 1), (100, 1), (100, 1)],
            &[None, None, None, Some(100), Some(60), None, Some(100)],
        );
        // A pause fills it to the burst and no further.
        check(Rate::new(10, 3), &[(0, 3), (9000, 3), (9000, 1)], &[None, None, Some(100)]);
    }

    #[test]
    fn all_or_none_are_taken() {
        check(
            Rate::new(10, 5),
            &[(0, 3), (0, 4), (0, 2), (0, 1), (400, 5), (500, 5), (500, 0)],
            &[None, Some(200), None, Some(100), Some(100), None, None],
        );
        // More than a burst is never available, however long one waits.
        check(Rate::new(10, 5), &[(0, 6), (100, 6)], &[Some(100), Some(100)]);
    }

    #[test]
    fn the_least_and_the_greatest_rates_are_no_overflow() {
        for (per_second, burst) in [(0, 0), (1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            let rate = Rate::new(per_second, burst);
            for now in [0, SECOND, u64::MAX] {
                let full_at = rate.take(0, now, burst.max(1));
                assert!(full_at.is_some_and(|it| it >= now), "{per_second} {burst} {now}");
                rate.wait(u64::MAX, now, u32::MAX);
            }
        }
        assert_eq!(Rate::new(1, u32::MAX).time_to_fill(), Duration::from_secs(u32::MAX.into()));
        assert_eq!(Rate::new(0, 0), Rate::new(1, 1));
    }

    /// In one second, however it is divided, exactly the burst and the rate pass.
    #[test]
    fn never_more_than_burst_and_rate() {
        for (per_second, burst, step) in [(7, 1, 13), (100, 20, 1), (3, 9, 50)] {
            let rate = Rate::new(per_second, burst);
            let (mut full_at, mut passed) = (0, 0);
            for now in (0..=1000).step_by(step).flat_map(|at| [at * MILLISECOND; 40]) {
                if let Some(full_then) = rate.take(full_at, now, 1) {
                    (full_at, passed) = (full_then, passed + 1);
                }
            }
            let most = per_second + burst;
            assert!((most - 2..=most).contains(&passed), "{per_second} {burst}: {passed}");
        }
    }

    #[test]
    fn a_wait_as_long_as_told_is_just_enough() {
        let rate = Rate::new(7, 5);
        let full_at = rate.take(0, 0, 4).unwrap();
        let wait = u64::try_from(rate.wait(full_at, 0, 3).as_nanos()).unwrap();
        assert!(rate.take(full_at, wait, 3).is_some());
        assert!(rate.take(full_at, wait - 1, 3).is_none());
    }
}
