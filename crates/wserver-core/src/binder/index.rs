//! From a hash to the index of an entry that lives elsewhere: open addressing, eight bytes a slot.
//!
//! A general hash table keeps its tags apart from its values, which is two cache misses for each
//! lookup among a million users, and it doubles, which leaves it half empty. This one is probed
//! in a line, so a lookup is one miss; it grows by a quarter; and since it keeps the hashes, it
//! grows without touching an entry. It knows nothing of what it points to.

/// The least number of slots.
const SLOTS_MIN: usize = 4;

/// Which entry has which hash. Several may have the same.
pub(super) struct Index {
    /// Invariant: a quarter is vacant at least, so that probing ends; an entry stands at its
    /// home or after it, with no vacant slot between.
    slots: Box<[Slot]>,
    used: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    /// [`VACANT`] if there is no entry.
    entry: u32,
}

/// No entry has this index: a slab's bound would be beyond u32.
const VACANT: u32 = u32::MAX;

const VACANT_SLOT: Slot = Slot { hash: 0, entry: VACANT };

impl Index {
    pub(super) fn new() -> Self {
        Self { slots: Box::default(), used: 0 }
    }

    pub(super) const fn len(&self) -> u32 {
        self.used
    }

    /// The entry under `hash` that is the same. O(1).
    pub(super) fn find(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.position(hash, same)?;
        Some(self.slots[at].entry)
    }

    fn position(&self, hash: u32, same: impl Fn(u32) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot.entry == VACANT {
                return None;
            }
            if slot.hash == hash && same(slot.entry) {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    /// Adds an entry that is not there. O(1) amortised.
    pub(super) fn insert(&mut self, hash: u32, entry: u32) {
        let slots = self.slots.len();
        if (self.used as usize + 1) * 4 > slots * 3 {
            self.resize(slots + slots / 4 + SLOTS_MIN);
        }
        self.place(Slot { hash, entry });
        self.used += 1;
    }

    /// Removes an entry if it is there. O(1) amortised.
    pub(super) fn remove(&mut self, hash: u32, entry: u32) {
        let Some(at) = self.position(hash, |other| other == entry) else { return };
        self.vacate(at);
        self.used -= 1;
        if self.used == 0 {
            *self = Self::new();
        } else if self.slots.len() > 4 * SLOTS_MIN && (self.used as usize) < self.slots.len() / 4 {
            self.resize(self.slots.len() / 2);
        }
    }

    /// Where a search for a hash starts. It rises with the hash, so that a new size keeps the
    /// order and growing runs through memory in one direction.
    fn home(&self, hash: u32) -> usize {
        let product = u64::from(hash) * self.slots.len() as u64;
        (product >> 32) as usize
    }

    const fn after(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while self.slots[at].entry != VACANT {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// Moves back what stands after `hole` as far as it may, so that no search ends early.
    fn vacate(&mut self, mut hole: usize) {
        let slots = self.slots.len();
        let distance =
            |from: usize, to: usize| if to >= from { to - from } else { to + slots - from };
        let mut at = hole;
        loop {
            at = self.after(at);
            let slot = self.slots[at];
            if slot.entry == VACANT {
                break;
            }
            if distance(self.home(slot.hash), at) >= distance(hole, at) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = VACANT_SLOT;
    }

    fn resize(&mut self, slots: usize) {
        let before = std::mem::replace(&mut self.slots, vec![VACANT_SLOT; slots].into());
        for slot in before {
            if slot.entry != VACANT {
                self.place(slot);
            }
        }
    }

    /// Checks what the fields promise.
    ///
    /// # Panics
    /// When a promise is broken.
    pub(super) fn check_invariants(&self) {
        let used = self.slots.iter().filter(|slot| slot.entry != VACANT);
        assert_eq!(used.clone().count(), self.used as usize, "the entries are counted");
        assert!(self.used as usize * 4 <= self.slots.len() * 3, "a quarter is vacant");
        assert!(self.used > 0 || self.slots.is_empty(), "an empty index holds no memory");
        for slot in used {
            let found = self.find(slot.hash, |entry| entry == slot.entry);
            assert_eq!(found, Some(slot.entry), "an entry is found");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few hashes, so that runs are long and wrap around the end.
        #[test]
        fn it_finds_what_a_list_finds(
            operations in prop::collection::vec((any::<bool>(), 0..40_u32, 0..6_u32), 1..300)
        ) {
            let mut index = Index::new();
            let mut list: Vec<(u32, u32)> = Vec::new();
            for (add, entry, hash) in operations {
                let hash = u32::MAX / 5 * hash;
                if add && !list.iter().any(|(_, other)| *other == entry) {
                    index.insert(hash, entry);
                    list.push((hash, entry));
                } else {
                    index.remove(hash, entry);
                    list.retain(|one| *one != (hash, entry));
                }
                index.check_invariants();
                prop_assert_eq!(index.len() as usize, list.len());
                for (hash, entry) in &list {
                    prop_assert_eq!(index.find(*hash, |one| one == *entry), Some(*entry));
                }
                prop_assert_eq!(index.find(hash, |_| false), None);
            }
        }
    }
}
