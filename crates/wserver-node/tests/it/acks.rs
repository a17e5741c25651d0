//! Pushes that wait for acknowledgements: who is waited for, what settles a connection, and that
//! nothing stays behind.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use wserver_core::{CloseReason, LimitSettings, PushId};
use wserver_node::{
    AckWait, Acks, AwaitedPush, Message, Node, NodeId, Protocol, PushOptions, PushReceipt, WaitFor,
    Waited,
};

use crate::peer::{Peer, poll, push_now, walked, without};
use crate::wire::{FakeWire, PUSH, event, node, user};

/// More members than a pusher writes to itself.
const LARGE: usize = 40;

fn join(node: &Node<FakeWire>, protocol: Protocol, count: usize) -> Vec<Peer> {
    let peers = (0..count).map(|_| {
        let peer = Peer::open(node, protocol);
        peer.register(node, "ann", "news");
        peer
    });
    peers.collect()
}

/// A push of news to ann that waits, for a minute unless it is said otherwise.
struct Waiting {
    wait: AckWait,
    push: AwaitedPush,
}

fn expect(node: &Node<FakeWire>, until: WaitFor) -> Waiting {
    expect_for(node, until, Duration::from_secs(60))
}

fn expect_for(node: &Node<FakeWire>, until: WaitFor, time: Duration) -> Waiting {
    let wait = node.wait_for_acks().unwrap();
    let push = wait.expect(until, Instant::now() + time);
    Waiting { wait, push }
}

impl Waiting {
    fn push(&self, node: &Node<FakeWire>, options: PushOptions) -> PushReceipt {
        let (name, about) = (user("ann"), event("news"));
        let mut message = Message::new(&about, PUSH, "waits");
        message.await_acks(self.push);
        match poll(pin!(node.push_with(&name, &mut message, &options))) {
            Poll::Ready(receipt) => receipt,
            Poll::Pending => panic!("it waits for room"),
        }
    }

    /// What came of it, if it is finished.
    fn finished(&self) -> Option<Acks> {
        match poll(pin!(self.wait.waited(self.push))) {
            Poll::Ready(Waited { acks, .. }) => Some(acks),
            Poll::Pending => None,
        }
    }
}

fn pushed(node: &Node<FakeWire>, until: WaitFor) -> Waiting {
    let waiting = expect(node, until);
    waiting.push(node, PushOptions::default());
    waiting
}

fn acks(acked: usize, waiting: usize, unable: usize, lost: usize) -> Acks {
    Acks { acked, waiting, unable, lost }
}

#[tokio::test]
async fn the_first_is_enough_or_all_are_needed() {
    let node = node(LimitSettings::default());
    let peers = join(&node, Protocol::V2, 2);
    let _older = join(&node, Protocol::V1, 1);
    let (first, all) = (pushed(&node, WaitFor::First), pushed(&node, WaitFor::All));
    assert_eq!((first.finished(), all.finished()), (None, None));
    peers[0].attachment.acknowledge(PUSH);
    assert_eq!(first.finished(), Some(acks(1, 1, 1, 0)));
    assert_eq!(all.finished(), None);
    peers[0].attachment.acknowledge(PUSH);
    assert_eq!(all.finished(), None, "once is once");
    peers[1].attachment.acknowledge(PUSH);
    assert_eq!(all.finished(), Some(acks(2, 0, 1, 0)));
    assert_eq!(node.counters().acks_total.value(), 2);
}

/// Only a push that waits asks for it, and only in version 2.
#[tokio::test]
async fn the_head_asks_for_it() {
    let node = node(LimitSettings::default());
    let [v1, v2] = Protocol::VERSIONS.map(|protocol| join(&node, protocol, 1).remove(0));
    push_now(&node, "ann", "news", "plain");
    let _waiting = pushed(&node, WaitFor::First);
    assert_eq!(v1.line.texts(), ["plain", "waits"]);
    let head = "{\"event\":\"news\",\"id\":\"5f3a9c01-12\"";
    assert_eq!(
        v2.line.texts(),
        [format!("{head}}}\nplain"), format!("{head},\"ack\":true}}\nwaits")]
    );
}

