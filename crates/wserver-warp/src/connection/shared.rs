//! What all connections of one server share.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tracing::info;
use wserver_api::{Cluster, RegistrationRefusal, fetch_kept};
use wserver_auth::Authenticator;
use wserver_core::{Limits, Position, UserId};
use wserver_node::{GapReason, Missed, Node};
use wserver_protocol::connection::Notice;
use wserver_protocol::{events, frame};

use crate::connection::clock::WallClock;
use crate::connection::hooks::Hooks;
use crate::connection::wire::Socket;
use crate::counters::CarrierCounters;

/// An answer of another node.
pub(crate) type Fetch = Pin<Box<dyn Future<Output = Result<Vec<Missed>, GapReason>> + Send>>;

/// What all connections of one server share.
pub(crate) struct Shared {
    pub(crate) node: Node<Socket>,
    /// The node's part in a cluster, if it has one.
    cluster: Option<Cluster<Socket>>,
    pub(crate) limits: Limits,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) hooks: Hooks,
    pub(crate) wall_clock: WallClock,
    pub(crate) counters: Arc<CarrierCounters>,
    /// The one ping frame.
    pub(crate) ping: Bytes,
    /// The same followed by a beat, for connections of version 2.
    pub(crate) ping_and_beat: Bytes,
    /// The beat of a stream of events.
    pub(crate) beat: Bytes,
}

impl Shared {
    pub(crate) fn new(
        node: Node<Socket>,
        cluster: Option<Cluster<Socket>>,
        limits: Limits,
        authenticator: Arc<dyn Authenticator>,
        hooks: Hooks,
        wall_clock: WallClock,
        counters: Arc<CarrierCounters>,
    ) -> Self {
        let ping = frame::ping();
        let beat = frame::text(&Notice::Beat(heartbeat_seconds(&limits)).encode());
        let ping_and_beat = [&ping[..], &beat[..]].concat().into();
        Self {
            node,
            cluster,
            limits,
            authenticator,
            hooks,
            wall_clock,
            counters,
            ping,
            ping_and_beat,
            beat: events::beat(),
        }
    }

    /// What another node has kept for a user behind a position.
    pub(crate) fn fetch_kept(&self, user: UserId, after: Position) -> Fetch {
        match &self.cluster {
            Some(cluster) => Box::pin(fetch_kept(cluster.clone(), user, after)),
            None => Box::pin(std::future::ready(Err(GapReason::Restarted))),
        }
    }

    /// Counts a registration that is refused; the log says so once a minute for each reason.
    pub(crate) fn count_refused(&self, refusal: RegistrationRefusal) {
        let refused_total = &self.counters.registrations_refused_total;
        refused_total.increment_and_log(refusal, Instant::now(), |total| {
            info!(
                reason = refusal.as_str(),
                total,
                "registrations are being refused; `wserver explain` says more about a user and event"
            );
        });
    }

    /// The names of what this server can do beyond the first release of version 2.
    pub(crate) fn features(&self) -> Vec<String> {
        let replay = (!self.limits.replay.is_empty()).then(|| "replay".to_owned());
        replay.into_iter().collect()
    }
}

/// The longest time between two pings, in whole seconds.
pub(crate) fn heartbeat_seconds(limits: &Limits) -> u64 {
    let interval = limits.ping_interval;
    interval.as_secs() + u64::from(interval.subsec_nanos() > 0)
}
