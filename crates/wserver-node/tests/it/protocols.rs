//! Connections of both versions of the protocol in one node.

use std::time::Duration;

use wserver_core::{CloseReason, LimitSettings};
use wserver_node::{Goodbyes, Node};
use wserver_protocol::connection::Notice;
use wserver_protocol::{CloseCode, Protocol, frame};

use crate::peer::{Peer, push_now, walked};
use crate::wire::{FakeWire, event, node, user};

/// A user's connections of either version, registered for news.
fn both(node: &Node<FakeWire>) -> [Peer; 2] {
    Protocol::VERSIONS.map(|protocol| {
        let peer = Peer::open(node, protocol);
        peer.register(node, "ann", "news");
        peer
    })
}

#[tokio::test]
async fn a_push_reaches_and_counts_both_versions() {
    let node = node(LimitSettings::default());
    let [v1, v2] = both(&node);
    assert_eq!(push_now(&node, "ann", "news", "small"), 2, "written by the pusher");
    let others: Vec<Peer> = (0..40).flat_map(|_| both(&node)).collect();
    assert_eq!(push_now(&node, "ann", "news", "large"), 82, "left to a walker");
    walked(&node).await;
    assert_eq!(v1.line.texts(), ["small", "large"]);
    let head = "{\"event\":\"news\",\"id\":\"5f3a9c01-12\"}\n";
    assert_eq!(v2.line.texts(), [format!("{head}small"), format!("{head}large")]);
    drop((v2, others));
    assert_eq!(push_now(&node, "ann", "news", "alone"), 1);
    assert_eq!(v1.line.texts()[2], "alone");
}

#[tokio::test]
async fn what_an_operator_registers_is_told_to_version_2_alone() {
    let node = node(LimitSettings::default());
    let peers = both(&node);
    let (ann, chat) = (user("ann"), event("chat"));
    for peer in &peers {
        for _ in 0..2 {
            node.register(peer.attachment.id(), &ann, &chat).unwrap();
        }
        assert!(node.unregister(peer.attachment.id(), &ann, &chat));
        assert!(!node.unregister(peer.attachment.id(), &ann, &chat));
    }
    let events = vec!["chat".to_owned()];
    let notices = [
        Notice::Registered(events.clone()),
        Notice::Unregistered { events, reason: "operator".to_owned() },
    ];
    assert_eq!(peers[0].line.texts(), [""; 0]);
    assert_eq!(peers[1].line.texts(), notices.map(|notice| notice.encode()), "each change once");
}

#[tokio::test]
async fn who_must_go_is_told_in_its_own_version() {
    let node = node(LimitSettings::default());
    let [v1, v2] = both(&node);
    let leaving = frame::text("leaving");
    let close = frame::close(CloseCode::LEAVING, "");
    let goodbyes = Goodbyes {
        v1: vec![frame::close(CloseCode::RESTART, "bye")],
        v2: vec![[&leaving[..], &close[..]].concat().into()],
        sse: Vec::new(),
    };
    assert_eq!(node.release(Duration::ZERO, &goodbyes).await, 2);
    assert_eq!(v1.line.texts(), ["close 1012"]);
    assert_eq!(v2.line.texts(), ["leaving", "close 4000"]);
}

/// The owner of the node chooses the Close of each reason by the version.
#[tokio::test]
async fn a_close_is_of_its_own_version() {
    let node = node(LimitSettings::default());
    for peer in both(&node) {
        assert!(peer.attachment.close(CloseReason::Slow));
        let code = match peer.attachment.outbox().protocol() {
            Protocol::V1 => "close 1013",
            Protocol::V2 | Protocol::Sse => "close 4001",
        };
        assert_eq!(peer.line.texts(), [code]);
    }
}

/// A stream of events is a member like any other, inline and behind a walker.
#[tokio::test]
async fn a_stream_of_events_is_counted_and_gets_its_own_form() {
    let node = node(LimitSettings::default());
    let [v1, v2] = both(&node);
    let stream = Peer::open(&node, Protocol::Sse);
    stream.register(&node, "ann", "news");
    assert_eq!(push_now(&node, "ann", "news", "a\nb"), 3, "written by the pusher");
    let others: Vec<Peer> = (0..40).flat_map(|_| both(&node)).collect();
    assert_eq!(push_now(&node, "ann", "news", "large"), 83, "left to a walker");
    walked(&node).await;
    let heard = String::from_utf8(stream.line.taken()).unwrap();
    assert_eq!(heard, "event: news\ndata: a\ndata: b\n\nevent: news\ndata: large\n\n");
    assert_eq!(v1.line.texts(), ["a\nb", "large"]);
    drop((v1, v2, others));
    assert_eq!(push_now(&node, "ann", "news", "alone"), 1);
    let (ann, chat) = (user("ann"), event("chat"));
    node.register(stream.attachment.id(), &ann, &chat).unwrap();
    let heard = String::from_utf8(stream.line.taken()).unwrap();
    let said = "event: wserver\ndata: {\"registered\":[\"chat\"]}\n\n";
    assert!(heard.ends_with(&format!("data: alone\n\n{said}")), "{heard}");
}
