//! Recent answers, under keyed digests, limited in time and number.
//!
//! The oldest are forgotten a generation at a time, which needs no library: the well-kept ones
//! (moka, quick_cache) bring threads, locks or unsafe code for speeds that do not matter beside a
//! call over the network.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use wserver_core::Generations;

use crate::publisher_key::NoRandomness;

/// The key under which an answer is remembered.
pub(crate) type Digest = [u8; 32];

/// Makes digests that nobody outside can predict.
pub(crate) struct DigestKey([u8; 32]);

impl DigestKey {
    pub(crate) fn new() -> Result<Self, NoRandomness> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(NoRandomness::new)?;
        Ok(Self(key))
    }

    /// The digest of all `parts`, each with its length, so that different lists have different
    /// digests.
    pub(crate) fn digest<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        let mut hasher = Sha256::new_with_prefix(self.0);
        for part in parts {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// Answers, each until its time is over or it is one of the oldest.
pub(crate) struct Cache<T>(
    /// Written by every caller that got an answer.
    Mutex<Entries<T>>,
);

type Entries<T> = Generations<Digest, Entry<T>, BuildHasherDefault<FirstBytes>>;

struct Entry<T> {
    value: T,
    until: Instant,
}

impl<T: Clone> Cache<T> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self(Mutex::new(Entries::new(entries_max / 2)))
    }

    pub(crate) fn find(&self, digest: &Digest, now: Instant) -> Option<T> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.find(digest)?;
        (now < entry.until).then(|| entry.value.clone())
    }

    /// Remembers `value` for the time `keep`.
    pub(crate) fn insert(&self, digest: Digest, value: T, now: Instant, keep: Duration) {
        let Some(until) = now.checked_add(keep).filter(|until| *until > now) else { return };
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(digest, Entry { value, until });
    }
}

/// A digest is random already, so its first bytes serve as the hash.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length that an array's hash begins with.
    fn write_usize(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
        digest
    }

    #[test]
    fn answers_are_remembered_for_their_time() {
        let (cache, now, second) = (Cache::new(10), Instant::now(), Duration::from_secs(1));
        cache.insert(digest(1), "one", now, second);
        cache.insert(digest(2), "two", now, 2 * second);
        cache.insert(digest(3), "three", now, Duration::ZERO);
        let at = |number, now| cache.find(&digest(number), now);
        assert_eq!([at(1, now), at(2, now), at(3, now)], [Some("one"), Some("two"), None]);
        assert_eq!([at(1, now + second), at(2, now + second)], [None, Some("two")]);
        cache.insert(digest(1), "one again", now + second, second);
        assert_eq!(at(1, now + second), Some("one again"));
    }

    #[test]
    fn no_more_than_the_bound_are_remembered() {
        const MAX: usize = 100;
        let (cache, now) = (Cache::new(MAX), Instant::now());
        for number in 0..10 * MAX {
            cache.insert(digest(number), number, now, Duration::from_secs(1));
        }
        let kept = (0..10 * MAX).filter(|number| cache.find(&digest(*number), now).is_some());
        assert!(kept.eq(9 * MAX..10 * MAX));
        let none = Cache::new(0);
        none.insert(digest(1), 1, now, Duration::from_secs(1));
        assert_eq!(none.find(&digest(1), now), None);
    }

    #[test]
    fn digests_tell_lists_apart() {
        let key = DigestKey::new().unwrap();
        let lists: [&[&[u8]]; 5] = [&[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"abc", b""], &[]];
        let digests = lists.map(|list| key.digest(list.iter().copied()));
        for (index, digest) in digests.iter().enumerate() {
            assert!(!digests[..index].contains(digest), "{index}");
            assert_eq!(*digest, key.digest(lists[index].iter().copied()));
            assert_ne!(*digest, DigestKey::new().unwrap().digest(lists[index].iter().copied()));
        }
    }
}
