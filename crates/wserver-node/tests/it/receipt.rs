//! What a push is answered: the counts, why it went to nobody, and whom it leaves out.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use wserver_core::{CloseReason, LimitSettings};
use wserver_node::{Message, NoDelivery, Node, Phase, PushOptions, PushReceipt};

use crate::peer::{Peer, poll, push_now, push_with, walked, without};
use crate::wire::{FakeWire, Fate, PUSH, event, limits, node, user};

/// More members than a pusher writes to itself.
const LARGE: usize = 40;

/// The counts, and the reason if there is one.
fn tell(receipt: PushReceipt) -> String {
    let PushReceipt { matched, written, queued, dropped, reason, .. } = receipt;
    let reason = reason.map_or("-", NoDelivery::as_str);
    format!("{matched} = {written} + {queued} + {dropped}, {reason}")
}

fn push(node: &Node<FakeWire>, about: &str, text: &str) -> String {
    tell(push_with(node, "ann", about, text, PushOptions::default()))
}

#[tokio::test]
async fn nobody_is_there() {
    let node = node(LimitSettings::default());
    assert_eq!(push(&node, "news", "one"), "0 = 0 + 0 + 0, user_offline");
    let peer = Peer::join(&node, "ann", &["chat"]);
    assert_eq!(push(&node, "news", "two"), "0 = 0 + 0 + 0, no_registration_for_event");
    drop(peer);
    assert_eq!(push(&node, "chat", "three"), "0 = 0 + 0 + 0, user_offline");
}

#[tokio::test]
async fn what_the_socket_takes_is_written_and_what_it_does_not_take_is_queued() {
    let node = node(LimitSettings::default());
    let _readers: Vec<Peer> = (0..3).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let _stalled = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(3));
    let _other = Peer::join(&node, "ann", &["chat"]);
    assert_eq!(push(&node, "news", "one"), "4 = 3 + 1 + 0, -");
    assert_eq!(push(&node, "chat", "two"), "1 = 1 + 0 + 0, -");
}

/// A walk is under way, so it waits in the lane's log.
#[tokio::test]
async fn what_a_walker_hands_out_is_queued() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    assert_eq!(push(&node, "news", "one"), "40 = 0 + 40 + 0, -");
    assert_eq!(push(&node, "news", "two"), "40 = 0 + 40 + 0, -");
    walked(&node).await;
    assert_eq!(peers[0].line.texts(), ["one", "two"]);
}

#[tokio::test]
async fn a_slow_reader_is_dropped() {
    for others in [0, 2, LARGE] {
        let node = node(limits(40, 40));
        let slow = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
        let others: Vec<Peer> = (0..others).map(|_| Peer::join(&node, "ann", &["news"])).collect();
        let receipt = loop {
            let text = "x".repeat(98);
            let receipt = push_with(&node, "ann", "news", &text, PushOptions::default());
            walked(&node).await;
            if receipt.dropped > 0 {
                break receipt;
            }
        };
        assert_eq!((receipt.matched, receipt.dropped), (others.len() + 1, 1));
        assert_eq!(receipt.delivered(), others.len());
        let reason = others.is_empty().then_some(NoDelivery::SlowConsumer);
        assert_eq!(receipt.reason, reason);
        assert_eq!(slow.flush().phase, Phase::Closing(CloseReason::Slow));
    }
}

