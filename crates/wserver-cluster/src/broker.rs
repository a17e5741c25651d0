//! The interface to a broker: everything that a cluster needs of one.
//!
//! A broker carries opaque messages from one node to another or to all, in order as long as nothing
//! breaks, and at most once as far as it knows. The cluster does the rest. It numbers what it
//! sends, so that it can drop duplicate and late messages. It opens a new link when one breaks, so
//! an adapter never reconnects by itself. And it limits what waits on either side.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use wserver_node::NodeId;

/// The receivers of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum To {
    /// Every node of the cluster, including the sender.
    All,
    /// One node.
    Node(NodeId),
}

/// A name under which a broker carries messages.
///
/// A node subscribes to two channels of each lane: that of all nodes, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel {
    /// The lane through the broker, below [`Broker::lanes`].
    pub lane: u16,
    /// The nodes that subscribe.
    pub to: To,
}

impl Channel {
    /// The name within the cluster `cluster`: `cluster.{lane}.all`, `cluster.{lane}.<node>`.
    ///
    /// The braces are Redis Cluster's hash tag, so all channels of a lane are on one shard.
    #[must_use]
    pub fn name(&self, cluster: &str) -> String {
        let lane = self.lane;
        match self.to {
            To::All => format!("{cluster}.{{{lane}}}.all"),
            To::Node(node) => format!("{cluster}.{{{lane}}}.{node}"),
        }
    }

    /// The channels to which `node` subscribes.
    pub fn of_node(node: NodeId, lanes: u16) -> impl Iterator<Item = Self> {
        (0..lanes).flat_map(move |lane| {
            [To::All, To::Node(node)].into_iter().map(move |to| Self { lane, to })
        })
    }
}

/// An adapter for one kind of broker, with its address and access.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// The kind of broker, for logs and answers: `redis`, `nats`.
    fn kind(&self) -> &'static str;

    /// The number of lanes through the broker: at least one, and the same on every node. All
    /// messages of one user use one lane, which keeps their order; a broker with several shards has
    /// one or more lanes through each.
    fn lanes(&self) -> u16 {
        1
    }

    /// Whether all nodes are connected to one and the same process, so that a node that hears
    /// itself is heard by every other node that hears itself. A broker of several servers may
    /// split.
    fn is_one_place(&self) -> bool {
        false
    }

    /// The largest message that it carries, in bytes; the cluster splits larger ones.
    fn payload_bytes_max(&self) -> usize {
        16 * 1024 * 1024
    }

    /// Connects, and subscribes to every [`Channel::of_node`]: messages that are published there
    /// after this returns arrive at `inbound`.
    ///
    /// # Errors
    /// If it cannot connect, with a text that says what an operator can do. It leaves no connection
    /// or task behind.
    ///
    /// # Cancel safety
    ///
    /// The cluster drops the future when its node leaves. An adapter must then close everything
    /// that it has opened.
    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError>;
}

/// An open connection to a broker. Dropping it closes it and ends its tasks.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Publishes these messages of one lane, in order. It returns when the broker has them, or when
    /// they are in a bounded buffer on the way to it.
    ///
    /// # Errors
    /// If some messages may not have been published. The cluster then opens a new link.
    ///
    /// # Cancel safety
    ///
    /// The cluster drops the future when it gives up the link. Any number of the messages may have
    /// been published by then.
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError>;

    /// Waits until this link is no longer usable, because the connection has ended, a subscription
    /// was lost or a shard has moved.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped and the method called again; a link that is broken returns its
    /// error at once.
    async fn broken(&self) -> BrokerError;
}

/// Why a broker cannot be used, in words for an operator; it never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    kind: BrokerErrorKind,
    message: String,
}

/// What an operator can do about a [`BrokerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerErrorKind {
    /// It may work later: the broker does not answer, the connection has ended, or a fail-over is
    /// in progress.
    Unreachable,
    /// It will not work until somebody changes a password, a certificate, a permission or the like.
    Refused,
}

