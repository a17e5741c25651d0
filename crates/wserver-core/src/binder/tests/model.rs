//! Answers every question to the binder from one flat map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use crate::binder::*;

pub(super) const NAME_BYTES_MAX: usize = 64;

/// A handle that identifies its connection.
pub(super) type Handle = Arc<u64>;

/// Marks by counting, so that each registration of a user has its own, and remembers the members.
#[derive(Debug, Default)]
pub(super) struct Counter(pub(super) u64, BTreeSet<u64>);

impl Lane<Handle> for Counter {
    fn mark(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn joined(&mut self, handle: &Handle) {
        assert!(self.1.insert(**handle), "each joins once");
    }

    fn left(&mut self, handle: &Handle) {
        assert!(self.1.remove(handle), "who leaves has joined");
    }
}

pub(super) fn user(number: u64) -> UserId {
    // Every second name is too long to stand inline.
    let long = if number % 2 == 1 { " with a name of more than forty bytes" } else { "" };
    UserId::parse(&format!("user {number}{long}"), NAME_BYTES_MAX).unwrap()
}

pub(super) fn event(number: u64) -> EventName {
    EventName::parse(&format!("event {number}"), NAME_BYTES_MAX).unwrap()
}

const MAX: usize = 6;

#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Bind {
        id: u64,
        user: u64,
        event: u64,
        token: u64,
    },
    Unbind {
        id: u64,
        user: u64,
        event: u64,
    },
    UnbindConnection {
        id: u64,
    },
    /// From the users whose lane has marked an even number of times, or an odd one.
    UnbindAtRest {
        id: u64,
        is_odd: bool,
    },
    /// Connections in a row, for groups that span chunks.
    UnbindFrom {
        id: u64,
    },
}

/// How many of each there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) connections: u64,
    pub(super) users: u64,
    pub(super) events: u64,
    pub(super) tokens: u64,
}

pub(super) fn operations(size: Size, count: usize) -> impl Strategy<Value = Vec<Operation>> {
    let Size { connections, users, events, tokens } = size;
    let operation = prop_oneof![
        60 => (0..connections, 0..users, 0..events, 0..tokens)
            .prop_map(|(id, user, event, token)| Operation::Bind { id, user, event, token }),
        20 => (0..connections, 0..users, 0..events)
            .prop_map(|(id, user, event)| Operation::Unbind { id, user, event }),
        10 => (0..connections).prop_map(|id| Operation::UnbindConnection { id }),
        5 => (0..connections, any::<bool>())
            .prop_map(|(id, is_odd)| Operation::UnbindAtRest { id, is_odd }),
        1 => (0..connections).prop_map(|id| Operation::UnbindFrom { id }),
    ];
    prop::collection::vec(operation, 1..count)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    token: u64,
    mark: u64,
}

/// The model beside the binder.
pub(super) struct Pair {
    binder: Binder<Handle, Counter>,
    size: Size,
    /// The maximum number of connections of one user; zero means no limit.
    user_max: usize,
    /// (connection, user, event).
    entries: BTreeMap<(u64, u64, u64), Entry>,
    marks: BTreeMap<u64, u64>,
    /// (connection, user) to the slot it was first seen in.
    slots: BTreeMap<(u64, u64), usize>,
}

