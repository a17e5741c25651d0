//! Who is bound to what: token ↔ user ↔ connection, by event.
//!
//! The binder stores facts and answers questions. It sends nothing, and only its owner knows what
//! the handle of a connection is.

mod registration;
mod connections;
mod events;
mod group;
mod index;
mod roll;
mod shards;
mod short_name;
mod slab;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;

pub use group::{EventRef, Group, Member, Members};
pub use registration::{
    BindError, Bound, Lane, Registration, Scope, TokenDigest, Unbound, UserKey,
};

use connections::{Connections, Position};
use shards::{Shards, high_half, low_half};
use table::{Candidate, Cursor, Remains, Table};

use crate::{ConnectionId, EventName, RegistrationKey, UserId};

/// The default number of shards: many times the threads of any machine, yet an empty binder stays
/// under 128 KiB.
const SHARDS: usize = 256;

/// Members whose handles are cloned under one lock: each may be a cache miss, so this is some
/// 50 µs.
const CLONES_PER_LOCK: usize = 512;

/// Members that a scan compares under one lock: some 50 µs.
const COMPARISONS_PER_LOCK: usize = 4096;

/// Which connections a user has, and which events each is registered for.
///
/// `H` is the handle of a connection, of which callers get clones; `L` is a [`Lane`], a slot that
/// the owner keeps beside each user and reaches under that user's lock.
///
/// It is shared by reference: users and connections are each split over shards with a lock of
/// their own, and every operation takes one lock of either kind at a time, connection before
/// user. No lock is held for longer than the work on one connection, or on one slice of a large
/// group. Handles and lanes are dropped after the locks. A closure given to
/// [`with_user`](Self::with_user) runs under a lock and must not call the binder.
///
/// Names that strangers choose are hashed with random keys. Nothing of a connection, a user or
/// an event remains when its last registration is gone.
///
/// ```
/// use wserver_core::{Binder, Bound, ConnectionId, EventName, Scope, UserId};
///
/// let binder: Binder<&str> = Binder::new(128);
/// let (user, event) = (UserId::parse("jack", 64)?, EventName::parse("news", 64)?);
/// let id = ConnectionId::new(1);
///
/// let bound = binder.bind(id, &"socket 1", &user, &event, binder.digest("token aaa"))?;
/// assert_eq!(bound, Bound::New { first_for: Scope::User });
/// assert_eq!(binder.user_connections(&user, Some(&event)), [(id, "socket 1")]);
///
/// assert_eq!(binder.unbind_connection(id).len(), 1);
/// assert_eq!(binder.counts().users, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Binder<H, L = ()> {
    bindings_per_connection_max: usize,
    /// Zero means no limit.
    connections_per_user_max: usize,
    name_keys: RandomState,
    token_keys: RandomState,
    /// Invariant: each position a connection names holds a member with that connection's id, and
    /// each member is named by one connection. Both change under the connection's lock.
    connections: Shards<Connections>,
    users: Shards<Table<H, L>>,
    /// Invariant: what the shards hold, whenever none of them is locked.
    user_count: AtomicUsize,
    connection_count: AtomicUsize,
    registration_count: AtomicUsize,
}

/// Where [`Binder::event_users`] continues. The default is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserCursor {
    shard: u16,
    user: u32,
}

/// How much a [`Binder`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Users with at least one connection.
    pub users: usize,
    /// Connections with at least one registration.
    pub connections: usize,
    /// (connection, user, event) triples.
    pub registrations: usize,
}

impl<H: Clone, L: Lane<H>> Binder<H, L> {
    /// An empty binder that stores at most so many (user, event) pairs for each connection.
    #[must_use]
    pub fn new(bindings_per_connection_max: usize) -> Self {
        Self::with_shards(bindings_per_connection_max, SHARDS)
    }

    /// The same with a number of shards, rounded up to a power of two of at most 65,536.
    #[must_use]
    pub fn with_shards(bindings_per_connection_max: usize, shards: usize) -> Self {
        let name_keys = RandomState::new();
        Self {
            bindings_per_connection_max,
            connections_per_user_max: 0,
            token_keys: RandomState::new(),
            connections: Shards::new(shards, Connections::new),
            users: Shards::new(shards, || Table::new(&name_keys)),
            name_keys,
            user_count: AtomicUsize::new(0),
            connection_count: AtomicUsize::new(0),
            registration_count: AtomicUsize::new(0),
        }
    }

    /// The same with at most so many connections for each user; zero means no limit.
    #[must_use]
    pub const fn with_connections_per_user_max(mut self, max: usize) -> Self {
        self.connections_per_user_max = max;
        self
    }

    /// What stands for a token in this binder; another binder has another digest for it.
    #[must_use]
    pub fn digest(&self, token: &str) -> TokenDigest {
        TokenDigest::new(self.token_keys.hash_one(token))
    }

