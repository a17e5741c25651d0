//! What one user may have however many come at once, and what all queues may hold together.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use wserver_core::{CloseReason, ConnectionId, ConnectionsPerUserPolicy, LimitSettings};
use wserver_node::{Node, Phase, RegisterError, Selection, Sent};
use wserver_protocol::{CloseCode, frame};

use crate::peer::{Peer, push_now, walked};
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
        assert_eq!(node.counts().registrations, MAX);
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
        assert_eq!(node.counts().registrations, MAX);
        assert_eq!(push_now(&node, "ann", "news", "m"), MAX);
        let replaced = peers.iter().filter(|peer| reason(peer) == Some(CloseReason::Replaced));
        assert_eq!(replaced.count(), 40 - MAX);
    }
}

/// To the byte: a queue may hold exactly its bound.
#[tokio::test]
async fn a_queue_is_full_at_its_bound() {
    let node = node(limits(40, 40));
    assert_eq!(node.limits().outbox_bytes_max, 420);
    let fill = |bytes: usize| {
        let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
        for len in [100, 100, 100, 100, bytes - 400] {
            let sent = peer.attachment.send(&frame::text(&"x".repeat(len - 2)));
            assert_eq!(sent, Sent::Queued, "{len} of {bytes}");
        }
        assert_eq!(peer.attachment.outbox().queued_bytes(), bytes);
        peer
    };
    let full = fill(420);
    assert_eq!(reason(&full), None);
    // One byte more than there is room for.
    let nearly = fill(419);
    assert_eq!(nearly.attachment.send(&frame::text("")), Sent::Overflow);
    assert_eq!(reason(&nearly), Some(CloseReason::Slow));
    assert_eq!(node.counters().slow_evictions_total.value(), 1);
}

/// Each within its own bound, together at theirs: the one with the most goes, and not the one that
/// happens to be sent something.
#[tokio::test]
async fn the_largest_hoarder_makes_room() {
    let mut settings = limits(40, 40);
    let all_max = settings.outbox_bytes_max + 50;
    settings.outboxes_bytes_max = all_max;
    let node = node(settings);
    let message = "x".repeat(98);
    let push = |name: &str| push_now(&node, name, "news", &message);
    let join = |name: &str, taken| Peer::join_with(&node, name, &["news"], Fate::StallAfter(taken));
    let queued = |peer: &Peer| peer.attachment.outbox().queued_bytes();
    let (hoarder, small) = (join("ann", 110), join("bob", 110));
    let ordinary = join("dan", 110);
    let reader = Peer::join(&node, "cid", &["news"]);
    for name in ["ann", "ann", "ann", "ann", "bob", "bob", "dan", "dan"] {
        assert_eq!(push(name), 1);
    }
    assert_eq!([&hoarder, &small, &ordinary].map(queued), [290, 90, 90]);
    assert_eq!(node.outboxes_bytes(), all_max);
    assert_eq!(push("dan"), 1, "there is room for it");
    assert_eq!(reason(&hoarder), Some(CloseReason::Slow));
    assert_eq!(node.counts().connections, 3, "and it is unbound");
    assert_eq!(push("ann"), 0);
    assert_eq!([&small, &ordinary, &reader].map(reason), [None; 3]);
    let counters = node.counters();
    assert_eq!(counters.outboxes_full_evictions_total.value(), 1);
    assert_eq!(counters.slow_evictions_total.value(), 0);
    assert!(node.outboxes_bytes() <= all_max);

    // What its socket has begun to take is queued, and the one with the most makes room for it.
    let begun = ["eve", "fay"].map(|name| join(name, 10));
    assert_eq!([push("eve"), push("fay")], [1, 1]);
    assert_eq!(begun.each_ref().map(queued), [90, 90]);
    assert_eq!(reason(&ordinary), Some(CloseReason::Slow), "it had the most then");
    assert_eq!([&small, &begun[0], &begun[1]].map(reason), [None; 3]);
    assert_eq!(counters.outboxes_full_evictions_total.value(), 2);
    assert!(node.outboxes_bytes() <= all_max);

    // What the socket takes at once needs no room; what is let go makes room.
    assert_eq!(push("cid"), 1);
    assert_eq!(reader.line.texts().len(), 1);
    hoarder.line.unstall();
    assert!(hoarder.flush().is_empty);
    assert_eq!(hoarder.line.texts().last().unwrap(), "close 1013");
    drop((hoarder, small, ordinary, begun));
    assert_eq!(node.outboxes_bytes(), 0);
}

/// To the byte: all queues together may hold exactly their bound. Beyond it no more go than need be.
#[tokio::test]
async fn all_queues_are_full_at_their_bound() {
    let mut settings = limits(40, 40);
    settings.outboxes_bytes_max = settings.outbox_bytes_max;
    let node = node(settings);
    let peers = ["ann", "bob", "cid"]
        .map(|name| Peer::join_with(&node, name, &["news"], Fate::StallAfter(0)));
    for (name, bytes) in [("ann", 100), ("ann", 100), ("ann", 100), ("bob", 100), ("cid", 20)] {
        assert_eq!(push_now(&node, name, "news", &"x".repeat(bytes - 2)), 1);
    }
    assert_eq!((node.outboxes_bytes(), node.limits().outboxes_bytes_max), (420, 420));
    assert_eq!(peers.each_ref().map(reason), [None; 3]);
    assert_eq!(push_now(&node, "cid", "news", ""), 1);
    assert_eq!(peers.each_ref().map(reason), [Some(CloseReason::Slow), None, None]);
}

