//! The lane of a user, step by step: what is written by whom, merged with what, in which order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use wserver_core::LimitSettings;
use wserver_node::{Message, NoDelivery, Selection};

use crate::peer::{Peer, poll, push_now, walked};
use crate::wire::{PUSH, event, limits, node, user};

/// More members than a pusher writes to itself.
const LARGE: usize = 40;

/// On a runtime of one thread a walker runs only when the test lets it.
#[tokio::test]
async fn a_walk_hands_out_what_has_gathered_in_one_write() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let texts: Vec<String> = (0..20).map(|number| format!("message {number}")).collect();
    for text in &texts {
        assert_eq!(push_now(&node, "ann", "news", text), LARGE);
    }
    assert!(peers.iter().all(|peer| peer.line.taken().is_empty()), "no write in the push");
    walked(&node).await;
    for peer in &peers {
        assert_eq!(peer.line.texts(), texts);
        assert_eq!(peer.line.write_ends().len(), 1, "one write for all");
    }
}

#[tokio::test]
async fn a_small_group_is_written_by_the_pusher() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..32).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    assert_eq!(push_now(&node, "ann", "news", "at once"), 32);
    for peer in &peers {
        assert_eq!(peer.line.texts(), ["at once"]);
    }
    assert_eq!(node.tasks().count(), 1, "no walker");
}

#[tokio::test]
async fn whoever_registers_behind_a_push_does_not_get_it() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    assert_eq!(push_now(&node, "ann", "news", "first"), LARGE);
    let late = Peer::join(&node, "ann", &["news"]);
    assert_eq!(push_now(&node, "ann", "news", "second"), LARGE + 1);
    peers[0].register(&node, "ann", "chat");
    assert_eq!(push_now(&node, "ann", "chat", "third"), 1);
    late.register(&node, "ann", "chat");
    assert_eq!(push_now(&node, "ann", "chat", "fourth"), 2);
    walked(&node).await;
    assert_eq!(peers[0].line.texts(), ["first", "second", "third", "fourth"]);
    assert_eq!(peers[1].line.texts(), ["first", "second"]);
    assert_eq!(late.line.texts(), ["second", "fourth"]);
}

/// The events of one user share one order, also within one merged write.
#[tokio::test]
async fn the_order_goes_across_events() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> =
        (0..LARGE).map(|_| Peer::join(&node, "ann", &["news", "chat"])).collect();
    let texts: Vec<String> = (0..150).map(|number| format!("{number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        // More runs than fit into one segment.
        push_now(&node, "ann", ["news", "chat"][number % 2], text);
    }
    walked(&node).await;
    for peer in &peers {
        assert_eq!(peer.line.texts(), texts);
    }
}

#[tokio::test]
async fn a_push_beyond_walk_bytes_max_waits_for_room() {
    let node = node(limits(64, 128));
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let text = "x".repeat(64);
    for _ in 0..2 {
        push_now(&node, "ann", "news", &text);
    }
    let (ann, news) = (user("ann"), event("news"));
    let message = Message::new(&news, PUSH, "last");
    let mut waiting = pin!(node.push(&ann, message.clone()));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!(node.counters().pushes_waited_total.value(), 1);
    let receipt = waiting.await;
    assert_eq!(receipt.delivered(), LARGE);
    walked(&node).await;
    assert_eq!(peers[0].line.texts(), [text.as_str(), text.as_str(), "last"]);
}

/// The bound is kept to the byte: a log that holds exactly as much is full.
#[tokio::test]
async fn a_log_with_walk_bytes_max_is_full() {
    let node = node(limits(64, 128));
    let _peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    // Frames of 64 and of 63 bytes, heads included.
    push_now(&node, "ann", "news", &"x".repeat(62));
    push_now(&node, "ann", "news", &"x".repeat(61));
    assert_eq!(push_now(&node, "ann", "news", ""), LARGE, "127 bytes leave room");
    walked(&node).await;

    push_now(&node, "ann", "news", &"x".repeat(62));
    push_now(&node, "ann", "news", &"x".repeat(62));
    let (ann, news) = (user("ann"), event("news"));
    let message = Message::new(&news, PUSH, "last");
    let mut waiting = pin!(node.push(&ann, message.clone()));
    assert!(poll(waiting.as_mut()).is_pending(), "128 bytes do not");
    assert_eq!(waiting.await.delivered(), LARGE);
}

