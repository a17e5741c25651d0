//! One connection that is driven by hand, and pushes that are polled by hand.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use wserver_node::{Attachment, Flush, Message, NoDelivery, Node, PushOptions, PushReceipt};
use wserver_protocol::Protocol;

use crate::wire::{FakeWire, Fate, Line, PUSH, event, user};

/// A connection that does nothing by itself.
pub(crate) struct Peer {
    pub(crate) attachment: Attachment<FakeWire>,
    pub(crate) line: Arc<Line>,
}

impl Peer {
    /// Opens a connection that takes everything, registered for these events of `name`.
    pub(crate) fn join(node: &Node<FakeWire>, name: &str, events: &[&str]) -> Self {
        Self::join_with(node, name, events, Fate::Flow)
    }

    /// One that takes everything and is registered for nothing.
    pub(crate) fn open(node: &Node<FakeWire>, protocol: Protocol) -> Self {
        let line = Line::calm();
        let attachment = node.open(FakeWire(Arc::clone(&line)), protocol).unwrap();
        Self { attachment, line }
    }

    pub(crate) fn join_with(
        node: &Node<FakeWire>,
        name: &str,
        events: &[&str],
        fate: Fate,
    ) -> Self {
        let line = Line::new(None, fate);
        let attachment = node.open(FakeWire(Arc::clone(&line)), Protocol::V1).unwrap();
        let peer = Self { attachment, line };
        for about in events {
            peer.register(node, name, about);
        }
        peer
    }

    pub(crate) fn register(&self, node: &Node<FakeWire>, name: &str, about: &str) {
        self.attachment.register(&user(name), &event(about), node.digest("token")).unwrap();
    }

    /// What its task would do when it is woken.
    pub(crate) fn flush(&self) -> Flush {
        self.attachment.poll_flush(&mut Context::from_waker(Waker::noop()))
    }
}

/// Polls once.
pub(crate) fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Pushes to `name`; the answer must be there at once.
pub(crate) fn push_now(node: &Node<FakeWire>, name: &str, about: &str, text: &str) -> usize {
    push_with(node, name, about, text, PushOptions::default()).delivered()
}

/// The same with all that is asked for and answered.
pub(crate) fn push_with(
    node: &Node<FakeWire>,
    name: &str,
    about: &str,
    text: &str,
    options: PushOptions,
) -> PushReceipt {
    let (name, about) = (user(name), event(about));
    let mut message = Message::new(&about, PUSH, text);
    match poll(pin!(node.push_with(&name, &mut message, &options))) {
        Poll::Ready(receipt) => receipt,
        Poll::Pending => panic!("{text} waits"),
    }
}

/// The options of a push that leaves this connection out.
pub(crate) fn without(peer: &Peer) -> PushOptions {
    PushOptions { exclude: Some(peer.attachment.id()), ..PushOptions::default() }
}

/// The options of a push whose time is over then.
pub(crate) fn until(expires_at: Instant) -> PushOptions {
    PushOptions { expires_at: Some(expires_at), ..PushOptions::default() }
}

/// Pushes news to ann, with a time that is not over when that is accepted, but soon; tells when.
pub(crate) fn push_briefly(node: &Node<FakeWire>, text: &str, matched: usize) -> Instant {
    let mut time = Duration::from_millis(1);
    loop {
        let expires_at = Instant::now() + time;
        let receipt = push_with(node, "ann", "news", text, until(expires_at));
        if receipt.reason != Some(NoDelivery::Expired) {
            assert_eq!(receipt.delivered(), matched);
            return expires_at;
        }
        // The machine was busy elsewhere.
        time *= 2;
    }
}

/// Lets the time pass until then.
pub(crate) fn pass(moment: Instant) {
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

/// Lets every walker finish; the sweep is a task as well, and stays.
pub(crate) async fn walked(node: &Node<FakeWire>) {
    while node.tasks().count() > 1 {
        yield_now().await;
    }
}
