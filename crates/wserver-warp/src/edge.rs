//! What every request and every connection of one server share.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wserver_api::Api;
use wserver_auth::{Authenticator, TokenSource};
use wserver_cluster::Cluster;
use wserver_core::Limits;
use wserver_node::Node;
use wserver_protocol::CloseCode;

use crate::connection::hooks::Hooks;
use crate::connection::wire::Socket;
use crate::counters::EdgeCounters;
use crate::http::keep_alive::Kept;
use crate::http::proxies::TrustedProxies;
use crate::tls::Tls;
use crate::upgrade::addresses::{Addresses, HandshakeRates};
use crate::upgrade::origin::OriginPolicy;
use crate::upgrade::public_page::PublicPage;

/// The parts of one running server.
pub(crate) struct Edge {
    pub(crate) api: Arc<Api<Socket>>,
    pub(crate) node: Node<Socket>,
    /// The node's part in a cluster, if it has one.
    pub(crate) cluster: Option<Cluster<Socket>>,
    pub(crate) limits: Limits,
    pub(crate) ws_path: String,
    pub(crate) origin: OriginPolicy,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) token_source: TokenSource,
    /// Set when pushes need no key where browsers connect.
    pub(crate) public_page: Option<PublicPage>,
    pub(crate) hooks: Hooks,
    pub(crate) addresses: Arc<Addresses>,
    /// `None` when `handshakes_per_address_per_second` is 0.
    pub(crate) handshakes: Option<HandshakeRates>,
    pub(crate) proxies: TrustedProxies,
    /// The TLS of each listener that has any.
    pub(crate) tls: Vec<Arc<Tls>>,
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
    pub(crate) counters: Arc<EdgeCounters>,
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
