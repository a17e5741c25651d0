//! How a node comes to take part in its cluster.

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use wserver_core::{Limits, UserId};
use wserver_node::{CloseFrame, Interest, Node, Wire};

use crate::broker::{Broker, BrokerError, InboundLane, Link};
use crate::cluster::Cluster;
use crate::directory::{Digests, OwnUsers};
use crate::ids::{first_connection, new_id};
use crate::receive::Answerer;
use crate::settings::ClusterSettings;
use crate::state::ClusterState;

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

/// A node that does not take part in its cluster yet.
pub struct Joining<W: Wire> {
    cluster: Cluster<W>,
    /// The receiving ends of the inbound queues, until the tasks that read them start.
    inbound_lanes: Vec<InboundLane>,
    link: Option<Arc<dyn Link>>,
}

impl<W: Wire> fmt::Debug for Joining<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl<W: Wire> Joining<W> {
    /// Makes a node, as [`Node::new`] does, and its part in the cluster. It says and hears nothing
    /// before it is started: see [`start`](Self::start).
    ///
    /// This does not check the settings; see [`ClusterSettings::problems`].
    #[must_use]
    pub fn new(
        limits: Limits,
        close_frame: CloseFrame,
        runtime: Handle,
        broker: Arc<dyn Broker>,
        settings: ClusterSettings,
    ) -> Self {
        let id = new_id();
        let digests = Digests::new(&settings.name);
        let own_users = Arc::new(OwnUsers::new());
        let watcher = Watcher { digests, users: Arc::clone(&own_users) };
        let node =
            Node::one_of_several(limits, close_frame, runtime, first_connection(id), watcher);
        let (state, inbound_lanes) =
            ClusterState::new(id, node, broker, digests, own_users, settings);
        Self { cluster: Cluster { state: Arc::new(state) }, inbound_lanes, link: None }
    }

    /// The node, which takes connections at once.
    #[must_use]
    pub fn node(&self) -> &Node<W> {
        &self.cluster.state.node
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
    pub async fn connect(&mut self) -> Result<(), BrokerError> {
        let state = &self.cluster.state;
        self.link = Some(state.broker.open(state.id, state.inbound.clone()).await?);
        Ok(())
    }

    /// Begins to take part, on the node's runtime; `answerer` answers what other nodes ask. Without a
    /// link it tries to open one until it can.
    pub fn start(self, answerer: Answerer) -> Cluster<W> {
        let Self { cluster, inbound_lanes, link } = self;
        cluster.state.start(inbound_lanes, link, answerer);
        cluster
    }
}