impl Pair {
    pub(super) fn new(size: Size, shards: usize, user_max: usize) -> Self {
        Self {
            binder: Binder::with_shards(MAX, shards).with_connections_per_user_max(user_max),
            size,
            user_max,
            entries: BTreeMap::new(),
            marks: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    fn digest(&self, token: u64) -> TokenDigest {
        self.binder.digest(&format!("token {token}"))
    }

    /// The scope in which a registration is the only one.
    fn scope(&self, user: u64, event: u64) -> Scope {
        if self.entries.keys().any(|(_, u, e)| (*u, *e) == (user, event)) {
            Scope::Connection
        } else if self.entries.keys().any(|(_, u, _)| *u == user) {
            Scope::Event
        } else {
            Scope::User
        }
    }

    pub(super) fn apply(&mut self, operation: Operation) -> Result<(), TestCaseError> {
        match operation {
            Operation::Bind { id, user, event, token } => self.bind(id, user, event, token),
            Operation::Unbind { id, user, event } => self.unbind(id, user, event),
            Operation::UnbindConnection { id } => self.unbind_connection(id),
            Operation::UnbindAtRest { id, is_odd } => self.unbind_at_rest(id, is_odd),
            Operation::UnbindFrom { id } => {
                (id..self.size.connections).try_for_each(|id| self.unbind_connection(id))
            }
        }
    }

    fn bind(&mut self, id: u64, u: u64, e: u64, token: u64) -> Result<(), TestCaseError> {
        let known = self.entries.contains_key(&(id, u, e));
        let full = self.entries.keys().filter(|(other, _, _)| *other == id).count() >= MAX;
        let members: BTreeSet<u64> =
            self.entries.keys().filter(|(_, other, _)| *other == u).map(|key| key.0).collect();
        let is_room = self.user_max == 0 || members.contains(&id) || members.len() < self.user_max;
        let expected = match (known, full, is_room) {
            (true, ..) => Ok(Bound::Already),
            (false, true, _) => Err(BindError::TooMany { max: MAX }),
            (false, false, false) => Err(BindError::UserFull { max: self.user_max }),
            (false, false, true) => Ok(Bound::New { first_for: self.scope(u, e) }),
        };
        let digest = self.digest(token);
        let handle = Arc::new(id);
        let bound = self.binder.bind(ConnectionId::new(id), &handle, &user(u), &event(e), digest);
        prop_assert_eq!(bound, expected);
        if known {
            self.entries.entry((id, u, e)).and_modify(|entry| entry.token = token);
        } else if expected.is_ok() {
            // A user that comes back has a new lane.
            let alone = !self.entries.keys().any(|(_, other, _)| *other == u);
            let mark = self.marks.entry(u).or_default();
            *mark = if alone { 1 } else { *mark + 1 };
            self.entries.insert((id, u, e), Entry { token, mark: *mark });
        }
        Ok(())
    }

    fn unbind(&mut self, id: u64, u: u64, e: u64) -> Result<(), TestCaseError> {
        let expected = self.entries.remove(&(id, u, e)).map(|entry| Unbound {
            user: user(u),
            event: event(e),
            token: self.digest(entry.token),
            last_for: self.scope(u, e),
        });
        let unbound = self.binder.unbind(ConnectionId::new(id), &user(u), &event(e));
        prop_assert_eq!(unbound, expected);
        self.forget_slot(id, u);
        Ok(())
    }

    fn unbind_connection(&mut self, id: u64) -> Result<(), TestCaseError> {
        let facts = self.binder.unbind_connection(ConnectionId::new(id));
        self.forget(id, facts)?;
        prop_assert!(!self.entries.keys().any(|(other, _, _)| *other == id));
        Ok(())
    }

    fn unbind_at_rest(&mut self, id: u64, is_odd: bool) -> Result<(), TestCaseError> {
        let is_at_rest = |lane: &Counter| (lane.0 % 2 == 1) == is_odd;
        let (facts, is_gone) = self.binder.unbind_at_rest(ConnectionId::new(id), is_at_rest);
        let of_it = || self.entries.keys().filter(|(other, _, _)| *other == id);
        let at_rest = of_it().filter(|(_, u, _)| (self.marks[u] % 2 == 1) == is_odd).count();
        prop_assert_eq!(facts.len(), at_rest);
        prop_assert_eq!(is_gone, of_it().count() == at_rest);
        self.forget(id, facts)
    }

    /// Checks the registrations that the binder reports as ended; it may report them in any order.
    fn forget(&mut self, id: u64, facts: Vec<Unbound>) -> Result<(), TestCaseError> {
        for fact in facts {
            let key = self
                .entries
                .keys()
                .find(|(c, u, e)| *c == id && user(*u) == fact.user && event(*e) == fact.event)
                .copied();
            prop_assert!(key.is_some(), "{:?} was not bound", fact);
            let (_, u, e) = key.unwrap_or_default();
            let entry = self.entries.remove(&(id, u, e));
            prop_assert_eq!(entry.map(|entry| self.digest(entry.token)), Some(fact.token));
            prop_assert_eq!(fact.last_for, self.scope(u, e));
            self.forget_slot(id, u);
        }
        Ok(())
    }

    /// A member that left may come back in another slot.
    fn forget_slot(&mut self, id: u64, user: u64) {
        if self.entries.range((id, user, 0)..=(id, user, u64::MAX)).next().is_none() {
            self.slots.remove(&(id, user));
        }
    }

    pub(super) fn compare(&mut self) -> Result<(), TestCaseError> {
        self.binder.check_invariants();
        let ids: BTreeSet<u64> = self.entries.keys().map(|(id, _, _)| *id).collect();
        let users: BTreeSet<u64> = self.entries.keys().map(|(_, user, _)| *user).collect();
        let counts = Counts {
            users: users.len(),
            connections: ids.len(),
            registrations: self.entries.len(),
        };
        prop_assert_eq!(self.binder.counts(), counts);
        for id in 0..self.size.connections {
            self.compare_connection(id, ids.contains(&id))?;
        }
        for user in 0..self.size.users {
            self.compare_user(user)?;
        }
        for token in 0..self.size.tokens {
            let entries = self.entries.iter().filter(|(_, entry)| entry.token == token);
            let expected: BTreeSet<u64> = entries.map(|((id, _, _), _)| *id).collect();
            let found = self.binder.token_connections(self.digest(token));
            prop_assert_eq!(numbers(&found)?, expected);
        }
        for e in 0..self.size.events {
            let of_event = self.entries.keys().filter(|(_, _, event)| *event == e);
            let expected: BTreeSet<UserId> = of_event.map(|(_, u, _)| user(*u)).collect();
            for max in [1, usize::MAX] {
                prop_assert_eq!(self.event_users(e, max)?, expected.clone());
            }
        }
        Ok(())
    }

    /// Finds users in slices of at most `max`, each once.
    fn event_users(&self, e: u64, max: usize) -> Result<BTreeSet<UserId>, TestCaseError> {
        let mut all = BTreeSet::new();
        let mut cursor = Some(UserCursor::default());
        while let Some(from) = cursor {
            let mut found = Vec::new();
            cursor = self.binder.event_users(&event(e), from, max, &mut found);
            prop_assert!(found.len() <= max);
            for user in found {
                prop_assert!(all.insert(user), "each once");
            }
        }
        Ok(all)
    }

    fn compare_connection(&self, id: u64, bound: bool) -> Result<(), TestCaseError> {
        let handle = self.binder.connection(ConnectionId::new(id));
        prop_assert_eq!(handle, bound.then(|| Arc::new(id)));
        let mut registrations = self.binder.registrations(ConnectionId::new(id));
        registrations
            .sort_by(|one, other| (&one.user, &one.event).cmp(&(&other.user, &other.event)));
        let mine = self.entries.iter().filter(|((other, _, _), _)| *other == id);
        let mut expected: Vec<Registration> = mine
            .map(|((_, u, e), entry)| Registration {
                user: user(*u),
                event: event(*e),
                token: self.digest(entry.token),
            })
            .collect();
        expected.sort_by(|one, other| (&one.user, &one.event).cmp(&(&other.user, &other.event)));
        prop_assert_eq!(registrations, expected);
        Ok(())
    }

    fn compare_user(&mut self, u: u64) -> Result<(), TestCaseError> {
        let mine: Vec<((u64, u64, u64), Entry)> = self
            .entries
            .iter()
            .filter(|((_, other, _), _)| *other == u)
            .map(|(key, entry)| (*key, *entry))
            .collect();
        let members: BTreeSet<u64> = mine.iter().map(|((id, _, _), _)| *id).collect();
        let all = self.binder.user_connections(&user(u), None);
        prop_assert_eq!(numbers(&all)?, members.clone());
        let told = self.binder.with_user(&user(u), |group| group.lane.1.clone());
        prop_assert_eq!(told.unwrap_or_default(), members.clone());
        let some = self.binder.some_user_connections(&user(u), None, 2);
        prop_assert_eq!(some.len(), members.len().min(2));
        prop_assert!(numbers(&some)?.is_subset(&members));
        let events = self.binder.with_user(&user(u), |group| {
            let events: Vec<EventName> = group.members.events().cloned().collect();
            (events.len(), events.into_iter().collect::<BTreeSet<_>>())
        });
        let wanted: BTreeSet<EventName> = mine.iter().map(|((_, _, e), _)| event(*e)).collect();
        prop_assert_eq!(events, (!mine.is_empty()).then_some((wanted.len(), wanted)));
        for e in 0..self.size.events {
            let wanted: BTreeMap<u64, u64> = mine
                .iter()
                .filter(|((_, _, other), _)| *other == e)
                .map(|((id, _, _), entry)| (*id, entry.mark))
                .collect();
            let found = self.binder.user_connections(&user(u), Some(&event(e)));
            prop_assert_eq!(numbers(&found)?, wanted.keys().copied().collect());
            let marks = self.binder.with_user(&user(u), |group| {
                let members = group.members;
                let found_event = members.event(&event(e));
                let marks = members.iter().filter_map(|member| {
                    Some((member.id().as_u64(), member.registered(found_event?)?))
                });
                (found_event.map_or(0, |event| event.count()), marks.collect::<BTreeMap<_, _>>())
            });
            let expected = (!mine.is_empty()).then_some((wanted.len(), wanted));
            prop_assert_eq!(marks, expected);
        }
        self.compare_slots(u, &members)
    }

    /// A member keeps its slot, and every way to reach it agrees.
    fn compare_slots(&mut self, u: u64, expected: &BTreeSet<u64>) -> Result<(), TestCaseError> {
        let seen = self.binder.with_user(&user(u), |group| {
            let members = group.members;
            let by_slot = (0..members.slots()).filter_map(|slot| members.member(slot));
            let seen: Vec<(u64, usize)> =
                by_slot.map(|member| (member.id().as_u64(), member.slot())).collect();
            let ranged = members.range(0..members.slots());
            let agree = ranged.map(|one| (one.id().as_u64(), one.slot())).eq(seen.clone());
            (seen, agree && members.len() == members.iter().count())
        });
        let Some((seen, agree)) = seen else { return Ok(()) };
        prop_assert!(agree, "slots, range and iter agree");
        prop_assert_eq!(seen.len(), expected.len());
        let outsider = (0..self.size.connections).find(|id| !expected.contains(id));
        let asked = [outsider, expected.first().copied(), expected.last().copied()];
        for id in asked.into_iter().flatten() {
            let connection = ConnectionId::new(id);
            let slot = self.binder.with_user_and_slot(&user(u), connection, |_, slot| slot);
            let seen = seen.iter().find(|(other, _)| *other == id).map(|(_, slot)| *slot);
            prop_assert_eq!(slot, Some(seen));
        }
        for (id, slot) in seen {
            prop_assert_eq!(*self.slots.entry((id, u)).or_insert(slot), slot, "slots stay");
        }
        Ok(())
    }

    /// Ends everything and checks that nothing is left.
    pub(super) fn finish(mut self) -> Result<(), TestCaseError> {
        for id in 0..self.size.connections {
            self.unbind_connection(id)?;
        }
        self.compare()?;
        prop_assert!(self.slots.is_empty());
        prop_assert_eq!(self.binder.counts(), Counts::default());
        Ok(())
    }
}

fn numbers(found: &[(ConnectionId, Handle)]) -> Result<BTreeSet<u64>, TestCaseError> {
    let numbers: BTreeSet<u64> = found.iter().map(|(id, _)| id.as_u64()).collect();
    prop_assert_eq!(numbers.len(), found.len(), "each once");
    prop_assert!(found.iter().all(|(id, handle)| id.as_u64() == **handle), "own handles");
    Ok(numbers)
}
