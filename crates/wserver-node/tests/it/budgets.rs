//! What one user may have however many come at once, and what all queues may hold together.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;

use wserver_core::{CloseReason, ConnectionId, ConnectionsPerUserPolicy, LimitSettings};
use wserver_node::{Node, Phase, RegisterError};

use crate::peer::{Peer, push_now};
use crate::wire::{FakeWire, Fate, event, limits, node, user};

const MAX: usize = 10;

fn per_user(policy: ConnectionsPerUserPolicy) -> Node<FakeWire> {
    node(LimitSettings {
        connections_per_user_max: MAX,
        connections_per_user_policy: policy,
        ..LimitSettings::default()
    })
}

fn register(node: &Node<FakeWire>, peer: &Peer, name: &str, about: &str) -> Result<(), String> {
    let token = node.digest("token");
    let bound = peer.attachment.register(&user(name), &event(about), token);
    bound.map(|_| ()).map_err(|error| error.to_string())
}

fn reason(peer: &Peer) -> Option<CloseReason> {
    match peer.flush().phase {
        Phase::Open => None,
        Phase::Closing(reason) | Phase::Ended(reason) => Some(reason),
    }
}

/// Eight threads register five connections each, all at once.
fn register_at_once(node: &Node<FakeWire>) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..40).map(|_| Peer::join(node, "ann", &[])).collect();
    let together = &Barrier::new(8);
    thread::scope(|scope| {
        for mine in peers.chunks(5) {
            scope.spawn(move || {
                together.wait();
                for peer in mine {
                    // Whether it was let in shows in the end.
                    let _ = register(node, peer, "ann", "news");
                }
            });
        }
    });
    peers
}

#[tokio::test]
async fn a_user_who_is_full_is_full() {
    let node = per_user(ConnectionsPerUserPolicy::RefuseNew);
    let mut peers: Vec<Peer> = (0..MAX).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    // Another event of a connection that is bound is no further connection.
    peers[0].register(&node, "ann", "chat");
    let refused = Peer::join(&node, "bob", &["news"]);
    let bound = refused.attachment.register(&user("ann"), &event("news"), node.digest("token"));
    assert_eq!(bound, Err(RegisterError::UserFull { max: MAX }));
    assert_eq!(reason(&refused), Some(CloseReason::UserFull));
    assert_eq!(push_now(&node, "bob", "news", "m"), 0, "it is closed as a whole");
    assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
    assert!(peers.iter().all(|peer| reason(peer).is_none()));
    peers.pop();
    let _one_more = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
}

#[tokio::test]
async fn of_many_who_come_at_once_as_many_as_may_are_let_in() {
    for _ in 0..50 {
        let node = per_user(ConnectionsPerUserPolicy::RefuseNew);
        let peers = register_at_once(&node);
        let open = peers.iter().filter(|peer| reason(peer).is_none()).count();
        let refused = peers.iter().filter(|peer| reason(peer) == Some(CloseReason::UserFull));
        assert_eq!((open, refused.count()), (MAX, 40 - MAX));
        assert_eq!(node.counts().bindings, MAX);
        assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
    }
}

#[tokio::test]
async fn the_oldest_makes_room() {
    let node = per_user(ConnectionsPerUserPolicy::CloseOldest);
    let peers: Vec<Peer> = (0..MAX + 3).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let reasons: Vec<_> = peers.iter().map(reason).collect();
    assert_eq!(reasons[..3], [Some(CloseReason::Replaced); 3]);
    assert_eq!(reasons[3..], [None; MAX]);
    assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
    // Further events, and what is bound already, make nobody go.
    register(&node, &peers[3], "ann", "chat").unwrap();
    register(&node, &peers[3], "ann", "news").unwrap();
    assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
    let code = peers[0].line.texts();
    assert_eq!(code, ["close 1000"], "the wire of these tests knows three codes");
}

/// Those opened last remain, exactly as many as may, whatever the order in which they register.
#[tokio::test]
async fn of_many_who_come_at_once_the_newest_remain() {
    for _ in 0..50 {
        let node = per_user(ConnectionsPerUserPolicy::CloseOldest);
        let peers = register_at_once(&node);
        let id = |peer: &Peer| peer.attachment.id();
        let ids: BTreeSet<ConnectionId> = peers.iter().map(id).collect();
        let newest: BTreeSet<ConnectionId> = ids.iter().rev().take(MAX).copied().collect();
        let open = peers.iter().filter(|peer| reason(peer).is_none());
        assert_eq!(open.map(id).collect::<BTreeSet<_>>(), newest);
        assert_eq!(node.counts().bindings, MAX);
        assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
        let replaced = peers.iter().filter(|peer| reason(peer) == Some(CloseReason::Replaced));
        assert_eq!(replaced.count(), 40 - MAX);
    }
}

/// Each within its own bound, together at theirs: who would take more is closed, alone.
#[tokio::test]
async fn all_queues_together_have_a_bound() {
    let mut settings = limits(100, 100);
    let all_max = settings.outbox_bytes_max + 50;
    settings.outboxes_bytes_max = all_max;
    let node = node(settings);
    let stalled = |name: &str| Peer::join_with(&node, name, &["news"], Fate::StallAfter(110));
    let (ann, bob) = (stalled("ann"), stalled("bob"));
    let reader = Peer::join(&node, "cid", &["news"]);
    let message = "x".repeat(98);
    let queued = || [&ann, &bob].map(|peer| peer.attachment.outbox().queued_bytes());
    let mut turn = 0;
    let last = loop {
        let (name, at) = if turn % 2 == 0 { ("ann", 0) } else { ("bob", 1) };
        let before = queued();
        let count = push_now(&node, name, "news", &message);
        assert_eq!(node.outboxes_bytes(), queued().iter().sum::<usize>(), "turn {turn}");
        if count == 0 {
            assert!(before.iter().sum::<usize>() + 100 > all_max, "not before the bound");
            break at;
        }
        assert!(node.outboxes_bytes() <= all_max, "turn {turn}");
        turn += 1;
        assert!(turn < 100, "it was bound to end");
    };
    let peers = [ann, bob];
    assert_eq!(reason(&peers[last]), Some(CloseReason::Slow));
    assert_eq!(reason(&peers[1 - last]), None, "the others stay");
    let counters = node.counters();
    assert_eq!(counters.outboxes_full_evictions_total.value(), 1);
    assert_eq!(counters.slow_evictions_total.value(), 0);
    // What the socket takes at once needs no room; what is let go makes room.
    assert_eq!(push_now(&node, "cid", "news", &message), 1);
    assert_eq!(reader.line.texts().len(), 1);
    let name = ["ann", "bob"][1 - last];
    assert_eq!(push_now(&node, name, "news", &message), 1);
    peers[last].line.unstall();
    assert!(peers[last].flush().is_empty);
    assert_eq!(peers[last].line.texts().last().unwrap(), "close 1013");
    drop(peers);
    assert_eq!(node.outboxes_bytes(), 0);
}
