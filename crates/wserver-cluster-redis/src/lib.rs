//! Redis or Valkey, from 7 on, as the broker between the nodes of a cluster.
//!
//! | URL | what it is |
//! |-----|------------|
//! | `redis://host:6379` | one server |
//! | `redis-sentinel://h1:26379,h2:26379/mastername` | a master that Sentinels watch |
//! | `redis-cluster://h1:6379,h2:6379` | a Redis Cluster; its lanes are sharded channels |
//!
//! With `rediss`, `rediss-sentinel` and `rediss-cluster` everything goes over TLS.
//!
//! A user of its own needs no more than this (for a Redis Cluster `+spublish +ssubscribe
//! +cluster|slots` in place of the first two):
//!
//! ```text
//! user push on >password resetchannels &wserver.* +publish +subscribe +ping
//! ```
//!
//! The protocol is spoken here, in a page, and not by a library. What a client must not do here is
//! the larger part of `redis`, which brings thirty crates: reconnect, queue without bound, choose the
//! TLS of a whole process. Codecs alone were tried in November 2026: `redis-protocol` 6 goes as deep
//! as its input says, and overflows the stack at 64 KiB of `*1`; that of `redis` 1.8 copies, and is
//! not public; `resp-rs` 0.3 is bounded and reads small frames a third faster, but is half a year old
//! and by one author. It is the one to take when it has lasted.

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

/// Ways through a Redis Cluster. Each is one slot, so this bounds how many shards share the work.
const CLUSTER_LANES: u16 = 16;

/// Where the broker is and how to come in.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisSettings {
    /// The address, as in [the table](crate); without a user and a password.
    pub url: String,
    /// What the names of all channels begin with.
    pub cluster: String,
    /// The ACL user; without one it is `default`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The certificate authorities to trust, as PEM, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// How long it may take to open a link, and to publish.
    pub connect_timeout: Duration,
}

impl RedisSettings {
    /// Without a password, with the system's authorities and five seconds to connect.
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
        // Not the URL: somebody may have written a password into it before it was looked at.
        f.debug_struct("RedisSettings")
            .field("cluster", &self.cluster)
            .field("username", &self.username)
            .field("has_password", &self.password.is_some())
            .field("has_ca_pem", &self.ca_pem.is_some())
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// A Redis that carries what the nodes of a cluster have to say to each other.
#[derive(Debug)]
pub struct RedisBroker {
    site: Arc<Site>,
    /// Which of the addresses comes first next time: another one after each failure, so that one that
    /// hangs, or knows an old master, is not asked for ever.
    first: AtomicUsize,
}

/// All that was set, once it has been looked at.
#[derive(Debug)]
struct Site {
    deployment: Deployment,
    cluster: String,
    access: Access,
    connect_timeout: Duration,
}

impl RedisBroker {
    /// Looks at the settings, without connecting.
    ///
    /// # Errors
    /// When they can lead nowhere, and what to write instead.
    pub fn new(settings: RedisSettings) -> Result<Self, BrokerError> {
        let RedisSettings { url, cluster, username, password, ca_pem, connect_timeout } = settings;
        let deployment = Deployment::parse(&url)?;
        if connect_timeout.is_zero() {
            return Err(BrokerError::refused("the time to connect to the broker is zero"));
        }
        let tls = match (deployment.is_tls, ca_pem) {
            (true, ca_pem) => Some(tls::config(ca_pem.as_deref())?),
            (false, None) => None,
            (false, Some(_)) => {
                let scheme = deployment.topology.scheme(true);
                let message = "a certificate authority is set for a broker without TLS";
                return Err(BrokerError::refused(format!("{message}: write {scheme}://")));
            }
        };
        let access = Access { username, password, tls };
        let site = Arc::new(Site { deployment, cluster, access, connect_timeout });
        Ok(Self { site, first: AtomicUsize::new(0) })
    }

    /// Opens a link by what the server at `seed` knows.
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

    /// Redis cuts off a subscriber for whom 32 MiB wait, or 8 MiB for a minute.
    fn payload_bytes_max(&self) -> usize {
        1024 * 1024
    }

    async fn open(&self, node: NodeId, inbound: Inbound) -> Result<Arc<dyn Link>, BrokerError> {
        let deadline = Deadline::new(Instant::now(), self.site.connect_timeout);
        let first = self.first.load(Ordering::Relaxed);
        let seeds = &self.site.deployment.seeds;
        let mut failure: Option<BrokerError> = None;
        for tried in 0..seeds.len() {
            // One that does not answer leaves the others their share of the time.
            let left = u32::try_from(seeds.len() - tried).unwrap_or(u32::MAX);
            let asking = deadline.share(Instant::now(), left);
            let seed = &seeds[(first + tried) % seeds.len()];
            match Box::pin(self.open_by(seed, (asking, deadline), node, &inbound)).await {
                Ok(link) => return Ok(Arc::new(link)),
                // What somebody has to change is worth more than who did not answer either.
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
