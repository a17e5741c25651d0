//! An open link: the tasks of its connections, and whether it is still usable.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{try_join, try_join_all};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wserver_cluster::{BrokerError, Inbound, Link, NodeId, To};

use crate::Site;
use crate::connection::{Deadline, late};
use crate::first_failure::FirstFailure;
use crate::publisher::{self, Encoder, Publisher};
use crate::shards::Found;
use crate::subscriber::Subscriber;
use crate::watcher::Watcher;

pub(crate) struct RedisLink {
    site: Arc<Site>,
    /// The publisher of each lane, as an index into `publishers`. Invariant: every index is valid.
    lanes: Vec<usize>,
    publishers: Vec<Publisher>,
    failure: FirstFailure,
    /// The tasks that own the connections; they end with the link.
    _tasks: JoinSet<()>,
}

impl RedisLink {
    pub(crate) async fn open(
        site: &Arc<Site>,
        found: Found,
        deadline: Deadline,
        node: NodeId,
        inbound: &Inbound,
    ) -> Result<Self, BrokerError> {
        let Found { shards, sentinel } = found;
        let watcher = match sentinel {
            Some(connection) => {
                let at = connection.reader.at.clone();
                deadline.keep(&at, Watcher::open(site, connection)).await?
            }
            None => None,
        };
        let connections = shards.iter().map(|shard| {
            let subscriber = Subscriber::open(site, shard, node, inbound);
            let publisher = publisher::connect(site, shard);
            deadline.keep(&shard.master, try_join(subscriber, publisher))
        });
        let connections = try_join_all(connections).await?;
        let mut tasks = JoinSet::new();
        let failure = FirstFailure::none();
        let mut lanes = vec![0; shards.iter().map(|shard| shard.lanes.len()).sum()];
        let mut publishers = Vec::new();
        for (shard, (subscriber, connection)) in shards.iter().zip(connections) {
            shard.lanes.iter().for_each(|&lane| lanes[usize::from(lane)] = publishers.len());
            publishers.push(Publisher::start(site, connection, &mut tasks, &failure));
            let (broken, silence) = (failure.clone(), site.connect_timeout);
            tasks.spawn(async move { broken.fail(subscriber.run(silence).await) });
        }
        if let Some(watcher) = watcher {
            let (broken, silence) = (failure.clone(), site.connect_timeout);
            tasks.spawn(async move { broken.fail(watcher.run(silence).await) });
        }
        Ok(Self { site: Arc::clone(site), lanes, publishers, failure, _tasks: tasks })
    }
}

#[async_trait]
impl Link for RedisLink {
    async fn publish(&self, lane: u16, messages: Vec<(To, Bytes)>) -> Result<(), BrokerError> {
        let Some(&publisher) = self.lanes.get(usize::from(lane)) else {
            return Err(BrokerError::refused(format!("there is no lane {lane}")));
        };
        if messages.is_empty() {
            return Ok(());
        }
        let publisher = &self.publishers[publisher];
        let mut encoder = Encoder::new(&self.site);
        messages.iter().for_each(|(to, payload)| encoder.add(lane, *to, payload));
        let time = self.site.connect_timeout;
        tokio::select! {
            biased;
            error = self.failure.failed() => Err(error),
            published = timeout(time, publisher.publish(encoder)) => match published {
                Ok(Some(())) => Ok(()),
                // Its tasks have ended, and are about to store the reason.
                Ok(None) => Err(self.failure.failed().await),
                Err(_elapsed) => {
                    let error = late(&publisher.at, time);
                    self.failure.fail(error.clone());
                    Err(error)
                }
            },
        }
    }

    async fn broken(&self) -> BrokerError {
        self.failure.failed().await
    }
}