    /// What stands for a user's event in the [`Session`](crate::Session)s of its connections.
    ///
    /// Keyed and 64 bits wide as a [`TokenDigest`]; it has to be unique within one connection only.
    #[must_use]
    pub fn registration_key(&self, user: &UserId, event: &EventName) -> RegistrationKey {
        RegistrationKey::new(self.token_keys.hash_one((user.as_str(), event.as_str())))
    }

    /// Registers a connection for an event of a user.
    ///
    /// The handle of the first registration of (connection, user) is kept, further ones are
    /// ignored. O(1) in users, members and connections; it looks through the connection's users
    /// if it has several.
    ///
    /// # Errors
    /// [`BindError::TooMany`] when the connection is at its limit, [`BindError::UserFull`] when the
    /// user is, which is decided under the user's lock; nothing changes then.
    pub fn bind(
        &self,
        id: ConnectionId,
        handle: &H,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, BindError> {
        let (shard, hash) = self.locate(self.key(user));
        let mut connections = self.connections.lock(self.connection_shard(id));
        let connection = connections.get(id);
        let mut users = self.users.lock(shard);
        let found = users.find(hash, user);
        let slot = found.and_then(|index| connection?.slot(shard, index));
        if let (Some(index), Some(slot)) = (found, slot)
            && users.refresh(index, slot, event, token)
        {
            return Ok(Bound::Already);
        }
        let max = self.bindings_per_connection_max;
        if connection.map_or(0, |connection| connection.registrations()) >= max {
            return Err(BindError::TooMany { max });
        }
        let max = self.connections_per_user_max;
        if max > 0 && slot.is_none() && found.is_some_and(|index| users.members(index) >= max) {
            return Err(BindError::UserFull { max });
        }
        let candidate = Candidate { id, handle, user, hash, event, token };
        let stored = users.register(found, slot, &candidate);
        let position = Position { shard, user: stored.user, slot: stored.slot };
        if connections.add_registration(id, position) {
            self.connection_count.fetch_add(1, Ordering::Relaxed);
        }
        if found.is_none() {
            self.user_count.fetch_add(1, Ordering::Relaxed);
        }
        self.registration_count.fetch_add(1, Ordering::Relaxed);
        Ok(Bound::New { first_for: stored.first_for })
    }

    /// Ends one registration, if there is such a one. O(1) as [`bind`](Self::bind).
    pub fn unbind(&self, id: ConnectionId, user: &UserId, event: &EventName) -> Option<Unbound> {
        let key = self.key(user);
        let (shard, hash) = self.locate(key);
        let mut connections = self.connections.lock(self.connection_shard(id));
        let mut users = self.users.lock(shard);
        let index = users.find(hash, user)?;
        let slot = connections.get(id)?.slot(shard, index)?;
        let (unbound, remains) = users.unregister(index, key, slot, event)?;
        let left = remains.member_is_gone().then_some(Position { shard, user: index, slot });
        if connections.subtract_registration(id, left) {
            self.connection_count.fetch_sub(1, Ordering::Relaxed);
        }
        if remains.user_is_gone() {
            self.user_count.fetch_sub(1, Ordering::Relaxed);
        }
        self.registration_count.fetch_sub(1, Ordering::Relaxed);
        drop(users);
        drop(connections);
        drop(remains);
        Some(unbound)
    }

    /// Ends every registration of a connection and returns them.
    ///
    /// O(registrations of the connection), whatever the number of members of its users.
    pub fn unbind_connection(&self, id: ConnectionId) -> Vec<Unbound> {
        let mut connections = self.connections.lock(self.connection_shard(id));
        let Some(connection) = connections.remove(id) else { return Vec::new() };
        let mut unbound = Vec::with_capacity(connection.registrations());
        let mut remains: SmallVec<[Remains<H, L>; 1]> = SmallVec::new();
        for Position { shard, user, slot } in connection.positions() {
            remains.push(self.users.lock(shard).leave(user, None, slot, &mut unbound));
        }
        let users = remains.iter().filter(|remains| remains.user_is_gone()).count();
        self.connection_count.fetch_sub(1, Ordering::Relaxed);
        self.user_count.fetch_sub(users, Ordering::Relaxed);
        self.registration_count.fetch_sub(unbound.len(), Ordering::Relaxed);
        drop(connections);
        drop(remains);
        unbound
    }

    /// Ends a connection's registrations for those of its users whose lane `is_at_rest`, which is
    /// called under the user's lock. Returns the ended ones, and whether none is left.
    ///
    /// O(registrations of the connection), and of several users O(users²).
    pub fn unbind_at_rest(
        &self,
        id: ConnectionId,
        is_at_rest: impl Fn(&L) -> bool,
    ) -> (Vec<Unbound>, bool) {
        let mut connections = self.connections.lock(self.connection_shard(id));
        let Some(connection) = connections.get(id) else { return (Vec::new(), true) };
        let positions: SmallVec<[Position; 1]> = connection.positions().collect();
        let mut unbound = Vec::new();
        let mut remains: SmallVec<[Remains<H, L>; 1]> = SmallVec::new();
        let mut is_gone = false;
        for position in positions {
            let Position { shard, user, slot } = position;
            let mut users = self.users.lock(shard);
            if !users.group(user).is_some_and(|group| is_at_rest(group.lane)) {
                continue;
            }
            let before = unbound.len();
            remains.push(users.leave(user, None, slot, &mut unbound));
            drop(users);
            let left = unbound.len() - before;
            for number in 1..=left {
                is_gone =
                    connections.subtract_registration(id, (number == left).then_some(position));
            }
        }
        let users = remains.iter().filter(|remains| remains.user_is_gone()).count();
        self.connection_count.fetch_sub(usize::from(is_gone), Ordering::Relaxed);
        self.user_count.fetch_sub(users, Ordering::Relaxed);
        self.registration_count.fetch_sub(unbound.len(), Ordering::Relaxed);
        drop(connections);
        drop(remains);
        (unbound, is_gone)
    }

    /// A connection's handle, if it has a registration. O(1).
    pub fn connection(&self, id: ConnectionId) -> Option<H> {
        let connections = self.connections.lock(self.connection_shard(id));
        let Position { shard, user, slot } = connections.get(id)?.positions().next()?;
        self.users.lock(shard).handle(user, slot).cloned()
    }

    /// What a connection is registered for, in no particular order.
    pub fn registrations(&self, id: ConnectionId) -> Vec<Registration> {
        let connections = self.connections.lock(self.connection_shard(id));
        let Some(connection) = connections.get(id) else { return Vec::new() };
        let mut registrations = Vec::with_capacity(connection.registrations());
        for Position { shard, user, slot } in connection.positions() {
            registrations.extend(self.users.lock(shard).registrations(user, slot));
        }
        registrations
    }

    /// The connections of a user, of one event or of any.
    ///
    /// A connection that is bound the whole time appears once. A large group is read in slices,
    /// between which others may bind and unbind, so the result is not a snapshot of one instant.
    pub fn user_connections(
        &self,
        user: &UserId,
        event: Option<&EventName>,
    ) -> Vec<(ConnectionId, H)> {
        self.some_user_connections(user, event, usize::MAX)
    }

    /// The same, at most `max` of them: those in the lowest slots.
    pub fn some_user_connections(
        &self,
        user: &UserId,
        event: Option<&EventName>,
        max: usize,
    ) -> Vec<(ConnectionId, H)> {
        let mut found = Vec::new();
        let mut start = 0;
        while found.len() < max {
            let slots = self.with_user(user, |group| {
                let members = group.members;
                let end = members.slots().min(start + CLONES_PER_LOCK);
                let event = match event.map(|event| members.event(event)) {
                    // Nobody is registered for it.
                    Some(None) => return 0,
                    Some(event) => event,
                    None => None,
                };
                let wanted = |member: &Member<'_, H>| {
                    event.is_none_or(|event| member.registered(event).is_some())
                };
                let slice = members.range(start..end).filter(wanted).take(max - found.len());
                found.extend(slice.map(|member| (member.id(), member.handle().clone())));
                members.slots()
            });
            start += CLONES_PER_LOCK;
            if slots.is_none_or(|slots| slots <= start) {
                break;
            }
        }
        if start > CLONES_PER_LOCK {
            keep_one_of_each(&mut found);
        }
        found
    }

