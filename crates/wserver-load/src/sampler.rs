//! How late messages were: a sample of those that were due in a window.

use hdrhistogram::Histogram;

use crate::stamp::Stamp;

/// Latency of messages that were due in a window, of each or of some.
#[derive(Debug)]
pub(crate) struct Sampler {
    pub(crate) histogram: Histogram<u64>,
    /// The window, in microseconds of the engine's clock modulo 2³².
    from: u32,
    length: u32,
    /// Of the sums of stream and sequence number, those without these bits are sampled.
    mask: u32,
}

impl Sampler {
    pub(crate) fn idle() -> Self {
        Self { histogram: histogram(), from: 0, length: 0, mask: 0 }
    }

    /// Of messages that are due from `from` on for `length` microseconds, one of `every`, a power of
    /// two.
    pub(crate) fn new(from: u64, length: u64, every: u32) -> Self {
        Self {
            histogram: histogram(),
            from: wrapped(from),
            length: wrapped(length),
            mask: every - 1,
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, stamp: Stamp, now: u32) {
        let number = stamp.sequence.wrapping_add(u32::from(stamp.stream));
        if number & self.mask == 0 && stamp.micros.wrapping_sub(self.from) < self.length {
            self.histogram.saturating_record(u64::from(now.wrapping_sub(stamp.micros)));
        }
    }
}

/// A histogram of microseconds, up to ten minutes, of three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order")
}

/// Microseconds as a stamp has them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a stamp has the low 32 bits, and differences stay right"
)]
pub(crate) fn wrapped(micros: u64) -> u32 {
    micros as u32
}