/// What is under way and what joins it are within `walk_bytes_max` together, so no member is handed
/// more than that at once.
#[tokio::test]
async fn what_joins_a_round_is_within_the_bound_of_the_lane() {
    let node = node(limits(64, 128));
    let peers: Vec<Peer> = (0..100).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let text = "x".repeat(62);
    // Long before the walker has come round, the log is full again.
    let within = node.clone();
    peers[5].line.interrupt(move || {
        for _ in 0..2 {
            assert_eq!(push_now(&within, "ann", "news", &"y".repeat(62)), 100);
        }
    });
    for _ in 0..2 {
        assert_eq!(push_now(&node, "ann", "news", &text), 100);
    }
    walked(&node).await;
    for peer in &peers {
        assert_eq!(peer.line.texts()[2..], ["y".repeat(62), "y".repeat(62)]);
        assert_eq!(peer.line.write_ends(), [128, 256], "no write of more");
    }
}

/// First in, first out; and whoever comes when there is room again still comes behind those who wait.
#[tokio::test]
async fn pushes_that_wait_are_let_in_in_their_order() {
    let node = node(limits(64, 128));
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let text = "x".repeat(64);
    for _ in 0..2 {
        push_now(&node, "ann", "news", &text);
    }
    let (ann, news) = (user("ann"), event("news"));
    let messages = ["first", "second", "third"].map(|text| Message::new(&news, PUSH, text));
    let mut waiting: Vec<_> =
        messages.into_iter().map(|message| Box::pin(node.push(&ann, message))).collect();
    for push in &mut waiting {
        assert!(poll(push.as_mut()).is_pending());
    }
    for push in waiting {
        assert_eq!(push.await.delivered(), LARGE);
    }
    walked(&node).await;
    assert_eq!(peers[0].line.texts()[2..], ["first", "second", "third"]);
}

#[tokio::test]
async fn a_push_that_waits_for_a_user_who_disconnects_answers_zero() {
    let node = node(limits(64, 128));
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    for _ in 0..2 {
        push_now(&node, "ann", "news", &"x".repeat(64));
    }
    let (ann, news) = (user("ann"), event("news"));
    let message = Message::new(&news, PUSH, "last");
    let mut waiting = pin!(node.push(&ann, message.clone()));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!(node.disconnect(Selection::User(&ann)), LARGE);
    let Poll::Ready(receipt) = poll(waiting) else { panic!("nobody is left to wait for") };
    assert_eq!((receipt.delivered(), receipt.reason), (0, Some(NoDelivery::UserOffline)));
    walked(&node).await;
    assert_eq!(peers[0].line.texts(), ["close 1000"]);
}

/// A caller that leaves while it waits leaves nothing behind it stuck.
#[tokio::test]
async fn a_waiting_push_that_is_dropped_is_passed_over() {
    let node = node(limits(64, 128));
    let peers: Vec<Peer> = (0..LARGE).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    for _ in 0..2 {
        push_now(&node, "ann", "news", &"x".repeat(64));
    }
    let (ann, news) = (user("ann"), event("news"));
    let [dropped, last] = ["dropped", "last"].map(|text| Message::new(&news, PUSH, text));
    {
        let mut waiting = pin!(node.push(&ann, dropped));
        assert!(poll(waiting.as_mut()).is_pending());
    }
    let mut waiting = pin!(node.push(&ann, last));
    assert!(poll(waiting.as_mut()).is_pending());
    assert_eq!(waiting.await.delivered(), LARGE);
    walked(&node).await;
    assert_eq!(peers[0].line.texts()[2..], ["last"]);
}

