//! One node's part in its cluster, and what it can ask of the other nodes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use wserver_core::{ConnectionId, UserId};
use wserver_node::{
    AwaitedPush, EveryoneReceipt, Gathered, Message, NodeId, NodeName, PushOptions, PushReceipt,
    WaitFor, Wire,
};

use crate::broker::To;
use crate::counters::Counters;
use crate::envelope::{Content, Event, Outcome, Push, Request, Wait, WaitOver, Wanted};
use crate::ids::is_of;
use crate::members::MemberInfo;
use crate::outbound::Outbound;
use crate::requests::Asked;
use crate::settings::ClusterSettings;
use crate::state::{ClusterState, CutOff};
use crate::streams::{Stream, Streams};

/// How much earlier than this node other nodes stop to wait for acknowledgements, beyond the time in
/// transit.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// The nodes that a question is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whom<'a> {
    /// Every other node.
    Everybody,
    /// The other nodes that have this user, as far as this node knows.
    UsersNodes(&'a UserId),
    /// The node that this connection belongs to, if it is another one.
    ConnectionsNode(ConnectionId),
}

/// One node's part in its cluster. Clones share it.
pub struct Cluster<W: Wire> {
    pub(crate) state: Arc<ClusterState<W>>,
}

impl<W: Wire> Clone for Cluster<W> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<W: Wire> fmt::Debug for Cluster<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.state.id)
            .field("settings", &self.state.settings)
            .finish_non_exhaustive()
    }
}

