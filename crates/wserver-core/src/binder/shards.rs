//! Many small tables behind many locks, and how a hash chooses among them.
//!
//! It knows how to lock; the callers know what is behind the locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most shards, since a position names its shard in 16 bits.
pub(super) const SHARDS_MAX: usize = 1 << 16;

/// A power of two of tables, each behind its own lock.
pub(super) struct Shards<T> {
    shards: Box<[Shard<T>]>,
}

/// A cache line of its own, so that two locks never share one.
#[repr(align(64))]
struct Shard<T>(Mutex<T>);

impl<T> Shards<T> {
    /// `count` is rounded up to a power of two, at most [`SHARDS_MAX`].
    pub(super) fn new(count: usize, mut table: impl FnMut() -> T) -> Self {
        let count = count.clamp(1, SHARDS_MAX).next_power_of_two();
        Self { shards: (0..count).map(|_| Shard(Mutex::new(table()))).collect() }
    }

    /// Locks one table.
    ///
    /// A panic of another holder does not poison it: the tables change only after all foreign code
    /// has returned, so they are always complete.
    pub(super) fn lock(&self, shard: u16) -> MutexGuard<'_, T> {
        self.shards[usize::from(shard)].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shard that a number with well-mixed low bits belongs to.
    pub(super) fn shard_of(&self, number: u64) -> u16 {
        let last = self.shards.len() as u64 - 1;
        u16::try_from(number & last).expect("there are at most SHARDS_MAX shards")
    }

    /// The number of the next shard, if there is one.
    pub(super) fn next(&self, shard: u16) -> Option<u16> {
        shard.checked_add(1).filter(|next| usize::from(*next) < self.shards.len())
    }

    /// Every shard's number.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<T> {
        let last = u16::try_from(self.shards.len() - 1).expect("at most SHARDS_MAX shards");
        0..=last
    }
}

/// The half of a hash that a table keeps beside its entry, and finds the entry by.
pub(super) const fn low_half(hash: u64) -> u32 {
    (hash & 0xFFFF_FFFF) as u32
}

/// The half of a hash that chooses the shard, so that the shard says nothing about the position in
/// it.
pub(super) const fn high_half(hash: u64) -> u64 {
    hash >> 32
}

/// A cheap hash for numbers that the binder makes itself and nobody can choose.
pub(super) const fn mix(number: u64) -> u32 {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}
