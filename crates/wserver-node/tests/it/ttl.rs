//! Messages whose time is over: wherever they wait, they are not sent, and never in part.
//!
//! A time that is over in the middle is one that has passed while a test held the message back.

use std::pin::pin;
use std::time::{Duration, Instant};

use wserver_core::LimitSettings;
use wserver_node::{Message, NoDelivery, Node};
use wserver_protocol::frame;

use crate::peer::{Peer, pass, poll, push_briefly, push_now, push_with, until, walked};
use crate::wire::{FakeWire, Fate, PUSH, event, limits, node, user};

const LARGE: usize = 40;
const LONG: Duration = Duration::from_secs(3600);

fn expired(node: &Node<FakeWire>) -> u64 {
    node.counters().deliveries_expired_total.value()
}

#[tokio::test]
async fn what_is_over_is_not_accepted() {
    let node = node(LimitSettings::default());
    let peer = Peer::join(&node, "ann", &["news"]);
    let receipt = push_with(&node, "ann", "news", "late", until(Instant::now()));
    assert_eq!((receipt.matched, receipt.reason), (0, Some(NoDelivery::Expired)));
    assert_eq!(push_with(&node, "ann", "news", "early", until(Instant::now() + LONG)).written, 1);
    assert_eq!(peer.line.texts(), ["early"]);
    assert_eq!(expired(&node), 0, "it was never counted");
}

#[tokio::test]
async fn what_waits_in_a_queue_is_let_go_of() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    push_now(&node, "ann", "news", "first");
    let over = push_briefly(&node, "late", 1);
    push_now(&node, "ann", "news", "second");
    let over = over.max(push_briefly(&node, "late too", 1));
    assert_eq!(push_with(&node, "ann", "news", "in time", until(Instant::now() + LONG)).queued, 1);
    pass(over);
    peer.line.unstall();
    assert!(peer.flush().is_empty);
    assert_eq!(peer.line.texts(), ["first", "second", "in time"]);
    assert_eq!((expired(&node), node.outboxes_bytes()), (2, 0));
    assert_eq!(peer.attachment.outbox().queued_bytes(), 0);
    push_now(&node, "ann", "news", "third");
    assert_eq!(peer.line.texts().last().map(String::as_str), Some("third"));
}

/// The socket has a part of it, so it gets the rest.
#[tokio::test]
async fn what_has_begun_is_seen_out() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(3));
    let over = push_briefly(&node, "begun", 1);
    let over = over.max(push_briefly(&node, "not begun", 1));
    pass(over);
    peer.line.unstall();
    assert!(peer.flush().is_empty);
    assert_eq!(peer.line.texts(), ["begun"]);
    assert_eq!(expired(&node), 1);
}

/// Nothing is left in the queue, and what comes then goes straight to the socket.
#[tokio::test]
async fn a_queue_of_what_is_over_runs_empty() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    pass(push_briefly(&node, "late", 1));
    let flush = peer.flush();
    assert!(flush.is_empty, "there is nothing to wait for, although the socket takes nothing");
    peer.line.unstall();
    assert_eq!(push_now(&node, "ann", "news", "now"), 1);
    assert_eq!(peer.line.texts(), ["now"]);
}

/// The pong leaves earlier by what is let go of before it, and the next is not left out.
#[tokio::test]
async fn a_pong_behind_what_is_over_does_not_stand_in_the_way_of_the_next() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    let pong = |number: u32| frame::text(&format!("pong {number}"));
    let over = push_briefly(&node, &"late".repeat(100), 1);
    peer.attachment.send_pong(&pong(1));
    push_now(&node, "ann", "news", "one");
    pass(over);
    peer.line.stall_after(pong(1).len());
    assert!(!peer.flush().is_empty);
    peer.attachment.send_pong(&pong(2));
    peer.line.unstall();
    assert!(peer.flush().is_empty);
    assert_eq!(peer.line.texts(), ["pong 1", "one", "pong 2"]);
    assert_eq!(node.counters().pongs_skipped_total.value(), 0);
}

/// The walker runs when the test lets it, and then it is too late.
#[tokio::test]
async fn what_waits_in_the_log_is_not_handed_out() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    push_now(&node, "ann", "news", "first");
    let over = push_briefly(&node, "late", LARGE);
    push_now(&node, "ann", "news", "second");
    push_with(&node, "ann", "news", "in time", until(Instant::now() + LONG));
    pass(over);
    walked(&node).await;
    for peer in &peers {
        assert_eq!(peer.line.texts(), ["first", "second", "in time"]);
    }
    assert_eq!(expired(&node), LARGE as u64);
}

#[tokio::test]
async fn a_push_that_waits_too_long_is_not_accepted() {
    let node = node(limits(64, 128));
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let text = "x".repeat(64);
    for _ in 0..2 {
        push_now(&node, "ann", "news", &text);
    }
    let (ann, news) = (user("ann"), event("news"));
    let mut message = Message::new(&news, PUSH, "late");
    let mut time = Duration::from_millis(1);
    let receipt = loop {
        let expires_at = Instant::now() + time;
        let options = until(expires_at);
        let mut waiting = pin!(node.push_with(&ann, &mut message, &options));
        if poll(waiting.as_mut()).is_pending() {
            pass(expires_at);
            break waiting.await;
        }
        time *= 2;
    };
    assert_eq!((receipt.matched, receipt.reason), (0, Some(NoDelivery::Expired)));
    walked(&node).await;
    assert_eq!(peers[0].line.texts().len(), 2);
    assert_eq!(expired(&node), 0, "it was never counted");
}
