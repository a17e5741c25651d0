//! Values under small stable indices, in chunks, the lowest free index first.
//!
//! Three tables use it: the users of a shard, the members of a group, the connections of a shard.
//! It knows none of them.
//!
//! A `Vec` that doubles would copy megabytes under a lock and keep up to half of itself unused;
//! chunks do neither. Giving out the lowest free index first lets the upper chunks run empty
//! after a peak, and an empty chunk holds no memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Slots per chunk: a few KiB, small enough to be free of charge when it is allocated under a
/// lock, large enough that the chunk's own head does not matter.
const CHUNK_SLOTS: usize = 256;

/// Values under stable indices.
pub(super) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Invariant: each empty index below `bound` is here once. Indices at or above `bound` are
    /// left over from chunks that are gone; they are dropped when they come up.
    free: BinaryHeap<Reverse<u32>>,
    /// One more than the highest index that may be in use.
    bound: u32,
    live: u32,
}

/// Invariant: a chunk without a live slot has no allocation.
struct Chunk<T> {
    slots: Vec<Option<T>>,
    live: u32,
}

fn parts(index: u32) -> (usize, usize) {
    let index = index as usize;
    (index / CHUNK_SLOTS, index % CHUNK_SLOTS)
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), free: BinaryHeap::new(), bound: 0, live: 0 }
    }

    /// Holds `value` under `index`, all below it free. Costs O(`index`).
    pub(super) fn with_value_at(index: u32, value: T) -> Self {
        let mut slab = Self::new();
        slab.free = (0..index).map(Reverse).collect();
        slab.bound = index + 1;
        let (chunk, _) = parts(index);
        slab.chunks.reserve_exact(chunk + 1);
        slab.chunks.resize_with(chunk + 1, || Chunk { slots: Vec::new(), live: 0 });
        slab.put(index, value);
        slab
    }

    /// How many values there are.
    pub(super) const fn len(&self) -> u32 {
        self.live
    }

    /// One more than the highest index in use, or somewhat above it.
    pub(super) const fn bound(&self) -> u32 {
        self.bound
    }

    /// O(1).
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = parts(index);
        self.chunks.get(chunk)?.slots.get(offset)?.as_ref()
    }

    /// O(1).
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, offset) = parts(index);
        self.chunks.get_mut(chunk)?.slots.get_mut(offset)?.as_mut()
    }

    /// Stores a value and returns its index, which stays the same until the value is removed. O(log
    /// free indices).
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let index = self.next_index();
        self.put(index, value);
        index
    }

    fn next_index(&mut self) -> u32 {
        if let Some(Reverse(index)) = self.free.pop() {
            if index < self.bound {
                return index;
            }
            // The lowest index is left over from a chunk that is gone, so all of them are.
            self.free = BinaryHeap::new();
        }
        let index = self.bound;
        self.bound = index.checked_add(1).expect("four billion entries do not fit into memory");
        index
    }

    fn put(&mut self, index: u32, value: T) {
        let (chunk, offset) = parts(index);
        if chunk == self.chunks.len() {
            if chunk == 0 {
                self.chunks.reserve_exact(1);
            }
            self.chunks.push(Chunk { slots: Vec::new(), live: 0 });
        }
        self.chunks[chunk].put(offset, value, chunk == 0);
        self.live += 1;
    }

    /// Removes a value. O(log free indices), and O(chunks that became empty).
    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let (chunk, offset) = parts(index);
        let home = self.chunks.get_mut(chunk)?;
        let value = home.slots.get_mut(offset)?.take()?;
        home.live -= 1;
        self.live -= 1;
        if self.live == 0 {
            *self = Self::new();
            return Some(value);
        }
        self.free.push(Reverse(index));
        if home.live == 0 {
            home.slots = Vec::new();
            while self.chunks.pop_if(|last| last.live == 0).is_some() {}
            let slots = u32::try_from(self.chunks.len() * CHUNK_SLOTS).unwrap_or(u32::MAX);
            self.bound = self.bound.min(slots);
        }
        Some(value)
    }

    /// The values from index `start` on, in the order of their indices.
    pub(super) fn iter_from(&self, start: u32) -> impl Iterator<Item = (u32, &T)> {
        let (first, mut skip) = parts(start);
        (first..self.chunks.len()).flat_map(move |chunk| {
            let slots = &self.chunks[chunk].slots;
            let from = std::mem::take(&mut skip).min(slots.len());
            slots[from..].iter().enumerate().filter_map(move |(offset, slot)| {
                let index = chunk * CHUNK_SLOTS + from + offset;
                slot.as_ref().map(|value| (index_of(index), value))
            })
        })
    }

    /// Every value, in the order of the indices.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.iter_from(0)
    }

    /// Checks what the fields promise. O(all values).
    ///
    /// # Panics
    /// When a promise is broken.
    pub(super) fn check_invariants(&self) {
        let mut live = 0;
        for chunk in &self.chunks {
            let used = chunk.slots.iter().flatten().count();
            assert_eq!(used, chunk.live as usize, "a chunk counts its values");
            assert!(used > 0 || chunk.slots.capacity() == 0, "an empty chunk holds no memory");
            live += used;
        }
        assert_eq!(live, self.live as usize, "the chunks hold all values");
        assert!(self.chunks.last().is_none_or(|last| last.live > 0), "no empty chunk at the end");
        let mut free: Vec<u32> = self.free.iter().map(|free| free.0).collect();
        free.retain(|index| *index < self.bound);
        free.sort_unstable();
        let empty: Vec<u32> = (0..self.bound).filter(|index| self.get(*index).is_none()).collect();
        assert_eq!(free, empty, "each empty index is free once");
        assert!(self.iter().all(|(index, _)| index < self.bound), "the bound is above all values");
    }
}

