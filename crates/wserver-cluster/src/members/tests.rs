//! Who is there, who vanished, and who is missed.

use super::*;
use crate::arrival::tests::{part, whole};

const ONE: NodeId = NodeId::new(1);

fn arrive(members: &Members, part: Part, now_ms: u64) -> Arrival {
    let now = Instant::now();
    members.arrive(part, (0, false), now_ms, now, 100)
}

#[test]
fn who_says_only_what_is_let_go_is_not_heard_of() {
    let members = Members::default();
    let start = Instant::now();
    let later = start + Duration::from_secs(1);
    let arrive = |part, now| members.arrive(part, (0, false), 1000, now, 100);
    assert_eq!(arrive(part(7, 0, 0, "a"), start), whole("a", 0, 0));
    assert_eq!(arrive(part(7, 0, 0, "a"), later), Arrival::Late);
    assert_eq!(members.silent_since(later), [ONE]);
    assert_eq!(arrive(part(8, 0, 0, "b"), later), whole("b", 0, 0));
    assert!(members.silent_since(later).is_empty());
}

#[test]
fn made_up_nodes_are_bounded() {
    let members = Members::default();
    for origin in 1..=NODES_MAX as u64 + 5 {
        arrive(&members, Part { origin, ..part(1, 0, 0, "a") }, 0);
    }
    assert_eq!(members.len(), NODES_MAX);
    assert_eq!(arrive(&members, part(2, 0, 0, "b"), 0), whole("b", 0, 0));
}

#[test]
fn who_is_not_heard_of_leaves_and_the_seat_is_free_again() {
    let members = Members::default();
    let start = Instant::now();
    let heartbeat = Heartbeat {
        name: "b".to_owned(),
        release: "1".to_owned(),
        interest_sum: 5,
        ..Heartbeat::default()
    };
    let beat = members.beat(ONE, &heartbeat, |_| 5, start);
    assert_eq!(beat, Beat { seat: 0, is_in_doubt: false, is_first: true, replaces: None });
    assert!(members.agree_since(start));
    let beat = members.beat(ONE, &heartbeat, |_| 6, start);
    assert!(!beat.is_in_doubt, "it may be on its way");
    assert!(members.beat(ONE, &heartbeat, |_| 6, start).is_in_doubt);
    assert!(!members.beat(ONE, &heartbeat, |_| 5, start).is_in_doubt);
    assert!(!members.beat(ONE, &heartbeat, |_| 6, start).is_in_doubt, "it agreed in between");
    assert!(members.expire(start, start, true).is_empty());
    assert!(members.vanished().is_empty());
    let later = start + Duration::from_secs(1);
    let expired = members.expire(later, later, true);
    assert_eq!(expired.len(), 1);
    assert_eq!((&*expired[0].0.name, expired[0].1), ("b", 0));
    let two = NodeId::new(2);
    assert_eq!(members.beat(two, &heartbeat, |_| 5, later).seat, 1, "not yet free");
    members.free(0);
    let three = NodeId::new(3);
    let beat = members.beat(three, &heartbeat, |_| 6, later);
    assert_eq!(beat, Beat { seat: 0, is_in_doubt: true, is_first: true, replaces: None });
    assert_eq!(members.at(&[0, 1]).iter().map(|it| it.id).collect::<Vec<_>>(), [three, two]);
    assert!(!members.agree_since(later));
}

fn vanished(members: &Members) -> Vec<String> {
    members.vanished().iter().map(ToString::to_string).collect()
}

fn unreached(members: &Members) -> Vec<String> {
    members.unreached(NodeId::new(9), None).iter().map(ToString::to_string).collect()
}

fn named(name: &str) -> Heartbeat {
    Heartbeat { name: name.to_owned(), release: "1".to_owned(), ..Heartbeat::default() }
}

#[test]
fn who_vanished_is_missed_until_it_holds_no_connection_by_its_own_rule() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for (gone_after_ms, are_at_one_place, is_gone) in
        [(60_000, true, true), (60_000, false, false), (0, true, false)]
    {
        let members = Members::default();
        members.beat(ONE, &Heartbeat { gone_after_ms, ..named("b") }, |_| 0, start);
        assert_eq!(unreached(&members), [""; 0]);
        members.expire(at(5), at(10), are_at_one_place);
        assert_eq!(
            (vanished(&members), unreached(&members)),
            (vec!["b".to_owned()], vec!["b".to_owned()])
        );
        assert_eq!(members.known_gone(at(69)), []);
        assert_eq!(!members.known_gone(at(70)).is_empty(), is_gone);
        assert_eq!(vanished(&members).is_empty(), is_gone);
    }
}

