//! A broker in memory that joins the nodes of one process, for tests and for trying out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wserver_node::NodeId;

use crate::broker::{Broker, BrokerError, Channel, Inbound, Link, To};

/// A broker in memory. Clones share it.
#[derive(Clone)]
pub struct Loopback {
    shared: Arc<Shared>,
}

struct Shared {
    lanes: u16,
    payload_bytes_max: usize,
    /// Written when links are opened and dropped, and by tests.
    state: Mutex<State>,
    /// Notified when links accept messages again.
    goes_on: Notify,
}

#[derive(Default)]
struct State {
    next_id: u64,
    links: HashMap<u64, Open>,
    is_down: bool,
    may_be_split: bool,
    /// Decides whether messages from one node to another are blocked.
    is_blocked: Option<IsBlocked>,
    is_held_up: bool,
    /// The node whose messages are held back; `None` means all nodes.
    kept_of: Option<NodeId>,
    /// The messages held back, in order.
    kept: Option<Vec<(NodeId, Channel, Bytes)>>,
    /// Decides whether a message is lost in transit.
    is_lost: Option<IsLost>,
}

type IsBlocked = Box<dyn Fn(NodeId, NodeId) -> bool + Send>;
type IsLost = Box<dyn FnMut(Channel) -> bool + Send>;

struct Open {
    node: NodeId,
    inbound: Inbound,
    broken: CancellationToken,
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback").field("links", &self.state().links.len()).finish_non_exhaustive()
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new(1, 1 << 20)
    }
}

impl Loopback {
    /// A broker with this number of lanes, for messages of at most `payload_bytes_max` bytes.
    #[must_use]
    pub fn new(lanes: u16, payload_bytes_max: usize) -> Self {
        let (state, goes_on) = (Mutex::default(), Notify::new());
        Self { shared: Arc::new(Shared { lanes, payload_bytes_max, state, goes_on }) }
    }

    /// Breaks every link, and refuses new ones until [`restore`](Self::restore).
    pub fn kill(&self) {
        let mut state = self.state();
        state.is_down = true;
        for open in state.links.values() {
            open.broken.cancel();
        }
        state.links.clear();
    }

    /// Allows new links again.
    pub fn restore(&self) {
        self.state().is_down = false;
    }

    /// Holds back every message from now on; links stay open.
    pub fn pause(&self) {
        self.state().kept.get_or_insert_default();
    }

    /// Holds back the messages of one node, like [`pause`](Self::pause).
    pub fn pause_node(&self, node: NodeId) {
        self.state().kept_of = Some(node);
        self.pause();
    }

    /// Makes publishing wait until [`go_on`](Self::go_on).
    pub fn hold_up(&self) {
        self.state().is_held_up = true;
    }

    /// Lets publishing continue.
    pub fn go_on(&self) {
        self.state().is_held_up = false;
        self.shared.goes_on.notify_waiters();
    }

    /// Delivers the messages that were held back, and all further ones.
    pub fn resume(&self) {
        let mut state = self.state();
        state.kept_of = None;
        for (from, channel, payload) in state.kept.take().unwrap_or_default() {
            state.carry(Some(from), channel, &payload);
        }
    }

    /// Loses the messages for which `is_lost` returns true, without an error for the publisher.
    pub fn lose(&self, is_lost: impl FnMut(Channel) -> bool + Send + 'static) {
        self.state().is_lost = Some(Box::new(is_lost));
    }

    /// Makes the broker one of several servers that may be cut off from each other.
    #[must_use]
    pub fn of_several_places(self) -> Self {
        self.state().may_be_split = true;
        self
    }

    /// Carries no messages from one node to another, or to itself, for which `is_blocked` returns
    /// true, until the next call; no node gets an error.
    pub fn block(&self, is_blocked: impl Fn(NodeId, NodeId) -> bool + Send + 'static) {
        self.state().is_blocked = Some(Box::new(is_blocked));
    }

    /// Delivers this payload to a channel without a sender.
    pub fn inject(&self, channel: Channel, payload: &Bytes) {
        self.state().carry(None, channel, payload);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn carry(&self, from: Option<NodeId>, channel: Channel, payload: &Bytes) {
        for open in self.links.values() {
            let is_blocked = self.is_blocked.as_ref().zip(from);
            if is_blocked.is_some_and(|(is_blocked, from)| is_blocked(from, open.node)) {
                continue;
            }
            if channel.to == To::All || channel.to == To::Node(open.node) {
                open.inbound.offer(channel.lane, payload.clone());
            }
        }
    }
}

#[async_trait]
impl Broker for Loopback {
    fn kind(&self) -> &'static str {
        "loopback"
    }

    fn lanes(&self) -> u16 {
        self.shared.lanes
    }

    fn is_one_place(&self) -> bool {
        !self.state().may_be_split
    }

    fn payload_bytes_max(&self) -> usize {
        self.shared.payload_bytes_max
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let mut state = self.state();
        if state.is_down {
            return Err(BrokerError::unreachable("it is down"));
        }
        state.next_id += 1;
        let id = state.next_id;
        let broken = CancellationToken::new();
        let link = LoopbackLink { broker: self.clone(), id, node, broken: broken.clone() };
        state.links.insert(id, Open { node, inbound, broken });
        drop(state);
        Ok(Arc::new(link))
    }
}

struct LoopbackLink {
    broker: Loopback,
    id: u64,
    node: NodeId,
    broken: CancellationToken,
}

#[async_trait]
impl Link for LoopbackLink {
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        loop {
            let goes_on = self.broker.shared.goes_on.notified();
            if !self.broker.state().is_held_up {
                break;
            }
            goes_on.await;
        }
        let mut state = self.broker.state();
        if self.broken.is_cancelled() {
            return Err(BrokerError::unreachable("it is down"));
        }
        for (to, payload) in messages {
            let channel = Channel { lane, to };
            if state.is_lost.as_mut().is_some_and(|is_lost| is_lost(channel)) {
                continue;
            }
            let is_kept = state.kept_of.is_none_or(|node| node == self.node);
            match &mut state.kept {
                Some(kept) if is_kept => kept.push((self.node, channel, payload)),
                _ => state.carry(Some(self.node), channel, &payload),
            }
        }
        Ok(())
    }

    async fn broken(&self) -> BrokerError {
        self.broken.cancelled().await;
        BrokerError::unreachable("it went down")
    }
}

impl Drop for LoopbackLink {
    fn drop(&mut self) {
        self.broker.state().links.remove(&self.id);
    }
}
