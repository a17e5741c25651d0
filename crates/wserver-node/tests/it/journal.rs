//! What the journal keeps: each kind of entry, under whom, and within how many bytes.

use std::sync::Arc;
use std::thread;

use expect_test::{Expect, expect};
use wserver_core::{CloseReason, ConnectionsPerUserPolicy, LimitSettings};
use wserver_node::{Entry, Node, Phase, Selection, What};
use wserver_protocol::Protocol;

use crate::peer::{Peer, pass, push_briefly, push_now, walked};
use crate::wire::{FakeWire, Fate, Line, event, limits, node, user};

/// Entries as lines: the connection, the event, what it was.
pub(crate) fn tell(entries: &[Entry]) -> String {
    let lines = entries.iter().map(|entry| {
        let connection = entry.connection.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let event = entry.event.as_ref().map_or("-", |event| event.as_str());
        let what = match entry.what {
            What::RegistrationRefused { reason } | What::PushRefused { reason } => reason,
            What::Dropped { reason } => reason.as_str(),
            What::Closed { reason } => reason.as_str(),
            What::Pushed { receipt } => {
                return format!("{connection} {event} pushed to {}\n", receipt.delivered());
            }
            _ => return format!("{connection} {event} {}\n", entry.what.as_str()),
        };
        format!("{connection} {event} {}: {what}\n", entry.what.as_str())
    });
    lines.collect()
}

fn check(node: &Node<FakeWire>, name: &str, expected: &Expect) {
    expected.assert_eq(&tell(&node.recent(&user(name), 100)));
}

fn check_strangers(node: &Node<FakeWire>, expected: &Expect) {
    expected.assert_eq(&tell(&node.recent_strangers(100)));
}