/// What is closing already gives its room back by itself, so it is the largest of the others that
/// makes room, however many are closing.
#[tokio::test]
async fn one_that_is_open_makes_room_although_many_that_close_have_more() {
    const CLOSING: usize = 64;
    let goodbye = frame::close(CloseCode::NORMAL, "disconnected").len();
    let mut settings = limits(40, 40);
    settings.outboxes_bytes_max = CLOSING * (300 + goodbye) + 200 + 20;
    let all_max = settings.outboxes_bytes_max;
    let node = node(settings);
    let join = |name: &str| Peer::join_with(&node, name, &["news"], Fate::StallAfter(0));
    let closing: Vec<Peer> = (0..CLOSING).map(|_| join("cid")).collect();
    let text = "x".repeat(98);
    for _ in 0..3 {
        assert_eq!(push_now(&node, "cid", "news", &text), CLOSING);
        walked(&node).await;
    }
    assert_eq!(node.disconnect(Selection::User(&user("cid"))), CLOSING);
    let (large, small) = (join("ann"), join("bob"));
    for _ in 0..2 {
        assert_eq!(push_now(&node, "ann", "news", &text), 1);
    }
    assert_eq!(push_now(&node, "bob", "news", &"x".repeat(18)), 1);
    assert_eq!(node.outboxes_bytes(), all_max);
    assert_eq!(push_now(&node, "bob", "news", ""), 1);
    assert_eq!([&large, &small].map(reason), [Some(CloseReason::Slow), None]);
    assert_eq!(reason(&closing[0]), Some(CloseReason::Disconnected));
    assert_eq!(node.counters().outboxes_full_evictions_total.value(), 1);
}

/// Nobody has more than the one that is to have more: then it is its turn.
#[tokio::test]
async fn the_largest_queue_finds_no_room_itself() {
    let mut settings = limits(40, 40);
    settings.outboxes_bytes_max = settings.outbox_bytes_max;
    let bound = settings.outbox_bytes_max;
    let node = node(settings);
    let small = Peer::join_with(&node, "bob", &["news"], Fate::StallAfter(0));
    let large = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    assert_eq!(push_now(&node, "bob", "news", &"x".repeat(48)), 1);
    let mut pushed = 0;
    while push_now(&node, "ann", "news", &"x".repeat(48)) == 1 {
        pushed += 1;
        assert!(pushed < bound, "it was bound to end");
    }
    assert_eq!((reason(&large), reason(&small)), (Some(CloseReason::Slow), None));
    assert_eq!(node.counters().outboxes_full_evictions_total.value(), 1);
}

/// Signs of life prove nothing: what counts is that the socket takes some of what waits.
#[tokio::test]
async fn a_peer_that_takes_nothing_of_its_queue_is_closed() {
    let settings = LimitSettings { stall_timeout: Duration::from_millis(400), ..limits(40, 40) };
    let node = node(settings);
    let stalled = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(10));
    let slow = Peer::join_with(&node, "bob", &["news"], Fate::StallAfter(10));
    let idle = Peer::join(&node, "cid", &["news"]);
    for name in ["ann", "bob", "cid"] {
        assert_eq!(push_now(&node, name, "news", &"x".repeat(98)), 1);
    }
    let mut taken = 10;
    let since = Instant::now();
    while node.counters().stalled_evictions_total.value() == 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "it was not closed");
        taken += usize::from(taken < 99);
        slow.line.stall_after(taken);
        slow.flush();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(reason(&stalled), Some(CloseReason::Slow));
    assert_eq!((reason(&slow), reason(&idle)), (None, None));
    assert_eq!(node.counts().connections, 2, "it is unbound");
    assert_eq!(push_now(&node, "ann", "news", "m"), 0);
    assert_eq!(node.counters().slow_evictions_total.value(), 0);
}

/// One connection's names, and those of all: what is beyond is refused, and nothing else.
#[tokio::test]
async fn names_have_a_bound_for_each_connection_and_in_all() {
    let settings = LimitSettings {
        name_bytes_max: 10,
        names_per_connection_bytes_max: 40,
        names_bytes_max: 60,
        ..LimitSettings::default()
    };
    let node = node(settings);
    // "ann" and an event of seven bytes: ten for each registration.
    let register = |peer: &Peer, number: usize| {
        let about = event(&format!("event-{number}"));
        peer.attachment.register(&user("ann"), &about, node.digest("token")).map(|_| ())
    };
    let [one, two] = [(); 2].map(|()| Peer::join(&node, "ann", &[]));
    let too_long = Err(RegisterError::NamesTooLong { max: 40 });
    assert_eq!([0, 1, 2, 3].map(|number| register(&one, number)), [Ok(()); 4]);
    assert_eq!(register(&one, 4), too_long);
    assert_eq!(register(&one, 0), Ok(()), "renewing takes no room");
    let full = Err(RegisterError::NamesFull { max: 60 });
    assert_eq!([0, 1, 2].map(|number| register(&two, number)), [Ok(()), Ok(()), full]);
    assert_eq!((reason(&one), reason(&two)), (None, None));
    assert_eq!(push_now(&node, "ann", "event-4", "m"), 0);
    // Ended one by one or with the connection, each makes room.
    assert!(node.unregister(one.attachment.id(), &user("ann"), &event("event-0")));
    assert_eq!([register(&one, 4), register(&one, 5)], [Ok(()), too_long]);
    drop(one);
    assert_eq!([2, 3].map(|number| register(&two, number)), [Ok(()), Ok(())]);
    drop(two);
    let peers = [(); 3].map(|()| Peer::join(&node, "ann", &[]));
    for (number, expected) in [(0, Ok(())), (1, Ok(())), (2, full)] {
        assert_eq!(peers.each_ref().map(|peer| register(peer, number)), [expected; 3]);
    }
}
