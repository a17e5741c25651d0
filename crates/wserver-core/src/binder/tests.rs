//! The binder against a naive model, against many threads, and case by case.

mod model;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use proptest::prelude::*;

use super::*;
use model::{Counter, Handle, NAME_BYTES_MAX, event, user};

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

/// Each line is an operation and its result.
#[test]
fn facts() {
    check(&[
        ("bind 1 jack news aaa", "new, first of the user"),
        ("bind 1 jack news aaa", "already"),
        ("bind 1 jack mail aaa", "new, first of the event"),
        ("bind 2 jack news bbb", "new, one more"),
        ("bind 2 jill news ccc", "new, first of the user"),
        ("bind 2 jill mail ccc", "new, first of the event"),
        (
            "bind 2 jill chat ccc",
            "the connection already has 3 registrations \
                                  (bindings_per_connection_max)",
        ),
        ("bind 2 jill mail ddd", "already"),
        ("counts", "2 users, 2 connections, 5 registrations"),
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
        ("counts", "0 users, 0 connections, 0 registrations"),
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
                let Counts { users, connections, registrations } = binder.counts();
                format!("{users} users, {connections} connections, {registrations} registrations")
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

/// The lane can change while the members are walked, and lives as long as the user.
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

/// A key is a name and its hash: it finds the current user of that name, in its own binder.
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

/// A handle whose drop calls the binder, as an owner's might.
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

/// A closure that panics harms only its caller.
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

/// Threads bind, unbind and ask in any order; members that stay are always found.
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
                    // Threads share these connections, so only their order is promised.
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