#[tokio::test]
async fn nobody_who_can_is_answered_at_once() {
    let node = node(LimitSettings::default());
    assert_eq!(pushed(&node, WaitFor::All).finished(), Some(acks(0, 0, 0, 0)), "offline");
    let older = join(&node, Protocol::V1, 2);
    for until in [WaitFor::First, WaitFor::All] {
        assert_eq!(pushed(&node, until).finished(), Some(acks(0, 0, 2, 0)));
    }
    let waiting = expect(&node, WaitFor::All);
    let receipt = waiting.push(&node, without(&older[0]));
    assert_eq!((receipt.matched, waiting.finished()), (1, Some(acks(0, 0, 1, 0))));
}

#[tokio::test]
async fn who_ends_is_lost() {
    let node = node(LimitSettings::default());
    let mut peers = join(&node, Protocol::V2, 3);
    let all = pushed(&node, WaitFor::All);
    drop(peers.pop());
    assert_eq!(all.finished(), None);
    // Nothing more that it says is read.
    assert!(peers[1].attachment.close(CloseReason::Silent));
    peers[1].attachment.acknowledge(PUSH);
    peers[0].attachment.acknowledge(PUSH);
    assert_eq!(all.finished(), Some(acks(1, 0, 0, 2)));
    let first = pushed(&node, WaitFor::First);
    drop(peers);
    assert_eq!(first.finished(), Some(acks(0, 0, 0, 1)), "nobody is left to be the first");
}

/// It ends in the middle of the write, by the pusher or by a walker.
#[tokio::test]
async fn who_ends_while_it_is_written_is_lost() {
    for others in [0, LARGE] {
        let node = node(LimitSettings::default());
        let peers = join(&node, Protocol::V2, 1 + others);
        let ending = peers[0].attachment.id();
        let inner = node.clone();
        peers[0].line.interrupt(move || {
            let outbox = inner.connection(ending).unwrap();
            drop(std::thread::spawn(move || inner.close(&outbox, CloseReason::Internal)));
        });
        let all = pushed(&node, WaitFor::All);
        walked(&node).await;
        for peer in &peers[1..] {
            peer.attachment.acknowledge(PUSH);
        }
        let waited = all.wait.waited(all.push).await;
        assert_eq!(waited.acks, acks(others, 0, 0, 1));
    }
}

/// The client is quicker than the walker, which has not written to anybody else.
#[tokio::test]
async fn an_acknowledgement_before_the_others_have_the_message_counts() {
    let node = node(LimitSettings::default());
    let peers = join(&node, Protocol::V2, LARGE);
    let first = pushed(&node, WaitFor::First);
    assert_eq!(peers[LARGE - 1].line.texts(), [""; 0]);
    peers[0].attachment.acknowledge(PUSH);
    assert_eq!(first.finished(), Some(acks(1, LARGE - 1, 0, 0)));
    walked(&node).await;
    assert_eq!(peers[LARGE - 1].line.texts().len(), 1);
}

#[tokio::test]
async fn what_is_foreign_changes_nothing() {
    let node = node(LimitSettings::default());
    let peers = join(&node, Protocol::V2, 1);
    let other = Peer::open(&node, Protocol::V2);
    other.register(&node, "eve", "news");
    let chat = Peer::open(&node, Protocol::V2);
    chat.register(&node, "ann", "chat");
    let waiting = expect(&node, WaitFor::First);
    peers[0].attachment.acknowledge(PUSH);
    waiting.push(&node, PushOptions::default());
    let late = join(&node, Protocol::V2, 1);
    for stranger in [&other, &chat, &late[0]] {
        stranger.attachment.acknowledge(PUSH);
    }
    peers[0].attachment.acknowledge(PushId::new(PUSH.process(), PUSH.number() + 1));
    assert_eq!(waiting.finished(), None);
    peers[0].attachment.acknowledge(PUSH);
    assert_eq!(waiting.finished(), Some(acks(1, 0, 0, 0)));
}

#[tokio::test]
async fn a_deadline_ends_it() {
    let node = node(LimitSettings::default());
    let peers = join(&node, Protocol::V2, 2);
    let all = expect_for(&node, WaitFor::All, Duration::from_millis(1));
    all.push(&node, PushOptions::default());
    peers[0].attachment.acknowledge(PUSH);
    let waited = all.wait.waited(all.push).await;
    assert_eq!(waited.acks, acks(1, 1, 0, 0));
}

