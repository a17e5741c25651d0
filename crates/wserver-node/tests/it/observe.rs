//! What a node says about itself: how long pushes took, and whether one would arrive.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use wserver_core::{Counts, LimitSettings};
use wserver_node::Node;

use crate::peer::{Peer, poll, push_now, walked};
use crate::wire::{FakeWire, Fate, Line, node};

fn observed(node: &Node<FakeWire>) -> u64 {
    node.counters().push_delivery.counts().iter().sum()
}

#[tokio::test]
async fn every_push_that_somebody_gets_is_timed_once() {
    let node = node(LimitSettings::default());
    assert_eq!(push_now(&node, "ann", "news", "nobody"), 0);
    assert_eq!(observed(&node), 0);
    let _small = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push_now(&node, "ann", "news", "one"), 1);
    assert_eq!(push_now(&node, "ann", "chat", "nobody"), 0);
    assert_eq!(observed(&node), 1);
    // Beyond what a pusher writes itself: merged into few runs, and counted one by one.
    let _large: Vec<Peer> = (0..100).map(|_| Peer::join(&node, "bob", &["news", "chat"])).collect();
    for number in 0..50 {
        let event = if number % 10 == 0 { "chat" } else { "news" };
        assert_eq!(push_now(&node, "bob", event, "many"), 100);
    }
    walked(&node).await;
    assert_eq!(observed(&node), 51);
    assert!(node.counters().push_delivery.sum() > std::time::Duration::ZERO);
}

#[tokio::test]
async fn a_probe_gets_what_is_pushed_to_it_and_shows_nowhere() {
    let node = node(LimitSettings { connections_max: 1, ..LimitSettings::default() });
    let peer = Peer::join(&node, "ann", &["news"]);
    let line = Line::calm();
    let probe = node.probe(FakeWire(Arc::clone(&line))).unwrap();
    for number in 0..3 {
        assert_eq!(poll(pin!(probe.deliver(&number.to_string()))), Poll::Ready(true));
    }
    assert_eq!(line.texts(), ["0", "1", "2"]);
    assert!(node.probe(FakeWire(Line::calm())).is_none(), "one at a time");

    assert_eq!(node.counts(), Counts { users: 1, connections: 1, registrations: 1 });
    assert_eq!(node.connections_open(), 1);
    let counters = node.counters();
    assert_eq!(counters.connections_opened_total.value(), 1);
    assert_eq!(counters.registrations_bound_total.value(), 1);
    assert_eq!((counters.pushes_total.value(), counters.deliveries_total.value()), (0, 0));
    assert_eq!(observed(&node), 0);

    drop((probe, peer));
    assert_eq!(node.counts(), Counts::default());
    assert!(node.probe(FakeWire(Line::calm())).is_some());
}

#[tokio::test]
async fn a_probe_whose_wire_fails_says_so() {
    let node = node(LimitSettings::default());
    let broken = Line::new(None, Fate::BreakAfter(0));
    let probe = node.probe(FakeWire(broken)).unwrap();
    assert_eq!(poll(pin!(probe.deliver("x"))), Poll::Ready(false));
    assert_eq!(poll(pin!(probe.deliver("x"))), Poll::Ready(false), "and stays so");
    drop(probe);
    assert_eq!(node.counts(), Counts::default());
}