/// What waits in the lane's log will reach it too: the push that would be too much is the one that
/// does not count it.
#[tokio::test]
async fn a_slow_reader_is_reckoned_with_what_waits_in_the_log() {
    let node = node(limits(1, 279));
    let slow = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    let _others: Vec<Peer> = (1..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let text = "x".repeat(98);
    for _ in 0..7 {
        push_now(&node, "ann", "news", &text);
        walked(&node).await;
    }
    assert_eq!(node.limits().outbox_bytes_max, 820);
    assert_eq!(slow.attachment.outbox().queued_bytes(), 700);
    assert_eq!(push(&node, "news", &text), "40 = 0 + 40 + 0, -", "800 bytes when it is handed out");
    assert_eq!(push(&node, "news", &text), "40 = 0 + 39 + 1, -", "this one would make it 900");
    walked(&node).await;
    assert_eq!(node.counters().deliveries_lost_total.value(), 0, "each count was true");
}

/// And so will what is being written to the others.
#[tokio::test]
async fn a_slow_reader_is_reckoned_with_what_is_being_handed_out() {
    let node = node(limits(40, 40));
    let reader = Peer::join(&node, "ann", &["news"]);
    let slow = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    let text = "x".repeat(98);
    for _ in 0..3 {
        push_now(&node, "ann", "news", &text);
    }
    assert_eq!(node.limits().outbox_bytes_max, 420);
    assert_eq!(slow.attachment.outbox().queued_bytes(), 300);
    let told = Arc::new(Mutex::new(String::new()));
    let (within, second) = (node.clone(), Arc::clone(&told));
    reader.line.interrupt(move || {
        *second.lock().unwrap() = push(&within, "news", &"y".repeat(98));
    });
    // The first finds the slow reader ending, since the second has found it too slow by then.
    assert_eq!(push(&node, "news", &text), "2 = 1 + 0 + 1, -");
    assert_eq!(*told.lock().unwrap(), "2 = 0 + 1 + 1, -");
    walked(&node).await;
    assert_eq!(node.counters().deliveries_lost_total.value(), 0);
    assert_eq!(node.counters().slow_evictions_total.value(), 1);
}

/// Counted by connections: those that a push drops at once, and those that were counted for it and
/// turned out to be gone when the walker came to them.
#[tokio::test]
async fn who_is_dropped_and_who_is_lost_is_counted() {
    let node = node(LimitSettings::default());
    let gone = || Peer::join_with(&node, "ann", &["news"], Fate::BreakAfter(0));
    let _gone = [gone(), gone()];
    let _here = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push(&node, "news", "one"), "3 = 1 + 0 + 2, -");
    let counters = node.counters();
    assert_eq!(counters.deliveries_dropped_total.value(), 2);
    assert_eq!(counters.deliveries_lost_total.value(), 0);

    let _gone = [gone(), gone(), gone()];
    let _others: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    assert_eq!(push(&node, "news", "two"), "44 = 0 + 44 + 0, -");
    walked(&node).await;
    assert_eq!(counters.deliveries_dropped_total.value(), 2);
    assert_eq!(counters.deliveries_lost_total.value(), 3);
    assert_eq!(push(&node, "news", "three"), "41 = 0 + 41 + 0, -");
}

/// What all queues together may hold is decided when the socket does not take it.
#[tokio::test]
async fn a_reader_without_room_is_dropped_as_slow() {
    let mut settings = limits(40, 40);
    settings.outboxes_bytes_max = settings.outbox_bytes_max;
    let node = node(settings);
    let _ann = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    let _bob = Peer::join_with(&node, "bob", &["news"], Fate::StallAfter(0));
    let text = "x".repeat(98);
    let receipt = push_with(&node, "bob", "news", &text, PushOptions::default());
    assert_eq!(tell(receipt), "1 = 0 + 1 + 0, -");
    while node.outboxes_bytes() + 100 <= node.limits().outboxes_bytes_max {
        assert_eq!(push(&node, "news", &text), "1 = 0 + 1 + 0, -");
    }
    // Nobody has more queued than it would have.
    assert_eq!(push(&node, "news", &text), "1 = 0 + 0 + 1, slow_consumer");
}

#[tokio::test]
async fn one_that_is_found_ending_is_dropped() {
    let node = node(LimitSettings::default());
    let _gone = Peer::join_with(&node, "ann", &["news"], Fate::BreakAfter(0));
    assert_eq!(push(&node, "news", "one"), "1 = 0 + 0 + 1, connection_ending");
    assert_eq!(push(&node, "news", "two"), "0 = 0 + 0 + 0, user_offline");
    let _gone = Peer::join_with(&node, "ann", &["news"], Fate::BreakAfter(0));
    let _here = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push(&node, "news", "three"), "2 = 1 + 0 + 1, -");
}

