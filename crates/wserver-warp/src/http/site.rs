//! What one server serves over HTTP, on all its listeners.

use std::fmt;
use std::sync::Arc;

use wserver_api::Api;
use wserver_node::Tasks;

use crate::connection::wire::Socket;
use crate::counters::{CarrierCounters, HttpBound};
use crate::http::keep_alive::KeepAlive;
use crate::http::proxies::TrustedProxies;
use crate::upgrade::handshake::Handshakes;

/// What one server serves over HTTP, on all its listeners.
pub(crate) struct Site {
    pub(crate) api: Arc<Api<Socket>>,
    pub(crate) handshakes: Handshakes,
    pub(crate) proxies: TrustedProxies,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) counters: Arc<CarrierCounters>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("api", &self.api).finish_non_exhaustive()
    }
}

impl Site {
    /// Spawns the tasks that serve connections.
    pub(crate) fn tasks(&self) -> &Tasks {
        self.api.node().tasks()
    }

    /// Counts a connection, or a request on one, that was refused because of `bound`.
    pub(crate) fn count_refused(&self, bound: HttpBound) {
        self.counters.http_connections_refused_total.increment(bound);
    }
}
