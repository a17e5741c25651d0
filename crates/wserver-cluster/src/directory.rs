//! Which nodes have which users: what this node announces, and what it has heard from the others.
//!
//! Users are stored as 48 bits of a hash, which takes 10 to 20 bytes per user and node in all. If
//! two users share a hash, a message may go to a node that has no connection for it. Users are
//! split into slots, each with a sum of its contents, with which two nodes find out cheaply whether
//! they agree, and where they do not.
//!
//! The alternative, a subscription at the broker for each user, was measured and rejected, see
//! `docs/cluster.md`: it costs the broker memory for each user and work for each arrival and
//! departure, and it tells a push neither that no other node has its user nor which nodes must
//! answer.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use wserver_core::UserId;

/// The number of slots. Each has its own lock, and is the unit that two nodes compare and send.
pub(crate) const SLOTS: usize = 64;

/// The most changes of one slot that are remembered until they are announced. If more arrive while
/// the node cannot announce them, they are forgotten: the sums reveal it, and the slot is sent
/// whole.
const CHANGES_MAX: usize = 4096;

/// A user in messages between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest(u64);

impl Digest {
    const BITS: u32 = 48;

    pub(crate) const fn new(number: u64) -> Self {
        Self(number & ((1 << Self::BITS) - 1))
    }