#[tokio::test]
async fn the_excluded_connection_is_left_out() {
    for others in [0, 2, LARGE] {
        let node = node(LimitSettings::default());
        let sender = Peer::join(&node, "ann", &["news"]);
        let others: Vec<Peer> = (0..others).map(|_| Peer::join(&node, "ann", &["news"])).collect();
        let receipt = push_with(&node, "ann", "news", "to the others", without(&sender));
        assert_eq!((receipt.matched, receipt.dropped), (others.len(), 0));
        assert_eq!(receipt.reason, others.is_empty().then_some(NoDelivery::Excluded));
        push_now(&node, "ann", "news", "to all");
        walked(&node).await;
        assert_eq!(sender.line.texts(), ["to all"]);
        for other in &others {
            assert_eq!(other.line.texts(), ["to the others", "to all"]);
        }
    }
}

#[tokio::test]
async fn to_exclude_somebody_else_changes_nothing() {
    let node = node(LimitSettings::default());
    let bob = Peer::join(&node, "bob", &["news"]);
    let elsewhere = Peer::join(&node, "ann", &["chat"]);
    let _ann = Peer::join(&node, "ann", &["news"]);
    for peer in [&bob, &elsewhere] {
        let receipt = push_with(&node, "ann", "news", "hello", without(peer));
        assert_eq!(tell(receipt), "1 = 1 + 0 + 0, -");
    }
}

/// It is slow, and this push would be too much for it, but it is not its push.
#[tokio::test]
async fn the_excluded_connection_is_not_cut_off_by_what_it_does_not_get() {
    let node = node(limits(40, 40));
    let slow = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    let text = "x".repeat(98);
    let bound = node.limits().outbox_bytes_max;
    while slow.attachment.outbox().queued_bytes() + 100 <= bound {
        push_now(&node, "ann", "news", &text);
    }
    let _other = Peer::join(&node, "ann", &["news"]);
    let receipt = push_with(&node, "ann", "news", &text, without(&slow));
    assert_eq!(tell(receipt), "1 = 1 + 0 + 0, -");
    assert_eq!(push(&node, "news", &text), "2 = 1 + 0 + 1, -");
}

/// Nothing merges with a frame that is not for all, and the order stays.
#[tokio::test]
async fn the_order_goes_across_what_leaves_somebody_out() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let mut expected = vec![Vec::new(); peers.len()];
    for number in 0..100 {
        let text = number.to_string();
        let left_out = (number % 3 == 0).then_some(number % LARGE);
        let options = left_out.map_or_else(PushOptions::default, |at| without(&peers[at]));
        push_with(&node, "ann", "news", &text, options);
        for (at, texts) in expected.iter_mut().enumerate() {
            if left_out != Some(at) {
                texts.push(text.clone());
            }
        }
    }
    walked(&node).await;
    for (peer, texts) in peers.iter().zip(&expected) {
        assert_eq!(peer.line.texts(), *texts);
    }
}

/// It counts for a push that waits whether the connection is registered when there is room.
#[tokio::test]
async fn a_push_that_waits_leaves_out_who_registered_meanwhile() {
    let node = node(limits(64, 128));
    let mut peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let late = Peer::join(&node, "bob", &["news"]);
    for _ in 0..2 {
        push_now(&node, "ann", "news", &"x".repeat(64));
    }
    let (ann, news) = (user("ann"), event("news"));
    let message = Message::new(&news, PUSH, "last");
    let (joins, leaves) = (without(&late), without(&peers[7]));
    let [mut first, mut second] = [message.clone(), message];
    let mut joining = pin!(node.push_with(&ann, &mut first, &joins));
    let mut leaving = pin!(node.push_with(&ann, &mut second, &leaves));
    assert!(poll(joining.as_mut()).is_pending());
    assert!(poll(leaving.as_mut()).is_pending());
    drop(peers.remove(7));
    late.register(&node, "ann", "news");
    assert_eq!(joining.await.matched, LARGE - 1);
    assert_eq!(leaving.await.matched, LARGE);
    walked(&node).await;
    assert_eq!(late.line.texts(), ["last"]);
    assert_eq!(peers[0].line.texts()[2..], ["last", "last"]);
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::HashSet<_> =
        NoDelivery::ALL.into_iter().map(NoDelivery::as_str).collect();
    assert_eq!(labels.len(), NoDelivery::ALL.len());
}