/// What is accepted while another push is being written comes behind it, to every member.
#[tokio::test]
async fn a_push_during_a_write_comes_behind_it() {
    let node = node(LimitSettings::default());
    let peers: Vec<Peer> = (0..3).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let counted = Arc::new(AtomicUsize::new(0));
    let (within, seen) = (node.clone(), Arc::clone(&counted));
    peers[0].line.interrupt(move || {
        seen.store(push_now(&within, "ann", "news", "second"), Ordering::Relaxed);
    });
    assert_eq!(push_now(&node, "ann", "news", "first"), 3);
    assert_eq!(counted.load(Ordering::Relaxed), 3);
    walked(&node).await;
    for peer in &peers {
        assert_eq!(peer.line.texts(), ["first", "second"]);
    }
}

/// The group grows and shrinks across the border between both ways of writing.
#[tokio::test]
async fn groups_cross_the_border_both_ways() {
    let node = node(LimitSettings::default());
    let mut peers: Vec<Peer> = (0..31).map(|_| Peer::join(&node, "ann", &["news"])).collect();
    let mut expected = Vec::new();
    for (number, joins) in [1, 1, 10, 0].into_iter().enumerate() {
        peers.extend((0..joins).map(|_| Peer::join(&node, "ann", &["news"])));
        for turn in 0..2 {
            let text = format!("{number} {turn}");
            assert_eq!(push_now(&node, "ann", "news", &text), peers.len());
            expected.push(text);
        }
    }
    peers.truncate(5);
    expected.push("few".to_owned());
    assert_eq!(push_now(&node, "ann", "news", "few"), 5);
    walked(&node).await;
    assert_eq!(peers[0].line.texts(), expected);
}

/// A panic in the middle of a walk closes whom the walk was for, and leaves a lane that works.
#[tokio::test]
async fn a_panic_in_the_middle_of_a_walk_leaves_no_lane_dead() {
    // More members than a pusher writes to itself, and so few that it does.
    for members in [LARGE, 3] {
        let node = node(LimitSettings::default());
        let peers: Vec<Peer> = (0..members).map(|_| Peer::join(&node, "ann", &["news"])).collect();
        peers[1].line.interrupt(|| panic!("on purpose"));
        let pushing = AssertUnwindSafe(|| push_now(&node, "ann", "news", "lost on the way"));
        assert_eq!(catch_unwind(pushing).is_err(), members < LARGE, "whoever walks panics");
        walked(&node).await;

        assert_eq!(node.counters().panics_total.value(), 1);
        assert_eq!(push_now(&node, "ann", "news", "to nobody"), 0, "all of them are closed");
        assert_eq!(peers[0].line.texts(), ["lost on the way", "close 1011"]);
        assert!(peers.iter().all(|peer| peer.line.texts().ends_with(&["close 1011".to_owned()])));

        let back = Peer::join(&node, "ann", &["news"]);
        assert_eq!(push_now(&node, "ann", "news", "to who came back"), 1);
        walked(&node).await;
        assert_eq!(back.line.texts(), ["to who came back"]);
    }
}

/// Whoever registers while the members are still being closed finds a lane that works, too.
#[tokio::test]
async fn who_registers_right_after_a_panic_is_pushed_to() {
    struct OnWake<F>(F);
    impl<F: Fn() + Send + Sync> Wake for OnWake<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    for members in [LARGE, 3] {
        let node = node(LimitSettings::default());
        let peers: Vec<Peer> = (0..members).map(|_| Peer::join(&node, "ann", &["news"])).collect();
        let back = Arc::new(Peer::join(&node, "ann", &[]));
        // Its client sees the Close of the first one before the others have theirs.
        let (comes, within) = (Arc::clone(&back), node.clone());
        let waker = Waker::from(Arc::new(OnWake(move || comes.register(&within, "ann", "news"))));
        let _ = peers[0].attachment.poll_flush(&mut Context::from_waker(&waker));
        peers[1].line.interrupt(|| panic!("on purpose"));
        let pushing = AssertUnwindSafe(|| push_now(&node, "ann", "news", "lost on the way"));
        assert_eq!(catch_unwind(pushing).is_err(), members < LARGE, "whoever walks panics");
        walked(&node).await;

        assert_eq!(push_now(&node, "ann", "news", "to who came back"), 1);
        walked(&node).await;
        assert_eq!(back.line.texts(), ["to who came back"]);
    }
}
