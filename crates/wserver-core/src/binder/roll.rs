//! The members of one user: one inline, many in stable slots.
//!
//! It knows events by their index in the shard, and knows no users.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::registration::TokenDigest;
use super::slab::Slab;
use crate::ConnectionId;

/// Distinct events of a group that are counted in a list; more are counted in a table.
const COUNTS_LISTED_MAX: usize = 16;

/// A member that is left alone in a slot below this one stands inline again.
const INLINE_SLOTS: u32 = 64;

/// All members of one user. Nearly every user has one: that case costs no allocation.
pub(super) enum Roll<H> {
    One { slot: u32, member: Membership<H> },
    Many(Box<Crowd<H>>),
}

/// More than one member; or one that holds a slot too high to stand alone.
pub(super) struct Crowd<H> {
    slots: Slab<Membership<H>>,
    counts: EventCounts,
}

/// One connection of one user.
pub(super) struct Membership<H> {
    pub(super) id: ConnectionId,
    pub(super) handle: H,
    pub(super) registrations: Registrations,
}

/// What one member is registered for. Invariant: never empty, no event twice.
pub(super) enum Registrations {
    One { event: u32, mark: u64, token: TokenDigest },
    Many(Box<SortedRegistrations>),
}

/// Invariant: in ascending order of the events.
pub(super) struct SortedRegistrations(Vec<Registered>);

/// One event of one member.
#[derive(Clone, Copy)]
pub(super) struct Registered {
    pub(super) event: u32,
    pub(super) mark: u64,
    pub(super) token: TokenDigest,
}

/// How many members are registered for each event. Invariant: no zero.
enum EventCounts {
    Listed(SmallVec<[(u32, u32); 2]>),
    #[expect(clippy::box_collection, reason = "it is rare, and would widen every group")]
    Hashed(Box<HashMap<u32, u32>>),
}

impl<H> Roll<H> {
    /// A user's first member.
    pub(super) const fn new(member: Membership<H>) -> Self {
        Self::One { slot: 0, member }
    }

    pub(super) const fn len(&self) -> u32 {
        match self {
            Self::One { .. } => 1,
            Self::Many(crowd) => crowd.slots.len(),
        }
    }

    /// One more than the highest slot in use, or somewhat above it.
    pub(super) const fn bound(&self) -> u32 {
        match self {
            Self::One { slot, .. } => *slot + 1,
            Self::Many(crowd) => crowd.slots.bound(),
        }
    }