#[tokio::test]
async fn a_request_that_is_dropped_frees_everything() {
    let limits = LimitSettings { waits_max: 1, ..LimitSettings::default() };
    let node = node(limits);
    let peers = join(&node, Protocol::V2, LARGE);
    let waiting = pushed(&node, WaitFor::All);
    assert!(node.wait_for_acks().is_err());
    assert_eq!((node.waits(), node.counters().waits_refused_total.value()), (1, 1));
    drop(waiting);
    assert_eq!(node.waits(), 0);
    peers[0].attachment.acknowledge(PUSH);
    assert_eq!(node.counters().acks_total.value(), 0);
    // The walk still has the message of a request that has gone.
    walked(&node).await;
    assert_eq!(pushed(&node, WaitFor::All).finished(), None);
}

/// Pushes that find the log full are accepted by the walker, later.
#[tokio::test]
async fn a_push_that_waits_for_room_is_waited_for() {
    let limits = LimitSettings { walk_bytes_max: 64, ..LimitSettings::default() };
    let node = node(limits);
    let peers = join(&node, Protocol::V2, LARGE);
    let (ann, news) = (user("ann"), event("news"));
    for number in 0..2 {
        let mut message = Message::new(&news, PushId::new(1, number), "fills the log of the lane");
        let options = PushOptions::default();
        assert!(poll(pin!(node.push_with(&ann, &mut message, &options))).is_ready());
    }
    let [kept, dropped] = [(); 2].map(|()| expect(&node, WaitFor::All));
    let options = PushOptions::default();
    let [mut first, mut second] = [kept.push, dropped.push].map(|push| {
        let mut message = Message::new(&news, PUSH, "waits");
        message.await_acks(push);
        message
    });
    let mut first = Box::pin(node.push_with(&ann, &mut first, &options));
    let mut second = Box::pin(node.push_with(&ann, &mut second, &options));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    drop((second, dropped));
    assert_eq!(first.await.matched, LARGE);
    walked(&node).await;
    for peer in &peers {
        assert!(peer.line.texts().last().unwrap().ends_with("\"ack\":true}\nwaits"));
        peer.attachment.acknowledge(PUSH);
    }
    assert_eq!(kept.finished(), Some(acks(LARGE, 0, 0, 0)));
}

#[tokio::test]
async fn who_can_acknowledge_is_known_before() {
    let node = node(LimitSettings::default());
    let peers = join(&node, Protocol::V2, 3);
    let _older = join(&node, Protocol::V1, 2);
    let (ann, news) = (user("ann"), event("news"));
    assert_eq!(node.able_to_acknowledge(&ann, &news, None), 3);
    assert_eq!(node.able_to_acknowledge(&ann, &news, Some(peers[0].attachment.id())), 2);
    assert_eq!(node.able_to_acknowledge(&ann, &event("chat"), None), 0);
    assert_eq!(node.able_to_acknowledge(&user("eve"), &news, None), 0);
}

#[tokio::test]
async fn other_nodes_tell_theirs() {
    let node = node(LimitSettings::default());
    let [b, c, d] = [2, 3, 4].map(NodeId::new);
    let all = expect_for(&node, WaitFor::All, Duration::from_millis(1));
    node.acks_asked(&all.push, [b, c, d]);
    all.push(&node, PushOptions::default());
    node.acks_begun(&all.push, b, Some(acks(0, 2, 1, 0)));
    node.acks_begun(&all.push, c, Some(acks(0, 0, 3, 0)));
    node.acks_begun(&all.push, d, None);
    let (request, index) = (all.push.request(), all.push.index());
    for (request, index, from) in [(request, index, d), (request + 1, index, b), (request, 1, b)] {
        node.acks_settled(request, index, from, acks(9, 0, 0, 0));
    }
    let waited = all.wait.waited(all.push).await;
    assert_eq!((waited.acks, waited.silent), (acks(0, 2, 4, 0), vec![b]));

    let first = expect(&node, WaitFor::First);
    node.acks_asked(&first.push, [b, c]);
    first.push(&node, PushOptions::default());
    // Its second answer comes before its first one was looked at.
    node.acks_settled(first.push.request(), first.push.index(), b, acks(1, 1, 0, 0));
    node.acks_begun(&first.push, b, Some(acks(0, 2, 0, 0)));
    let waited = first.wait.waited(first.push).await;
    assert_eq!((waited.acks, waited.silent), (acks(1, 1, 0, 0), vec![]));
    assert_eq!(waited.unneeded, [c]);
}
