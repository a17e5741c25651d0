//! The rate of one publisher: a bucket in one atomic number, shared by all of its requests.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wserver_core::Rate;

/// How often a publisher may push: a sustained rate, and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushRate {
    /// Sustained pushes per second.
    pub pushes_per_second: NonZeroU32,
    /// Pushes at once after a pause; at least one.
    pub burst: NonZeroU32,
}

/// Why a bucket does not have enough tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// It will have them after this time, if none are taken before.
    Until(Duration),
    /// It can never have as many.
    Ever { burst: u32 },
}

/// The bucket of one publisher.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// How many tokens it holds when it is full.
    burst: u32,
    origin: Instant,
    /// When the bucket is full, in nanoseconds since `origin`. Written by every push that passes.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: PushRate, origin: Instant) -> Self {
        let burst = rate.burst.get();
        let rate = Rate::new(rate.pushes_per_second.get(), burst);
        Self { rate, burst, origin, full_at: AtomicU64::new(0) }
    }

    /// Whether both were made for the same rate.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.rate == other.rate
    }

    /// Takes one token.
    ///
    /// # Errors
    ///
    /// If there is none: how long until there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = self.nanoseconds(now);
        self.take_at(now, 1).map_err(|full_at| self.rate.wait(full_at, now, 1))
    }

    /// Takes `count` tokens in addition to the one that the same request has taken: all, or none.
    ///
    /// # Errors
    ///
    /// If there are fewer. The wait allows for the one token that a repeated request takes first.
    pub(crate) fn charge(&self, now: Instant, count: u32) -> Result<(), Short> {
        if count >= self.burst {
            return Err(Short::Ever { burst: self.burst });
        }
        let now = self.nanoseconds(now);
        let taken = if count == 0 { Ok(()) } else { self.take_at(now, count) };
        taken.map_err(|full_at| Short::Until(self.rate.wait(full_at, now, count + 1)))
    }

    /// Takes out `count` at `now` if they are there, or else tells when it is full.
    fn take_at(&self, now: u64, count: u32) -> Result<(), u64> {
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            self.rate.take(full_at, now, count)
        });
        taken.map(|_before| ())
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
    fn what_comes_together_is_refused_before_and_not_waited_for_afterwards() {
        let start = Instant::now();
        let bucket = bucket(10, 5, start);
        let milliseconds = Duration::from_millis;
        let ask = |at, count: u32| {
            bucket.take(start + milliseconds(at)).unwrap();
            bucket.charge(start + milliseconds(at), count - 1)
        };
        assert_eq!(ask(0, 3), Ok(()));
        // Two are left, of which one is spent on asking; in 300 ms there are the four of the next try.
        assert_eq!(ask(0, 4), Err(Short::Until(milliseconds(300))));
        assert_eq!(bucket.take(start), Ok(()), "nothing was charged for it");
        assert_eq!(bucket.take(start), Err(milliseconds(100)));
        assert_eq!(ask(300, 3), Ok(()));
        assert_eq!(ask(9000, 6), Err(Short::Ever { burst: 5 }));
        assert_eq!(ask(19_000, 5), Ok(()));
        assert_eq!(bucket.take(start + milliseconds(19_000)), Err(milliseconds(100)));
    }

    #[test]
    fn who_waits_as_told_gets_through() {
        let start = Instant::now();
        let bucket = bucket(10, 5, start);
        assert_eq!(bucket.take(start), Ok(()));
        assert_eq!(bucket.charge(start, 4), Ok(()));
        let mut now = start + Duration::from_millis(100);
        assert_eq!(bucket.take(now), Ok(()));
        let Err(Short::Until(wait)) = bucket.charge(now, 4) else { panic!("all are gone") };
        now += wait;
        assert_eq!(bucket.take(now), Ok(()));
        assert_eq!(bucket.charge(now, 4), Ok(()));
    }

    #[test]
    fn the_least_and_the_greatest_rates_are_no_overflow() {
        let start = Instant::now();
        let slow = bucket(1, u32::MAX, start);
        assert_eq!(slow.take(start), Ok(()));
        assert_eq!(slow.charge(start, u32::MAX - 1), Ok(()));
        assert!(matches!(slow.charge(start, u32::MAX - 1), Err(Short::Until(_))));
        assert_eq!(slow.charge(start, u32::MAX), Err(Short::Ever { burst: u32::MAX }));
        let fast = bucket(u32::MAX, 1, start);
        assert_eq!(fast.take(start), Ok(()));
        assert_eq!(fast.charge(start, 0), Ok(()));
        assert_eq!(fast.take(start + Duration::from_secs(u64::from(u32::MAX) * 8)), Ok(()));
    }
}
