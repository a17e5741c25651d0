//! What a node tells of users and connections, and registrations that were not asked for.

use std::time::{Duration, Instant};

use wserver_core::{ConnectionId, Counts, LimitSettings};
use wserver_node::RegisterError;

use crate::peer::{Peer, push_now};
use crate::wire::{Fate, event, node, user};

#[tokio::test]
async fn a_connection_is_told_with_all_its_registrations() {
    let node = node(LimitSettings::default());
    let peer = Peer::join_with(&node, "ann", &["news", "chat"], Fate::StallAfter(5));
    peer.register(&node, "bob", "mail");
    push_now(&node, "ann", "news", "hello");
    let info = node.connection_info(peer.attachment.id()).unwrap();
    assert_eq!(info.id, peer.attachment.id());
    assert_eq!((info.written_bytes, info.queued_bytes), (5, 2));
    assert_eq!(info.peer, None, "a scripted wire has no address");
    let mut events: Vec<_> = info.events(&user("ann")).map(ToString::to_string).collect();
    events.sort();
    assert_eq!(events, ["chat", "news"]);
    assert_eq!(info.events(&user("bob")).count(), 1);
    assert_eq!(node.user_connections(&user("bob"), 10), [info]);
    let id = peer.attachment.id();
    drop(peer);
    assert_eq!(node.connection_info(id), None);
}

#[tokio::test]
async fn no_more_is_told_than_was_asked_for() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..1500).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    for max in [0, 1, 512, 513, 1400] {
        assert_eq!(node.user_connections(&user("ann"), max).len(), max);
    }
    assert_eq!(node.user_connections(&user("ann"), usize::MAX).len(), peers.len());
    let mut ids: Vec<_> =
        node.user_connections(&user("ann"), 2000).iter().map(|info| info.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), peers.len(), "each once");
}

#[tokio::test]
async fn presence_counts_connections_of_each() {
    let node = node(LimitSettings::default());
    let _peers = [
        Peer::join(&node, "ann", &["news", "chat"]),
        Peer::join(&node, "ann", &["news"]),
        Peer::join(&node, "bob", &["news"]),
    ];
    let users = ["bob", "nobody", "ann"].map(user);
    assert_eq!(node.presence(&users), [1, 0, 2]);
}

#[tokio::test]
async fn the_events_of_a_user_are_those_of_all_its_connections() {
    let node = node(LimitSettings::default());
    assert!(node.user_events(&user("ann")).is_empty());
    let names: Vec<String> = (0..20).map(|number| format!("event {number:02}")).collect();
    let peers: Vec<Peer> =
        names.iter().map(|name| Peer::join(&node, "ann", &[name, "event 00"])).collect();
    let mut events: Vec<_> =
        node.user_events(&user("ann")).iter().map(ToString::to_string).collect();
    events.sort();
    assert_eq!(events, names);
    drop(peers);
    let one = Peer::join(&node, "ann", &["news", "chat"]);
    assert_eq!(node.user_events(&user("ann")).len(), 2);
    drop(one);
}

#[tokio::test]
async fn many_events_of_a_user_are_told_in_part() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> =
        (0..200).map(|number| Peer::join(&node, "ann", &[&number.to_string()])).collect();
    assert_eq!(node.user_events(&user("ann")).len(), 128);
    drop(peers);
}

#[tokio::test]
async fn a_connection_is_registered_by_somebody_else() {
    let node = node(LimitSettings::default());
    let (ann, news) = (user("ann"), event("news"));
    let peer = Peer::join(&node, "ann", &[]);
    let id = peer.attachment.id();
    assert!(!peer.attachment.was_registered());
    node.register(id, &ann, &news).unwrap();
    assert!(peer.attachment.was_registered());
    assert_eq!(push_now(&node, "ann", "news", "hello"), 1);
    assert!(node.unregister(id, &ann, &news));
    assert!(!node.unregister(id, &ann, &news), "there is none any more");
    assert_eq!(push_now(&node, "ann", "news", "again"), 0);
    assert_eq!(peer.line.texts(), ["hello"]);
    assert_eq!(node.counts(), Counts::default());
}

#[tokio::test]
async fn the_limits_hold_for_somebody_else_too_and_close_nobody() {
    let node = node(LimitSettings {
        bindings_per_connection_max: 1,
        connections_per_user_max: 1,
        ..LimitSettings::default()
    });
    let (ann, news) = (user("ann"), event("news"));
    let first = Peer::join(&node, "ann", &["news"]);
    let second = Peer::join(&node, "bob", &[]);
    let full = RegisterError::UserFull { max: 1 };
    assert_eq!(node.register(second.attachment.id(), &ann, &news), Err(full));
    let too_many = RegisterError::TooMany { max: 1 };
    assert_eq!(node.register(first.attachment.id(), &ann, &event("chat")), Err(too_many));
    let nobody = node.register(ConnectionId::new(999), &ann, &news);
    assert_eq!(nobody, Err(RegisterError::Ending));
    assert!(first.line.texts().is_empty() && second.line.texts().is_empty());
}

#[tokio::test]
async fn who_is_heard_of_was_heard_of_just_now() {
    let node = node(LimitSettings::default());
    let peer = Peer::join(&node, "ann", &["news"]);
    let info = || node.connection_info(peer.attachment.id()).unwrap();
    // Both are told in whole seconds.
    while info().age.is_zero() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    peer.attachment.seen(Instant::now());
    let info = info();
    assert!(info.last_sign_of_life < info.age, "{info:?}");
}
