//! Users of this node that other nodes follow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wserver_core::UserId;
use wserver_node::{Node, NodeId, Wire};
use wserver_protocol::v2::{self, Missed};

use crate::operate::show;
use crate::reply::refused::Refused;

/// How long a node follows a user for another node that does not ask again.
const LENT_FOR: Duration = Duration::from_secs(15);

/// Users of this node that other nodes follow.
pub(crate) struct LentTraces<W: Wire> {
    node: Node<W>,
    cluster: Option<Cluster<W>>,
    /// Cancelled when a shutdown begins.
    stop: CancellationToken,
    /// The end of each trace, by node and stream. Written by questions and by the tasks that
    /// follow; limited by `traces_max`.
    until: Mutex<HashMap<(NodeId, u64), Instant>>,
}

impl<W: Wire> LentTraces<W> {
    pub(crate) fn new(node: Node<W>, cluster: Option<Cluster<W>>, stop: CancellationToken) -> Self {
        Self { node, cluster, stop, until: Mutex::default() }
    }

    /// Follows a user for another node: starts, or continues for longer.
    pub(crate) fn lend(
        self: &Arc<Self>,
        from: NodeId,
        stream: u64,
        user: &UserId,
    ) -> Result<(), Refused> {
        let key = (from, stream);
        let until = Instant::now() + LENT_FOR;
        if let Some(known) = self.lock().get_mut(&key) {
            *known = until;
            return Ok(());
        }
        let mut trace = self.node.trace(user).map_err(Refused::of_trace)?;
        self.lock().insert(key, until);
        let lent = Arc::clone(self);
        self.node.tasks().spawn(async move {
            let Some(cluster) = &lent.cluster else { return };
            // Entries that came too fast here, or found no room on their way.
            let mut missed = 0;
            loop {
                let until = lent.lock().get(&key).copied();
                let Some(until) = until else { break };
                let next = tokio::time::timeout_at(until.into(), trace.next());
                let traced = tokio::select! {
                    traced = next => traced,
                    () = lent.stop.cancelled() => break,
                };
                match traced {
                    Ok(Some(traced)) => {
                        missed += traced.missed;
                        if missed > 0 {
                            let told = Bytes::from(v2::encode(&Missed { missed }));
                            if cluster.send(from, stream, told) {
                                missed = 0;
                            }
                        }
                        let entry = show::entry(&traced.entry);
                        let is_sent = cluster.send(from, stream, Bytes::from(v2::encode(&entry)));
                        missed += u64::from(!is_sent);
                    }
                    Ok(None) => break,
                    // The other node may have asked again meanwhile.
                    Err(_elapsed) => {
                        let mut until = lent.lock();
                        if until.get(&key).is_some_and(|until| *until <= Instant::now()) {
                            until.remove(&key);
                        }
                    }
                }
            }
            lent.lock().remove(&key);
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(NodeId, u64), Instant>> {
        // No code under this lock can panic in the middle of a change.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