    /// The connections that hold a registration made with a token.
    ///
    /// It looks at every member of every user, some 10 to 30 ns each, a few thousand under one
    /// lock: use it for a logout, not for a push. An index would answer at once, but would cost
    /// every registration 20 to 30 bytes for the rarest question.
    pub fn token_connections(&self, token: TokenDigest) -> Vec<(ConnectionId, H)> {
        let mut found = Vec::new();
        for shard in self.users.numbers() {
            let mut cursor = Some(Cursor::START);
            while let Some(start) = cursor {
                let users = self.users.lock(shard);
                cursor = users.scan(token, start, COMPARISONS_PER_LOCK, &mut found);
            }
        }
        keep_one_of_each(&mut found);
        found
    }

    /// Adds some users that have a connection registered for `event`, from `cursor` on. Returns
    /// where to continue, or `None` at the end.
    ///
    /// It looks at a few thousand users under one lock and stops early when `found` has `max`. A
    /// user that is bound the whole time is found once.
    pub fn event_users(
        &self,
        event: &EventName,
        cursor: UserCursor,
        max: usize,
        found: &mut Vec<UserId>,
    ) -> Option<UserCursor> {
        let users = self.users.lock(cursor.shard);
        let next = users.event_users(event, cursor.user, COMPARISONS_PER_LOCK, max, found);
        drop(users);
        let UserCursor { shard, .. } = cursor;
        match next {
            Some(user) => Some(UserCursor { shard, user }),
            None => self.users.next(shard).map(|shard| UserCursor { shard, user: 0 }),
        }
    }