/// An index that came out of `bound`, so it fits.
fn index_of(index: usize) -> u32 {
    u32::try_from(index).expect("a slab has no index beyond u32")
}

impl<T> Chunk<T> {
    fn put(&mut self, offset: usize, value: T, may_stay_small: bool) {
        if self.slots.capacity() <= offset {
            // Most groups are small, and so are most shards of a small server: the first chunk
            // grows as needed. A later one is part of something large already.
            let slots = if may_stay_small {
                (self.slots.capacity() * 2).max(offset + 1).min(CHUNK_SLOTS)
            } else {
                CHUNK_SLOTS
            };
            self.slots.reserve_exact(slots - self.slots.len());
        }
        if self.slots.len() <= offset {
            self.slots.resize_with(offset + 1, || None);
        }
        self.slots[offset] = Some(value);
        self.live += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Operation {
        Insert(u16),
        Remove(usize),
        RemoveUpper(usize),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            6 => (1..400_u16).prop_map(Operation::Insert),
            4 => any::<prop::sample::Index>().prop_map(|at| Operation::Remove(at.index(2000))),
            1 => any::<prop::sample::Index>().prop_map(|at| Operation::RemoveUpper(at.index(800))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_holds_what_a_map_holds(
            start in 0..600_u32,
            operations in prop::collection::vec(operation(), 1..40),
        ) {
            let mut slab = Slab::with_value_at(start, 0);
            let mut map = BTreeMap::from([(start, 0)]);
            let mut next = 1;
            for operation in operations {
                match operation {
                    Operation::Insert(times) => {
                        let empty = (0..).filter(|index| !map.contains_key(index));
                        let lowest: Vec<u32> = empty.take(times.into()).collect();
                        for index in lowest {
                            prop_assert_eq!(slab.insert(next), index);
                            map.insert(index, next);
                            next += 1;
                        }
                    }
                    Operation::Remove(at) => {
                        let index = u32::try_from(at).unwrap();
                        prop_assert_eq!(slab.remove(index), map.remove(&index));
                    }
                    Operation::RemoveUpper(from) => {
                        let from = u32::try_from(from).unwrap();
                        for (index, value) in map.split_off(&from) {
                            prop_assert_eq!(slab.remove(index), Some(value));
                        }
                        prop_assert!(slab.bound() as usize <= from as usize + CHUNK_SLOTS);
                    }
                }
                slab.check_invariants();
                prop_assert_eq!(slab.len() as usize, map.len());
                let all = map.iter().map(|(index, value)| (*index, value));
                prop_assert!(slab.iter().eq(all.clone()));
                prop_assert!(slab.iter_from(300).eq(all.filter(|(index, _)| *index >= 300)));
            }
        }
    }
}
