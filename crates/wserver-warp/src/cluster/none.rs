//! Replaces `cluster.rs` without the feature `cluster`: its types have no values, so a server
//! stands alone.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use wserver_api::{Api, Cluster};
use wserver_core::Limits;
use wserver_node::{CloseFrame, Node};
use wserver_protocol::CloseCode;

use crate::connection::wire::Socket;

/// What is wrong with a server's part in a cluster: without the feature `cluster`, nothing can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterProblem {}

impl ClusterProblem {
    pub(crate) fn settings(&self) -> Vec<&'static str> {
        match *self {}
    }
}

pub(crate) enum Plan {}

impl Plan {
    pub(crate) fn problems(&self, _: usize) -> Vec<ClusterProblem> {
        match *self {}
    }

    pub(crate) fn node(self, _: Limits, _: CloseFrame, _: Handle) -> (Node<Socket>, Part) {
        match self {}
    }
}

pub(crate) struct Part(Infallible);

impl Part {
    pub(crate) fn cluster(&self) -> &Cluster<Socket> {
        match self.0 {}
    }

    pub(crate) fn start(self, _: &Arc<Api<Socket>>, _: CloseCode, _: CancellationToken) {
        match self.0 {}
    }
}
