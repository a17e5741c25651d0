//! What the tasks of a cluster share: this node's part in it, and what it knows of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use wserver_node::{Node, NodeId, NodeName, Wire};

use crate::broker::{Broker, Inbound, InboundLane, Link, To};
use crate::counters::Counters;
use crate::directory::{Digest, Digests, Directory, OwnUsers};
use crate::envelope::Item;
use crate::members::Members;
use crate::outbound::Outbound;
use crate::reachability::Reachability;
use crate::requests::Requests;
use crate::seldom::Seldom;
use crate::settings::ClusterSettings;
use crate::streams::Streams;
use crate::waits::Waits;

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

/// The state that the tasks of a cluster share.
pub(crate) struct ClusterState<W: Wire> {
    pub(crate) id: NodeId,
    pub(crate) settings: ClusterSettings,
    pub(crate) node: Node<W>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) lanes: u16,
    pub(crate) inbound: Inbound,
    /// The link, while there is one. Written by the task that keeps the link.
    pub(crate) link: watch::Sender<Option<Arc<dyn Link>>>,
    /// The link is to be given up for another one.
    pub(crate) relink: Notify,
    pub(crate) digests: Digests,
    pub(crate) own_users: Arc<OwnUsers>,
    pub(crate) directory: Directory,
    pub(crate) members: Members,
    pub(crate) outbound: Vec<Outbound>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) waits: Waits,
    pub(crate) reachability: Reachability,
    pub(crate) counters: Counters,
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

impl<W: Wire> ClusterState<W> {
    /// Of a node that has not begun to take part, and the ends of the queues that its tasks read.
    pub(crate) fn new(
        id: NodeId,
        node: Node<W>,
        broker: Arc<dyn Broker>,
        digests: Digests,
        own_users: Arc<OwnUsers>,
        settings: ClusterSettings,
    ) -> (Self, Vec<InboundLane>) {
        let lanes = broker.lanes().max(1);
        let (inbound, inbound_lanes) = Inbound::new(lanes, settings.queue_bytes_max);
        let state = Self {
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
            waits: Waits::default(),
            reachability: Reachability::new(lanes, settings.lease),
            counters: Counters::default(),
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
        (state, inbound_lanes)
    }

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
    pub(crate) fn say_to_each(&self, lane: u16, whom: &[To], item: Item) -> bool {
        if self.link.borrow().is_none() {
            self.counters.dropped_no_link_total.add(whom.len() as u64);
            return false;
        }
        let is_taken = self.outbound[usize::from(lane)].add_for_each(whom, item).is_ok();
        if !is_taken {
            self.counters.dropped_outbound_full_total.add(whom.len() as u64);
        }
        is_taken
    }

    /// Whether there may be nodes, or users of nodes, that this node does not know of.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.reachability.verdict().is_err() || !self.is_informed.load(Ordering::Relaxed)
    }

    /// The nodes that may have connections that a push does not reach. Usually there are none, and
    /// then this costs nothing.
    pub(crate) fn unreached(&self) -> Vec<NodeName> {
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
    pub(crate) fn silent_limit(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.settings.lease / 2)
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        let kind = self.broker.kind();
        self.reachability
            .verdict()
            .map_err(|why| format!("cut off from the cluster ({kind}): {why}"))?;
        if !self.is_informed.load(Ordering::Relaxed) {
            return Err("this node does not know the users of the other nodes yet".to_owned());
        }
        let (round_trip, timeout) = (self.reachability.round_trip(), self.settings.answer_timeout);
        if round_trip >= timeout {
            return Err(format!(
                "a message takes {} ms to the broker ({kind}) and back, but cluster_answer_timeout \
                 is {} ms, so no other node can answer in time",
                round_trip.as_millis(),
                timeout.as_millis()
            ));
        }
        let (vanished, nodes) = (self.members.vanished().len(), 1 + self.members.len());
        if self.may_be_split(vanished) && vanished >= nodes {
            let all = vanished + nodes;
            return Err(format!(
                "{vanished} of {all} nodes have vanished: the broker ({kind}) may be split"
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
        let Some(linked_since) = self.reachability.linked_since() else { return false };
        let age = linked_since.elapsed();
        age >= HEARD_ALL_AFTER
            && (age >= self.settings.lease || self.members.agree_since(linked_since))
    }
}

/// How long after opening a link a node has heard from all others: they answer its first heartbeat
/// within two rounds of [`crate::run::ROUND`].
const HEARD_ALL_AFTER: Duration = Duration::from_millis(300);
