//! One node's part in its cluster, and what it can ask of the other nodes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use wserver_core::{ConnectionId, EventName, UserId};
use wserver_node::{EveryoneReceipt, Interest, Message, Node, PushOptions, PushReceipt, Wire};

use crate::broker::{Broker, Inbound, InboundLane, Link, NodeId, To};
use crate::counters::Counters;
use crate::directory::{Digest, Digests, Directory, OwnUsers};
use crate::envelope::{Content, Event, Item, Outcome, Push, Request, Wanted};
use crate::health::Health;
use crate::members::{MemberInfo, Members};
use crate::outbound::Outbound;
use crate::receipt::{Gathered, NodeName};
use crate::requests::Requests;
use crate::seldom::Seldom;
use crate::settings::ClusterSettings;
use crate::streams::{Stream, Streams};

/// The low bits of a connection's id, which number the connections of one node; the bits above
/// identify the node.
const CONNECTION_BITS: u32 = 40;

/// Answers the questions of other nodes; `None` means that a question cannot be answered.
///
/// Questions and answers are opaque to the cluster. The first argument is the node that asks.
pub type Answerer = Box<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Option<Bytes>> + Send + Sync>;

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

/// Whether pushes from other nodes reach this node's connections, as far as it can know, and what
/// follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutOff {
    /// They do, or did less than a lease ago; or the settings keep the connections anyway.
    Never,
    /// They do not: connections are told once to reconnect, so that they move to where pushes reach
    /// them. The node still takes new connections, because all nodes may be cut off, and then none
    /// is better.
    Released,
    /// They have not for so long that the other nodes rely on this node having no connections: all
    /// connections are closed, and new ones refused.
    Refused,
}

/// One node's part in its cluster. Clones share it.
pub struct Cluster<W: Wire> {
    pub(crate) inner: Arc<Inner<W>>,
}

impl<W: Wire> Clone for Cluster<W> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<W: Wire> fmt::Debug for Cluster<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.inner.id)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

/// The state that the tasks of a cluster share.
pub(crate) struct Inner<W: Wire> {
    pub(crate) id: NodeId,
    pub(crate) settings: ClusterSettings,
    pub(crate) node: Node<W>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) lanes: u16,
    pub(crate) inbound: Inbound,
    /// The link, while there is one. Written by the task that keeps the link.
    pub(crate) link: watch::Sender<Option<Arc<dyn Link>>>,
    /// Asks for a new link.
    pub(crate) relink: Notify,
    pub(crate) digests: Digests,
    pub(crate) own_users: Arc<OwnUsers>,
    pub(crate) directory: Directory,
    pub(crate) members: Members,
    pub(crate) outbound: Vec<Outbound>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) health: Health,
    pub(crate) counters: Counters,
    pub(crate) answerer: OnceLock<Answerer>,
    /// Asks for a heartbeat before it is due.
    pub(crate) is_heartbeat_wanted: AtomicBool,
    pub(crate) is_draining: AtomicBool,
    /// How many nodes may have connections that a push does not reach, at the last check.
    pub(crate) unreached: AtomicUsize,
    /// Whether the users of all other nodes were known at the last check.
    pub(crate) is_informed: AtomicBool,
    /// Written by the task that checks.
    pub(crate) cut_off: watch::Sender<CutOff>,
    pub(crate) implausible_told: Seldom,
    /// Notified when there may be nodes that have not been asked what the others were.
    pub(crate) joined: watch::Sender<()>,
    /// Cancelled when the node has left.
    pub(crate) stop: CancellationToken,
    epoch: Instant,
}

/// Tells the cluster which users this node has.
struct Watcher {
    digests: Digests,
    users: Arc<OwnUsers>,
}

impl Interest for Watcher {
    fn came(&self, user: &UserId) {
        self.users.count(self.digests.of(user), 1);
    }

    fn left(&self, user: &UserId) {
        self.users.count(self.digests.of(user), -1);
    }
}

/// The receiving ends of the inbound queues, until the tasks that read them start.
pub(crate) type Lanes = Vec<InboundLane>;

