//! The port: what a cluster asks of a broker, and nothing more.
//!
//! A broker carries opaque messages from one node to another or to all, in order as long as nothing
//! breaks, at most once as far as it knows. Everything else is the cluster's: it numbers what it
//! sends, so that what comes twice or too late is let go; it opens a link anew when one breaks, so an
//! adapter never reconnects by itself; and it bounds what waits on either side.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// One node of a cluster, for as long as its process lives: a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The node of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum To {
    /// Every node of the cluster, the sender too.
    All,
    /// One node.
    Node(NodeId),
}

/// One of the names under which a broker carries messages.
///
/// A node listens on two of each lane: that of all, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Which way through the broker, below [`Broker::lanes`].
    pub lane: u16,
    /// Who listens.
    pub to: To,
}

impl Channel {
    /// The name within a cluster called `cluster`: `cluster.{lane}.all`, `cluster.{lane}.<node>`.
    ///
    /// The braces are Redis Cluster's hash tag: all channels of a lane live on one shard.
    #[must_use]
    pub fn name(&self, cluster: &str) -> String {
        let lane = self.lane;
        match self.to {
            To::All => format!("{cluster}.{{{lane}}}.all"),
            To::Node(node) => format!("{cluster}.{{{lane}}}.{node}"),
        }
    }

    /// The channels that `node` listens on.
    pub fn of_node(node: NodeId, lanes: u16) -> impl Iterator<Item = Self> {
        (0..lanes).flat_map(move |lane| {
            [To::All, To::Node(node)].into_iter().map(move |to| Self { lane, to })
        })
    }
}

/// A broker's address and how to reach it: one adapter.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// What it is, for logs and answers: `redis`, `nats`.
    fn kind(&self) -> &'static str;

    /// How many ways there are through it, at least one, the same on every node. What belongs to one
    /// user goes one way, so that it keeps its order; a broker of several shards has a way or more
    /// through each.
    fn lanes(&self) -> u16 {
        1
    }

    /// Whether all who use it are at one and the same process, so that a node which hears itself is heard
    /// by all who hear themselves. A broker of several servers may be split.
    fn is_one_place(&self) -> bool {
        false
    }

    /// The largest message it carries; larger ones are cut into parts by the cluster.
    fn payload_bytes_max(&self) -> usize {
        16 * 1024 * 1024
    }

    /// Connects, and listens on every [`Channel::of_node`]: when this returns, what is published
    /// there arrives at `inbound`.
    ///
    /// # Errors
    /// When it cannot, with what an operator can do about it; nothing is left behind.
    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError>;
}

/// An open connection to a broker. Dropping it closes it and ends its tasks.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Publishes these messages of one lane, in their order; returns when the broker has them, or
    /// when they stand in a bounded buffer on the way to it.
    ///
    /// # Errors
    /// When some may not have been published. The cluster opens a new link then.
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError>;

    /// Waits until this link is of no more use: the connection has ended, a subscription was lost, a
    /// shard has moved.
    async fn broken(&self) -> BrokerError;
}

/// Why a broker cannot be used, in words for an operator; never with a secret in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BrokerError {
    kind: BrokerErrorKind,
    message: String,
}

/// What there is to do about a [`BrokerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerErrorKind {
    /// It may work later: nobody answers, the connection has ended, a fail-over is under way.
    Unreachable,
    /// It will not work before somebody changes something: a password, a certificate, a permission.
    Refused,
}

impl BrokerError {
    /// It may work later.
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self { kind: BrokerErrorKind::Unreachable, message: message.to_string() }
    }

    /// Somebody has to change something.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { kind: BrokerErrorKind::Refused, message: message.to_string() }
    }

    /// What there is to do about it.
    #[must_use]
    pub const fn kind(&self) -> BrokerErrorKind {
        self.kind
    }
}

/// Where an adapter hands over what has arrived. A clone is the same place.
#[derive(Debug, Clone)]
pub struct Inbound {
    lanes: Arc<[LaneInbound]>,
    bytes_max: u64,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct LaneInbound {
    messages: mpsc::Sender<Bytes>,
    /// Bytes that wait. Added to here, subtracted by whoever takes a message out.
    bytes: Arc<AtomicU64>,
}

/// The other end of one lane of an [`Inbound`].
#[derive(Debug)]
pub(crate) struct InboundLane {
    messages: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicU64>,
}

/// Messages of one lane that wait, whatever their size.
const MESSAGES_MAX: usize = 65_536;

impl Inbound {
    /// A place for messages of `lanes` lanes, each bounded by `bytes_max` bytes.
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

    /// Takes a message in, or counts it as dropped where too much waits already. Never waits: a
    /// broker that is not read from cuts its reader off.
    pub fn offer(&self, lane: u16, payload: Bytes) {
        let Some(near) = self.lanes.get(usize::from(lane)) else { return };
        let bytes = payload.len() as u64;
        let before = near.bytes.fetch_add(bytes, Ordering::Relaxed);
        // One message is always taken, however large.
        let is_room = before == 0 || before + bytes <= self.bytes_max;
        if !is_room || near.messages.try_send(payload).is_err() {
            near.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Messages that found no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl InboundLane {
    /// What has come and was not taken.
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
