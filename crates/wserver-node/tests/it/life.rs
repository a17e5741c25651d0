//! A connection's membership from opening to end, and the ends it can come to.

use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use wserver_core::{CloseReason, Counts, LimitSettings};
use wserver_node::{Goodbyes, OpenError, Phase, RegisterError, Selection, Sent};
use wserver_protocol::{CloseCode, Protocol, frame};

use crate::peer::{Peer, poll, push_now, walked};
use crate::wire::{FakeWire, Fate, Line, event, limits, node, read_frames, user};

const NOTHING: Counts = Counts { users: 0, connections: 0, registrations: 0 };

#[tokio::test]
async fn dropping_an_attachment_leaves_nothing() {
    let node = node(LimitSettings::default());
    let peer = Peer::join(&node, "ann", &["news", "chat"]);
    peer.register(&node, "bob", "news");
    assert_eq!(node.counts(), Counts { users: 2, connections: 1, registrations: 3 });
    let id = peer.attachment.id();
    assert!(node.connection(id).is_some());
    drop(peer);
    assert_eq!(node.counts(), NOTHING);
    assert_eq!(node.connections_open(), 0);
    assert!(node.connection(id).is_none());
    assert_eq!(push_now(&node, "ann", "news", "nobody"), 0);
    assert_eq!(node.counters().connections_closed_total(CloseReason::PeerGone).value(), 1);
}

#[tokio::test]
async fn two_users_on_one_connection_are_both_bound() {
    let node = node(LimitSettings::default());
    let peer = Peer::join(&node, "ann", &["news"]);
    peer.register(&node, "bob", "news");
    assert_eq!(push_now(&node, "ann", "news", "to ann"), 1);
    assert_eq!(push_now(&node, "bob", "news", "to bob"), 1);
    assert_eq!(peer.line.texts(), ["to ann", "to bob"]);
}

#[tokio::test]
async fn a_push_during_close_is_not_counted() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(3));
    assert_eq!(push_now(&node, "ann", "news", "before"), 1);
    assert!(node.close(peer.attachment.outbox(), CloseReason::Disconnected));
    assert!(!peer.flush().is_empty, "the Close waits behind the message");
    assert_eq!(push_now(&node, "ann", "news", "during"), 0);
    assert_eq!(peer.attachment.send(&frame::text("alone")), Sent::Ended);
    assert!(!node.close(peer.attachment.outbox(), CloseReason::Slow), "the first reason stands");
    peer.line.unstall();
    assert!(peer.flush().is_empty);
    assert_eq!(peer.line.texts(), ["before", "close 1000"]);
}

/// Each selection names its connections and no others, and counts whom it has closed itself.
#[tokio::test]
async fn a_disconnect_closes_whom_it_selects() {
    let node = node(LimitSettings::default());
    let join = || {
        let [news, chat, bob] = [("ann", "news"), ("ann", "chat"), ("bob", "news")]
            .map(|(name, about)| Peer::join(&node, name, &[about]));
        let token = node.digest("another token");
        chat.attachment.register(&user("ann"), &event("mail"), token).unwrap();
        [news, chat, bob]
    };
    let open = |peers: &[Peer; 3]| {
        peers.each_ref().map(|peer| peer.attachment.outbox().phase() == Phase::Open)
    };
    let (ann, news) = (user("ann"), event("news"));
    for (selection, closed) in [
        (Selection::User(&ann), [true, true, false]),
        (Selection::UserEvent(&ann, &news), [true, false, false]),
        (Selection::Token("another token"), [false, true, false]),
        (Selection::Token("token"), [true, true, true]),
        (Selection::Token("no token"), [false; 3]),
    ] {
        let peers = join();
        let count = closed.iter().filter(|closed| **closed).count();
        assert_eq!(node.disconnect(selection), count);
        assert_eq!(open(&peers), closed.map(|closed| !closed));
    }
    let peers = join();
    let id = peers[0].attachment.id();
    assert_eq!(node.disconnect(Selection::Connection(id)), 1);
    assert_eq!(open(&peers), [false, true, true]);
    assert_eq!(node.disconnect(Selection::Connection(id)), 0, "it is ending already");
    drop(peers);
    assert_eq!(node.disconnect(Selection::Connection(id)), 0, "it has gone");
}

