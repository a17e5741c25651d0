//! Redis or Valkey, version 7 or later, as the broker between the nodes of a cluster.
//!
//! | URL | what it is |
//! |-----|------------|
//! | `redis://host:6379` | one server |
//! | `redis-sentinel://h1:26379,h2:26379/mastername` | a master that Sentinels watch |
//! | `redis-cluster://h1:6379,h2:6379` | a Redis Cluster; its lanes are sharded channels |
//!
//! The schemes `rediss`, `rediss-sentinel` and `rediss-cluster` use TLS for all connections.
//!
//! A dedicated user needs only these rights (for a Redis Cluster
//! `+spublish +ssubscribe +cluster|slots` in place of the first two):
//!
//! ```text
//! user push on >password resetchannels &wserver.* +publish +subscribe +ping
//! ```
//!
//! This crate implements the protocol itself, in one page, instead of using a library. The larger
//! part of `redis`, which brings thirty crates, does what an adapter must not do: reconnect, queue
//! without a limit, choose the TLS library of a whole process. We tried pure codecs in November
//! 2026: `redis-protocol` 6 recurses as deep as its input says, and overflows the stack at 64 KiB
//! of `*1`; the codec of `redis` 1.8 copies, and is not public; `resp-rs` 0.3 is bounded and reads
//! small frames a third faster, but is half a year old and has one author. It is the one to take
//! once it has lasted.

mod address;
mod resp;
mod tls;
mod failure;
mod first_failure;
mod connection;
mod shards;
mod subscription;
mod subscriber;
mod watcher;
mod publisher;
mod link;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use wserver_cluster::{Broker, BrokerError, BrokerErrorKind, Inbound, Link, NodeId};

use crate::address::{Address, Deployment, Topology};
use crate::connection::{Access, Deadline};
use crate::link::RedisLink;

/// The number of lanes through a Redis Cluster. Each lane is one slot, so this is the most shards
/// that can share the work.
const CLUSTER_LANES: u16 = 16;

/// The address of the broker, and how to log in.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisSettings {
    /// The address, in a form of [the table](crate), without user and password.
    pub url: String,
    /// The name of the cluster, with which all channel names begin.
    pub cluster: String,
    /// The ACL user; `None` is `default`.
    pub username: Option<String>,
    /// The password, if the broker needs one.
    pub password: Option<String>,
    /// The certificate authorities to trust instead of the system's, as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// How long opening a link may take, and one publish.
    pub connect_timeout: Duration,
}

impl RedisSettings {
    /// Settings without a password, with the system's authorities and a timeout of five seconds.
    #[must_use]
    pub fn new(url: impl Into<String>, cluster: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            cluster: cluster.into(),
            username: None,
            password: None,
            ca_pem: None,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL, because it may hold a password that was not checked yet.
        f.debug_struct("RedisSettings")
            .field("cluster", &self.cluster)
            .field("username", &self.username)
            .field("has_password", &self.password.is_some())
            .field("has_ca_pem", &self.ca_pem.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// A Redis that carries messages between the nodes of a cluster.
#[derive(Debug)]
pub struct RedisBroker {
    site: Arc<Site>,
    /// The index of the address to try first next time. It changes after each failure, so that a
    /// server that hangs, or knows an old master, is not always asked first.
    first: AtomicUsize,
}

/// The checked settings.
#[derive(Debug)]
struct Site {
    deployment: Deployment,
    cluster: String,
    access: Access,
    connect_timeout: Duration,
}

impl RedisBroker {
    /// Checks the settings without connecting.
    ///
    /// # Errors
    /// If the settings can never work; the error says what to write instead.
    pub fn new(settings: RedisSettings) -> Result<Self, BrokerError> {
        let RedisSettings { url, cluster, username, password, ca_pem, connect_timeout } = settings;
        let deployment = Deployment::parse(&url)?;
        if connect_timeout.is_zero() {
            return Err(BrokerError::refused("the timeout for connecting to the broker is zero"));
        }
        let tls = match (deployment.is_tls, ca_pem) {
            (true, ca_pem) => Some(tls::config(ca_pem.as_deref())?),
            (false, None) => None,
            (false, Some(_)) => {
                let scheme = deployment.topology.scheme(true);
                let message = "a certificate authority is set, but the broker's URL is without TLS";
                return Err(BrokerError::refused(format!("{message}: write {scheme}://")));
            }
        };
        let access = Access { username, password, tls };
        let site = Arc::new(Site { deployment, cluster, access, connect_timeout });
        Ok(Self { site, first: AtomicUsize::new(0) })
    }

    /// Opens a link with the help of the server at `seed`.
    async fn open_by(
        &self,
        seed: &Address,
        (asking, deadline): (Deadline, Deadline),
        node: NodeId,
        inbound: &Inbound,
    ) -> Result<RedisLink, BrokerError> {
        let found = asking.keep(seed, shards::find(&self.site, seed, self.lanes())).await?;
        RedisLink::open(&self.site, found, deadline, node, inbound).await
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn lanes(&self) -> u16 {
        match self.site.deployment.topology {
            Topology::Standalone | Topology::Sentinel { .. } => 1,
            Topology::Cluster => CLUSTER_LANES,
        }
    }

    fn is_one_place(&self) -> bool {
        matches!(self.site.deployment.topology, Topology::Standalone)
    }

    /// 1 MiB, because Redis cuts off a subscriber for which 32 MiB wait, or 8 MiB for a minute.
    fn payload_bytes_max(&self) -> usize {
        1024 * 1024
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let deadline = Deadline::new(Instant::now(), self.site.connect_timeout);
        let first = self.first.load(Ordering::Relaxed);
        let seeds = &self.site.deployment.seeds;
        let mut failure: Option<BrokerError> = None;
        for tried in 0..seeds.len() {
            // A server that does not answer leaves the others their share of the time.
            let left = u32::try_from(seeds.len() - tried).unwrap_or(u32::MAX);
            let asking = deadline.share(Instant::now(), left);
            let seed = &seeds[(first + tried) % seeds.len()];
            match Box::pin(self.open_by(seed, (asking, deadline), node, &inbound)).await {
                Ok(link) => return Ok(Arc::new(link)),
                // An error that an operator can fix is more useful than one about another silent
                // server.
                Err(error) => match &failure {
                    Some(before) if before.kind() == BrokerErrorKind::Refused => {}
                    _ => failure = Some(error),
                },
            }
            if deadline.is_over(Instant::now()) {
                break;
            }
        }
        self.first.store((first + 1) % seeds.len(), Ordering::Relaxed);
        Err(failure.expect("a deployment has a seed at least, see `Deployment`"))
    }
}
