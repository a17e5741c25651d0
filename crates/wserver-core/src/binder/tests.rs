//! The binder against a naive model, against many threads, and case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use proptest::prelude::*;

use super::*;

const NAME_BYTES_MAX: usize = 64;

/// A handle that tells whose it is.
type Handle = Arc<u64>;

/// Marks by counting, so that each registration of a user has its own.
#[derive(Debug, Default)]
struct Counter(u64);

impl Lane for Counter {
    fn mark(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn user(number: u64) -> UserId {
    // Every second name is too long to stand inline.
    let long = if number % 2 == 1 { " with a name of more than forty bytes" } else { "" };
    UserId::parse(&format!("user {number}{long}"), NAME_BYTES_MAX).unwrap()
}

fn event(number: u64) -> EventName {
    EventName::parse(&format!("event {number}"), NAME_BYTES_MAX).unwrap()
}

mod model {
    //! Everything asked of the binder, answered from one flat map.

    use super::*;

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
        /// Connections of one user, at most; zero is no bound.
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

        /// What a binding is the only one of.
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
            let is_room =
                self.user_max == 0 || members.contains(&id) || members.len() < self.user_max;
            let expected = match (known, full, is_room) {
                (true, ..) => Ok(Bound::Already),
                (false, true, _) => Err(BindError::TooMany { max: MAX }),
                (false, false, false) => Err(BindError::UserFull { max: self.user_max }),
                (false, false, true) => Ok(Bound::New { first_for: self.scope(u, e) }),
            };
            let digest = self.digest(token);
            let handle = Arc::new(id);
            let bound =
                self.binder.bind(ConnectionId::new(id), &handle, &user(u), &event(e), digest);
            prop_assert_eq!(bound, expected);
            if known {
                self.entries.entry((id, u, e)).and_modify(|entry| entry.token = token);
            } else if expected.is_ok() {
                // A user who comes anew has a new lane.
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

        /// Checks what the binder says it has unbound, in the order of its answer, which is its own business.
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
            let counts =
                Counts { users: users.len(), connections: ids.len(), bindings: self.entries.len() };
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

        /// Found in slices of at most `max`, each once.
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
            expected
                .sort_by(|one, other| (&one.user, &one.event).cmp(&(&other.user, &other.event)));
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
                    let event = members.event(&event(e));
                    let marks = members.iter().filter_map(|member| {
                        Some((member.id().as_u64(), member.registered(event?)?))
                    });
                    (event.map_or(0, |event| event.count()), marks.collect::<BTreeMap<_, _>>())
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

        /// Ends everything and looks whether anything is left.
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
}

const SMALL: model::Size = model::Size { connections: 6, users: 4, events: 5, tokens: 3 };
/// Groups beyond a chunk, and beyond one slice of `user_connections`; events beyond a list.
const LARGE: model::Size = model::Size { connections: 700, users: 2, events: 24, tokens: 3 };

proptest! {
    /// Each step is compared as a whole.
    #[test]
    fn it_answers_as_the_model_does(
        shards in prop::sample::select(vec![1_usize, 8]),
        user_max in prop::sample::select(vec![0_usize, 1, 3]),
        operations in model::operations(SMALL, 80),
    ) {
        let mut pair = model::Pair::new(SMALL, shards, user_max);
        for operation in operations {
            pair.apply(operation)?;
            pair.compare()?;
        }
        pair.finish()?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn large_groups_answer_as_the_model_does(operations in model::operations(LARGE, 800)) {
        let mut pair = model::Pair::new(LARGE, 2, 0);
        for id in 0..LARGE.connections {
            pair.apply(model::Operation::Bind { id, user: 0, event: id % LARGE.events, token: 0 })?;
        }
        for (number, operation) in operations.into_iter().enumerate() {
            if number % 200 == 0 {
                pair.compare()?;
            }
            pair.apply(operation)?;
        }
        pair.compare()?;
        pair.finish()?;
    }
}

/// Each line is an operation and what it says.
#[test]
fn facts() {
    check(&[
        ("bind 1 jack news aaa", "new, first of the user"),
        ("bind 1 jack news aaa", "already"),
        ("bind 1 jack mail aaa", "new, first of the event"),
        ("bind 2 jack news bbb", "new, one more"),
        ("bind 2 jill news ccc", "new, first of the user"),
        ("bind 2 jill mail ccc", "new, first of the event"),
        ("bind 2 jill chat ccc", "the connection has 3 bindings already"),
        ("bind 2 jill mail ddd", "already"),
        ("counts", "2 users, 2 connections, 5 bindings"),
        ("user jack news", "1 2"),
        ("user jack chat", ""),
        ("user nobody news", ""),
        ("token ccc", "2"),
        ("token ddd", "2"),
        ("token aaa", "1"),
        ("unbind 1 jack chat", "nothing"),
        ("unbind 2 jack mail", "nothing"),
        ("unbind 3 jack news", "nothing"),
        ("unbind 1 jack news", "jack news, one less"),
        ("unbind 2 jack news", "jack news, last of the event"),
        ("bind 1 jack news eee", "new, first of the event"),
        ("token aaa", "1"),
        ("token eee", "1"),
        ("leave 1", "jack mail, jack news; the last is the last of the user"),
        ("leave 1", ""),
        ("leave 2", "jill mail, jill news; the last is the last of the user"),
        ("counts", "0 users, 0 connections, 0 bindings"),
    ]);
}

fn check(script: &[(&str, &str)]) {
    let binder: Binder<Handle> = Binder::new(3);
    let name = |name: &str| UserId::parse(name, NAME_BYTES_MAX).unwrap();
    let event = |event: &str| EventName::parse(event, NAME_BYTES_MAX).unwrap();
    let id = |id: &str| ConnectionId::new(id.parse().unwrap());
    let list = |found: Vec<(ConnectionId, Handle)>| {
        let ids: BTreeSet<String> = found.iter().map(|(id, _)| id.to_string()).collect();
        ids.into_iter().collect::<Vec<_>>().join(" ")
    };
    for (number, (line, expected)) in script.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let said = match words[..] {
            ["bind", c, u, e, token] => {
                let handle = Arc::new(id(c).as_u64());
                match binder.bind(id(c), &handle, &name(u), &event(e), binder.digest(token)) {
                    Ok(Bound::New { first_for: Scope::User }) => "new, first of the user".into(),
                    Ok(Bound::New { first_for: Scope::Event }) => "new, first of the event".into(),
                    Ok(Bound::New { first_for: Scope::Connection }) => "new, one more".into(),
                    Ok(Bound::Already) => "already".into(),
                    Err(error) => error.to_string(),
                }
            }
            ["unbind", c, u, e] => {
                let unbound = binder.unbind(id(c), &name(u), &event(e));
                unbound.map_or_else(|| "nothing".into(), |unbound| tell(&unbound))
            }
            ["leave", c] => {
                let mut facts = binder.unbind_connection(id(c));
                let scopes: Vec<Scope> = facts.iter().map(|fact| fact.last_for).collect();
                // Which event comes first is not promised.
                facts.sort_by(|one, other| one.event.cmp(&other.event));
                let all: Vec<String> =
                    facts.iter().map(|fact| format!("{} {}", fact.user, fact.event)).collect();
                match scopes[..] {
                    [] => String::new(),
                    [Scope::Event, Scope::User] => {
                        format!("{}; the last is the last of the user", all.join(", "))
                    }
                    _ => format!("{}; {scopes:?}", all.join(", ")),
                }
            }
            ["user", u, e] => list(binder.user_connections(&name(u), Some(&event(e)))),
            ["token", token] => list(binder.token_connections(binder.digest(token))),
            ["counts"] => {
                let Counts { users, connections, bindings } = binder.counts();
                format!("{users} users, {connections} connections, {bindings} bindings")
            }
            _ => format!("what is {line:?}?"),
        };
        assert_eq!(said, *expected, "line {number}: {line}");
        binder.check_invariants();
    }
}

fn tell(unbound: &Unbound) -> String {
    let last = match unbound.last_for {
        Scope::User => "last of the user",
        Scope::Event => "last of the event",
        Scope::Connection => "one less",
    };
    format!("{} {}, {last}", unbound.user, unbound.event)
}

#[test]
fn a_digest_says_nothing_and_is_of_one_binder() {
    let (one, other): (Binder<Handle>, Binder<Handle>) = (Binder::new(1), Binder::new(1));
    assert_eq!(one.digest("aaa"), one.digest("aaa"));
    assert_ne!(one.digest("aaa"), one.digest("bbb"));
    assert_ne!(one.digest("aaa"), other.digest("aaa"));
    assert_eq!(format!("{:?}", one.digest("aaa")), "TokenDigest(..)");
}

/// The lane can be changed while the members are walked, and it lives as long as the user.
#[test]
fn a_lane_is_borrowed_beside_the_members() {
    let binder: Binder<Handle, Counter> = Binder::new(8);
    let token = binder.digest("aaa");
    let bind = |id: u64| {
        let bound = binder.bind(ConnectionId::new(id), &Arc::new(id), &user(0), &event(0), token);
        assert!(matches!(bound, Ok(Bound::New { .. })));
    };
    bind(1);
    bind(2);
    let seen = binder.with_user(&user(0), |Group { lane, members }| {
        let event = members.event(&event(0)).unwrap();
        assert_eq!((event.count(), event.name().as_str()), (2, "event 0"));
        let before = lane.0;
        for member in members.iter() {
            assert!(member.registered(event).unwrap() <= before);
            lane.0 += 10;
        }
        lane.0
    });
    assert_eq!(seen, Some(22));
    bind(3);
    let mark = binder.with_user(&user(0), |group| {
        let event = group.members.event(&event(0))?;
        group.members.member(2)?.registered(event)
    });
    assert_eq!(mark, Some(Some(23)));
    for id in 1..=3 {
        binder.unbind_connection(ConnectionId::new(id));
    }
    assert_eq!(binder.with_user(&user(0), |group| group.lane.0), None);
    bind(4);
    assert_eq!(binder.with_user(&user(0), |group| group.lane.0), Some(1));
}

/// A key is a name and its hash: it finds whoever has the name at the time, in its own binder.
#[test]
fn a_key_finds_who_is_bound_now() {
    let binder: Binder<Handle> = Binder::with_shards(1, 256);
    let small: Binder<Handle> = Binder::with_shards(1, 1);
    let user = user(0);
    let key = binder.key(&user);
    assert_eq!(key.user(), &user);
    let members = |binder: &Binder<Handle>| binder.with_key(key, |group| group.members.len());
    assert_eq!(members(&binder), None);
    for (binder, id) in [(&binder, 1), (&binder, 2), (&small, 3)] {
        let token = binder.digest("aaa");
        let bound = binder.bind(ConnectionId::new(id), &Arc::new(id), &user, &event(0), token);
        assert!(bound.is_ok());
    }
    assert_eq!(members(&binder), Some(2));
    assert_eq!(members(&small), None, "another binder has other keys");
    binder.unbind_connection(ConnectionId::new(1));
    assert_eq!(members(&binder), Some(1));
}

/// A peak leaves nothing behind: the slots of a group fall again with its members.
#[test]
fn slots_fall_after_a_peak() {
    let binder: Binder<Handle> = Binder::new(1);
    let token = binder.digest("aaa");
    for id in 0..10_000 {
        let bound = binder.bind(ConnectionId::new(id), &Arc::new(id), &user(0), &event(0), token);
        assert!(bound.is_ok());
    }
    let slots = || binder.with_user(&user(0), |group| group.members.slots());
    assert_eq!(slots(), Some(10_000));
    for id in 3..10_000 {
        assert_eq!(binder.unbind_connection(ConnectionId::new(id)).len(), 1);
    }
    assert!(slots().unwrap() <= 256, "{:?}", slots());
    binder.check_invariants();
}

/// A handle whose end calls the binder again, as an owner's might.
#[derive(Clone)]
struct Loud(#[expect(dead_code, reason = "held to be dropped")] Arc<Echo>);

struct Echo(Weak<Binder<Loud>>);

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(binder) = self.0.upgrade() {
            binder.unbind_connection(ConnectionId::new(1));
            assert!(binder.user_connections(&user(0), None).is_empty());
        }
    }
}

#[test]
fn handles_are_dropped_after_the_locks() {
    let binder: Arc<Binder<Loud>> = Arc::new(Binder::with_shards(4, 1));
    let id = ConnectionId::new(1);
    let bind = || {
        // The binder's clone is the last one.
        let handle = Loud(Arc::new(Echo(Arc::downgrade(&binder))));
        assert!(binder.bind(id, &handle, &user(0), &event(0), binder.digest("aaa")).is_ok());
    };
    bind();
    assert!(binder.connection(id).is_some());
    assert!(binder.unbind(id, &user(0), &event(0)).is_some());
    bind();
    assert_eq!(binder.unbind_connection(id).len(), 1);
    assert_eq!(binder.counts(), Counts::default());
}

/// A closure that panics costs its caller, nobody else.
#[test]
fn a_panic_under_the_lock_breaks_nothing() {
    let binder: Binder<Handle> = Binder::with_shards(4, 1);
    let token = binder.digest("aaa");
    let id = ConnectionId::new(1);
    assert!(binder.bind(id, &Arc::new(1), &user(0), &event(0), token).is_ok());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        binder.with_user(&user(0), |_| panic!("for the test"))
    }));
    assert!(panicked.is_err());
    assert_eq!(binder.user_connections(&user(0), None).len(), 1);
    assert_eq!(binder.unbind_connection(id).len(), 1);
    binder.check_invariants();
}

