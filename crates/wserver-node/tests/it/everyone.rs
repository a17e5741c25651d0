//! A push to everyone who is registered for an event.

use std::time::Instant;

use wserver_core::LimitSettings;
use wserver_node::{EveryoneReceipt, Message, NoDelivery, Node, PushOptions};

use crate::peer::{Peer, push_now, walked, without};
use crate::wire::{FakeWire, Fate, PUSH, event, node};

async fn push(node: &Node<FakeWire>, text: &str, options: PushOptions) -> EveryoneReceipt {
    let receipt = node.push_everyone(&mut Message::new(&event("news"), PUSH, text), &options).await;
    walked(node).await;
    receipt
}

#[tokio::test]
async fn everyone_who_is_registered_gets_it_once() {
    let node = node(LimitSettings::default());
    let mut peers: Vec<Peer> =
        (0..2000).map(|number| Peer::join(&node, &format!("user {number}"), &["news"])).collect();
    peers.extend((0..50).map(|_| Peer::join(&node, "crowd", &["news", "chat"])));
    peers.push(Peer::join_with(&node, "user 7", &["news"], Fate::StallAfter(0)));
    let others: Vec<Peer> =
        (0..500).map(|number| Peer::join(&node, &format!("other {number}"), &["chat"])).collect();
    let EveryoneReceipt { users, total, .. } = push(&node, "hello", PushOptions::default()).await;
    assert_eq!(users, 2001);
    assert_eq!((total.matched, total.written, total.queued), (2051, 2000, 51));
    assert_eq!((total.dropped, total.reason), (0, None));
    let stalled = peers.pop().unwrap();
    stalled.line.unstall();
    assert!(stalled.flush().is_empty);
    peers.push(stalled);
    assert!(peers.iter().all(|peer| peer.line.texts() == ["hello"]));
    assert!(others.iter().all(|peer| peer.line.texts().is_empty()));
    let counters = node.counters();
    assert_eq!((counters.pushes_total.value(), counters.deliveries_total.value()), (1, 2051));
}

#[tokio::test]
async fn it_leaves_out_whom_it_is_to_leave_out() {
    let node = node(LimitSettings::default());
    let sender = Peer::join(&node, "ann", &["news"]);
    let only = push(&node, "to nobody", without(&sender)).await;
    assert_eq!((only.users, only.total.reason), (0, Some(NoDelivery::Excluded)));
    let other = Peer::join(&node, "bob", &["news"]);
    assert_eq!(push(&node, "to bob", without(&sender)).await.total.written, 1);
    assert!(sender.line.texts().is_empty());
    assert_eq!(other.line.texts(), ["to bob"]);
}

#[tokio::test]
async fn it_says_why_it_went_to_nobody() {
    let node = node(LimitSettings::default());
    let nobody = push(&node, "to nobody", PushOptions::default()).await;
    assert_eq!(nobody.total.reason, Some(NoDelivery::NoRegistrationForEvent));
    let _gone = Peer::join_with(&node, "ann", &["news"], Fate::BreakAfter(0));
    let late = PushOptions { expires_at: Some(Instant::now()), ..PushOptions::default() };
    assert_eq!(push(&node, "late", late).await.total.reason, Some(NoDelivery::Expired));
    let ending = push(&node, "to one that is gone", PushOptions::default()).await;
    assert_eq!((ending.users, ending.total.dropped), (1, 1));
    assert_eq!(ending.total.reason, Some(NoDelivery::ConnectionEnding));
}

/// Of the reasons of several users it is the one that there is most to do about, in whatever order
/// they come up.
#[tokio::test]
async fn it_tells_the_worst_of_several_reasons() {
    for _ in 0..20 {
        // Each node has another order of its users.
        let node = node(LimitSettings::default());
        let sender = Peer::join(&node, "ann", &["news"]);
        let _gone = Peer::join_with(&node, "bob", &["news"], Fate::BreakAfter(0));
        let receipt = push(&node, "to nobody", without(&sender)).await;
        assert_eq!((receipt.users, receipt.total.dropped), (1, 1));
        assert_eq!(receipt.total.reason, Some(NoDelivery::ConnectionEnding));
    }
}

/// Each user's part has its place among that user's other messages.
#[tokio::test]
async fn it_keeps_the_order_of_each_user() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..40).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    push_now(&node, "ann", "news", "before");
    push(&node, "to everyone", PushOptions::default()).await;
    push_now(&node, "ann", "news", "behind");
    walked(&node).await;
    assert!(peers.iter().all(|peer| peer.line.texts() == ["before", "to everyone", "behind"]));
}