    pub(crate) const fn as_u64(self) -> u64 {
        self.0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the rest of a division by 64")]
    const fn slot(self) -> usize {
        (self.0 % SLOTS as u64) as usize
    }

    /// Its share of the sum of its slot, mixed so that users do not cancel each other out.
    const fn summand(self) -> u64 {
        // The finalizer of SplitMix64.
        let mut sum = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        sum = (sum ^ (sum >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        sum = (sum ^ (sum >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        sum ^ (sum >> 31)
    }
}

/// Makes digests: the same on every node of a cluster, whatever compiler built it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digests(SipHasher13);

impl Digests {
    pub(crate) fn new(cluster: &str) -> Self {
        let mut hasher = SipHasher13::new();
        hasher.write(cluster.as_bytes());
        let key = hasher.finish();
        Self(SipHasher13::new_with_keys(key, !key))
    }

    pub(crate) fn of(&self, user: &UserId) -> Digest {
        let mut hasher = self.0;
        hasher.write(user.as_str().as_bytes());
        Digest::new(hasher.finish())
    }
}

/// What this node announces about its users.
#[derive(Debug)]
pub(crate) struct OwnUsers {
    /// Written when users come and go; limited by the users that have a connection, and
    /// [`CHANGES_MAX`].
    slots: [Mutex<OwnSlot>; SLOTS],
}

#[derive(Debug, Default)]
struct OwnSlot {
    users: HashMap<Digest, OwnUser>,
    /// Users whose announcement may be out of date.
    changed: Vec<Digest>,
    /// Invariant: the sum over all announced users.
    sum: u64,
}

#[derive(Debug, Default)]
struct OwnUser {
    /// How many users on this node have this digest. Arrivals and departures are reported
    /// afterwards and may overtake each other, so it can briefly be below zero.
    count: i64,
    is_announced: bool,
}

/// The changes to announce about a node's users.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) came: Vec<u64>,
    pub(crate) left: Vec<u64>,
}

impl OwnUsers {
    pub(crate) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Records that a user has its first registration here (1), or has lost its last one (−1).
    pub(crate) fn count(&self, digest: Digest, change: i64) {
        let mut slot = lock(&self.slots[digest.slot()]);
        let user = slot.users.entry(digest).or_default();
        user.count += change;
        if (user.count > 0) != user.is_announced {
            slot.changed.push(digest);
            if slot.changed.len() > CHANGES_MAX {
                slot.settle(&mut Announcement::default());
            }
        } else if user.count == 0 {
            slot.users.remove(&digest);
        }
    }

    /// The changes since the last announcement; from now on they count as announced.
    pub(crate) fn announce(&self) -> Announcement {
        let mut announcement = Announcement::default();
        for slot in &self.slots {
            lock(slot).settle(&mut announcement);
        }
        announcement
    }

    /// The sum of all announced users, over all slots.
    pub(crate) fn sum(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum ^ lock(slot).sum)
    }

    /// All announced users of the slots whose sums differ from `sums`.
    pub(crate) fn differing(&self, sums: &[u64]) -> Vec<(usize, Vec<u64>)> {
        let slots = self.slots.iter().zip(sums).enumerate();
        slots
            .filter_map(|(number, (slot, theirs))| {
                let slot = lock(slot);
                let announced = slot.users.iter().filter(|(_, user)| user.is_announced);
                (slot.sum != *theirs)
                    .then(|| (number, announced.map(|(digest, _)| digest.as_u64()).collect()))
            })
            .collect()
    }
}

impl OwnSlot {
    fn settle(&mut self, announcement: &mut Announcement) {
        for digest in std::mem::take(&mut self.changed) {
            let Some(user) = self.users.get_mut(&digest) else { continue };
            let is_here = user.count > 0;
            if is_here != user.is_announced {
                user.is_announced = is_here;
                self.sum ^= digest.summand();
                let told = if is_here { &mut announcement.came } else { &mut announcement.left };
                told.push(digest.as_u64());
            }
            if user.count == 0 && !user.is_announced {
                self.users.remove(&digest);
            }
        }
        // A table never shrinks by itself, so after a wave it would stay large.
        let (len, capacity) = (self.users.len(), self.users.capacity());
        if capacity > 256 && len < capacity / 8 {
            self.users.shrink_to(len * 2);
        }
    }
}

/// The number of another node in the directory, reused after the node has left.
pub(crate) type Seat = u16;

/// The users of the other nodes.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Written by the tasks that receive; limited by the users of the other nodes.
    slots: [Mutex<Slot>; SLOTS],
    keys: RandomState,
}

#[derive(Debug, Default)]
struct Slot {
    /// Digest and seat in one number.
    entries: HashTable<u64>,
    /// By seat. Invariant: the sum of its entries.
    sums: Vec<u64>,
}

const fn entry(digest: Digest, seat: Seat) -> u64 {
    digest.as_u64() << 16 | seat as u64
}

const fn digest_of(entry: u64) -> Digest {
    Digest(entry >> 16)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the seat")]
const fn seat_of(entry: u64) -> Seat {
    entry as Seat
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self { slots: std::array::from_fn(|_| Mutex::default()), keys: RandomState::new() }
    }

    /// The seats of the nodes that have a user. O(nodes that have it).
    pub(crate) fn seats(&self, digest: Digest) -> Vec<Seat> {
        let hash = self.hash(digest);
        let slot = lock(&self.slots[digest.slot()]);
        // An empty list takes no memory.
        let found = slot.entries.iter_hash(hash).filter(|entry| digest_of(**entry) == digest);
        found.map(|entry| seat_of(*entry)).collect()
    }

    /// Records that a node has a user.
    pub(crate) fn insert(&self, digest: Digest, seat: Seat) {
        let mut slot = lock(&self.slots[digest.slot()]);
        self.insert_into(&mut slot, digest, seat);
    }

    /// Records that a node no longer has a user.
    pub(crate) fn remove(&self, digest: Digest, seat: Seat) {
        let hash = self.hash(digest);
        let mut slot = lock(&self.slots[digest.slot()]);
        let entry = entry(digest, seat);
        if let Ok(found) = slot.entries.find_entry(hash, |it| *it == entry) {
            found.remove();
            slot.add(digest, seat);
        }
    }

    /// Replaces the users that a node has in a slot.
    pub(crate) fn replace(&self, number: usize, seat: Seat, users: impl Iterator<Item = Digest>) {
        let Some(slot) = self.slots.get(number) else { return };
        let mut slot = lock(slot);
        self.forget_in(&mut slot, seat);
        for digest in users.filter(|digest| digest.slot() == number) {
            self.insert_into(&mut slot, digest, seat);
        }
    }

    /// Removes a node that has left; returns the longest time that a lock was held.
    pub(crate) fn forget(&self, seat: Seat) -> Duration {
        let times = self.slots.iter().map(|slot| {
            let mut slot = lock(slot);
            let since = Instant::now();
            self.forget_in(&mut slot, seat);
            since.elapsed()
        });
        times.max().unwrap_or_default()
    }

    /// The sum of each slot over the users that a node has announced.
    pub(crate) fn sums(&self, seat: Seat) -> [u64; SLOTS] {
        std::array::from_fn(|number| {
            lock(&self.slots[number]).sums.get(usize::from(seat)).copied().unwrap_or_default()
        })
    }

    /// Users of the other nodes, each counted once for each node that has it.
    pub(crate) fn len(&self) -> usize {
        self.slots.iter().map(|slot| lock(slot).entries.len()).sum()
    }

    /// The memory of the directory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| lock(slot).entries.allocation_size()).sum()
    }

    fn insert_into(&self, slot: &mut Slot, digest: Digest, seat: Seat) {
        let entry = entry(digest, seat);
        let rehash = |it: &u64| self.hash(digest_of(*it));
        let place = slot.entries.entry(self.hash(digest), |it| *it == entry, rehash);
        if let hashbrown::hash_table::Entry::Vacant(place) = place {
            place.insert(entry);
            slot.add(digest, seat);
        }
    }

    fn forget_in(&self, slot: &mut Slot, seat: Seat) {
        slot.entries.retain(|entry| seat_of(*entry) != seat);
        // A table never shrinks by itself.
        if slot.entries.len() < slot.entries.capacity() / 4 {
            slot.entries.shrink_to_fit(|it| self.hash(digest_of(*it)));
        }
        if let Some(sum) = slot.sums.get_mut(usize::from(seat)) {
            *sum = 0;
        }
    }

    fn hash(&self, digest: Digest) -> u64 {
        // An attacker who chooses user ids may know the digests, so the table has a key of its own.
        self.keys.hash_one(digest.as_u64())
    }
}

impl Slot {
    /// Adds a user to the sum of a node, or removes it.
    fn add(&mut self, digest: Digest, seat: Seat) {
        let seat = usize::from(seat);
        if self.sums.len() <= seat {
            self.sums.resize(seat + 1, 0);
        }
        self.sums[seat] ^= digest.summand();
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    // A table is still usable after an insert or remove that panicked, and sums are compared again.
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name, 64).unwrap()
    }

