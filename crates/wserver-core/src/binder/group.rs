//! What the owner of a binder sees of one user while it holds that user's lock.

use std::fmt;
use std::ops::Range;

use super::events::Events;
use super::roll::{Membership, Roll};
use crate::{ConnectionId, EventName};

/// One user under its lock: the owner's lane and the members, borrowed apart.
pub struct Group<'g, H, L> {
    /// What the owner of the binder keeps beside this user.
    pub lane: &'g mut L,
    /// The user's connections.
    pub members: Members<'g, H>,
}

/// The connections of one user, in slots.
///
/// A member keeps its slot for as long as it is bound to the user, also while other locks are
/// taken in between; a slot that was freed is given out again, the lowest first.
pub struct Members<'g, H> {
    roll: &'g Roll<H>,
    events: &'g Events,
}

/// One connection of the user.
pub struct Member<'g, H> {
    slot: u32,
    membership: &'g Membership<H>,
}

/// An event that some member of the user is registered for, resolved once so that asking each
/// member for it compares two integers.
#[derive(Clone, Copy)]
pub struct EventRef<'g> {
    name: &'g EventName,
    index: u32,
    count: u32,
}

impl<'g, H, L> Group<'g, H, L> {
    pub(super) const fn new(lane: &'g mut L, roll: &'g Roll<H>, events: &'g Events) -> Self {
        Self { lane, members: Members { roll, events } }
    }
}

impl<'g, H> Members<'g, H> {
    /// How many connections the user has, at least one. O(1).
    #[expect(clippy::len_without_is_empty, reason = "a user without a connection is not stored")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.roll.len() as usize
    }

    /// Every member's slot is below this number. O(1).
    ///
    /// After a peak it falls again as the upper slots run empty.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.roll.bound() as usize
    }

    /// The member in a slot. O(1).
    #[must_use]
    pub fn member(&self, slot: usize) -> Option<Member<'g, H>> {
        let slot = u32::try_from(slot).ok()?;
        self.roll.get(slot).map(|membership| Member { slot, membership })
    }

    /// The members in a range of slots, free slots left out, in the order of the slots.
    ///
    /// Cheaper than asking slot by slot where many are free.
    pub fn range(&self, slots: Range<usize>) -> impl Iterator<Item = Member<'g, H>> + use<'g, H> {
        let start = u32::try_from(slots.start).unwrap_or(u32::MAX);
        let end = u32::try_from(slots.end).unwrap_or(u32::MAX);
        let members = self.roll.iter_from(start).take_while(move |(slot, _)| *slot < end);
        members.map(|(slot, membership)| Member { slot, membership })
    }

    /// Every member, in the order of the slots.
    pub fn iter(&self) -> impl Iterator<Item = Member<'g, H>> + use<'g, H> {
        self.roll.iter_from(0).map(|(slot, membership)| Member { slot, membership })
    }

    /// Resolves an event, if a member is registered for it. O(1), at most one hash of the name.
    #[must_use]
    pub fn event(&self, event: &EventName) -> Option<EventRef<'g>> {
        if let Roll::One { member, .. } = self.roll
            && let super::roll::Registrations::One { event: only, .. } = member.registrations
        {
            // By far the most common user: comparing the names is cheaper than hashing one.
            let name = self.events.name(only);
            return (name == event).then_some(EventRef { name, index: only, count: 1 });
        }
        let index = self.events.find(event)?;
        let count = self.roll.count(index);
        (count > 0).then(|| EventRef { name: self.events.name(index), index, count })
    }

    /// Every event that a member is registered for, once each, in no particular order.
    pub fn events(&self) -> impl Iterator<Item = &'g EventName> + use<'g, H> {
        let events = self.events;
        self.roll.events().map(|event| events.name(event))
    }
}

impl<H> Clone for Members<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Members<'_, H> {}

impl<'g, H> Member<'g, H> {
    /// The slot it keeps while it is bound to this user.
    #[must_use]
    pub const fn slot(&self) -> usize {
        self.slot as usize
    }

    /// The connection.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.membership.id
    }

    /// The connection's handle.
    #[must_use]
    pub const fn handle(&self) -> &'g H {
        &self.membership.handle
    }

    /// The lane's mark at the time the member was registered for the event, if it is.
    ///
    /// O(log events of the member), a comparison of two integers for a member with one event.
    #[must_use]
    pub fn registered(&self, event: EventRef<'_>) -> Option<u64> {
        self.membership.registrations.get(event.index).map(|registered| registered.mark)
    }
}

impl<H> Clone for Member<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Member<'_, H> {}

impl<'g> EventRef<'g> {
    /// The event's name as the binder keeps it: every user of the shard shares its text.
    #[must_use]
    pub const fn name(&self) -> &'g EventName {
        self.name
    }

    /// How many members are registered for it, at least one. O(1).
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }
}

impl<H, L> fmt::Debug for Group<'_, H, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("members", &self.members).finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Members<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("len", &self.len())
            .field("slots", &self.slots())
            .finish_non_exhaustive()
    }
}

impl<H> fmt::Debug for Member<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id())
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRef")
            .field("name", self.name)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}
