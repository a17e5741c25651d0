//! One shard of the users: their connections, and the events for which these are registered.
//!
//! All rules of a registration are here. It knows no lock; of the connection tables it knows only
//! that they store the positions that it returns.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::connections::Position;
use super::events::Events;
use super::group::Group;
use super::index::Index;
use super::registration::{Lane, Registration, Scope, TokenDigest, Unbound, UserKey};
use super::roll::{Membership, Registered, Registrations, Roll};
use super::shards::low_half;
use super::short_name::ShortName;
use super::slab::Slab;
use crate::{ConnectionId, EventName, UserId};

/// The users of one shard.
pub(super) struct Table<H, L> {
    keys: RandomState,
    /// Invariant: holds the index of each user once, under the hash of its name.
    index: Index,
    users: Slab<User<H, L>>,
    events: Events,
}

/// One user. Invariant: at least one member.
struct User<H, L> {
    name: ShortName,
    roll: Roll<H>,
    lane: L,
}

/// A (connection, user, event) that is to be bound.
pub(super) struct Candidate<'a, H> {
    pub(super) id: ConnectionId,
    pub(super) handle: &'a H,
    pub(super) user: &'a UserId,
    pub(super) hash: u32,
    pub(super) event: &'a EventName,
    pub(super) token: TokenDigest,
}

/// Where a registration went.
pub(super) struct Stored {
    pub(super) user: u32,
    pub(super) slot: u32,
    pub(super) first_for: Scope,
}

/// What a removal leaves for the caller to drop after the locks are released, because dropping it
/// may run foreign code.
pub(super) enum Remains<H, L> {
    /// The member has other registrations.
    Nothing,
    /// The member is gone, and the user has others.
    Member {
        /// Held to be dropped.
        _member: Membership<H>,
    },
    /// The user is gone.
    User {
        /// Held to be dropped.
        _roll: Roll<H>,
        /// Held to be dropped.
        _lane: L,
    },
}

/// Where a scan of a table continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    user: u32,
    slot: u32,
}

impl Cursor {
    pub(super) const START: Self = Self { user: 0, slot: 0 };
}

impl<H, L> Remains<H, L> {
    pub(super) const fn member_is_gone(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    pub(super) const fn user_is_gone(&self) -> bool {
        matches!(self, Self::User { .. })
    }
}

impl<H: Clone, L: Lane<H>> Table<H, L> {
    /// `keys` are those of all shards, because the caller hashes a name before it chooses a shard.
    pub(super) fn new(keys: &RandomState) -> Self {
        let keys = keys.clone();
        let events = Events::new(&keys);
        Self { keys, index: Index::new(), users: Slab::new(), events }
    }

    /// Where a user is. O(1).
    pub(super) fn find(&self, hash: u32, user: &UserId) -> Option<u32> {
        let same = |index| self.users.get(index).is_some_and(|entry| entry.name.is(user));
        self.index.find(hash, same)
    }

    /// A user's lane and members. O(1).
    pub(super) fn group(&mut self, user: u32) -> Option<Group<'_, H, L>> {
        let User { roll, lane, .. } = self.users.get_mut(user)?;
        Some(Group::new(lane, roll, &self.events))
    }

    /// How many members a user has. O(1).
    pub(super) fn members(&self, user: u32) -> usize {
        self.users.get(user).map_or(0, |user| user.roll.len() as usize)
    }

    /// A member's handle.
    pub(super) fn handle(&self, user: u32, slot: u32) -> Option<&H> {
        self.users.get(user)?.roll.get(slot).map(|member| &member.handle)
    }

    /// Remembers the newest token of a registration; false if there is no such registration.
    pub(super) fn refresh(
        &mut self,
        user: u32,
        slot: u32,
        event: &EventName,
        token: TokenDigest,
    ) -> bool {
        let Some(event) = self.events.find(event) else { return false };
        self.users.get_mut(user).is_some_and(|user| user.roll.refresh(slot, event, token))
    }