    /// How much there is. Three atomic loads, so while others bind it is not a snapshot of one
    /// instant.
    pub fn counts(&self) -> Counts {
        Counts {
            users: self.user_count.load(Ordering::Relaxed),
            connections: self.connection_count.load(Ordering::Relaxed),
            registrations: self.registration_count.load(Ordering::Relaxed),
        }
    }

    /// Shows a user to `f` under the user's lock, if the user has a connection. O(1).
    ///
    /// `f` must not call the binder, because its locks are not reentrant, and should end within a
    /// millisecond, because others wait for the shard.
    pub fn with_user<R>(&self, user: &UserId, f: impl FnOnce(Group<'_, H, L>) -> R) -> Option<R> {
        self.with_key(self.key(user), f)
    }

    /// A user's name, hashed once for several look-ups by [`with_key`](Self::with_key).
    pub fn key<'u>(&self, user: &'u UserId) -> UserKey<'u> {
        UserKey::new(user, self.name_keys.hash_one(user.as_str()))
    }

    /// As [`with_user`](Self::with_user), without hashing the name again. A key of another binder
    /// finds no user.
    pub fn with_key<R>(&self, key: UserKey<'_>, f: impl FnOnce(Group<'_, H, L>) -> R) -> Option<R> {
        let (shard, hash) = self.locate(key);
        let mut users = self.users.lock(shard);
        let index = users.find(hash, key.user)?;
        users.group(index).map(f)
    }

    /// As [`with_user`](Self::with_user), and tells `f` the slot of a connection, if it belongs to
    /// the user. Nothing about that connection changes meanwhile.
    pub fn with_user_and_slot<R>(
        &self,
        user: &UserId,
        id: ConnectionId,
        f: impl FnOnce(Group<'_, H, L>, Option<usize>) -> R,
    ) -> Option<R> {
        let (shard, hash) = self.locate(self.key(user));
        let connections = self.connections.lock(self.connection_shard(id));
        let mut users = self.users.lock(shard);
        let index = users.find(hash, user)?;
        let slot = connections.get(id).and_then(|connection| connection.slot(shard, index));
        users.group(index).map(|group| f(group, slot.map(|slot| slot as usize)))
    }

    /// Checks every invariant under all locks; for tests.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check_invariants(&self) {
        let connections: Vec<_> =
            self.connections.numbers().map(|shard| self.connections.lock(shard)).collect();
        let users: Vec<_> = self.users.numbers().map(|shard| self.users.lock(shard)).collect();
        let mut members = HashMap::new();
        for (shard, table) in self.users.numbers().zip(&users) {
            table.check_invariants(shard, &mut members);
        }
        let mut counts =
            Counts { users: users.iter().map(|table| table.len()).sum(), ..Counts::default() };
        counts.registrations = members.values().map(|(_, registrations)| registrations).sum();
        for table in &connections {
            table.check_invariants();
            for connection in table.iter() {
                counts.connections += 1;
                let mut all = 0;
                for position in connection.positions() {
                    let (id, registrations) =
                        members.remove(&position).expect("a position has a member");
                    assert_eq!(id, connection.id(), "the member at a position is the connection");
                    all += registrations;
                }
                assert_eq!(all, connection.registrations(), "a connection counts them");
                assert!(all <= self.bindings_per_connection_max, "within the limit");
            }
        }
        assert!(members.is_empty(), "each member is named by its connection");
        assert_eq!(counts, self.counts(), "the counts are those of the tables");
    }

    /// The shard of a user, and the hash of its name within the shard.
    fn locate(&self, key: UserKey<'_>) -> (u16, u32) {
        (self.users.shard_of(high_half(key.hash)), low_half(key.hash))
    }

    fn connection_shard(&self, id: ConnectionId) -> u16 {
        self.connections.shard_of(id.as_u64())
    }
}

/// A connection may have been found twice, for two users or in two slots one after the other.
fn keep_one_of_each<H>(connections: &mut Vec<(ConnectionId, H)>) {
    connections.sort_by_key(|(id, _)| *id);
    connections.dedup_by_key(|(id, _)| *id);
}

impl<H, L> fmt::Debug for Binder<H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binder")
            .field("users", &self.user_count)
            .field("connections", &self.connection_count)
            .field("registrations", &self.registration_count)
            .finish_non_exhaustive()
    }
}