impl BrokerError {
    /// An error of the kind [`BrokerErrorKind::Unreachable`].
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self { kind: BrokerErrorKind::Unreachable, message: message.to_string() }
    }

    /// An error of the kind [`BrokerErrorKind::Refused`].
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { kind: BrokerErrorKind::Refused, message: message.to_string() }
    }

    /// What an operator can do about it.
    #[must_use]
    pub const fn kind(&self) -> BrokerErrorKind {
        self.kind
    }
}

/// The queue into which an adapter puts arriving messages. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Inbound {
    lanes: Arc<[LaneInbound]>,
    bytes_max: u64,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct LaneInbound {
    messages: mpsc::Sender<Bytes>,
    /// Waiting bytes. Increased here, and decreased by the code that takes a message out.
    bytes: Arc<AtomicU64>,
}

/// The receiving end of one lane of an [`Inbound`].
#[derive(Debug)]
pub(crate) struct InboundLane {
    messages: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicU64>,
}

/// The most waiting messages of one lane, whatever their size.
const MESSAGES_MAX: usize = 65_536;

impl Inbound {
    /// A queue for `lanes` lanes, each limited to `bytes_max` bytes.
    pub(crate) fn new(lanes: u16, bytes_max: usize) -> (Self, Vec<InboundLane>) {
        let (near, far) = (0..lanes)
            .map(|_| {
                let (sender, messages) = mpsc::channel(MESSAGES_MAX);
                let bytes = Arc::new(AtomicU64::new(0));
                let near = LaneInbound { messages: sender, bytes: Arc::clone(&bytes) };
                (near, InboundLane { messages, bytes })
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        (Self { lanes: near.into(), bytes_max, dropped: Arc::default() }, far)
    }

    /// Queues a message, or drops and counts it if too much waits already. It never waits, because
    /// a broker cuts off a subscriber that does not read.
    pub fn offer(&self, lane: u16, payload: Bytes) {
        let Some(near) = self.lanes.get(usize::from(lane)) else { return };
        let bytes = payload.len() as u64;
        let before = near.bytes.fetch_add(bytes, Ordering::Relaxed);
        // A single message is always accepted, however large.
        let is_room = before == 0 || before + bytes <= self.bytes_max;
        if !is_room || near.messages.try_send(payload).is_err() {
            near.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many messages found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl InboundLane {
    /// The next message, if one has arrived.
    #[cfg(feature = "conformance")]
    pub(crate) fn try_next(&mut self) -> Option<Bytes> {
        self.messages.try_recv().ok()
    }

    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let payload = self.messages.recv().await?;
        self.bytes.fetch_sub(payload.len() as u64, Ordering::Relaxed);
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_a_lane_share_a_hash_tag() {
        let node = NodeId::new(0xab);
        let names: Vec<String> =
            Channel::of_node(node, 2).map(|channel| channel.name("shop")).collect();
        assert_eq!(
            names,
            [
                "shop.{0}.all",
                "shop.{0}.00000000000000ab",
                "shop.{1}.all",
                "shop.{1}.00000000000000ab"
            ]
        );
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_and_counted_beyond() {
        let (inbound, mut lanes) = Inbound::new(1, 10);
        inbound.offer(0, Bytes::from_static(&[0; 20]));
        inbound.offer(0, Bytes::from_static(&[0; 1]));
        assert_eq!(inbound.dropped(), 1, "one is taken however large, and then no more");
        inbound.offer(7, Bytes::new());
        assert_eq!(lanes[0].next().await.unwrap().len(), 20);
        for _ in 0..3 {
            inbound.offer(0, Bytes::from_static(&[0; 5]));
        }
        assert_eq!(inbound.dropped(), 2);
        assert_eq!(lanes[0].next().await.unwrap().len(), 5);
    }
}
