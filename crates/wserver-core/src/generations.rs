//! A map that forgets its oldest entries, without a list to keep in order.
//!
//! It consists of two hash maps. New entries go into the newer one. When that is full, the older
//! one is dropped, and the newer one takes its place. So the map always has the last
//! `generation_max` entries, and never more than twice as many. It knows no clock: a caller whose
//! entries also become stale with time [turns](Generations::turn) it.

use std::collections::HashMap;
use std::collections::hash_map::IntoValues;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;

/// The entries that were made last.
#[derive(Debug)]
pub struct Generations<K, V, S = RandomState> {
    generation_max: usize,
    /// Invariant: at most `generation_max` entries, as in `older`.
    younger: HashMap<K, V, S>,
    older: HashMap<K, V, S>,
}

impl<K: Eq + Hash, V, S: BuildHasher + Default> Generations<K, V, S> {
    /// An empty map, each of whose two generations holds `generation_max` entries; with 0,
    /// [`insert`](Self::insert) keeps nothing.
    pub fn new(generation_max: usize) -> Self {
        Self { generation_max, younger: HashMap::default(), older: HashMap::default() }
    }

    /// The entry of `key`, from either generation.
    pub fn find(&self, key: &K) -> Option<&V> {
        self.younger.get(key).or_else(|| self.older.get(key))
    }

    /// Makes an entry, and replaces one with the same key.
    pub fn insert(&mut self, key: K, value: V) {
        if self.generation_max == 0 {
            return;
        }
        if self.is_full() {
            self.turn();
        }
        self.younger.insert(key, value);
    }

    /// The entry of `key`, which then counts as new, or else a new entry; and the generation that
    /// was dropped to make room, if one was.
    pub fn renew(&mut self, key: K, new: impl FnOnce() -> V) -> (&mut V, Option<IntoValues<K, V>>) {
        // This comes first, because the entry may be in the generation that is dropped.
        let known = self.older.remove(&key);
        let is_beyond = self.is_full() && !self.younger.contains_key(&key);
        let forgotten = is_beyond.then(|| self.turn());
        let value = self.younger.entry(key).or_insert_with(|| known.unwrap_or_else(new));
        (value, forgotten)
    }

    fn is_full(&self) -> bool {
        self.younger.len() >= self.generation_max
    }

    /// Drops the older generation, which is returned, and begins a new one.
    pub fn turn(&mut self) -> IntoValues<K, V> {
        mem::replace(&mut self.older, mem::take(&mut self.younger)).into_values()
    }

    /// The number of entries; one that is in both generations counts twice.
    pub fn len(&self) -> usize {
        self.younger.len() + self.older.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        const MAX: usize = 50;
        let mut map: Generations<usize, usize> = Generations::new(MAX);
        assert!(map.is_empty());
        for number in 0..20 * MAX {
            map.insert(number, number);
            assert!(map.len() <= 2 * MAX, "{}", map.len());
        }
        let kept = (0..20 * MAX).filter(|number| map.find(number) == Some(number));
        assert!(kept.eq(18 * MAX..20 * MAX));
    }

    #[test]
    fn an_entry_is_made_again_in_the_place_of_the_one_before() {
        let mut map: Generations<&str, u32> = Generations::new(1);
        map.insert("jack", 1);
        map.insert("rose", 2);
        map.insert("jack", 3);
        assert_eq!((map.find(&"jack"), map.find(&"rose")), (Some(&3), Some(&2)));
        let mut none: Generations<&str, u32> = Generations::new(0);
        none.insert("jack", 1);
        assert_eq!(none.find(&"jack"), None);
    }

    #[test]
    fn a_renewed_entry_stays_known() {
        const MAX: usize = 10;
        let mut map: Generations<usize, &str> = Generations::new(MAX);
        *map.renew(0, || "new").0 = "changed";
        for number in 1..100 * MAX {
            map.renew(number, || "other");
            if number % MAX == 0 {
                assert_eq!(*map.renew(0, || "forgotten").0, "changed", "{number}");
            }
            assert!(map.len() <= 2 * MAX, "{}", map.len());
        }
    }

    #[test]
    fn what_is_forgotten_is_told() {
        let mut map: Generations<&str, u32> = Generations::new(2);
        map.insert("jack", 1);
        map.insert("rose", 2);
        assert!(map.renew("rose", || 0).1.is_none(), "there is room where it stands");
        assert_eq!(map.renew("tom", || 3).1.unwrap().count(), 0);
        *map.renew("rose", || 0).0 += 10;
        let (_ann, forgotten) = map.renew("ann", || 4);
        assert_eq!(forgotten.unwrap().collect::<Vec<_>>(), [1], "rose was renewed");
        assert_eq!(map.find(&"rose"), Some(&12));
        assert_eq!(map.turn().count(), 2);
    }
}
