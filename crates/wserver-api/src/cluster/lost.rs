//! Pushes that may not have reached another node, although their messages are kept for replay: that
//! node is told as soon as it answers again, so that its clients learn of the gap.
//!
//! Without that a client that stayed connected would never know: the push was lost before its node
//! heard of it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wserver_core::{ConnectionId, EventName, Limits, Patterns, PushId, UserId};
use wserver_node::{Gathered, Node, NodeId, Wire};
use wserver_protocol::v2::{self, Answer, LostPush, Question};

use crate::cluster::{Cluster, Whom};
use crate::parameters;

/// Pushes that are remembered for one node; beyond it, the node is told that any may be lost.
const PUSHES_MAX: usize = 1000;
/// How often to try to tell.
const RETRY: Duration = Duration::from_secs(1);
/// A node that has been gone for so long has no connection any more, by its own rule.
const FORGET_AFTER: Duration = Duration::from_secs(60 * 60);

/// What may be lost to one node.
#[derive(Debug)]
struct Lost {
    /// The user and the id of each push; none if any push to any user may be lost.
    pushes: Option<Vec<(UserId, PushId)>>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Table {
    /// Limited by the nodes that a cluster may have.
    by_node: HashMap<NodeId, Lost>,
    is_telling: bool,
}

/// Pushes that may not have reached other nodes.
pub(crate) struct LostPushes<W: Wire> {
    node: Node<W>,
    cluster: Option<Cluster<W>>,
    /// Cancelled when a shutdown begins.
    stop: CancellationToken,
    replay: Patterns,
    table: Mutex<Table>,
}

impl<W: Wire> LostPushes<W> {
    pub(crate) fn new(
        node: Node<W>,
        cluster: Option<Cluster<W>>,
        stop: CancellationToken,
        limits: &Limits,
    ) -> Self {
        Self { node, cluster, stop, replay: limits.replay.clone(), table: Mutex::default() }
    }

    /// Takes note of the nodes that a push may not have reached. `user` is `None` for a push to
    /// everyone.
    pub(crate) fn note<T>(
        self: &Arc<Self>,
        user: Option<&UserId>,
        event: &EventName,
        id: PushId,
        gathered: &Gathered<T>,
    ) {
        let Some(cluster) = &self.cluster else { return };
        if gathered.is_whole() || !self.replay.cover(event.as_str()) {
            return;
        }
        let mut nodes: HashSet<NodeId> = gathered.missing.iter().map(|node| node.id).collect();
        if gathered.is_cut_off {
            // Any of them may have the user meanwhile.
            nodes.extend(cluster.members().iter().map(|member| member.node.id));
        }
        let mut table = self.lock();
        for node in nodes {
            let lost = table
                .by_node
                .entry(node)
                .or_insert_with(|| Lost { pushes: Some(Vec::new()), since: Instant::now() });
            match (&mut lost.pushes, user) {
                (Some(pushes), Some(user)) if pushes.len() < PUSHES_MAX => {
                    pushes.push((user.clone(), id));
                }
                (pushes, _) => *pushes = None,
            }
        }
        if !table.by_node.is_empty() && !std::mem::replace(&mut table.is_telling, true) {
            drop(table);
            let lost = Arc::clone(self);
            self.node.tasks().spawn(async move { lost.tell().await });
        }
    }

    /// Tells the nodes, until all know or are gone for good.
    async fn tell(&self) {
        let Some(cluster) = &self.cluster else { return };
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.stop.cancelled() => return,
            }
            let nodes: Vec<NodeId> = self.lock().by_node.keys().copied().collect();
            for node in nodes {
                self.tell_one(cluster, node).await;
            }
            let mut table = self.lock();
            table.by_node.retain(|_, lost| lost.since.elapsed() < FORGET_AFTER);
            if table.by_node.is_empty() {
                table.is_telling = false;
                return;
            }
        }
    }

    async fn tell_one(&self, cluster: &Cluster<W>, node: NodeId) {
        let Some(lost) = self.lock().by_node.remove(&node) else { return };
        let pushes = lost.pushes.as_ref().map(|pushes| {
            let told = pushes.iter().map(|(user, id)| LostPush {
                user: user.as_str().to_owned(),
                process: id.process(),
                number: id.number(),
            });
            told.collect()
        });
        let question = Bytes::from(v2::encode(&Question::Lost { pushes }));
        // A connection of the node, as the bits above its number say.
        let connection = ConnectionId::new(node.as_u64() >> 40 << 40);
        let read = |answer: &[u8], _took| Answer::<()>::parse(answer).map(|_| true);
        let here = std::future::ready(false);
        let told = cluster.ask(Whom::ConnectionsNode(connection), question, here, read).await;
        if told.others.iter().any(|(_, is_told)| *is_told) {
            return;
        }
        // What was noted meanwhile comes behind it.
        let mut table = self.lock();
        let later = table.by_node.insert(node, lost);
        if let (Some(later), Some(lost)) = (later, table.by_node.get_mut(&node)) {
            match (&mut lost.pushes, later.pushes) {
                (Some(pushes), Some(more)) if pushes.len() + more.len() <= PUSHES_MAX => {
                    pushes.extend(more);
                }
                (pushes, _) => *pushes = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code under this lock can panic in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Learns from another node what it may have lost.
pub(crate) fn lost_here<W: Wire>(node: &Node<W>, limits: &Limits, pushes: Option<Vec<LostPush>>) {
    let Some(pushes) = pushes else { return node.all_lost() };
    for LostPush { user, process, number } in pushes {
        if let Ok(user) = parameters::user(limits, "user", &user) {
            node.lost(&user, PushId::new(process, number));
        }
    }
}