#[test]
fn one_of_the_same_name_that_comes_later_replaces_who_vanished() {
    let members = Members::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let two = NodeId::new(2);
    for id in [ONE, two] {
        members.beat(id, &named("b"), |_| 0, start);
    }
    // Two of one name is a mistake: the other one was there all the time.
    members.beat(two, &named("b"), |_| 0, at(9));
    members.arrive(Part { origin: 2, ..part(1, 0, 0, "a") }, (0, false), 0, at(9), 100);
    members.expire(at(5), at(10), true);
    assert_eq!(members.beat(two, &named("b"), |_| 0, at(11)).replaces, None);
    assert_eq!(vanished(&members), ["b"]);
    let beat = members.beat(NodeId::new(3), &named("b"), |_| 0, at(12));
    assert_eq!(beat.replaces.map(|it| it.id), Some(ONE));
    assert_eq!(vanished(&members), [""; 0]);
}

#[test]
fn who_vanished_before_this_node_came_is_told_by_those_who_saw_it() {
    let members = Members::default();
    let now = Instant::now();
    let told = |ids: &[u64]| {
        let one = |id: &u64| envelope::Vanished { id: *id, name: format!("node {id}") };
        Heartbeat { vanished: ids.iter().map(one).collect(), ..named("b") }
    };
    members.beat(ONE, &told(&[5, 9]), |_| 0, now);
    assert_eq!(unreached(&members), ["node 5"], "and it is not itself");
    assert_eq!(vanished(&members), [""; 0], "who has only heard of it does not tell it on");
    members.leave(NodeId::new(5));
    assert_eq!(unreached(&members), [""; 0], "one that said goodbye to this node");
    members.beat(ONE, &told(&[6]), |_| 0, now);
    assert_eq!(unreached(&members), ["node 6"]);
    members.beat(ONE, &told(&[]), |_| 0, now);
    assert_eq!(unreached(&members), [""; 0]);
}

#[test]
fn what_was_held_back_is_as_old_as_it_is_when_its_origin_had_vanished() {
    let members = Members::default();
    let start = Instant::now();
    let later = start + Duration::from_secs(9);
    assert_eq!(arrive(&members, part(1, 0, 0, "a"), 0), whole("a", 0, 0));
    members.beat(ONE, &named("b"), |_| 0, start);
    assert_eq!(members.expire(later, later, true).len(), 1);
    assert_eq!(arrive(&members, part(1, 0, 0, "a"), 9000), Arrival::Late);
    assert_eq!(arrive(&members, part(2, 10, 0, "b"), 9000), whole("b", 8990, 0));
    members.leave(ONE);
    assert_eq!(arrive(&members, part(3, 20, 0, "c"), 9000), Arrival::Late, "after its goodbye");
}

#[test]
fn whose_users_are_not_known_is_not_reached() {
    let members = Members::default();
    let now = Instant::now();
    members.beat(ONE, &named("b"), |_| 1, now);
    assert_eq!(unreached(&members), ["b"]);
    members.beat(ONE, &named("b"), |_| 0, now);
    assert_eq!(unreached(&members), [""; 0]);
}

#[test]
fn who_never_introduced_itself_does_not_vanish() {
    let members = Members::default();
    let later = Instant::now() + Duration::from_secs(1);
    arrive(&members, part(1, 0, 0, "a"), 0);
    assert_eq!(members.expire(later, later, true).len(), 1);
    assert_eq!(vanished(&members), [""; 0]);
}

#[test]
fn who_is_known_to_be_gone_is_missed_by_nobody() {
    let start = Instant::now();
    let later = start + Duration::from_secs(9);
    let told = envelope::Vanished { id: ONE.as_u64(), name: "b".to_owned() };
    let of_another = Heartbeat { vanished: vec![told], ..named("c") };
    for says_goodbye in [false, true] {
        let members = Members::default();
        members.beat(ONE, &Heartbeat { gone_after_ms: 1, ..named("b") }, |_| 0, start);
        members.expire(later, later, true);
        assert_eq!(vanished(&members), ["b"]);
        if says_goodbye {
            members.leave(ONE);
        } else {
            members.known_gone(later + Duration::from_secs(1));
        }
        members.beat(NodeId::new(2), &of_another, |_| 0, later);
        assert_eq!((vanished(&members), unreached(&members)), (vec![], vec![]));
    }
}

#[test]
fn who_is_remembered_is_bounded() {
    let members = Members::default();
    let start = Instant::now();
    let later = start + Duration::from_secs(1);
    let ids = 1..=REMEMBERED_MAX as u64 + 5;
    for id in ids.clone() {
        members.beat(NodeId::new(id), &named(&format!("node {id}")), |_| 0, start);
    }
    members.expire(later, later, true);
    assert_eq!(members.vanished().len(), REMEMBERED_MAX);
    let members = Members::default();
    let one = |id| envelope::Vanished { id, name: String::new() };
    let told = Heartbeat { vanished: ids.map(|id| one(1000 + id)).collect(), ..named("b") };
    members.beat(ONE, &told, |_| 0, start);
    assert_eq!(unreached(&members).len(), REMEMBERED_MAX);
}
