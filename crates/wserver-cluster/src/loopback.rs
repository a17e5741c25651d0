//! A broker in memory: joins nodes of one process, for tests and for trying out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, BrokerError, Channel, Inbound, Link, NodeId, To};

/// A broker in memory. A clone is the same one.
#[derive(Clone)]
pub struct Loopback {
    shared: Arc<Shared>,
}

struct Shared {
    lanes: u16,
    payload_bytes_max: usize,
    /// Written by who opens and drops links, and by tests.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    links: HashMap<u64, Open>,
    is_down: bool,
    /// Messages that are kept back, in their order.
    kept: Option<Vec<(Channel, Bytes)>>,
    /// Says of a message whether it is lost on its way.
    is_lost: Option<IsLost>,
}

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
    /// A broker with so many lanes, which carries messages of so many bytes.
    #[must_use]
    pub fn new(lanes: u16, payload_bytes_max: usize) -> Self {
        let state = Mutex::default();
        Self { shared: Arc::new(Shared { lanes, payload_bytes_max, state }) }
    }

    /// Breaks every link, and opens none until [`restore`](Self::restore).
    pub fn kill(&self) {
        let mut state = self.state();
        state.is_down = true;
        for open in state.links.values() {
            open.broken.cancel();
        }
        state.links.clear();
    }

    /// Opens links again.
    pub fn restore(&self) {
        self.state().is_down = false;
    }

    /// Keeps every message back from now on; links stay as they are.
    pub fn pause(&self) {
        self.state().kept.get_or_insert_default();
    }

    /// Brings what was kept back, and everything from now on.
    pub fn resume(&self) {
        let mut state = self.state();
        for (channel, payload) in state.kept.take().unwrap_or_default() {
            state.carry(channel, &payload);
        }
    }

    /// Loses those messages of which `is_lost` says so; whoever published them is told nothing.
    pub fn lose(&self, is_lost: impl FnMut(Channel) -> bool + Send + 'static) {
        self.state().is_lost = Some(Box::new(is_lost));
    }

    /// Brings this payload to a channel, whoever it is from.
    pub fn inject(&self, channel: Channel, payload: &Bytes) {
        self.state().carry(channel, payload);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn carry(&self, channel: Channel, payload: &Bytes) {
        for open in self.links.values() {
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
        state.links.insert(id, Open { node, inbound, broken: broken.clone() });
        drop(state);
        Ok(Arc::new(LoopbackLink { broker: self.clone(), id, broken }))
    }
}

struct LoopbackLink {
    broker: Loopback,
    id: u64,
    broken: CancellationToken,
}

#[async_trait]
impl Link for LoopbackLink {
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        let mut state = self.broker.state();
        if self.broken.is_cancelled() {
            return Err(BrokerError::unreachable("it is down"));
        }
        for (to, payload) in messages {
            let channel = Channel { lane, to };
            if state.is_lost.as_mut().is_some_and(|is_lost| is_lost(channel)) {
                continue;
            }
            match &mut state.kept {
                Some(kept) => kept.push((channel, payload)),
                None => state.carry(channel, &payload),
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