impl<W: Wire> Cluster<W> {
    /// This node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    /// The name of this node.
    #[must_use]
    pub fn node_name(&self) -> String {
        self.inner.node_name()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &ClusterSettings {
        &self.inner.settings
    }

    /// The kind of broker.
    #[must_use]
    pub fn broker_kind(&self) -> &'static str {
        self.inner.broker.kind()
    }

    /// Sets what answers the questions of other nodes. Call it once.
    pub fn answer_with(&self, answerer: Answerer) {
        let _ = self.inner.answerer.set(answerer);
    }

    /// Whether this node takes part in its cluster now: its messages to itself come back over every
    /// lane of the broker, and it knows the users of all other nodes.
    ///
    /// # Errors
    /// Why it does not, in a few words.
    pub fn ready(&self) -> Result<(), String> {
        self.inner.verdict()
    }

    /// The other nodes, in no particular order.
    #[must_use]
    pub fn members(&self) -> Vec<MemberInfo> {
        self.inner.members.infos(Instant::now())
    }

    /// The nodes that were silent for a whole lease without saying goodbye, and are neither back
    /// nor known to be gone.
    #[must_use]
    pub fn vanished(&self) -> Vec<NodeName> {
        self.inner.members.vanished()
    }

    /// Whether pushes from other nodes reach this node's connections, and what must happen to the
    /// connections.
    #[must_use]
    pub fn cut_off(&self) -> watch::Receiver<CutOff> {
        self.inner.cut_off.subscribe()
    }