#[tokio::test]
async fn each_end_is_noted_once_under_each_user() {
    let node = node(LimitSettings::default());
    let gone = Peer::join(&node, "ann", &["news", "chat"]);
    gone.register(&node, "bob", "news");
    drop(gone);
    let closed = Peer::join(&node, "ann", &["news"]);
    closed.attachment.close(CloseReason::Silent);
    closed.attachment.close(CloseReason::Flood);
    drop(closed);
    let _disconnected = Peer::join(&node, "bob", &["news"]);
    node.disconnect(Selection::User(&user("bob")));
    check(
        &node,
        "ann",
        &expect![[r#"
        1 - closed: peer_gone
        2 - closed: silent
    "#]],
    );
    check(
        &node,
        "bob",
        &expect![[r#"
        1 - closed: peer_gone
        3 - closed: disconnected
    "#]],
    );
    check_strangers(&node, &expect![""]);
}

#[tokio::test]
async fn who_never_registered_ends_among_strangers() {
    let node = node(LimitSettings::default());
    drop(Peer::join(&node, "ann", &[]));
    let late = Peer::join(&node, "ann", &[]);
    late.attachment.close(CloseReason::NotRegistered);
    drop(late);
    check(&node, "ann", &expect![""]);
    check_strangers(
        &node,
        &expect![[r#"
        1 - closed: peer_gone
        2 - closed: not_registered
    "#]],
    );
}

#[tokio::test]
async fn refusals_stand_where_they_are_proven_to_belong() {
    let node = node(LimitSettings {
        bindings_per_connection_max: 2,
        connections_per_user_max: 1,
        ..LimitSettings::default()
    });
    let peer = Peer::join(&node, "ann", &["news", "chat"]);
    let (ann, mail, token) = (user("ann"), event("mail"), node.digest("token"));
    peer.attachment.register(&ann, &mail, token).unwrap_err();
    let other = Peer::join(&node, "ann", &[]);
    other.attachment.note_refused(None, Some(&mail), "unknown");
    other.attachment.note_refused(Some(&ann), Some(&mail), "forbidden");
    other.attachment.register(&ann, &mail, token).unwrap_err();
    other.attachment.register(&ann, &mail, token).unwrap_err();
    node.note_push_refused(Some(&ann), Some(&mail), "forbidden");
    node.note_push_refused(None, None, "wrong_key");
    check(
        &node,
        "ann",
        &expect![[r#"
        1 mail registration_refused: too_many_registrations
        2 mail registration_refused: forbidden
        2 mail registration_refused: user_full
        2 mail registration_refused: user_full
        - mail push_refused: forbidden
    "#]],
    );
    drop(other);
    check_strangers(
        &node,
        &expect![[r#"
        2 mail registration_refused: unknown
        - - push_refused: wrong_key
        2 - closed: user_full
    "#]],
    );
}

#[tokio::test]
async fn who_makes_room_is_noted() {
    let node = node(LimitSettings {
        connections_per_user_max: 1,
        connections_per_user_policy: ConnectionsPerUserPolicy::CloseOldest,
        ..LimitSettings::default()
    });
    let _first = Peer::join(&node, "ann", &["news"]);
    let _second = Peer::join(&node, "ann", &["news"]);
    check(
        &node,
        "ann",
        &expect![[r#"
        1 - closed: replaced
    "#]],
    );
}

#[tokio::test]
async fn drops_say_which_event_and_why() {
    for others in [0, 40] {
        let node = node(limits(100, 100));
        let slow = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
        let others: Vec<Peer> = (0..others).map(|_| Peer::join(&node, "ann", &["news"])).collect();
        while slow.flush().phase == Phase::Open {
            push_now(&node, "ann", "news", &"x".repeat(98));
            walked(&node).await;
        }
        check(
            &node,
            "ann",
            &expect![[r#"
            1 news dropped: slow_consumer
            1 - closed: slow
        "#]],
        );
        drop(others);
    }
}

#[tokio::test]
async fn one_that_is_found_ending_is_noted() {
    for others in [0, 40] {
        let node = node(LimitSettings::default());
        let _gone = Peer::join_with(&node, "ann", &["chat"], Fate::BreakAfter(0));
        let others: Vec<Peer> = (0..others).map(|_| Peer::join(&node, "ann", &["chat"])).collect();
        push_now(&node, "ann", "chat", "hello");
        walked(&node).await;
        check(
            &node,
            "ann",
            &expect![[r#"
            1 chat dropped: connection_ending
            1 - closed: peer_gone
        "#]],
        );
        drop(others);
    }
}

/// Once for all in the log; once for each connection in whose queue it was.
#[tokio::test]
async fn what_comes_too_late_is_noted() {
    let node = node(LimitSettings::default());
    let stalled = Peer::join_with(&node, "ann", &["news"], Fate::StallAfter(0));
    pass(push_briefly(&node, "late", 1));
    stalled.flush();
    let others: Vec<Peer> = (0..40).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    pass(push_briefly(&node, "late", 41));
    walked(&node).await;
    check(
        &node,
        "ann",
        &expect![[r#"
        1 - dropped: expired
        - news dropped: expired
    "#]],
    );
    drop(others);
}

#[tokio::test]
async fn the_newest_are_told_oldest_first() {
    let node = node(LimitSettings::default());
    for _ in 0..5 {
        drop(Peer::join(&node, "ann", &["news"]));
        drop(Peer::join(&node, "bob", &["news"]));
    }
    let recent = node.recent(&user("ann"), 2);
    expect![[r#"
        7 - closed: peer_gone
        9 - closed: peer_gone
    "#]]
    .assert_eq(&tell(&recent));
    assert!(recent[0].at <= recent[1].at);
    assert_eq!(node.journal_size().0, 10);
}

#[tokio::test]
async fn a_flood_stays_within_its_bytes_and_keeps_the_newest() {
    let bytes_max = 64 * 1024;
    let node = node(LimitSettings { journal_bytes_max: bytes_max, ..LimitSettings::default() });
    for number in 0..20_000 {
        let name = format!("user {}", number % 100);
        node.note_push_refused(Some(&user(&name)), Some(&event("news")), "flood");
        node.note_push_refused(None, Some(&event("news")), "flood");
        assert!(node.journal_size().1 <= bytes_max);
    }
    assert!(node.journal_size().0 > 200, "it is no smaller than it has to be");
    for name in ["user 98", "user 99"] {
        assert!(!node.recent(&user(name), 1).is_empty(), "the newest are there");
    }
}

#[tokio::test]
async fn strangers_never_push_out_users() {
    let settings = LimitSettings { journal_bytes_max: 64 * 1024, ..LimitSettings::default() };
    let node = node(settings);
    for number in 0..32 {
        node.note_push_refused(Some(&user(&number.to_string())), None, "before");
    }
    let stranger = node.open(FakeWire(Line::calm()), Protocol::V1).unwrap();
    for _ in 0..10_000 {
        stranger.note_refused(None, Some(&event(&"x".repeat(60))), "unknown");
    }
    for number in 0..32 {
        assert_eq!(node.recent(&user(&number.to_string()), 10).len(), 1, "user {number}");
    }
    assert!(node.recent_strangers(usize::MAX).len() > 10);
}

#[tokio::test]
async fn an_entry_larger_than_all_of_it_is_let_go() {
    let settings = LimitSettings { journal_bytes_max: 1024, ..LimitSettings::default() };
    let node = node(settings);
    node.note_push_refused(Some(&user("ann")), None, "too large");
    assert_eq!(node.journal_size(), (0, 0));
}

#[tokio::test]
async fn without_bytes_nothing_is_kept() {
    let node = node(LimitSettings { journal_bytes_max: 0, ..LimitSettings::default() });
    drop(Peer::join(&node, "ann", &["news"]));
    node.note_push_refused(None, None, "wrong_key");
    assert_eq!(node.journal_size(), (0, 0));
    assert!(node.recent(&user("ann"), 10).is_empty() && node.recent_strangers(10).is_empty());
}

/// Whoever comes first, the closer or the task that ends: one of them notes it.
#[tokio::test]
async fn ends_from_two_sides_are_noted_once() {
    let node = node(LimitSettings::default());
    for turn in 1..=500 {
        let peer = Peer::join(&node, "ann", &["news"]);
        let id = peer.attachment.id();
        let together = Arc::new(std::sync::Barrier::new(2));
        thread::scope(|scope| {
            let both = Arc::clone(&together);
            let node = &node;
            scope.spawn(move || {
                both.wait();
                node.disconnect(Selection::Connection(id));
            });
            together.wait();
            drop(peer);
        });
        assert_eq!(node.recent(&user("ann"), usize::MAX).len(), turn);
    }
    check_strangers(&node, &expect![""]);
}