    /// Stores a new registration for the user at `user` (or a new one) and the member at `slot` (or
    /// a new one).
    pub(super) fn register(
        &mut self,
        user: Option<u32>,
        slot: Option<u32>,
        candidate: &Candidate<'_, H>,
    ) -> Stored {
        let Candidate { id, handle, event, token, .. } = *candidate;
        let Some(user) = user else { return self.register_user(candidate) };
        let Some(entry) = self.users.get_mut(user) else {
            unreachable!("the user was found under the same lock")
        };
        // Foreign code runs before the table begins to change, so that its panics break nothing.
        let mark = entry.lane.mark();
        let handle = slot.is_none().then(|| handle.clone());
        if let Some(handle) = &handle {
            entry.lane.joined(handle);
        }
        let event = self.events.acquire(event);
        let registered = Registered { event, mark, token };
        let first_for = if entry.roll.count(event) > 0 { Scope::Connection } else { Scope::Event };
        let slot = match (slot, handle) {
            (None, Some(handle)) => {
                let registrations = Registrations::new(registered);
                entry.roll.join(Membership { id, handle, registrations })
            }
            (slot, _) => {
                let slot = slot.unwrap_or_default();
                entry.roll.register(slot, registered);
                slot
            }
        };
        Stored { user, slot, first_for }
    }

    fn register_user(&mut self, candidate: &Candidate<'_, H>) -> Stored {
        let Candidate { id, handle, user, hash, event, token } = *candidate;
        let mut lane = L::default();
        let mark = lane.mark();
        let handle = handle.clone();
        lane.joined(&handle);
        let event = self.events.acquire(event);
        let registrations = Registrations::new(Registered { event, mark, token });
        let roll = Roll::new(Membership { id, handle, registrations });
        let index = self.users.insert(User { name: ShortName::new(user), roll, lane });
        self.index.insert(hash, index);
        Stored { user: index, slot: 0, first_for: Scope::User }
    }

    /// Ends one registration of the user at `user`, whose key is known. O(log events of the member).
    pub(super) fn unregister(
        &mut self,
        user: u32,
        key: UserKey<'_>,
        slot: u32,
        event: &EventName,
    ) -> Option<(Unbound, Remains<H, L>)> {
        let event = self.events.find(event)?;
        let entry = self.users.get_mut(user)?;
        let registrations = &entry.roll.get(slot)?.registrations;
        let registered = registrations.get(event)?;
        if registrations.len() == 1 {
            let mut facts = Vec::with_capacity(1);
            let remains = self.leave(user, Some(key), slot, &mut facts);
            return facts.pop().map(|fact| (fact, remains));
        }
        entry.roll.unregister(slot, event);
        let last_for = if entry.roll.count(event) > 0 { Scope::Connection } else { Scope::Event };
        let event = self.events.release(event);
        let user = key.user.clone();
        let unbound = Unbound { user, event, token: registered.token, last_for };
        Some((unbound, Remains::Nothing))
    }

    /// Ends all registrations of one member and adds each to `facts`. Without the user's key, its
    /// name is built and hashed again. O(events of the member), whatever the number of members.
    pub(super) fn leave(
        &mut self,
        user: u32,
        key: Option<UserKey<'_>>,
        slot: u32,
        facts: &mut Vec<Unbound>,
    ) -> Remains<H, L> {
        let Some(entry) = self.users.get_mut(user) else { return Remains::Nothing };
        if let Some(member) = entry.roll.leave(slot) {
            entry.lane.left(&member.handle);
            let user = key.map_or_else(|| entry.name.to_user_id(), |key| key.user.clone());
            for Registered { event, token, .. } in member.registrations.iter() {
                let others = entry.roll.count(event);
                let last_for = if others > 0 { Scope::Connection } else { Scope::Event };
                let event = self.events.release(event);
                facts.push(Unbound { user: user.clone(), event, token, last_for });
            }
            return Remains::Member { _member: member };
        }
        if entry.roll.get(slot).is_none() {
            return Remains::Nothing;
        }
        self.leave_alone(user, key, slot, facts)
    }