    /// Whether this node must refuse connections, because the other nodes rely on it having none.
    #[must_use]
    pub fn refuses_connections(&self) -> bool {
        *self.inner.cut_off.borrow() == CutOff::Refused
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// The current numbers.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let inner = &self.inner;
        Gauges {
            nodes: 1 + inner.members.len(),
            vanished: inner.members.vanished().len(),
            round_trip: inner.health.round_trip(),
            is_ready: self.ready().is_ok(),
            remote_users: inner.directory.len(),
            directory_bytes: inner.directory.bytes(),
            outbound_bytes: inner.outbound.iter().map(Outbound::bytes).sum(),
            requests: inner.requests.len(),
            inbound_dropped: inner.inbound.dropped(),
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
        event: &EventName,
        text: &str,
        options: &PushOptions,
    ) -> Gathered<PushReceipt> {
        let inner = &self.inner;
        let message = Message::text(text);
        let digest = inner.digests.of(user);
        let seats = inner.directory.seats(digest);
        if seats.is_empty() {
            let here = inner.node.push_with(user, event, &message, options).await;
            let is_cut_off = inner.is_cut_off();
            let missing = inner.unreached();
            inner.counters.missing_total.add(missing.len() as u64);
            return Gathered { is_cut_off, missing, ..Gathered::alone(here) };
        }
        let wanted = Wanted::Push(push_of(user.as_str(), event, text, options));
        let others = self.ask_nodes(inner.members.at(&seats), inner.lane_of(digest), wanted);
        let here = inner.node.push_with(user, event, &message, options);
        self.gather(here, others, |outcome, _took| match outcome {
            Outcome::Pushed(receipt) => Some(receipt.into()),
            _ => None,
        })
        .await
    }

    /// Pushes to every user, on every node, who has registered `event`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may have reached only some of them.
    pub async fn push_everyone(
        &self,
        event: &EventName,
        text: &str,
        options: &PushOptions,
    ) -> Gathered<EveryoneReceipt> {
        let inner = &self.inner;
        let message = Message::text(text);
        let wanted = Wanted::Everyone(push_of("", event, text, options));
        let others = self.ask_nodes(inner.members.everybody(), inner.own_lane(), wanted);
        let here = inner.node.push_everyone(event, &message, options);
        self.gather(here, others, |outcome, _took| match outcome {
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
        let inner = &self.inner;
        let nodes = match whom {
            Whom::Everybody => inner.members.everybody(),
            Whom::UsersNodes(user) => {
                inner.members.at(&inner.directory.seats(inner.digests.of(user)))
            }
            Whom::ConnectionsNode(connection) => {
                let mut nodes = inner.members.everybody();
                nodes.retain(|node| tag(node.id) == connection.as_u64() >> CONNECTION_BITS);
                nodes
            }
        };
        let mut others = self.ask_nodes(nodes, inner.own_lane(), Wanted::Query(question));
        if let Whom::ConnectionsNode(connection) = whom {
            others.unreached.retain(|node| tag(node.id) == connection.as_u64() >> CONNECTION_BITS);
        }
        self.gather(here, others, |outcome, took| match outcome {
            Outcome::Answer(answer) => read(&answer, took),
            _ => None,
        })
        .await
    }

    /// Whether a connection with this id belongs to this node.
    #[must_use]
    pub fn is_own(&self, connection: ConnectionId) -> bool {
        connection.as_u64() >> CONNECTION_BITS == tag(self.inner.id)
    }

    /// Opens a stream to which other nodes can send entries with [`Cluster::send`]. At most
    /// `entries_max` entries wait for its reader; further ones are dropped.
    #[must_use]
    pub fn stream(&self, entries_max: usize) -> Stream {
        Streams::open(&self.inner.streams, entries_max)
    }

    /// Changes whenever another node joins, and when this node takes part again: code that has
    /// asked all nodes for something lasting must then ask again.
    #[must_use]
    pub fn joined(&self) -> watch::Receiver<()> {
        self.inner.joined.subscribe()
    }

    /// Sends an entry to a stream of another node; returns false if the queue has no room for it.
    pub fn send(&self, node: NodeId, stream: u64, payload: Bytes) -> bool {
        let event = Content::Event(Event { stream, payload });
        self.inner.say(self.inner.own_lane(), To::Node(node), event.into())
    }

    /// Tells the other nodes that this node is shutting down. It still takes part until
    /// [`leave`](Self::leave).
    pub fn drain(&self) {
        self.inner.is_draining.store(true, Ordering::Relaxed);
        self.inner.is_heartbeat_wanted.store(true, Ordering::Relaxed);
    }

    /// Tells the other nodes that this node leaves, and ends its part: its tasks end when the
    /// broker has that last message, or after one second.
    pub fn leave(&self) {
        self.inner.stop.cancel();
    }

    /// Sends a request to other nodes.
    fn ask_nodes(&self, nodes: Vec<NodeName>, lane: u16, wanted: Wanted) -> Asking {
        let inner = &self.inner;
        let deadline = tokio::time::Instant::now() + inner.settings.answer_timeout;
        if nodes.is_empty() {
            let unreached = inner.unreached();
            return Asking { asked: None, nodes, unreached, deadline, since: Instant::now() };
        }
        let ids = nodes.iter().map(|node| node.id).collect();
        // Minus the fastest recent round trip to the broker: by then they must have it.
        let budget = inner.settings.answer_timeout.saturating_sub(inner.health.round_trip());
        let asked = if inner.link.borrow().is_none() {
            inner.counters.dropped_no_link_total.add(nodes.len() as u64);
            None
        } else {
            inner.requests.ask(ids)
        };
        if let Some(asked) = &asked {
            let (budget_ms, asked_ms) = (millis(budget), inner.now_ms().max(1));
            let silent = inner
                .silent_limit()
                .map(|limit| inner.members.silent_since(limit))
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
            if !inner.say_to_each(lane, &whom, Content::Request(request).into()) {
                nodes.iter().for_each(|node| asked.give_up_on(node.id));
            }
            inner.counters.requests_total.add(nodes.len() as u64);
        }
        let unreached = inner.unreached();
        Asking { asked, nodes, unreached, deadline, since: Instant::now() }
    }

    async fn gather<T>(
        &self,
        here: impl Future<Output = T>,
        others: Asking,
        read: impl Fn(Outcome, Duration) -> Option<T>,
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
            self.inner.counters.answer_time.observe(since.elapsed(), answers.len() as u64);
        }
        let mut gathered = Gathered::alone(here);
        gathered.is_cut_off = self.inner.is_cut_off();
        for (id, outcome, at) in answers {
            let name = nodes.iter().find(|node| node.id == id).cloned();
            if let (Some(name), Some(said)) =
                (name, read(outcome, at.saturating_duration_since(since)))
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
        self.inner.counters.missing_total.add(gathered.missing.len() as u64);
        gathered
    }
}

/// A request to other nodes.
struct Asking {
    /// `None` if it could not be sent to any node.
    asked: Option<crate::requests::Asked>,
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

/// A node that does not take part in its cluster yet.
pub struct Joining<W: Wire> {
    cluster: Cluster<W>,
    lanes: Lanes,
    link: Option<Arc<dyn Link>>,
}

impl<W: Wire> fmt::Debug for Joining<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl<W: Wire> Joining<W> {
    /// Prepares the part of `node`, which must have no connection yet. The node sends and receives
    /// nothing before [`start`](Self::start).
    ///
    /// This does not check the settings; see [`ClusterSettings::problems`].
    #[must_use]
    pub fn new(node: Node<W>, broker: Arc<dyn Broker>, settings: ClusterSettings) -> Self {
        let id = new_id();
        let lanes = broker.lanes().max(1);
        let (inbound, inbound_lanes) = Inbound::new(lanes, settings.queue_bytes_max);
        let digests = Digests::new(&settings.name);
        let own_users = Arc::new(OwnUsers::new());
        node.number_connections_from(first_connection(id));
        node.watch_users(Watcher { digests, users: Arc::clone(&own_users) });
        let inner = Inner {
            id,
            node,
            broker,
            lanes,
            inbound,
            link: watch::Sender::new(None),
            relink: Notify::new(),
            digests,
            own_users,
            directory: Directory::new(),
            members: Members::default(),
            outbound: (0..lanes).map(|_| Outbound::new(settings.queue_bytes_max)).collect(),
            requests: Arc::new(Requests::new(settings.requests_max)),
            streams: Arc::new(Streams::default()),
            health: Health::new(lanes, settings.lease),
            counters: Counters::default(),
            answerer: OnceLock::new(),
            is_heartbeat_wanted: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            unreached: AtomicUsize::new(0),
            is_informed: AtomicBool::new(false),
            cut_off: watch::Sender::new(CutOff::Never),
            implausible_told: Seldom::default(),
            joined: watch::Sender::new(()),
            stop: CancellationToken::new(),
            epoch: Instant::now(),
            settings,
        };
        Self { cluster: Cluster { inner: Arc::new(inner) }, lanes: inbound_lanes, link: None }
    }

    /// The cluster that it will take part in.
    #[must_use]
    pub fn cluster(&self) -> &Cluster<W> {
        &self.cluster
    }

    /// Opens the first link, so that a problem is reported before anything depends on the cluster.
    ///
    /// # Errors
    /// Why the broker cannot be used; you can try again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no link is open; you can try again.
    pub async fn connect(&mut self) -> Result<(), crate::BrokerError> {
        let inner = &self.cluster.inner;
        self.link = Some(inner.broker.open(inner.id, inner.inbound.clone()).await?);
        Ok(())
    }

    /// Starts to take part, with tasks on the node's runtime. If there is no link yet, the node
    /// tries until it can open one.
    pub fn start(self) -> Cluster<W> {
        let Self { cluster, lanes, link } = self;
        cluster.start(lanes, link);
        cluster
    }
}

impl<W: Wire> Inner<W> {
    pub(crate) fn node_name(&self) -> String {
        match self.settings.node_name.as_str() {
            "" => self.id.to_string(),
            name => name.to_owned(),
        }
    }

    /// This node's clock, in milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The lane for a user's messages.
    #[expect(clippy::cast_possible_truncation, reason = "below the number of lanes")]
    pub(crate) fn lane_of(&self, digest: Digest) -> u16 {
        (digest.as_u64() >> 16) as u16 % self.lanes
    }

    /// The lane for this node's messages about itself.
    #[expect(clippy::cast_possible_truncation, reason = "any 16 bits do")]
    pub(crate) fn own_lane(&self) -> u16 {
        self.id.as_u64() as u16 % self.lanes
    }

    /// Queues an item; returns false, and counts it, if there is no link or no room.
    pub(crate) fn say(&self, lane: u16, to: To, item: Item) -> bool {
        self.say_to_each(lane, &[to], item)
    }

    /// Queues an item for each of these nodes, or for none of them.
    fn say_to_each(&self, lane: u16, whom: &[To], item: Item) -> bool {
        if self.link.borrow().is_none() {
            self.counters.dropped_no_link_total.add(whom.len() as u64);
            return false;
        }
        let is_taken = self.outbound[usize::from(lane)].push_to_each(whom, item).is_ok();
        if !is_taken {
            self.counters.dropped_outbound_full_total.add(whom.len() as u64);
        }
        is_taken
    }

    /// Whether there may be nodes, or users of nodes, that this node does not know of.
    fn is_cut_off(&self) -> bool {
        self.health.verdict().is_err() || !self.is_informed.load(Ordering::Relaxed)
    }

    /// The nodes that may have connections that a push does not reach. Usually there are none, and
    /// then this costs nothing.
    fn unreached(&self) -> Vec<NodeName> {
        match self.unreached.load(Ordering::Relaxed) {
            0 => Vec::new(),
            _ => self.find_unreached(),
        }
    }

    pub(crate) fn find_unreached(&self) -> Vec<NodeName> {
        self.members.unreached(self.id, self.silent_limit())
    }

    /// Nodes that have been silent since this moment are not waited for. It is half a lease ago,
    /// while five heartbeats come in one lease: such a node may be dead, and a publisher to many
    /// users would wait for it again and again.
    fn silent_limit(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.settings.lease / 2)
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        let kind = self.broker.kind();
        self.health.verdict().map_err(|why| format!("cut off from the cluster ({kind}): {why}"))?;
        if !self.is_informed.load(Ordering::Relaxed) {
            return Err("the users of the other nodes are not known yet".to_owned());
        }
        let (round_trip, timeout) = (self.health.round_trip(), self.settings.answer_timeout);
        if round_trip >= timeout {
            return Err(format!(
                "a message takes {} ms to the broker ({kind}) and back, and cluster_answer_timeout is {} ms: \
                 no other node answers in time",
                round_trip.as_millis(),
                timeout.as_millis()
            ));
        }
        let (vanished, nodes) = (self.members.vanished().len(), 1 + self.members.len());
        if self.may_be_split(vanished) && vanished >= nodes {
            let all = vanished + nodes;
            return Err(format!(
                "{vanished} of {all} nodes have vanished without a goodbye: the broker ({kind}) may be split"
            ));
        }
        Ok(())
    }

    /// Whether this number of vanished nodes may mean that the broker has split, instead of each
    /// node being dead.
    pub(crate) fn may_be_split(&self, vanished: usize) -> bool {
        vanished > 1 && !self.broker.is_one_place()
    }

    /// Whether the users of all nodes have been verified since the link was opened; a node that has
    /// not answered within a lease is no longer waited for.
    pub(crate) fn knows_all_users(&self) -> bool {
        let Some(linked_since) = self.health.linked_since() else { return false };
        let age = linked_since.elapsed();
        age >= HEARD_ALL_AFTER
            && (age >= self.settings.lease || self.members.agree_since(linked_since))
    }
}

/// How long after opening a link a node has heard from all others: they answer its first heartbeat
/// within two rounds of [`crate::run::ROUND`].
const HEARD_ALL_AFTER: Duration = Duration::from_millis(300);

/// A push in the form of the wire.
fn push_of(user: &str, event: &EventName, text: &str, options: &PushOptions) -> Push {
    let left = |at: Instant| {
        let left = at.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    };
    Push {
        user: user.to_owned(),
        event: event.as_str().to_owned(),
        message: Bytes::copy_from_slice(text.as_bytes()),
        exclude: options.exclude.map_or(0, ConnectionId::as_u64),
        ttl_ms: options.expires_at.map(left),
    }
}

pub(crate) fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// An id that no other node has or had.
fn new_id() -> NodeId {
    let mut bytes = [0; 8];
    // Without randomness from the system nothing could start, because hash maps need it too.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    // The bits that mark a node's connections must not be zero, which means a node without a
    // cluster.
    NodeId::new(u64::from_ne_bytes(bytes) | 1 << CONNECTION_BITS)
}

/// The bits above the numbers of a node's connections.
const fn tag(id: NodeId) -> u64 {
    id.as_u64() >> CONNECTION_BITS
}

const fn first_connection(id: NodeId) -> u64 {
    tag(id) << CONNECTION_BITS | 1
}