#[tokio::test]
async fn a_connection_that_ends_does_not_register() {
    let node = node(LimitSettings::default());
    let peer = Peer::join(&node, "ann", &["news"]);
    peer.attachment.close(CloseReason::Expired);
    let bound = peer.attachment.register(&user("ann"), &event("chat"), node.digest("token"));
    assert_eq!(bound, Err(RegisterError::Ending));
    assert_eq!(node.counts(), NOTHING);
}

/// Whoever comes first, the closer or the registration: nothing stays bound.
#[tokio::test]
async fn a_close_in_the_middle_of_a_registration_leaves_nothing_bound() {
    let node = node(LimitSettings::default());
    let (ann, bob) = (user("ann"), user("bob"));
    for turn in 0..2000 {
        let peer = Peer::join(&node, "ann", &["news"]);
        let together = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                if turn % 2 == 0 {
                    node.disconnect(Selection::Connection(peer.attachment.id()));
                } else {
                    node.disconnect(Selection::User(&ann));
                }
            });
            together.wait();
            let _ = peer.attachment.register(&bob, &event("chat"), node.digest("token"));
        });
        assert_eq!(node.counts(), NOTHING, "turn {turn}");
    }
}

/// What a connection holds at most, and how it ends when it reads too slowly.
fn check_eviction(members: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let settings = limits(100, 100);
        let (bound, message) = (settings.outbox_bytes_max, "x".repeat(98));
        let node = node(settings);
        // It takes one frame and a piece of the second.
        let slow = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(110));
        let readers: Vec<Peer> =
            (1..members).map(|_| Peer::join(&node, "ann", &["news"])).collect();
        let mut pushed = 0;
        loop {
            let count = push_now(&node, "ann", "news", &message);
            walked(&node).await;
            pushed += 1;
            assert!(slow.attachment.outbox().queued_bytes() <= bound);
            if count < members {
                assert_eq!(count, members - 1, "the push that overfills does not count it");
                break;
            }
            assert!(pushed * 100 <= bound + 110, "it was bound to end");
        }
        // 110 bytes are with the reader; what waits never passed the bound.
        assert_eq!(pushed, (bound + 110) / 100 + 1, "it is not dropped before its bound");
        assert_eq!(slow.flush().phase, Phase::Closing(CloseReason::Slow));
        assert_eq!(push_now(&node, "ann", "news", &message), members - 1, "nor does the next");
        walked(&node).await;
        assert_eq!(node.counters().slow_evictions_total.value(), 1);

        slow.line.unstall();
        assert!(slow.flush().is_empty);
        let (frames, rest) = read_frames(&slow.line.taken());
        assert_eq!(rest, 0);
        let codes: Vec<_> = frames.iter().map(|frame| frame.close_code()).collect();
        assert_eq!(codes, [None, None, Some(1013)], "the torn frame is whole, the rest is let go");
        for reader in &readers {
            assert_eq!(reader.line.texts().len(), pushed + 1, "nobody else is held up");
        }
    });
}

#[test]
fn a_slow_reader_in_a_small_group_ends_at_its_bound() {
    check_eviction(1);
    check_eviction(5);
}

#[test]
fn a_slow_reader_in_a_large_group_ends_at_its_bound() {
    check_eviction(50);
}

#[tokio::test]
async fn a_wire_that_fails_is_not_counted_and_not_kept() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::BreakAfter(4));
    let other = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push_now(&node, "ann", "news", "torn in the middle"), 2, "its queue took the rest");
    assert_eq!(peer.flush().phase, Phase::Ended(CloseReason::PeerGone));
    assert_eq!(push_now(&node, "ann", "news", "next"), 1);
    assert_eq!(node.counts().connections, 1, "found out by the push");
    assert_eq!(other.line.texts().len(), 2);
}

#[tokio::test]
async fn a_drain_closes_everybody_behind_what_is_queued() {
    let node = node(LimitSettings::default());
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    peers.push(Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(1)));
    push_now(&node, "ann", "news", "last words");
    let draining = {
        let node = node.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { node.drain(Instant::now() + Duration::from_secs(60)).await });
        tasks
    };
    while peers[0].flush().phase == Phase::Open {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.open(FakeWire(Line::calm()), Protocol::V1).unwrap_err(), OpenError::Draining);
    for peer in peers {
        peer.line.unstall();
        let flush = peer.flush();
        assert_eq!((flush.phase, flush.is_empty), (Phase::Closing(CloseReason::Shutdown), true));
        assert_eq!(peer.line.texts(), ["last words", "close 1001"]);
    }
    let drained = draining.join_all().await.remove(0);
    assert_eq!((drained.closed, drained.cut_off), (21, 0));
    assert_eq!((drained.pushes, drained.deliveries), (0, 0), "all were before it");
    node.tasks().finished().await;
}

