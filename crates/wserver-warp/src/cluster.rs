//! The server as a node of a cluster: its settings, how it joins, and what happens to its
//! connections while it is cut off.

mod cut_off;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use wserver_api::{Api, Cluster};
use wserver_cluster::{Answerer, Joining};
pub use wserver_cluster::{
    Broker, BrokerError, BrokerErrorKind, ClusterProblem, ClusterSettings, Loopback, MemberInfo,
};
use wserver_core::Limits;
use wserver_node::{CloseFrame, Node};
use wserver_protocol::CloseCode;

use crate::connection::wire::Socket;

/// The settings of a server's part in its cluster.
pub(crate) struct Plan {
    broker: Arc<dyn Broker>,
    settings: ClusterSettings,
}

impl Plan {
    pub(crate) fn new(broker: Arc<dyn Broker>, settings: ClusterSettings) -> Self {
        Self { broker, settings }
    }

    pub(crate) fn problems(&self, message_bytes_max: usize) -> Vec<ClusterProblem> {
        self.settings.problems(message_bytes_max)
    }

    /// The node, which has not joined yet.
    pub(crate) fn node(
        mut self,
        limits: Limits,
        close_frame: CloseFrame,
        runtime: Handle,
    ) -> (Node<Socket>, Part) {
        self.settings.release_spread = limits.drain_spread;
        let joining = Joining::new(limits, close_frame, runtime, self.broker, self.settings);
        (joining.node().clone(), Part { joining })
    }
}

/// A server's part in its cluster, before it serves.
pub(crate) struct Part {
    joining: Joining<Socket>,
}

impl Part {
    pub(crate) fn cluster(&self) -> &Cluster<Socket> {
        self.joining.cluster()
    }

    /// Connects to the broker.
    pub(crate) async fn connect(&mut self) -> Result<(), BrokerError> {
        self.joining.connect().await
    }

    /// Takes part from now on, and closes connections while the node is cut off, until `stop`.
    pub(crate) fn start(
        self,
        api: &Arc<Api<Socket>>,
        goodbye_code: CloseCode,
        stop: CancellationToken,
    ) {
        let cluster = self.joining.start(answerer(api));
        let (node, spread, cut_off) =
            (api.node().clone(), api.limits().drain_spread, cluster.cut_off());
        api.node().tasks().spawn(cut_off::run(node, spread, goodbye_code, cut_off, stop));
    }
}

/// Answers the questions of other nodes as long as the server exists.
fn answerer(api: &Arc<Api<Socket>>) -> Answerer {
    // The answerer must not keep the server alive.
    let api = Arc::downgrade(api);
    Box::new(move |from, question| match api.upgrade() {
        Some(api) => api.answer_node(from, &question),
        None => Box::pin(std::future::ready(None)),
    })
}
