//! When a connection's task is woken: for what it has to write, for a change of phase, and when its
//! deadline has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;
use wserver_core::{CloseReason, LimitSettings};
use wserver_node::{Phase, Sent};
use wserver_protocol::{CloseCode, frame};

use crate::peer::{Peer, push_now};
use crate::wire::{Fate, limits, node};

/// Whether a task was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task sleeps on its outbox: it is woken for the first bytes that wait and for each change of
/// phase, and for nothing else.
#[tokio::test]
async fn a_task_is_woken_when_it_has_something_to_do() {
    let node = node(limits(40, 40));
    let join = |fate| Peer::join_with(&node, "ann", &["news"], fate);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let sleep = |peer: &Peer| {
        let _ = peer.attachment.poll_flush(&mut Context::from_waker(&waker));
        woken.take();
    };
    let frame = frame::text(&"x".repeat(98));

    let peer = join(Fate::StallAfter(150));
    sleep(&peer);
    assert_eq!((peer.attachment.send(&frame), woken.take()), (Sent::Written, false));
    assert_eq!((peer.attachment.send(&frame), woken.take()), (Sent::Queued, true));
    sleep(&peer);
    for _ in 0..3 {
        assert_eq!((peer.attachment.send(&frame), woken.take()), (Sent::Queued, false));
    }
    assert_eq!((peer.attachment.send(&frame), woken.take()), (Sent::Overflow, true));
    sleep(&peer);
    assert!(!peer.attachment.close(CloseReason::Disconnected));
    assert!(!woken.take(), "it is closing already");

    let peer = join(Fate::BreakAfter(0));
    sleep(&peer);
    assert_eq!((peer.attachment.send(&frame), woken.take()), (Sent::Ended, true));

    let peer = join(Fate::Flow);
    sleep(&peer);
    assert!(peer.attachment.close(CloseReason::Disconnected) && woken.take());

    let peer = join(Fate::Flow);
    sleep(&peer);
    let goodbye = frame::close(CloseCode::NORMAL, "bye");
    assert!(peer.attachment.close_with(CloseReason::PeerClosed, &goodbye) && woken.take());

    // Closing already, and then cut off.
    sleep(&peer);
    assert_eq!(node.drain(Instant::now()).await.closed, 0);
    assert!(woken.take());
    assert_eq!(peer.flush().phase, Phase::Ended(CloseReason::PeerClosed));
}

/// What a wire has taken and still holds is nobody's queue, and is seen out all the same.
#[tokio::test]
async fn what_a_wire_holds_back_is_seen_out() {
    let node = node(limits(200, 256));
    let peer = Peer::join(&node, "ann", &["news"]);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let flush = || peer.attachment.poll_flush(&mut Context::from_waker(&waker));
    assert!(flush().is_empty);

    peer.line.hold(2);
    assert_eq!(push_now(&node, "ann", "news", "held"), 1);
    assert!(woken.take(), "somebody must see it out");
    assert_eq!(peer.attachment.outbox().queued_bytes(), 0);
    assert!(peer.line.taken().is_empty());

    assert_eq!(push_now(&node, "ann", "news", "queued"), 1);
    assert!(peer.attachment.outbox().queued_bytes() > 0);
    peer.attachment.close(CloseReason::Disconnected);
    assert!(!flush().is_empty, "the peer has not got its Close");
    assert!(flush().is_empty);
    assert_eq!(peer.line.texts(), ["held", "queued", "close 1000"]);
}

/// No connection owns a timer: the sweep wakes the task whose deadline has come, and no other.
#[tokio::test]
async fn the_sweep_wakes_whose_deadline_has_come() {
    let node = node(LimitSettings::default());
    let [due, other] = [(); 2].map(|()| Peer::join(&node, "ann", &["news"]));
    let deadline = std::time::Instant::now() + Duration::from_millis(20);
    due.attachment.wake_at(Some(deadline));
    other.attachment.wake_at(None);
    let woken = [(); 2].map(|()| Arc::new(Woken::default()));
    for (peer, woken) in [&due, &other].into_iter().zip(&woken) {
        let waker = Waker::from(Arc::clone(woken));
        assert!(peer.attachment.poll_flush(&mut Context::from_waker(&waker)).is_empty);
    }
    let sweep = async {
        while !woken[0].take() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), sweep).await.expect("the sweep comes by");
    // A node's clock counts whole milliseconds.
    assert!(std::time::Instant::now() + Duration::from_millis(1) >= deadline);
    assert!(!woken[1].take());
}