/// Threads bind, unbind and ask at will; members who stay are found by everyone each time.
#[test]
fn many_threads() {
    const ANCHORS: u64 = 700;
    const OTHERS: u64 = 60;
    const STEPS: usize = 4000;

    let seed = RandomState::new().hash_one("seed");
    println!("seed {seed}");
    let binder: Binder<Handle, Counter> = Binder::with_shards(5, 4);
    let token = |number: u64| binder.digest(&format!("token {number}"));
    for id in 0..ANCHORS {
        let (handle, id) = (Arc::new(id), ConnectionId::new(id));
        assert!(binder.bind(id, &handle, &user(0), &event(0), token(9)).is_ok());
    }
    let anchors = |found: Vec<(ConnectionId, Handle)>| {
        let staying: Vec<u64> =
            found.iter().map(|(id, _)| id.as_u64()).filter(|id| *id < ANCHORS).collect();
        let once: BTreeSet<u64> = staying.iter().copied().collect();
        assert_eq!((staying.len(), once.len()), (700, 700), "every member who stays, once");
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (binder, anchors, token) = (&binder, &anchors, &token);
            scope.spawn(move || {
                let mut random = Random(seed ^ thread);
                for _ in 0..STEPS {
                    // Threads share these connections: nothing is promised of one but order.
                    let number = ANCHORS + random.below(OTHERS);
                    let id = ConnectionId::new(number);
                    let (owner, event) = (user(random.below(3)), event(random.below(4)));
                    match random.below(100) {
                        0..50 => {
                            let token = token(random.below(2));
                            let _ = binder.bind(id, &Arc::new(number), &owner, &event, token);
                        }
                        50..70 => drop(binder.unbind(id, &owner, &event)),
                        70..90 => drop(binder.unbind_connection(id)),
                        90..93 => anchors(binder.user_connections(&user(0), None)),
                        93..94 => anchors(binder.token_connections(token(9))),
                        94..97 => {
                            let handle = binder.connection(id);
                            assert!(handle.is_none_or(|handle| *handle == number));
                        }
                        _ => {
                            let registrations = binder.registrations(id);
                            let once: BTreeSet<_> =
                                registrations.iter().map(|one| (&one.user, &one.event)).collect();
                            assert_eq!(once.len(), registrations.len());
                        }
                    }
                }
            });
        }
    });
    binder.check_invariants();
    for id in 0..ANCHORS + OTHERS {
        binder.unbind_connection(ConnectionId::new(id));
    }
    assert_eq!(binder.counts(), Counts::default());
    binder.check_invariants();
}

/// Small, and the same on every run with the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}