impl<W: Wire> Cluster<W> {
    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.state.id
    }

    /// The name of this node.
    #[must_use]
    pub fn node_name(&self) -> String {
        self.state.node_name()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &ClusterSettings {
        &self.state.settings
    }

    /// The kind of broker.
    #[must_use]
    pub fn broker_kind(&self) -> &'static str {
        self.state.broker.kind()
    }

    /// Whether this node takes part in its cluster now: its messages to itself come back over every
    /// lane of the broker, and it knows the users of all other nodes.
    ///
    /// # Errors
    /// Why it does not, in a few words.
    pub fn ready(&self) -> Result<(), String> {
        self.state.verdict()
    }

    /// The other nodes, in no particular order.
    #[must_use]
    pub fn members(&self) -> Vec<MemberInfo> {
        self.state.members.infos(Instant::now())
    }

    /// The nodes that were silent for a whole lease without saying goodbye, and are neither back
    /// nor known to be gone.
    #[must_use]
    pub fn vanished(&self) -> Vec<NodeName> {
        self.state.members.vanished()
    }

    /// Whether pushes from other nodes reach this node's connections, and what must happen to the
    /// connections.
    #[must_use]
    pub fn cut_off(&self) -> watch::Receiver<CutOff> {
        self.state.cut_off.subscribe()
    }

    /// Whether this node must refuse connections, because the other nodes rely on it having none.
    #[must_use]
    pub fn refuses_connections(&self) -> bool {
        *self.state.cut_off.borrow() == CutOff::Refused
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// The current numbers.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let state = &self.state;
        Gauges {
            nodes: 1 + state.members.len(),
            vanished: state.members.vanished().len(),
            round_trip: state.reachability.round_trip(),
            is_ready: self.ready().is_ok(),
            remote_users: state.directory.len(),
            directory_bytes: state.directory.bytes(),
            outbound_bytes: state.outbound.iter().map(Outbound::bytes).sum(),
            requests: state.requests.len(),
            inbound_dropped: state.inbound.dropped(),
        }
    }

    /// Pushes to one user, wherever its connections are.
    ///
    /// The connections of this node get it at once. The answers of the other nodes that have the
    /// user are waited for, at most for `answer_timeout`. If no other node has the user, the push
    /// waits for nothing and sends the broker nothing.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may or may not be delivered.
    pub async fn push(
        &self,
        user: &UserId,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> Gathered<PushReceipt> {
        let state = &self.state;
        let digest = state.digests.of(user);
        let seats = state.directory.seats(digest);
        if seats.is_empty() {
            let here = state.node.push_with(user, message, options).await;
            let is_cut_off = state.is_cut_off();
            let missing = state.unreached();
            state.counters.missing_total.add(missing.len() as u64);
            let mut gathered = Gathered::alone(here);
            (gathered.is_cut_off, gathered.missing) = (is_cut_off, missing);
            return gathered;
        }
        let mut push = push_of(user.as_str(), message, options);
        let nodes = state.members.at(&seats);
        let wait = message.wait();
        if let Some(wait) = &wait {
            push.wait = Some(self.wait_of(wait));
            // Before they are asked, so that no answer comes too early.
            state.node.acks_asked(wait, nodes.iter().map(|node| node.id));
        }
        let asked: Vec<NodeId> =
            wait.iter().flat_map(|_| nodes.iter().map(|node| node.id)).collect();
        let others = self.ask_nodes(nodes, state.lane_of(digest), Wanted::Push(push));
        let here = state.node.push_with(user, message, options);
        let gathered = self
            .gather(here, others, |node, outcome, _took| match outcome {
                Outcome::Pushed(receipt) => {
                    if let Some(wait) = &wait {
                        state.node.acks_begun(wait, node, Some(receipt.acks()));
                    }
                    Some(receipt.into())
                }
                _ => None,
            })
            .await;
        for (wait, node) in wait.iter().flat_map(|wait| asked.iter().map(move |node| (wait, node)))
        {
            if !gathered.others.iter().any(|(other, _)| other.id == *node) {
                state.node.acks_begun(wait, *node, None);
            }
        }
        gathered
    }

    /// Tells other nodes that nobody needs their part of a push any more.
    pub fn wait_is_over(&self, push: &AwaitedPush, nodes: &[NodeId]) {
        let over = WaitOver { request: push.request(), index: push.index() as u64 };
        for node in nodes {
            let over = Content::WaitOver(over.clone()).into();
            // Otherwise it ends with its time.
            self.state.say(self.state.own_lane(), To::Node(*node), over);
        }
    }

    /// What other nodes are told of a push that waits. Their answers must be here in time.
    fn wait_of(&self, wait: &AwaitedPush) -> Wait {
        let left = wait.deadline().saturating_duration_since(Instant::now());
        let transit = self.state.reachability.round_trip() * 2 + ANSWER_MARGIN;
        Wait {
            request: wait.request(),
            index: wait.index() as u64,
            is_first_enough: wait.until() == WaitFor::First,
            time_ms: millis(left - transit.min(left / 2)),
        }
    }

    /// Pushes to every user, on every node, who has registered `event`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may have reached only some of them.
    pub async fn push_everyone(
        &self,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> Gathered<EveryoneReceipt> {
        let state = &self.state;
        let wanted = Wanted::Everyone(push_of("", message, options));
        let others = self.ask_nodes(state.members.everybody(), state.own_lane(), wanted);
        let here = state.node.push_everyone(message, options);
        self.gather(here, others, |_node, outcome, _took| match outcome {
            Outcome::PushedToEveryone(receipt) => Some(receipt.into()),
            _ => None,
        })
        .await
    }

    /// Asks other nodes, while `here` answers for this one. `read` converts an answer and the time
    /// it took; it returns `None` for an answer that it does not understand.
    ///
    /// # Cancel safety
    /// If the future is dropped, the other nodes still carry out what they were asked.
    pub async fn ask<T>(
        &self,
        whom: Whom<'_>,
        question: Bytes,
        here: impl Future<Output = T>,
        read: impl Fn(&[u8], Duration) -> Option<T>,
    ) -> Gathered<T> {
        let state = &self.state;
        let nodes = match whom {
            Whom::Everybody => state.members.everybody(),
            Whom::UsersNodes(user) => {
                state.members.at(&state.directory.seats(state.digests.of(user)))
            }
            Whom::ConnectionsNode(connection) => {
                let mut nodes = state.members.everybody();
                nodes.retain(|node| is_of(connection, node.id));
                nodes
            }
        };
        let mut others = self.ask_nodes(nodes, state.own_lane(), Wanted::Query(question));
        if let Whom::ConnectionsNode(connection) = whom {
            others.unreached.retain(|node| is_of(connection, node.id));
        }
        self.gather(here, others, |_node, outcome, took| match outcome {
            Outcome::Answer(answer) => read(&answer, took),
            _ => None,
        })
        .await
    }

    /// Whether a connection with this id belongs to this node.
    #[must_use]
    pub fn is_own(&self, connection: ConnectionId) -> bool {
        is_of(connection, self.state.id)
    }

    /// Opens a stream to which other nodes can send entries with [`Cluster::send`]. At most
    /// `entries_max` entries wait for its reader; further ones are dropped.
    #[must_use]
    pub fn stream(&self, entries_max: usize) -> Stream {
        Streams::open(&self.state.streams, entries_max)
    }

    /// Changes whenever another node joins, and when this node takes part again: code that has
    /// asked all nodes for something lasting must then ask again.
    #[must_use]
    pub fn joined(&self) -> watch::Receiver<()> {
        self.state.joined.subscribe()
    }

    /// Sends an entry to a stream of another node; returns false if the queue has no room for it.
    pub fn send(&self, node: NodeId, stream: u64, payload: Bytes) -> bool {
        let event = Content::Event(Event { stream, payload });
        self.state.say(self.state.own_lane(), To::Node(node), event.into())
    }

    /// Tells the other nodes that this node is shutting down. It still takes part until
    /// [`leave`](Self::leave).
    pub fn drain(&self) {
        self.state.is_draining.store(true, Ordering::Relaxed);
        self.state.is_heartbeat_wanted.store(true, Ordering::Relaxed);
    }

    /// Tells the other nodes that this node leaves, and ends its part: its tasks end when the
    /// broker has that last message, or after one second.
    pub fn leave(&self) {
        self.state.stop.cancel();
    }

    /// Sends a request to other nodes.
    fn ask_nodes(&self, nodes: Vec<NodeName>, lane: u16, wanted: Wanted) -> Asking {
        let state = &self.state;
        let deadline = tokio::time::Instant::now() + state.settings.answer_timeout;
        if nodes.is_empty() {
            let unreached = state.unreached();
            return Asking { asked: None, nodes, unreached, deadline, since: Instant::now() };
        }
        let ids = nodes.iter().map(|node| node.id).collect();
        // Minus the fastest recent round trip to the broker: by then they must have it.
        let budget = state.settings.answer_timeout.saturating_sub(state.reachability.round_trip());
        let asked = if state.link.borrow().is_none() {
            state.counters.dropped_no_link_total.add(nodes.len() as u64);
            None
        } else {
            state.requests.ask(ids)
        };
        if let Some(asked) = &asked {
            let (budget_ms, asked_ms) = (millis(budget), state.now_ms().max(1));
            let silent = state
                .silent_limit()
                .map(|limit| state.members.silent_since(limit))
                .unwrap_or_default();
            let mut whom = Vec::with_capacity(nodes.len());
            for node in &nodes {
                if budget.is_zero() || silent.contains(&node.id) {
                    asked.give_up_on(node.id);
                } else {
                    whom.push(To::Node(node.id));
                }
            }
            // All nodes get the same request, so that it waits for the broker once.
            let request = Request { id: asked.id(), budget_ms, wanted: Some(wanted), asked_ms };
            if !state.say_to_each(lane, &whom, Content::Request(request).into()) {
                nodes.iter().for_each(|node| asked.give_up_on(node.id));
            }
            state.counters.requests_total.add(nodes.len() as u64);
        }
        let unreached = state.unreached();
        Asking { asked, nodes, unreached, deadline, since: Instant::now() }
    }

    async fn gather<T>(
        &self,
        here: impl Future<Output = T>,
        others: Asking,
        read: impl Fn(NodeId, Outcome, Duration) -> Option<T>,
    ) -> Gathered<T> {
        // The requests to other nodes are already sent, so they do not wait for this node's own
        // part.
        let here = here.await;
        let Asking { asked, nodes, unreached, deadline, since } = others;
        let answers = match asked {
            Some(asked) => asked.answers(deadline).await,
            None => Vec::new(),
        };
        if !answers.is_empty() {
            self.state.counters.answer_time.observe(since.elapsed(), answers.len() as u64);
        }
        let mut gathered = Gathered::alone(here);
        gathered.is_cut_off = self.state.is_cut_off();
        for (id, outcome, at) in answers {
            let name = nodes.iter().find(|node| node.id == id).cloned();
            if let (Some(name), Some(said)) =
                (name, read(id, outcome, at.saturating_duration_since(since)))
            {
                gathered.others.push((name, said));
            }
        }
        let answered = |node: &NodeName| gathered.others.iter().any(|(it, _)| it.id == node.id);
        let mut missing: Vec<NodeName> = nodes.into_iter().filter(|node| !answered(node)).collect();
        for node in unreached {
            if !answered(&node) && !missing.contains(&node) {
                missing.push(node);
            }
        }
        gathered.missing = missing;
        self.state.counters.missing_total.add(gathered.missing.len() as u64);
        gathered
    }
}

/// A request to other nodes.
struct Asking {
    /// `None` if it could not be sent to any node.
    asked: Option<Asked>,
    nodes: Vec<NodeName>,
    /// Nodes that may be concerned but were not asked.
    unreached: Vec<NodeName>,
    deadline: tokio::time::Instant,
    since: Instant,
}

/// The cluster in numbers, as one node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gauges {
    /// Nodes, including this one.
    pub nodes: usize,
    /// The number of [`Cluster::vanished`] nodes.
    pub vanished: usize,
    /// The fastest recent round trip of a message to the broker and back.
    pub round_trip: Duration,
    /// Whether the node is [`Cluster::ready`].
    pub is_ready: bool,
    /// Users of the other nodes, each counted once for each node that has it.
    pub remote_users: usize,
    /// The memory for these users, in bytes.
    pub directory_bytes: usize,
    /// Bytes waiting for the broker.
    pub outbound_bytes: usize,
    /// Pushes and questions waiting for answers.
    pub requests: usize,
    /// Messages from the broker that were dropped because there was no room.
    pub inbound_dropped: u64,
}

/// A push in the form of the wire.
fn push_of(user: &str, message: &Message<'_>, options: &PushOptions) -> Push {
    let left = |at: Instant| {
        let left = at.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    };
    Push {
        user: user.to_owned(),
        event: message.event().as_str().to_owned(),
        message: Bytes::copy_from_slice(message.text().as_bytes()),
        exclude: options.exclude.map_or(0, ConnectionId::as_u64),
        ttl_ms: options.expires_at.map(left),
        id_process: message.id().process(),
        id_number: message.id().number(),
        wait: None,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}