    /// Removes the only member of a user, and the user with it.
    fn leave_alone(
        &mut self,
        user: u32,
        key: Option<UserKey<'_>>,
        slot: u32,
        facts: &mut Vec<Unbound>,
    ) -> Remains<H, L> {
        let Some(User { name, roll, lane }) = self.users.remove(user) else {
            return Remains::Nothing;
        };
        let (hash, name) = match key {
            Some(UserKey { user, hash }) => (hash, user.clone()),
            None => (self.keys.hash_one(name.as_str()), name.to_user_id()),
        };
        self.index.remove(low_half(hash), user);
        let registrations = roll.get(slot).into_iter().flat_map(|one| one.registrations.iter());
        for Registered { event, token, .. } in registrations {
            let event = self.events.release(event);
            let user = name.clone();
            facts.push(Unbound { user, event, token, last_for: Scope::Event });
        }
        if let Some(last) = facts.last_mut() {
            last.last_for = Scope::User;
        }
        Remains::User { _roll: roll, _lane: lane }
    }

    /// What a member is registered for.
    pub(super) fn registrations(&self, user: u32, slot: u32) -> impl Iterator<Item = Registration> {
        let user = self.users.get(user);
        let member = user.and_then(|user| Some((&user.name, user.roll.get(slot)?)));
        member.into_iter().flat_map(move |(name, member)| {
            let name = name.to_user_id();
            member.registrations.iter().map(move |registered| Registration {
                user: name.clone(),
                event: self.events.name(registered.event).clone(),
                token: registered.token,
            })
        })
    }

    /// Adds the connections that registered with a token; looks at about `slots_max` slots from
    /// `cursor` on. Returns where to continue, or `None` at the end.
    pub(super) fn scan(
        &self,
        token: TokenDigest,
        cursor: Cursor,
        slots_max: usize,
        found: &mut Vec<(ConnectionId, H)>,
    ) -> Option<Cursor> {
        let mut seen = 0;
        for (user, entry) in self.users.iter_from(cursor.user) {
            let start = if user == cursor.user { cursor.slot } else { 0 };
            for (slot, member) in entry.roll.iter_from(start) {
                if seen >= slots_max {
                    return Some(Cursor { user, slot });
                }
                seen += 1;
                if member.registrations.iter().any(|registered| registered.token == token) {
                    found.push((member.id, member.handle.clone()));
                }
            }
        }
        None
    }

    /// Adds the users that have a member registered for an event; looks at about `users_max` users
    /// from the index `start` on, until `found` has `max`. Returns where to continue, or `None` at
    /// the end.
    pub(super) fn event_users(
        &self,
        event: &EventName,
        start: u32,
        users_max: usize,
        max: usize,
        found: &mut Vec<UserId>,
    ) -> Option<u32> {
        // No user of the shard is registered for it.
        let event = self.events.find(event)?;
        for (seen, (index, user)) in self.users.iter_from(start).enumerate() {
            if seen >= users_max || found.len() >= max {
                return Some(index);
            }
            if user.roll.count(event) > 0 {
                found.push(user.name.to_user_id());
            }
        }
        None
    }

    /// Checks everything within the table, and collects each member's position, connection and
    /// number of registrations.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub(super) fn check_invariants(
        &self,
        shard: u16,
        positions: &mut HashMap<Position, (ConnectionId, usize)>,
    ) {
        self.users.check_invariants();
        self.index.check_invariants();
        assert_eq!(self.index.len(), self.users.len(), "each user is indexed once");
        let mut uses = HashMap::new();
        for (index, user) in self.users.iter() {
            let name = user.name.to_user_id();
            let hash = low_half(self.keys.hash_one(name.as_str()));
            assert_eq!(self.find(hash, &name), Some(index), "a user is found by its name");
            user.roll.check_invariants();
            for (slot, member) in user.roll.iter_from(0) {
                for registered in member.registrations.iter() {
                    *uses.entry(registered.event).or_default() += 1;
                }
                let position = Position { shard, user: index, slot };
                positions.insert(position, (member.id, member.registrations.len()));
            }
        }
        self.events.check_invariants(&uses);
    }

    /// How many users there are.
    pub(super) const fn len(&self) -> usize {
        self.users.len() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_one_connection_is_eleven_words() {
        assert_eq!(size_of::<Option<User<std::sync::Arc<()>, ()>>>(), 88);
    }
}
