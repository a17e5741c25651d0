//! What the tasks of a cluster share: this node's part in it, and what it knows of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use wserver_node::{Node, Wire};

use crate::broker::{Broker, Inbound, InboundLane, Link, NodeId, To};
use crate::counters::Counters;
use crate::directory::{Digest, Digests, Directory, OwnUsers};
use crate::envelope::Item;
use crate::members::Members;
use crate::outbound::Outbound;
use crate::reachability::Reachability;
use crate::receipt::NodeName;
use crate::requests::Requests;
use crate::seldom::Seldom;
use crate::settings::ClusterSettings;
use crate::streams::Streams;

/// Whether a node's connections are reached by the others, as far as it can know, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutOff {
    /// They are, or were less than a lease ago; or they are to stay all the same.
    Never,
    /// They are not: they are to be let go once, so that they may come back where they are. Who comes
    /// nonetheless is taken in: all nodes may be cut off, and then nothing is better.
    Released,
    /// They were not for so long that the others count on there being none: all are to be let go, and
    /// nobody is taken in.
    Refused,
}

/// What the tasks of a cluster share.
pub(crate) struct ClusterState<W: Wire> {
    pub(crate) id: NodeId,
    pub(crate) settings: ClusterSettings,
    pub(crate) node: Node<W>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) lanes: u16,
    pub(crate) inbound: Inbound,
    /// The link, while there is one. Written by the task that keeps it.
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
    pub(crate) reachability: Reachability,
    pub(crate) counters: Counters,
    /// A heartbeat is wanted before it is due.
    pub(crate) is_heartbeat_wanted: AtomicBool,
    pub(crate) is_draining: AtomicBool,
    /// How many nodes may have connections that a push does not reach, as of the last look.
    pub(crate) unreached: AtomicUsize,
    /// The users of all others were known at the last look.
    pub(crate) is_informed: AtomicBool,
    /// Written by the task that looks.
    pub(crate) cut_off: watch::Sender<CutOff>,
    pub(crate) implausible_told: Seldom,
    /// Told when there may be nodes that were not asked what the others were.
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

    /// The way through the broker by which a user's messages go.
    #[expect(clippy::cast_possible_truncation, reason = "below the number of lanes")]
    pub(crate) fn lane_of(&self, digest: Digest) -> u16 {
        (digest.as_u64() >> 16) as u16 % self.lanes
    }

    /// The way by which this node speaks of itself.
    #[expect(clippy::cast_possible_truncation, reason = "any 16 bits do")]
    pub(crate) fn own_lane(&self) -> u16 {
        self.id.as_u64() as u16 % self.lanes
    }

    /// Puts an item on its way; false, and counted, when there is no way or no room.
    pub(crate) fn say(&self, lane: u16, to: To, item: Item) -> bool {
        self.say_to_each(lane, &[to], item)
    }

    /// The same for each of these, or for none of them.
    pub(crate) fn say_to_each(&self, lane: u16, whom: &[To], item: Item) -> bool {
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

    /// Whether nodes may be missing that this one does not know of, or users of theirs.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.reachability.verdict().is_err() || !self.is_informed.load(Ordering::Relaxed)
    }

    /// Who may have connections that a push does not reach. Most of the time it is nobody, and costs
    /// nothing.
    pub(crate) fn unreached(&self) -> Vec<NodeName> {
        match self.unreached.load(Ordering::Relaxed) {
            0 => Vec::new(),
            _ => self.find_unreached(),
        }
    }

    pub(crate) fn find_unreached(&self) -> Vec<NodeName> {
        self.members.unreached(self.id, self.silent_limit())
    }

    /// Who was not heard of since then is not waited for. Half a lease without a word, when a heartbeat
    /// comes five times in one: it may be dead, and whoever pushes to many users would wait for it
    /// again and again.
    pub(crate) fn silent_limit(&self) -> Option<Instant> {
        Instant::now().checked_sub(self.settings.lease / 2)
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        let kind = self.broker.kind();
        self.reachability
            .verdict()
            .map_err(|why| format!("cut off from the cluster ({kind}): {why}"))?;
        if !self.is_informed.load(Ordering::Relaxed) {
            return Err("the users of the other nodes are not known yet".to_owned());
        }
        let (round_trip, timeout) = (self.reachability.round_trip(), self.settings.answer_timeout);
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

    /// Whether so many nodes that vanished may be on the other side of a broker which fell apart, and
    /// not dead, each by itself.
    pub(crate) fn may_be_split(&self, vanished: usize) -> bool {
        vanished > 1 && !self.broker.is_one_place()
    }

    /// Whether everybody's users were found to be what they say since there is a link; who has not
    /// said so within a lease is no longer waited for.
    pub(crate) fn knows_all_users(&self) -> bool {
        let Some(linked_since) = self.reachability.linked_since() else { return false };
        let age = linked_since.elapsed();
        age >= HEARD_ALL_AFTER
            && (age >= self.settings.lease || self.members.agree_since(linked_since))
    }
}

/// How long after a link is open a node has heard of everybody: they answer its first heartbeat
/// within two rounds of [`crate::run::ROUND`].
const HEARD_ALL_AFTER: Duration = Duration::from_millis(300);
