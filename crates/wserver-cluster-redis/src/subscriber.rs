//! The connection that receives messages for this node from one master.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use wserver_cluster::{BrokerError, Channel, Inbound, NodeId};

use crate::Site;
use crate::address::Topology;
use crate::connection::Connection;
use crate::resp;
use crate::shards::{self, Shard};
use crate::subscription::Subscription;

pub(crate) struct Subscriber {
    subscription: Subscription,
    sorter: Sorter,
}

/// Smaller messages are copied: a slice would keep the whole read buffer alive for as long as a
/// slow receiver holds it, and no limit counts that.
const COPIED_BYTES_MAX: usize = 4096;

/// Maps channels to lanes.
struct Sorter {
    lanes: HashMap<Bytes, u16>,
    inbound: Inbound,
}

impl Sorter {
    fn take(&self, channel: &Bytes, payload: Bytes) {
        let is_small = payload.len() < COPIED_BYTES_MAX;
        let payload = if is_small { Bytes::copy_from_slice(&payload) } else { payload };
        if let Some(&lane) = self.lanes.get(channel) {
            self.inbound.offer(lane, payload);
        }
    }
}

impl Subscriber {
    /// Connects and subscribes; returns when all subscriptions are confirmed.
    pub(crate) async fn open(
        site: &Site,
        shard: &Shard,
        node: NodeId,
        inbound: &Inbound,
    ) -> Result<Self, BrokerError> {
        let (connection, greeting) = Connection::open(site, &shard.master).await?;
        shards::check_master(site, &shard.master, &greeting)?;
        let command = match site.deployment.topology {
            Topology::Standalone | Topology::Sentinel { .. } => "SUBSCRIBE",
            Topology::Cluster => "SSUBSCRIBE",
        };
        let mut output = Vec::new();
        let mut lanes = HashMap::new();
        // The channels of a lane are in one slot, as a single command requires.
        for &lane in &shard.lanes {
            let channels = Channel::of_node(node, lane + 1).filter(|channel| channel.lane == lane);
            let names = channels.map(|channel| Bytes::from(channel.name(&site.cluster)));
            let names = names.collect::<Vec<_>>();
            let words = names.iter().map(|name| &name[..]);
            let words = [command.as_bytes()].into_iter().chain(words).collect::<Vec<_>>();
            resp::encode(&mut output, &words);
            lanes.extend(names.into_iter().map(|name| (name, lane)));
        }
        let channels = lanes.len();
        let sorter = Sorter { lanes, inbound: inbound.clone() };
        let take = |channel, payload| sorter.take(&channel, payload);
        let subscription =
            Subscription::open(site, connection, command, (&output, channels), take).await?;
        Ok(Self { subscription, sorter })
    }

    /// Receives until the connection fails.
    pub(crate) async fn run(self, silence: Duration) -> BrokerError {
        let Self { subscription, sorter } = self;
        let take = |channel, payload| {
            sorter.take(&channel, payload);
            Ok(())
        };
        subscription.run(silence, take).await
    }
}