    #[test]
    fn digests_are_the_same_on_every_node_and_in_every_release() {
        let digests = Digests::new("wserver");
        // Nodes of two releases speak of the same user: these numbers may never change.
        assert_eq!(digests.of(&user("jack")).as_u64(), 0xf29c_c629_b1e9);
        assert_ne!(Digests::new("other").of(&user("jack")), digests.of(&user("jack")));
    }

    /// One node's users as another hears of them.
    fn hear(directory: &Directory, seat: Seat, announcement: &Announcement) {
        for came in &announcement.came {
            directory.insert(Digest::new(*came), seat);
        }
        for left in &announcement.left {
            directory.remove(Digest::new(*left), seat);
        }
    }

    fn sum(directory: &Directory, seat: Seat) -> u64 {
        directory.sums(seat).iter().fold(0, |sum, it| sum ^ it)
    }

    #[test]
    fn a_user_that_comes_and_goes_before_it_is_told_is_not_told() {
        let own = OwnUsers::new();
        let digest = Digest::new(7);
        own.count(digest, 1);
        own.count(digest, -1);
        assert_eq!(own.announce(), Announcement::default());
        // Told in the wrong order.
        own.count(digest, -1);
        own.count(digest, 1);
        assert_eq!(own.announce(), Announcement::default());
        assert!(lock(&own.slots[digest.slot()]).users.is_empty(), "nothing of it remains");
        own.count(digest, 1);
        assert_eq!(own.announce(), Announcement { came: vec![7], left: vec![] });
        own.count(digest, -1);
        own.count(digest, 1);
        assert_eq!(own.announce(), Announcement::default(), "it has been here all the while");
        own.count(digest, -1);
        assert_eq!(own.announce(), Announcement { came: vec![], left: vec![7] });
        assert_eq!(own.sum(), 0);
        assert!(lock(&own.slots[digest.slot()]).users.is_empty(), "nothing of it remains");
    }

