//! Following a user: everything in order, or how much of it was missed.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use expect_test::expect;
use tokio::task::unconstrained;
use tokio::time::Instant;
use wserver_core::LimitSettings;
use wserver_node::{Entry, Selection, Trace, TraceError, Traced};

use crate::journal::tell;
use crate::peer::{Peer, poll, push_now};
use crate::wire::{Fate, event, node, user};

/// What is there to be read.
fn read(trace: &mut Trace) -> Vec<Traced> {
    let mut entries = Vec::new();
    while let Poll::Ready(Some(traced)) = poll(pin!(unconstrained(trace.next()))) {
        entries.push(traced);
    }
    entries
}

fn is_ended(next: impl Future<Output = Option<Traced>>) -> bool {
    matches!(poll(pin!(next)), Poll::Ready(None))
}

#[tokio::test]
async fn it_sees_everything_of_its_user_in_order() {
    let node = node(LimitSettings::default());
    let (ann, news) = (user("ann"), event("news"));
    push_now(&node, "ann", "news", "before it began");
    let mut trace = node.trace(&ann).unwrap();
    push_now(&node, "ann", "news", "to nobody");
    let peer = Peer::join(&node, "ann", &["news"]);
    peer.register(&node, "bob", "news");
    push_now(&node, "ann", "news", "hello");
    push_now(&node, "bob", "news", "not hers");
    peer.attachment.note_refused(Some(&ann), Some(&event("chat")), "forbidden");
    peer.attachment.note_refused(None, Some(&event("chat")), "unknown");
    assert!(node.unregister(peer.attachment.id(), &ann, &news));
    node.register(peer.attachment.id(), &ann, &news).unwrap();
    let _gone = Peer::join_with(&node, "ann", &["news"], Fate::BreakAfter(0));
    push_now(&node, "ann", "news", "to one of two");
    node.note_push_refused(Some(&ann), Some(&news), "forbidden");
    node.disconnect(Selection::User(&ann));
    let entries: Vec<Entry> = read(&mut trace).into_iter().map(|traced| traced.entry).collect();
    expect![[r#"
        - news pushed to 0
        1 news registered
        - news pushed to 1
        1 chat registration_refused: forbidden
        1 news unregistered
        1 news registered
        2 news registered
        2 news dropped: connection_ending
        2 - closed: peer_gone
        - news pushed to 1
        - news push_refused: forbidden
        1 - closed: disconnected
    "#]]
    .assert_eq(&tell(&entries));
    assert!(entries.iter().all(|entry| entry.user.as_ref() == Some(&ann)));
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_how_far() {
    let node = node(LimitSettings::default());
    let mut trace = node.trace(&user("ann")).unwrap();
    for number in 0..300 {
        push_now(&node, "ann", "news", &number.to_string());
    }
    let entries = read(&mut trace);
    assert_eq!(entries.len(), 256);
    assert!(entries.iter().all(|traced| traced.missed == 0));
    push_now(&node, "ann", "news", "and one");
    push_now(&node, "ann", "news", "and another");
    let missed: Vec<u64> = read(&mut trace).iter().map(|traced| traced.missed).collect();
    assert_eq!(missed, [300 - 256, 0]);
}

#[tokio::test]
async fn there_are_as_many_as_may_be() {
    let node = node(LimitSettings { traces_max: 2, ..LimitSettings::default() });
    let (ann, bob) = (user("ann"), user("bob"));
    let (first, mut second) = (node.trace(&ann).unwrap(), node.trace(&ann).unwrap());
    assert_eq!(node.trace(&bob).unwrap_err(), TraceError::TooMany { max: 2 });
    drop(first);
    let mut third = node.trace(&bob).unwrap();
    push_now(&node, "ann", "news", "to both");
    assert_eq!((read(&mut second).len(), read(&mut third).len()), (1, 0));
}

#[tokio::test]
async fn without_a_keeper_it_sees_what_would_be_kept() {
    let node = node(LimitSettings { journal_bytes_max: 0, ..LimitSettings::default() });
    let mut trace = node.trace(&user("ann")).unwrap();
    drop(Peer::join(&node, "ann", &["news"]));
    assert_eq!(read(&mut trace).len(), 2);
}

#[tokio::test]
async fn it_ends_with_the_node_behind_what_there_was() {
    let node = node(LimitSettings::default());
    let mut trace = node.trace(&user("ann")).unwrap();
    let peer = Peer::join(&node, "ann", &["news"]);
    node.drain(Instant::now()).await;
    drop(peer);
    let entries: Vec<Entry> = read(&mut trace).into_iter().map(|traced| traced.entry).collect();
    expect![[r#"
        1 news registered
        1 - closed: shutdown
    "#]]
    .assert_eq(&tell(&entries));
    assert!(is_ended(trace.next()));
    assert_eq!(node.trace(&user("ann")).unwrap_err(), TraceError::Draining);
}
