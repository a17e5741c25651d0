//! Nodes that vanish without a goodbye: dead or cut off, nobody can know, so nobody is told that a
//! push has reached everybody.

use std::time::Duration;

use wserver_cluster::{CutOff, Loopback, NodeId};

use crate::peers::{LEASE, Member, PATIENCE, cluster, eventually, names, settings};

/// Nothing of this node reaches anybody, and nothing reaches it.
fn cut(broker: &Loopback, node: &Member) {
    let cut = node.cluster.id();
    broker.block(move |from, to| from == cut || to == cut);
}

fn mend(broker: &Loopback) {
    broker.block(|_, _| false);
}

async fn has_vanished(from: &Member, count: usize) {
    eventually("it has vanished", async || from.cluster.gauges().vanished == count).await;
}

#[tokio::test]
async fn a_node_cut_off_longer_than_its_lease_makes_answers_partial_until_it_is_back() {
    let broker = Loopback::default();
    let [a, b, c] = cluster(&broker).await;
    let (_one, line) = c.join("jack", "news");
    let (_two, _) = b.join("jack", "news");
    a.knows(2).await;
    cut(&broker, &c);
    // Whether it is silent, or its lease is over: it says at each push that it is missing.
    for _ in 0..40 {
        assert_eq!(names(&a.push("jack", "meanwhile").await), ["c"]);
        tokio::time::sleep(LEASE / 20).await;
    }
    has_vanished(&a, 1).await;
    assert_eq!(a.cluster.ready(), Ok(()), "it has part in the cluster, whoever has not");
    // Somebody may have come to the other side since.
    let (_three, stranger) = c.join("rose", "news");
    let gathered = a.push("rose", "m").await;
    assert_eq!((gathered.total().delivered(), names(&gathered)), (0, vec!["c"]));
    let gathered = a.push_everyone("all").await;
    assert_eq!((gathered.total().total.delivered(), names(&gathered)), (1, vec!["c"]));
    // The one that is cut off cannot know who else there is.
    assert!(c.push("jack", "alone").await.is_cut_off);
    mend(&broker);
    eventually("it is back", async || {
        let gathered = a.push("jack", "back").await;
        assert!(!gathered.is_whole() || gathered.total().delivered() == 2, "{gathered:?}");
        gathered.is_whole()
    })
    .await;
    assert!(a.push("rose", "hello").await.is_whole());
    assert_eq!(stranger.messages().last().map(String::as_str), Some("hello"));
    let messages = line.messages();
    assert!(messages.iter().all(|it| it != "meanwhile"), "what was missing does not come late");
}

#[tokio::test]
async fn a_node_that_comes_later_knows_who_has_vanished() {
    let broker = Loopback::default();
    let [a, b] = cluster(&broker).await;
    cut(&broker, &b);
    has_vanished(&a, 1).await;
    let c = Member::start(&broker, "c");
    c.is_ready().await;
    eventually("it is told", async || names(&c.push("jack", "m").await) == ["b"]).await;
    assert_eq!(c.cluster.gauges().vanished, 0, "it has not seen it itself");
    mend(&broker);
    eventually("it is back", async || c.push("jack", "m").await.is_whole()).await;
}

#[tokio::test]
async fn a_node_is_told_to_let_its_connections_go_when_it_is_cut_off_and_not_before() {
    let broker = Loopback::default();
    let a = Member::start(&broker, "a");
    let mut short = settings("b");
    short.cut_off_max = 4 * LEASE;
    let b = Member::start_with(&broker, short);
    let mut stays = settings("c");
    (stays.release_when_cut_off, stays.cut_off_max) = (false, Duration::ZERO);
    let c = Member::start_with(&broker, stays);
    for member in [&a, &b, &c] {
        member.is_ready().await;
    }
    let (one, _) = b.join("jack", "news");
    let state = |member: &Member| *member.cluster.cut_off().borrow();
    assert_eq!([&a, &b, &c].map(state), [CutOff::Never; 3]);
    broker.block(|_, _| true);
    let mut told = b.cluster.cut_off();
    let mut states = Vec::new();
    while states.last() != Some(&CutOff::Refused) {
        tokio::time::timeout(PATIENCE, told.changed()).await.expect("in time").unwrap();
        states.push(*told.borrow_and_update());
    }
    assert_eq!(states, [CutOff::Released, CutOff::Refused]);
    assert!(b.cluster.refuses_connections());
    assert_eq!([&a, &c].map(state), [CutOff::Released, CutOff::Never]);
    mend(&broker);
    for member in [&a, &b, &c] {
        member.is_ready().await;
    }
    eventually("it is well", async || state(&a) == CutOff::Never).await;
    // The others may have counted on its having none.
    tokio::time::sleep(LEASE).await;
    assert!(b.cluster.refuses_connections());
    drop(one);
    eventually("it is well", async || state(&b) == CutOff::Never).await;
}

/// As when the route between two servers of a broker is cut: each side hears itself.
#[tokio::test]
async fn two_halves_of_a_broker_tell_that_the_other_has_vanished() {
    let broker = Loopback::default().of_several_places();
    let members: [Member; 4] = cluster(&broker).await;
    let lines: Vec<_> = members.iter().map(|member| member.join("jack", "news")).collect();
    for member in &members {
        member.knows(3).await;
    }
    let left: Vec<NodeId> = members[..2].iter().map(|member| member.cluster.id()).collect();
    broker.block(move |from, to| left.contains(&from) != left.contains(&to));
    for (at, member) in members.iter().enumerate() {
        has_vanished(member, 2).await;
        let gathered = member.push("jack", "half").await;
        let missing = if at < 2 { ["c", "d"] } else { ["a", "b"] };
        assert_eq!((gathered.total().delivered(), names(&gathered)), (2, missing.to_vec()));
        assert_eq!(names(&member.push("rose", "m").await), missing);
        let why = member.cluster.ready().unwrap_err();
        assert!(why.starts_with("2 of 4 nodes have vanished"), "{why}");
        assert_eq!(*member.cluster.cut_off().borrow(), CutOff::Never, "each half has somebody");
    }
    mend(&broker);
    for member in &members {
        member.is_ready().await;
        eventually("all are back", async || {
            let gathered = member.push("jack", "whole").await;
            assert!(!gathered.is_whole() || gathered.total().delivered() == 4);
            gathered.is_whole()
        })
        .await;
    }
    drop(lines);
}

/// The smaller side of a split: nobody reaches it, though it hears itself.
#[tokio::test]
async fn a_node_that_is_left_alone_by_two_is_told_to_let_its_connections_go() {
    let broker = Loopback::default().of_several_places();
    let [a, b, c] = cluster(&broker).await;
    let alone = c.cluster.id();
    broker.block(move |from, to| (from == alone) != (to == alone));
    has_vanished(&c, 2).await;
    eventually("it is told", async || *c.cluster.cut_off().borrow() == CutOff::Released).await;
    assert!(c.cluster.ready().is_err());
    for member in [&a, &b] {
        has_vanished(member, 1).await;
        assert_eq!(member.cluster.ready(), Ok(()), "one that vanishes does not stop the others");
        assert_eq!(*member.cluster.cut_off().borrow(), CutOff::Never);
    }
}