#[tokio::test]
async fn who_is_released_is_told_to_go_and_others_come_in() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..20).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    push_now(&node, "ann", "news", "last words");
    let goodbyes = goodbyes(frame::close(CloseCode::GOING_AWAY, "bye"));
    assert_eq!(node.release(Duration::ZERO, &goodbyes).await, 20);
    for peer in &peers {
        assert_eq!(peer.flush().phase, Phase::Closing(CloseReason::CutOff));
        assert_eq!(peer.line.texts(), ["last words", "close 1001"]);
    }
    let next = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push_now(&node, "ann", "news", "hello"), 1);
    assert_eq!(next.line.texts(), ["hello"]);
}

#[tokio::test]
async fn who_is_dismissed_goes_a_few_at_a_time() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..60).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let told = || peers.iter().filter(|it| it.attachment.outbox().phase() != Phase::Open).count();
    let goodbyes = goodbyes(frame::close(CloseCode::RESTART, "bye"));
    let deadline = Instant::now() + Duration::from_secs(3600);
    {
        let mut dismissing = pin!(node.dismiss(Duration::from_secs(60), deadline, &goodbyes));
        assert!(poll(dismissing.as_mut()).is_pending());
        assert_eq!(told(), 25, "fewer are no storm");
        assert_eq!(push_now(&node, "ann", "news", "to the others"), 35);
        assert_eq!(
            node.open(FakeWire(Line::calm()), Protocol::V1).unwrap_err(),
            OpenError::Draining
        );
        assert_eq!(dismissing.await, 60);
    }
    assert_eq!(told(), 60);
    let both = peers.iter().filter(|it| it.line.texts() == ["to the others", "close 1012"]).count();
    let close = peers.iter().filter(|it| it.line.texts() == ["close 1012"]).count();
    assert_eq!((both, close), (35, 25));
    drop(peers);
    let drained = node.drain(deadline).await;
    assert_eq!((drained.closed, drained.cut_off, drained.bytes_lost), (0, 0, 0));
    assert_eq!((drained.pushes, drained.deliveries), (1, 35));
}

/// Half of the time until the deadline is left for queues, however long the spread is.
#[tokio::test]
async fn who_is_dismissed_is_told_in_half_of_the_time() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..300).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let hour = Duration::from_secs(3600);
    let deadline = Instant::now() + Duration::from_millis(1100);
    let goodbyes = Goodbyes::default();
    let mut dismissing = pin!(node.dismiss(hour, deadline, &goodbyes));
    assert!(poll(dismissing.as_mut()).is_pending());
    let told = peers.iter().filter(|it| it.attachment.outbox().phase() != Phase::Open).count();
    // A slot is 50 ms. In 22 slots instead of ten or less it would have told 25.
    assert!(told >= 30, "{told}");
}

/// More than a pusher writes itself: what was counted is still on its way when everybody is told.
#[tokio::test]
async fn who_is_dismissed_gets_first_what_was_counted() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..60).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    assert_eq!(push_now(&node, "ann", "news", "last words"), 60);
    let deadline = Instant::now() + Duration::from_secs(3600);
    let told = node.dismiss(Duration::ZERO, deadline, &Goodbyes::default()).await;
    assert_eq!(told, 60);
    assert!(peers.iter().all(|it| it.line.texts() == ["last words", "close 1001"]));
    assert_eq!(node.counters().deliveries_lost_total.value(), 0);
    assert_eq!(node.counts(), NOTHING);
}

#[tokio::test]
async fn who_has_no_time_is_dismissed_at_once() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..60).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let hour = Duration::from_secs(3600);
    for (spread, left) in [(Duration::ZERO, hour), (hour, Duration::ZERO)] {
        let goodbyes = Goodbyes::default();
        let deadline = Instant::now() + left;
        match poll(pin!(node.dismiss(spread, deadline, &goodbyes))) {
            Poll::Ready(told) => assert_eq!(told, if left == hour { 60 } else { 0 }),
            Poll::Pending => panic!("it waits"),
        }
    }
    assert!(peers.iter().all(|it| it.line.texts() == ["close 1001"]));
}

