//! The event names of one shard, each kept once.
//!
//! A registration holds a small index instead of the name, so that comparing it with the event
//! of a push compares two integers.

use std::hash::{BuildHasher, RandomState};

use super::index::Index;
use super::shards::low_half;
use super::slab::Slab;
use crate::EventName;

/// The event names that are in use in one shard.
pub(super) struct Events {
    keys: RandomState,
    /// Invariant: holds the index of each entry once, under the hash of its name.
    index: Index,
    entries: Slab<Entry>,
    /// The index of the last registration's event, which is most likely the next one to be looked
    /// up: comparing two names is cheaper than hashing one. The index may be free by then, or have
    /// another event.
    recent: u32,
}

struct Entry {
    name: EventName,
    hash: u32,
    /// Registrations of this shard that use the name. Invariant: never zero.
    registrations: u32,
}

impl Events {
    pub(super) fn new(keys: &RandomState) -> Self {
        Self { keys: keys.clone(), index: Index::new(), entries: Slab::new(), recent: 0 }
    }

    /// The index of a name that is in use. O(1).
    pub(super) fn find(&self, event: &EventName) -> Option<u32> {
        self.find_recent(event)
            .or_else(|| self.find_hashed(event, low_half(self.keys.hash_one(event.as_str()))))
    }

    fn find_recent(&self, event: &EventName) -> Option<u32> {
        let entry = self.entries.get(self.recent)?;
        (entry.name == *event).then_some(self.recent)
    }

    fn find_hashed(&self, event: &EventName, hash: u32) -> Option<u32> {
        let same = |index| self.entries.get(index).is_some_and(|entry| entry.name == *event);
        self.index.find(hash, same)
    }

    /// The name under an index in use. O(1).
    pub(super) fn name(&self, index: u32) -> &EventName {
        &self.entries.get(index).expect("a registration keeps its event in use").name
    }

    /// Counts one registration more that uses the name; returns its index. O(1).
    pub(super) fn acquire(&mut self, event: &EventName) -> u32 {
        self.recent = self.find_recent(event).unwrap_or_else(|| {
            let hash = low_half(self.keys.hash_one(event.as_str()));
            self.find_hashed(event, hash).unwrap_or_else(|| {
                let entry = Entry { name: event.clone(), hash, registrations: 0 };
                let index = self.entries.insert(entry);
                self.index.insert(hash, index);
                index
            })
        });
        self.entries.get_mut(self.recent).expect("found or inserted above").registrations += 1;
        self.recent
    }

    /// Counts one registration less that uses the name; returns the name. O(1).
    pub(super) fn release(&mut self, index: u32) -> EventName {
        let entry = self.entries.get_mut(index).expect("a registration keeps its event in use");
        entry.registrations -= 1;
        if entry.registrations > 0 {
            return entry.name.clone();
        }
        let entry = self.entries.remove(index).expect("found above");
        self.index.remove(entry.hash, index);
        entry.name
    }

    /// Checks the table against the registrations counted for each index.
    ///
    /// # Panics
    /// When they disagree.
    pub(super) fn check_invariants(&self, counted: &std::collections::HashMap<u32, u32>) {
        self.entries.check_invariants();
        self.index.check_invariants();
        assert_eq!(self.index.len(), self.entries.len(), "each event is indexed once");
        assert_eq!(counted.len(), self.entries.len() as usize, "each event is in use");
        for (index, entry) in self.entries.iter() {
            assert_eq!(counted.get(&index), Some(&entry.registrations), "uses are counted");
            assert_eq!(self.find(&entry.name), Some(index), "an event is found by its name");
        }
    }
}
