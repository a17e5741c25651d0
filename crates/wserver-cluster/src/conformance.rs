//! The tests that every adapter must pass: [`check_links`], against a running broker.
//!
//! An adapter's tests start its broker and call this. The product's tests, which have three nodes
//! and real clients, cover brokers that are killed, paused or cut off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use wserver_node::NodeId;

use crate::broker::{Broker, BrokerError, Inbound, InboundLane, Link, To};

/// How long to wait before something counts as not happening.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node's link, with the messages that arrived at it.
struct End {
    node: NodeId,
    link: Arc<dyn Link>,
    lanes: Vec<InboundLane>,
}

impl End {
    async fn open(broker: &dyn Broker, number: u64) -> Self {
        let node = NodeId::new(number);
        let (inbound, lanes) = Inbound::new(broker.lanes(), 1 << 30);
        let link = timeout(PATIENCE, broker.open(node, inbound)).await.expect("in time");
        Self { node, link: link.expect("the broker is there"), lanes }
    }

    async fn publish(&self, lane: u16, to: To, text: &str) {
        let messages = vec![(to, Bytes::copy_from_slice(text.as_bytes()))];
        timeout(PATIENCE, self.link.publish(lane, messages)).await.expect("in time").expect("sent");
    }

    async fn next(&mut self, lane: u16) -> Bytes {
        let arrived = timeout(PATIENCE, self.lanes[usize::from(lane)].next()).await;
        arrived.expect("it arrives").expect("the link lives")
    }

    async fn expect_both(&mut self, lane: u16, texts: [&str; 2]) {
        let mut found = [self.next(lane).await, self.next(lane).await];
        found.sort();
        assert_eq!(found, texts.map(|text| Bytes::copy_from_slice(text.as_bytes())));
    }

    async fn expect(&mut self, lane: u16, text: &str) {
        assert_eq!(self.next(lane).await, text.as_bytes());
    }
}

/// Opens links of three nodes and checks everything that [`Broker`] and [`Link`] promise.
///
/// # Cancel safety
///
/// The future may be dropped; its links are closed then.
///
/// # Panics
/// If a promise is broken.
pub async fn check_links(broker: &dyn Broker) {
    assert!(broker.lanes() > 0, "there is a way through it");
    assert!(!broker.kind().is_empty());
    let mut one = End::open(broker, 1).await;
    let mut two = End::open(broker, 2).await;
    let mut three = End::open(broker, 3).await;
    for lane in 0..broker.lanes() {
        // A message for all arrives at all nodes, including the sender; a message for one node
        // arrives nowhere else.
        one.publish(lane, To::All, "to all").await;
        for end in [&mut one, &mut two, &mut three] {
            end.expect(lane, "to all").await;
        }
        one.publish(lane, To::Node(two.node), "to two").await;
        one.publish(lane, To::Node(one.node), "to itself").await;
        one.publish(lane, To::All, "after").await;
        // Each channel has its own order.
        two.expect_both(lane, ["after", "to two"]).await;
        one.expect_both(lane, ["after", "to itself"]).await;
        three.expect(lane, "after").await;
        // A channel without a subscriber is not an error.
        one.publish(lane, To::Node(NodeId::new(99)), "to nobody").await;
    }
    check_order(&one, &mut two).await;
    check_sizes(&one, &mut two, broker.payload_bytes_max()).await;
    check_ends(broker, one, two, three).await;
}

/// Many messages at once, over several calls, arrive in order.
async fn check_order(from: &End, to: &mut End) {
    const CALLS: u32 = 20;
    const MESSAGES: u32 = 250;
    for call in 0..CALLS {
        let numbers = call * MESSAGES..(call + 1) * MESSAGES;
        let messages = numbers
            .map(|number| (To::Node(to.node), Bytes::copy_from_slice(&number.to_be_bytes())));
        let sent = timeout(PATIENCE, from.link.publish(0, messages.collect())).await;
        sent.expect("in time").expect("sent");
    }
    for number in 0..CALLS * MESSAGES {
        assert_eq!(to.next(0).await, number.to_be_bytes().as_slice(), "in order");
    }
}

/// Messages from empty to the promised maximum arrive, whatever their bytes.
async fn check_sizes(from: &End, to: &mut End, bytes_max: usize) {
    for bytes in [0, 1, 255, 70_000, bytes_max.min(4 << 20)] {
        let payload: Vec<u8> = (0..=255).cycle().take(bytes).collect();
        let payload = Bytes::from(payload);
        let sent = from.link.publish(0, vec![(To::Node(to.node), payload.clone())]).await;
        sent.expect("sent");
        assert!(to.next(0).await == payload, "{bytes} bytes arrive as they are");
    }
}

/// A dropped link no longer receives, and the links of other nodes live on.
async fn check_ends(broker: &dyn Broker, one: End, mut two: End, three: End) {
    let End { node, link, mut lanes } = three;
    drop(link);
    let ended = timeout(PATIENCE, async { while lanes[0].next().await.is_some() {} }).await;
    ended.expect("a link that is dropped lets go of its inbound");
    one.publish(0, To::Node(node), "to one who left").await;
    one.publish(0, To::All, "to who is left").await;
    two.expect(0, "to who is left").await;
    // Its successor has another id, and receives nothing from before.
    let mut four = End::open(broker, 4).await;
    one.publish(0, To::All, "to all four").await;
    four.expect(0, "to all four").await;
    two.expect(0, "to all four").await;
    let is_broken = timeout(Duration::from_millis(1), two.link.broken()).await;
    assert!(is_broken.is_err(), "a good link is not broken: {is_broken:?}");
}

/// Messages that arrived by a test's own link, in order.
#[derive(Debug)]
pub struct Ear(Vec<InboundLane>);

impl Ear {
    /// Opens a link as the node of this number.
    ///
    /// # Errors
    /// Those of the broker.
    ///
    /// # Cancel safety
    /// If the future is dropped, no link is open.
    pub async fn open(
        broker: &dyn Broker,
        node: u64,
    ) -> Result<(Arc<dyn Link>, Self), BrokerError> {
        let (inbound, lanes) = Inbound::new(broker.lanes(), 1 << 30);
        let link = broker.open(NodeId::new(node), inbound).await?;
        Ok((link, Self(lanes)))
    }

    /// The next message of a lane.
    ///
    /// # Panics
    /// When none comes in time, or the link has ended.
    ///
    /// # Cancel safety
    /// No item is lost if the future is dropped.
    pub async fn next(&mut self, lane: u16) -> Bytes {
        let arrived = timeout(PATIENCE, self.0[usize::from(lane)].next()).await;
        arrived.expect("in time").expect("the link lives")
    }

    /// All messages so far.
    pub fn all(&mut self) -> Vec<Bytes> {
        let lanes = self.0.iter_mut();
        lanes.flat_map(|lane| std::iter::from_fn(|| lane.try_next())).collect()
    }
}
