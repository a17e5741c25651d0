//! The delay before the next attempt to connect.

use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::time::Duration;

/// Random delays that grow with each failed attempt.
///
/// The delay before attempt *n* (from 0) is drawn evenly between zero and the smaller of `first ·
/// 2ⁿ` and `max`: by default up to 1 s, 2 s, 4 s, 8 s, 16 s, then always up to 30 s. The whole
/// range is used because a server that restarts loses all its clients in one moment, and must not
/// get them back in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    /// Delays of up to `first` before the first attempt, and never longer than `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// The longest delay before `attempt`, counted from 0.
    pub fn delay_max(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// A delay before `attempt`, counted from 0; each call draws a new one.
    pub fn delay(&self, attempt: u32) -> Duration {
        // The keys of std's hasher are random enough to spread clients, and cost no dependency.
        let random = RandomState::new().build_hasher().finish();
        let parts = u32::try_from(random >> 32).expect("what is left has 32 bits");
        self.delay_max(attempt).mul_f64(f64::from(parts) / f64::from(u32::MAX))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_bound() {
        let backoff = Backoff::default();
        let longest =
            [0, 1, 2, 3, 4, 5, 31, 32, u32::MAX].map(|it| backoff.delay_max(it).as_secs());
        assert_eq!(longest, [1, 2, 4, 8, 16, 30, 30, 30, 30]);
    }

    #[test]
    fn delays_are_spread_over_the_whole_range() {
        let backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(4));
        let mut quarters = [0; 4];
        for _ in 0..1000 {
            let delay = backoff.delay(7);
            assert!(delay <= Duration::from_secs(4));
            quarters[usize::try_from(delay.as_secs().min(3)).unwrap()] += 1;
        }
        // 250 each, with a standard deviation of 14.
        assert!(quarters.iter().all(|&it| it > 100), "{quarters:?}");
    }
}
