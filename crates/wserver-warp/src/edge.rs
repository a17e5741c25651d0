//! What every request and every connection of one server share.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wserver_auth::{Authenticator, PushAuthorizer};
use wserver_cluster::Cluster;
use wserver_core::Limits;
use wserver_node::Node;
use wserver_protocol::CloseCode;

use crate::addresses::{Addresses, HandshakeRates};
use crate::answer::Kept;
use crate::api::ask::LentTraces;
use crate::api::idempotency::Idempotency;
use crate::counters::EdgeCounters;
use crate::demo::DemoPage;
use crate::health::Health;
use crate::hooks::Hooks;
use crate::open_push::{OpenPushScope, PublicPage};
use crate::origin::OriginPolicy;
use crate::proxies::TrustedProxies;
use crate::tls::Tls;
use crate::wire::Socket;
use wserver_auth::TokenSource;

/// The parts of one running server.
pub(crate) struct Edge {
    pub(crate) node: Node<Socket>,
    /// The node's part in a cluster, if it has one.
    pub(crate) cluster: Option<Cluster<Socket>>,
    /// Users that other nodes follow here.
    pub(crate) lent_traces: Arc<LentTraces>,
    pub(crate) limits: Limits,
    pub(crate) ws_path: String,
    pub(crate) push_path: String,
    pub(crate) origin: OriginPolicy,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) token_source: TokenSource,
    pub(crate) push_authorizer: Arc<dyn PushAuthorizer>,
    /// Set when pushes need no key.
    pub(crate) open_push: Option<OpenPushScope>,
    /// What a push to the public listener is told, where pushes need no key and are taken elsewhere or nowhere.
    pub(crate) pushes_elsewhere: Option<Elsewhere>,
    /// Set when pushes need no key where browsers connect.
    pub(crate) public_page: Option<PublicPage>,
    /// The demo page, if it is served.
    pub(crate) demo_page: Option<DemoPage>,
    pub(crate) hooks: Hooks,
    /// Bytes of push bodies that may still be read; `push_bodies_bytes_max` in all.
    pub(crate) push_bodies: Arc<Semaphore>,
    /// Bytes of clients' messages that are half read. Written by connections when they have read;
    /// bounded by `inbound_bytes_max`, and what each connection may have beyond it.
    pub(crate) inbound_bytes: AtomicUsize,
    pub(crate) push_ids: PushIds,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) addresses: Arc<Addresses>,
    /// `None` when `handshakes_per_address_per_second` is 0.
    pub(crate) handshakes: Option<HandshakeRates>,
    pub(crate) proxies: TrustedProxies,
    /// The TLS of each listener that has any.
    pub(crate) tls: Vec<Arc<Tls>>,
    pub(crate) started_at: Instant,
    /// What expiries of identities are compared with.
    pub(crate) wall_clock: WallClock,
    /// Cancelled when a shutdown begins.
    pub(crate) stop: CancellationToken,
    /// Cancelled when kept HTTP connections are waited for no longer.
    pub(crate) last_call: CancellationToken,
    /// What answers say of how long their connection is kept.
    pub(crate) kept: Kept,
    /// The one ping frame.
    pub(crate) ping: Bytes,
    /// With which code connections are closed when the server shuts down.
    pub(crate) goodbye_code: CloseCode,
    pub(crate) counters: EdgeCounters,
    pub(crate) health: Health,
}

/// Where pushes that need no key are taken, since it is not where browsers connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// At this URL, which only this machine reaches.
    At(String),
    /// By the handle alone.
    Nowhere,
}

/// Tells the time of day, which may be set at any moment; by default the system's clock.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    pub(crate) fn new(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(clock))
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// Names for pushes, by which an answer is found in the log: unique in a process, and hardly the
/// same in two.
pub(crate) struct PushIds {
    process: u32,
    next: AtomicU64,
}

impl PushIds {
    pub(crate) fn new() -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "any 32 random bits do")]
        // Fresh keys are the randomness that the standard library has.
        let process = RandomState::new().hash_one(0) as u32;
        Self { process, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> String {
        format!("{:08x}-{}", self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