    /// O(1).
    pub(super) fn get(&self, slot: u32) -> Option<&Membership<H>> {
        match self {
            Self::One { slot: only, member } => (*only == slot).then_some(member),
            Self::Many(crowd) => crowd.slots.get(slot),
        }
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Membership<H>> {
        match self {
            Self::One { slot: only, member } => (*only == slot).then_some(member),
            Self::Many(crowd) => crowd.slots.get_mut(slot),
        }
    }

    /// The members from slot `start` on.
    pub(super) fn iter_from(&self, start: u32) -> impl Iterator<Item = (u32, &Membership<H>)> {
        let (one, many) = match self {
            Self::One { slot, member } => ((*slot >= start).then_some((*slot, member)), None),
            Self::Many(crowd) => (None, Some(crowd.slots.iter_from(start))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// How many members are registered for an event. O(1).
    pub(super) fn count(&self, event: u32) -> u32 {
        match self {
            Self::One { member, .. } => u32::from(member.registrations.get(event).is_some()),
            Self::Many(crowd) => crowd.counts.get(event),
        }
    }

    /// Every event that a member is registered for, once each.
    pub(super) fn events(&self) -> impl Iterator<Item = u32> {
        let (one, many) = match self {
            Self::One { member, .. } => (Some(member.registrations.iter()), None),
            Self::Many(crowd) => (None, Some(crowd.counts.events())),
        };
        one.into_iter()
            .flatten()
            .map(|registered| registered.event)
            .chain(many.into_iter().flatten())
    }

    /// Adds a member beside the others, and returns its slot.
    pub(super) fn join(&mut self, member: Membership<H>) -> u32 {
        self.become_many();
        let Self::Many(crowd) = self else { unreachable!("it became many") };
        for registered in member.registrations.iter() {
            crowd.counts.add(registered.event);
        }
        crowd.slots.insert(member)
    }

    /// Registers a member for an event for which it is not registered.
    pub(super) fn register(&mut self, slot: u32, registered: Registered) {
        let Some(member) = self.get_mut(slot) else {
            unreachable!("a position names a member that is bound")
        };
        member.registrations.insert(registered);
        if let Self::Many(crowd) = self {
            crowd.counts.add(registered.event);
        }
    }

    /// Remembers the newest token of a registration; false if there is no such registration.
    pub(super) fn refresh(&mut self, slot: u32, event: u32, newest: TokenDigest) -> bool {
        let Some(member) = self.get_mut(slot) else { return false };
        match &mut member.registrations {
            Registrations::One { event: only, token, .. } if *only == event => *token = newest,
            Registrations::One { .. } => return false,
            Registrations::Many(many) => match many.position(event) {
                Ok(at) => many.0[at].token = newest,
                Err(_) => return false,
            },
        }
        true
    }

    /// Ends one registration of a member that has another.
    pub(super) fn unregister(&mut self, slot: u32, event: u32) {
        let Some(member) = self.get_mut(slot) else {
            unreachable!("a position names a member that is bound")
        };
        member.registrations.remove(event);
        if let Self::Many(crowd) = self {
            crowd.counts.subtract(event);
        }
    }

    /// Removes a member. If it is the only one, it stays, and the result is `None`.
    pub(super) fn leave(&mut self, slot: u32) -> Option<Membership<H>> {
        let Self::Many(crowd) = self else { return None };
        if crowd.slots.len() == 1 {
            return None;
        }
        let member = crowd.slots.remove(slot)?;
        for registered in member.registrations.iter() {
            crowd.counts.subtract(registered.event);
        }
        self.become_one();
        Some(member)
    }

    fn become_many(&mut self) {
        if let Self::One { .. } = self {
            let crowd = Crowd { slots: Slab::new(), counts: EventCounts::new() };
            let before = std::mem::replace(self, Self::Many(Box::new(crowd)));
            if let (Self::Many(crowd), Self::One { slot, member }) = (self, before) {
                for registered in member.registrations.iter() {
                    crowd.counts.add(registered.event);
                }
                crowd.slots = Slab::with_value_at(slot, member);
            }
        }
    }

    /// Moves the last remaining member inline, with its slot unchanged. Otherwise half of all users
    /// would keep a group for ever after one reconnect. A member in a high slot stays, because
    /// coming back from there costs in proportion to the slot.
    fn become_one(&mut self) {
        let Self::Many(crowd) = self else { return };
        if crowd.slots.len() != 1 {
            return;
        }
        let Some((slot, _)) = crowd.slots.iter().next() else { return };
        if slot < INLINE_SLOTS
            && let Some(member) = crowd.slots.remove(slot)
        {
            *self = Self::One { slot, member };
        }
    }

    /// Checks the counts against the members.
    ///
    /// # Panics
    /// When they disagree.
    pub(super) fn check_invariants(&self) {
        let mut counted = HashMap::<u32, u32>::new();
        let mut registrations = 0;
        for (slot, member) in self.iter_from(0) {
            assert!(slot < self.bound(), "the bound is above every slot");
            let events: Vec<u32> = member.registrations.iter().map(|one| one.event).collect();
            assert!(!events.is_empty(), "a member is registered for something");
            assert!(events.is_sorted_by(|one, next| one < next), "no event twice");
            if let Registrations::Many(many) = &member.registrations {
                assert!(many.0.len() > 1, "one registration stands inline");
            }
            registrations += events.len();
            for event in events {
                *counted.entry(event).or_default() += 1;
            }
        }
        assert!(registrations > 0, "no user without a member");
        for (event, members) in &counted {
            assert_eq!(self.count(*event), *members, "an event counts its members");
        }
        if let Self::Many(crowd) = self {
            crowd.slots.check_invariants();
            let high = crowd.slots.iter().all(|(slot, _)| slot >= INLINE_SLOTS);
            assert!(crowd.slots.len() > 1 || high, "one member stands inline");
            assert_eq!(crowd.counts.len(), counted.len(), "no event is counted that has no member");
        }
    }
}

impl Registrations {
    pub(super) const fn new(registered: Registered) -> Self {
        let Registered { event, mark, token } = registered;
        Self::One { event, mark, token }
    }

    pub(super) const fn len(&self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Many(many) => many.0.len(),
        }
    }

    /// O(log events of the member).
    pub(super) fn get(&self, wanted: u32) -> Option<Registered> {
        match self {
            Self::One { event, mark, token } => {
                let registered = Registered { event: *event, mark: *mark, token: *token };
                (*event == wanted).then_some(registered)
            }
            Self::Many(many) => many.position(wanted).ok().map(|at| many.0[at]),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Registered> {
        let (one, many) = match self {
            Self::One { event, mark, token } => {
                (Some(Registered { event: *event, mark: *mark, token: *token }), &[][..])
            }
            Self::Many(many) => (None, &many.0[..]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    fn insert(&mut self, registered: Registered) {
        if let Self::One { event, mark, token } = self {
            let only = Registered { event: *event, mark: *mark, token: *token };
            let mut two = Vec::with_capacity(2);
            two.push(only);
            *self = Self::Many(Box::new(SortedRegistrations(two)));
        }
        let Self::Many(many) = self else { unreachable!("it became many above") };
        if let Err(at) = many.position(registered.event) {
            many.0.insert(at, registered);
        }
    }

    /// Leaves the last one in place.
    fn remove(&mut self, event: u32) {
        let Self::Many(many) = self else { return };
        if let Ok(at) = many.position(event) {
            many.0.remove(at);
        }
        if let [only] = many.0[..] {
            *self = Self::new(only);
        }
    }
}

impl SortedRegistrations {
    fn position(&self, event: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&event, |registered| registered.event)
    }
}

impl EventCounts {
    fn new() -> Self {
        Self::Listed(SmallVec::new())
    }

    fn len(&self) -> usize {
        match self {
            Self::Listed(list) => list.len(),
            Self::Hashed(table) => table.len(),
        }
    }

    fn events(&self) -> impl Iterator<Item = u32> {
        let (list, table) = match self {
            Self::Listed(list) => (Some(list.iter().map(|(event, _)| *event)), None),
            Self::Hashed(table) => (None, Some(table.keys().copied())),
        };
        list.into_iter().flatten().chain(table.into_iter().flatten())
    }

    fn get(&self, event: u32) -> u32 {
        let found = match self {
            Self::Listed(list) => list.iter().find(|(listed, _)| *listed == event).map(|(_, n)| n),
            Self::Hashed(table) => table.get(&event),
        };
        found.copied().unwrap_or(0)
    }

    fn add(&mut self, event: u32) {
        if let Self::Listed(list) = self {
            if let Some((_, members)) = list.iter_mut().find(|(listed, _)| *listed == event) {
                *members += 1;
                return;
            }
            if list.len() < COUNTS_LISTED_MAX {
                list.push((event, 1));
                return;
            }
            *self = Self::Hashed(Box::new(list.drain(..).collect()));
        }
        if let Self::Hashed(table) = self {
            *table.entry(event).or_default() += 1;
        }
    }

    fn subtract(&mut self, event: u32) {
        match self {
            Self::Listed(list) => {
                if let Some(at) = list.iter().position(|(listed, _)| *listed == event) {
                    list[at].1 -= 1;
                    if list[at].1 == 0 {
                        list.swap_remove(at);
                    }
                }
            }
            Self::Hashed(table) => {
                if let Some(members) = table.get_mut(&event) {
                    *members -= 1;
                    if *members == 0 {
                        table.remove(&event);
                    }
                }
                if table.len() <= COUNTS_LISTED_MAX / 2 {
                    *self = Self::Listed(table.drain().collect());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_for_one_event_is_six_words() {
        assert_eq!(size_of::<Membership<std::sync::Arc<()>>>(), 40);
        assert_eq!(size_of::<Roll<std::sync::Arc<()>>>(), 48);
    }
}
