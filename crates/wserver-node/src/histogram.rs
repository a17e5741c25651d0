//! Durations, counted in fixed buckets: one atomic each, no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations, counted in fixed buckets.
///
/// An observation costs two additions to atomics. A reader may see the state in the middle of an
/// observation, with a sum that is ahead of the counts or behind them.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last bucket has no upper bound.
    counts: [AtomicU64; Self::BOUNDS.len() + 1],
    /// In nanoseconds; it would take 584 years of observed time to overflow.
    sum: AtomicU64,
}

impl Histogram {
    /// The upper bounds of all buckets in ascending order, except the last, which has none.
    pub const BOUNDS: [Duration; 17] = [
        Duration::from_micros(10),
        Duration::from_micros(25),
        Duration::from_micros(50),
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2500),
    ];

    /// Counts `times` observations of the duration `each`.
    pub fn observe(&self, each: Duration, times: u64) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < each);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        let nanos = u64::try_from(each.as_nanos()).unwrap_or(u64::MAX);
        self.sum.fetch_add(nanos.saturating_mul(times), Ordering::Relaxed);
    }

    /// The number of observations in each bucket, not cumulative: by [`Histogram::BOUNDS`], then
    /// those beyond them.
    #[must_use]
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed))
    }

    /// The sum of all observed durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_smallest_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for (nanos, times, bucket) in [
            (0, 1, 0),
            (10_000, 2, 0),
            (10_001, 3, 1),
            (1_000_000, 4, 6),
            (2_500_000_000, 5, 16),
            (2_500_000_001, 6, 17),
            (u64::MAX >> 8, 7, 17),
        ] {
            let before = histogram.counts();
            let sum = histogram.sum();
            histogram.observe(Duration::from_nanos(nanos), times);
            let mut after = before;
            after[bucket] += times;
            assert_eq!(histogram.counts(), after, "{nanos}");
            assert_eq!(histogram.sum() - sum, Duration::from_nanos(nanos * times), "{nanos}");
        }
    }

    #[test]
    fn bounds_ascend() {
        assert!(Histogram::BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