#[tokio::test]
async fn a_drain_cuts_off_who_has_not_gone_in_time() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(1));
    push_now(&node, "ann", "news", "unread");
    let drained = node.drain(Instant::now()).await;
    assert_eq!((drained.closed, drained.cut_off), (1, 1));
    assert!(drained.bytes_lost > 0);
    assert_eq!(peer.flush().phase, Phase::Ended(CloseReason::Shutdown));
}

/// A refused connection is counted for a moment; a drain that sees it must not wait for it until its deadline.
#[test]
fn a_drain_is_not_held_up_by_a_connection_that_is_refused() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for _ in 0..300 {
        runtime.block_on(async {
            let node = node(LimitSettings::default());
            let peer = Peer::join(&node, "ann", &["news"]);
            let mut tasks = tokio::task::JoinSet::new();
            let comer = node.clone();
            tasks.spawn(async move {
                while node_is_full_or_open(&comer) {}
                drop(peer);
                for _ in 0..50 {
                    assert!(comer.open(FakeWire(Line::calm()), Protocol::V1).is_err());
                }
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            tokio::time::timeout(Duration::from_secs(30), node.drain(deadline))
                .await
                .expect("nobody is left to wait for");
            tasks.join_all().await;
            node.tasks().stop();
        });
    }
}

fn node_is_full_or_open(node: &wserver_node::Node<FakeWire>) -> bool {
    node.reserve().err() != Some(OpenError::Draining)
}

/// Counted as what it is: a panic of the task, an end for internal reasons.
#[tokio::test]
async fn a_panic_ends_its_connection_and_is_counted() {
    let node = node(LimitSettings::default());
    let Peer { attachment, line } = Peer::join(&node, "ann", &["news"]);
    let task = thread::spawn(move || {
        let _held = attachment;
        std::panic::resume_unwind(Box::new("the task fails"));
    });
    assert!(task.join().is_err());
    assert_eq!(line.texts(), ["close 1011"]);
    assert_eq!(node.counts(), NOTHING);
    assert_eq!(node.counters().panics_total.value(), 1);
    assert_eq!(node.counters().connections_closed_total(CloseReason::Internal).value(), 1);
    assert_eq!(Arc::strong_count(&line), 1, "its socket is let go");
}

/// It was: one pong in a queue that never ran empty silenced all that followed.
#[tokio::test]
async fn a_pong_that_has_left_does_not_stand_in_the_way_of_the_next() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    let pong = |number: u32| frame::text(&format!("pong {number}"));
    assert_eq!(push_now(&node, "ann", "news", "one"), 1);
    peer.attachment.send_pong(&pong(1));
    peer.attachment.send_pong(&pong(2));
    assert_eq!(push_now(&node, "ann", "news", "two"), 1);
    peer.line.stall_after(frame::text("one").len() + pong(1).len());
    assert!(!peer.flush().is_empty, "the queue has not run empty");
    peer.attachment.send_pong(&pong(3));
    peer.line.unstall();
    assert!(peer.flush().is_empty);
    assert_eq!(peer.line.texts(), ["one", "pong 1", "two", "pong 3"]);
    assert_eq!(node.counters().pongs_skipped_total.value(), 1);
}

/// As many as may be are let in, those whose socket is still on its way included. Who is refused
/// takes no place.
#[tokio::test]
async fn a_node_that_is_full_lets_nobody_in() {
    let node = node(LimitSettings { connections_max: 2, ..LimitSettings::default() });
    let first = Peer::join(&node, "ann", &["news"]);
    let reservation = node.reserve().unwrap();
    for _ in 0..2 {
        let refused = node.open(FakeWire(Line::calm()), Protocol::V1).unwrap_err();
        assert_eq!(refused, OpenError::Full { max: 2 });
        assert_eq!(node.connections_open(), 2);
    }
    drop(reservation);
    let _second = Peer::join(&node, "ann", &["news"]);
    assert_eq!(node.reserve().unwrap_err(), OpenError::Full { max: 2 });
    drop(first);
    let reservation = node.reserve().unwrap();
    let counters = node.counters();
    assert_eq!(counters.connections_opened_total.value(), 2);

    // A place is no right to come in when everybody is told to go.
    node.drain(Instant::now()).await;
    assert_eq!(
        reservation.open(FakeWire(Line::calm()), Protocol::V1).unwrap_err(),
        OpenError::Draining
    );
    assert_eq!(node.connections_open(), 1);
}

fn goodbyes(close: bytes::Bytes) -> Goodbyes {
    Goodbyes { v1: vec![close], ..Goodbyes::default() }
}