    #[test]
    fn what_nobody_could_be_told_in_time_is_found_by_its_sum() {
        let (own, directory) = (OwnUsers::new(), Directory::new());
        // All of one slot, more than are remembered.
        let digests = (0..=CHANGES_MAX as u64).map(|number| Digest::new(number * SLOTS as u64));
        for digest in digests.clone() {
            own.count(digest, 1);
        }
        hear(&directory, 3, &own.announce());
        assert_ne!(sum(&directory, 3), own.sum());
        for (number, users) in own.differing(&directory.sums(3)) {
            directory.replace(number, 3, users.into_iter().map(Digest::new));
        }
        assert_eq!(sum(&directory, 3), own.sum());
        assert!(digests.into_iter().all(|digest| directory.seats(digest) == [3]));
    }

    proptest! {
        /// Whatever is lost on the way, comparing sums makes the directory what it should be.
        #[test]
        fn a_directory_becomes_what_was_announced(
            steps in proptest::collection::vec((0_u64..200, 0_u16..2, any::<bool>(), any::<bool>()), 0..400),
        ) {
            let directory = Directory::new();
            let own = [OwnUsers::new(), OwnUsers::new()];
            let mut here = [BTreeSet::new(), BTreeSet::new()];
            for (number, node, is_told, is_lost) in steps {
                let at = usize::from(node);
                if here[at].remove(&number) {
                    own[at].count(Digest::new(number), -1);
                } else {
                    here[at].insert(number);
                    own[at].count(Digest::new(number), 1);
                }
                if is_told {
                    let announcement = own[at].announce();
                    if !is_lost {
                        hear(&directory, node, &announcement);
                    }
                }
            }
            for node in 0..2_u16 {
                let at = usize::from(node);
                hear(&directory, node, &own[at].announce());
                for (number, users) in own[at].differing(&directory.sums(node)) {
                    directory.replace(number, node, users.into_iter().map(Digest::new));
                }
                prop_assert_eq!(sum(&directory, node), own[at].sum());
            }
            for number in 0..200 {
                let expected: Vec<Seat> =
                    (0..2).filter(|node| here[usize::from(*node)].contains(&number)).collect();
                let mut seats = directory.seats(Digest::new(number));
                seats.sort_unstable();
                prop_assert_eq!(seats, expected);
            }
            directory.forget(0);
            prop_assert_eq!(sum(&directory, 0), 0);
            prop_assert_eq!(directory.len(), here[1].len());
        }
    }

    #[test]
    fn what_was_not_announced_is_not_sent_and_what_is_of_another_slot_not_taken() {
        let (own, directory) = (OwnUsers::new(), Directory::new());
        own.count(Digest::new(7), 1);
        // Other sums than its own, so that it sends every slot.
        let all = own.differing(&[1; SLOTS]);
        assert_eq!(all.len(), SLOTS);
        assert!(all.iter().all(|(_, users)| users.is_empty()), "{all:?}");
        directory.replace(7, 0, [7, 8].into_iter().map(Digest::new));
        assert_eq!((directory.seats(Digest::new(7)), directory.len()), (vec![0], 1));
    }

    #[test]
    fn the_memory_of_a_wave_of_users_is_given_back() {
        let (own, directory) = (OwnUsers::new(), Directory::new());
        // All of one slot.
        let digests = (0..2000).map(|number| Digest::new(number * SLOTS as u64));
        for digest in digests.clone() {
            own.count(digest, 1);
        }
        hear(&directory, 0, &own.announce());
        let (users, bytes) = (lock(&own.slots[0]).users.capacity(), directory.bytes());
        digests.for_each(|digest| own.count(digest, -1));
        own.announce();
        assert!(lock(&own.slots[0]).users.capacity() < users / 8);
        directory.forget(0);
        assert!(directory.bytes() < bytes / 8, "{} of {bytes}", directory.bytes());
    }
}
