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

#[cfg(feature = "cluster")]
#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wserver_cluster::{ClusterSettings, Loopback};
    use wserver_core::{LimitSettings, Limits};

    use super::*;
    use crate::cluster::tests::{joining, know_each_other, member, start};
    use crate::fixture::{MemoryWire, soon, user};

    /// Waits until no trace is lent.
    async fn all_have_ended(lent: &LentTraces<MemoryWire>) {
        soon(async {
            while !lent.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_trace_is_lent_until_the_other_node_no_longer_asks() {
        let limits = LimitSettings { traces_max: 1, ..LimitSettings::default() };
        let joining =
            joining(&Loopback::default(), ClusterSettings::default(), limits.build().unwrap());
        let (node, stop) = (joining.node().clone(), CancellationToken::new());
        let cluster = Some(joining.cluster().clone());
        let lent = Arc::new(LentTraces::new(node.clone(), cluster, stop.clone()));
        let (from, jack) = (NodeId::new(2), user("jack"));
        lent.lend(from, 7, &jack).unwrap();
        assert_eq!(lent.lend(from, 8, &jack), Err(Refused::TracesFull { max: 1 }));
        // It asks again in time, and the trace goes on for as long as at first.
        let soon_over = Instant::now() + Duration::from_secs(1);
        lent.lock().insert((from, 7), soon_over);
        lent.lend(from, 7, &jack).unwrap();
        let until = lent.lock()[&(from, 7)];
        assert!(until > soon_over + Duration::from_secs(10));
        // It does not, and gives the place back. An entry makes the task look at the time.
        lent.lock().insert((from, 7), Instant::now());
        node.note_push_refused(Some(&jack), None, "out_of_scope");
        all_have_ended(&lent).await;
        soon(async {
            while node.trace(&jack).is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // A shutdown does not wait for it.
        lent.lend(from, 7, &jack).unwrap();
        stop.cancel();
        all_have_ended(&lent).await;
    }

    #[tokio::test]
    async fn what_could_not_be_sent_is_counted_at_the_next_entry() {
        let broker = Loopback::default();
        let b = member(&broker, "b", Duration::from_secs(30));
        let b = b.cluster().unwrap();
        let mut stream = b.stream(512);
        // It has no link to the broker before it starts.
        let joining = joining(&broker, ClusterSettings::default(), Limits::default());
        let (node, cluster) = (joining.node().clone(), joining.cluster().clone());
        let lent = LentTraces::new(node.clone(), Some(cluster.clone()), CancellationToken::new());
        let jack = user("jack");
        Arc::new(lent).lend(b.id(), stream.id(), &jack).unwrap();
        let note = || node.note_push_refused(Some(&jack), None, "out_of_scope");
        for expected in 1..=3 {
            note();
            soon(async {
                while cluster.counters().dropped_no_link_total.value() < expected {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        let a = start(joining);
        know_each_other([a.cluster().unwrap(), b], [0, 0]).await;
        let mut next = async || -> Value {
            let (_, told) = soon(stream.next()).await.unwrap();
            serde_json::from_slice(&told).unwrap()
        };
        note();
        assert_eq!(next().await, json!({"missed": 3}));
        let entry = next().await;
        assert_eq!([&entry["what"], &entry["user"]], ["push_refused", "jack"]);
        // And no more than once. The task cannot take any of these before there are too many.
        (0..256 + 44).for_each(|_| note());
        for _ in 0..256 {
            assert_eq!(next().await["what"], "push_refused");
        }
        note();
        assert_eq!(next().await, json!({"missed": 44}));
    }
}
