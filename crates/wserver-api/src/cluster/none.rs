//! Replaces the crate `wserver-cluster` without the feature `cluster`: its types have no values, so
//! a node stands alone.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use wserver_core::{ConnectionId, UserId};
use wserver_node::{
    AwaitedPush, EveryoneReceipt, Gathered, Message, NodeId, NodeName, PushOptions, PushReceipt,
    Wire,
};

/// One node's part in its cluster.
pub struct Cluster<W> {
    never: Infallible,
    wire: PhantomData<W>,
}

/// The nodes that a question is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom<'a> {
    /// Every other node.
    Everybody,
    /// The other nodes that have this user.
    UsersNodes(&'a UserId),
    /// The node that this connection belongs to.
    ConnectionsNode(ConnectionId),
}

/// Another node, for an operator.
#[derive(Debug)]
pub(crate) struct MemberInfo {
    /// The node.
    pub(crate) node: NodeName,
}

/// Entries that other nodes send to this one.
#[derive(Debug)]
pub(crate) struct Stream(Infallible);

/// Whether pushes from other nodes reach this one.
#[derive(Debug, Clone, Copy)]
pub enum CutOff {}

impl<W> Clone for Cluster<W> {
    fn clone(&self) -> Self {
        match self.never {}
    }
}

impl<W> fmt::Debug for Cluster<W> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.never {}
    }
}

#[expect(clippy::unused_async, reason = "as the methods that they stand for")]
impl<W: Wire> Cluster<W> {
    pub(crate) fn id(&self) -> NodeId {
        match self.never {}
    }

    pub(crate) fn node_name(&self) -> String {
        match self.never {}
    }

    pub(crate) fn broker_kind(&self) -> &'static str {
        match self.never {}
    }

    /// Whether the node takes part.
    ///
    /// # Errors
    /// Never, because there is no value.
    pub fn ready(&self) -> Result<(), String> {
        match self.never {}
    }

    pub(crate) fn members(&self) -> Vec<MemberInfo> {
        match self.never {}
    }

    /// Whether the node is cut off.
    #[must_use]
    pub fn cut_off(&self) -> watch::Receiver<CutOff> {
        match self.never {}
    }

    /// Whether the node accepts no connections.
    #[must_use]
    pub fn refuses_connections(&self) -> bool {
        match self.never {}
    }

    pub(crate) async fn push(
        &self,
        _: &UserId,
        _: &mut Message<'_>,
        _: &PushOptions,
    ) -> Gathered<PushReceipt> {
        match self.never {}
    }

    pub(crate) async fn push_everyone(
        &self,
        _: &mut Message<'_>,
        _: &PushOptions,
    ) -> Gathered<EveryoneReceipt> {
        match self.never {}
    }

    pub(crate) fn wait_is_over(&self, _: &AwaitedPush, _: &[NodeId]) {
        match self.never {}
    }

    /// Asks other nodes.
    pub async fn ask<T>(
        &self,
        _: Whom<'_>,
        _: Bytes,
        _: impl Future<Output = T>,
        _: impl Fn(&[u8], Duration) -> Option<T>,
    ) -> Gathered<T> {
        match self.never {}
    }

    pub(crate) fn is_own(&self, _: ConnectionId) -> bool {
        match self.never {}
    }

    pub(crate) fn stream(&self, _: usize) -> Stream {
        match self.never {}
    }

    pub(crate) fn joined(&self) -> watch::Receiver<()> {
        match self.never {}
    }

    pub(crate) fn send(&self, _: NodeId, _: u64, _: Bytes) -> bool {
        match self.never {}
    }

    /// Says that the node shuts down.
    pub fn drain(&self) {
        match self.never {}
    }

    /// Leaves the cluster.
    pub fn leave(&self) {
        match self.never {}
    }
}

#[expect(clippy::unused_async, reason = "as the method that it stands for")]
impl Stream {
    pub(crate) const fn id(&self) -> u64 {
        match self.0 {}
    }

    pub(crate) async fn next(&mut self) -> Option<(NodeId, Bytes)> {
        match self.0 {}
    }

    pub(crate) fn take_missed(&self) -> u64 {
        match self.0 {}
    }
}
