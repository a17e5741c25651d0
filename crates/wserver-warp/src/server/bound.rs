//! A listening server: it joins its cluster, serves, and drains.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wserver_core::CloseReason;
use wserver_node::Drained;
use wserver_protocol::CloseCode;

use crate::cluster::Part;
use crate::connection::close;
use crate::http::site::Site;
use crate::listen::accept;
use crate::listen::listener::Door;
use crate::server::handle::Handle;
use crate::tls::{self, Tls};

/// How long a kept HTTP connection has for its next request after its listener closes. Without that
/// time, a request could cross the end of the connection, because the client had not yet seen the
/// answer that announces it.
const KEPT_FOR: Duration = Duration::from_secs(2);
/// How long the other nodes have to learn that nothing is kept here any more, before it leaves.
const LEARN: Duration = Duration::from_millis(500);
/// How long a node of a cluster is asked for what it has kept, behind its last connection: until the
/// client that comes back last has done so.
const ASKED_FOR: Duration = Duration::from_secs(8);

/// A listening server; connections wait in the kernel until it serves.
pub struct BoundServer {
    /// The public listener, then the private one if there is one.
    pub(super) doors: Vec<Door>,
    pub(super) address: SocketAddr,
    pub(super) private_address: Option<SocketAddr>,
    pub(super) site: Arc<Site>,
    /// The TLS of each listener that uses it.
    pub(super) tls: Arc<[Arc<Tls>]>,
    /// The code with which a shutdown closes connections.
    pub(super) goodbye_code: CloseCode,
    /// Cancelled when a shutdown must begin.
    pub(super) stop: CancellationToken,
    /// What it has not begun to take part in.
    pub(super) part: Option<Part>,
}

impl fmt::Debug for BoundServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl BoundServer {
    /// The address of the listener, with the actual port for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The private address, if there is one; `None` for a Unix socket too.
    #[must_use]
    pub fn private_addr(&self) -> Option<SocketAddr> {
        self.private_address
    }

    /// Whether the demo page is served at `/`.
    #[must_use]
    pub fn serves_demo_page(&self) -> bool {
        self.site.api.serves_demo_page()
    }

    /// A handle to push, disconnect and shut down; it works as long as the server serves.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let (api, counters) = (Arc::clone(&self.site.api), Arc::clone(&self.site.counters));
        Handle::new(api, Arc::clone(&self.tls), counters, self.stop.clone())
    }

    /// Connects to the broker of the cluster, so that problems with the broker are known before the
    /// server serves; without a cluster it does nothing. It needs the feature `cluster`.
    ///
    /// # Errors
    /// Why the broker cannot be used, in words for an operator. You can call this again, or serve
    /// anyway: the server is not ready until it has joined.
    ///
    /// # Cancel safety
    /// If the future is dropped, the node has not joined; call it again, or serve anyway.
    #[cfg(feature = "cluster")]
    pub async fn join(&mut self) -> Result<(), crate::BrokerError> {
        match &mut self.part {
            Some(part) => part.connect().await,
            None => Ok(()),
        }
    }

    /// Serves until [`Handle::shutdown`], then drains.
    ///
    /// # Cancel safety
    /// As [`serve_until`](Self::serve_until): dropping the future stops the server.
    pub async fn serve(self) -> Drained {
        self.serve_until(std::future::pending()).await
    }

    /// Serves until `shutdown` is ready or [`Handle::shutdown`] is called, then drains:
    ///
    /// 1. For `drain_delay` it serves as before, but `/readyz` fails, so that load balancers stop
    ///    sending clients.
    /// 2. Over `drain_spread` every connection gets a Close (1001) after what is queued for it. New
    ///    connections get 503; pushes are still accepted, for the connections that are left.
    /// 3. The listeners close, the requests under way are answered, and queues are emptied. Kept
    ///    HTTP connections have another two seconds for their next request.
    ///
    /// From the beginning, HTTP answers say `Connection: close`.
    ///
    /// It returns when no task is left, at the latest after `drain_timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future stops the server at once, without a drain: the listeners close, each
    /// connection gets a Close if its socket takes it without waiting, and all tasks end by
    /// themselves soon after. In a cluster the node still tries for a second to say goodbye.
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Drained {
        let Self { doors, site, tls, goodbye_code, stop, part, .. } = self;
        let (node, limits, tasks) = (site.api.node(), site.api.limits(), site.tasks().clone());
        if let Some(part) = part {
            part.start(&site.api, goodbye_code, stop.clone());
        }
        let serving = Serving {
            site: Arc::clone(&site),
            stop: stop.clone(),
            close: CancellationToken::new(),
            last_call: CancellationToken::new(),
        };
        let Serving { close, last_call, .. } = &serving;
        for door in doors {
            let site = Arc::clone(&site);
            tasks.spawn(accept::run(site, door, close.clone(), last_call.clone()));
        }
        let cluster = site.api.cluster();
        if !tls.is_empty() {
            tasks.spawn(tls::watch(tls, close.clone()));
        }
        tokio::select! {
            () = shutdown => stop.cancel(),
            () = stop.cancelled() => {}
        }
        let deadline = tokio::time::Instant::now() + limits.drain_timeout;
        if let Some(cluster) = cluster {
            cluster.drain();
        }
        tokio::time::sleep(limits.drain_delay).await;
        let goodbyes = close::goodbyes(CloseReason::Shutdown, goodbye_code);
        let told = node.dismiss(limits.drain_spread, deadline, &goodbyes).await;
        close.cancel();
        let kept_until = deadline.min(tokio::time::Instant::now() + KEPT_FOR);
        let mut drained = node.drain(deadline).await;
        drained.closed += told;
        // The other nodes counted on its users until now, and clients that have come back to them
        // ask for what was kept here.
        if let Some(cluster) = cluster {
            if node.replay_gauges().1 > 0 {
                let until = deadline.min(tokio::time::Instant::now() + ASKED_FOR);
                tokio::time::sleep_until(until - LEARN).await;
                node.end_replay();
                tokio::time::sleep_until(until).await;
            }
            cluster.leave();
        }
        let is_over = tokio::time::timeout_at(kept_until, tasks.finished()).await.is_ok();
        last_call.cancel();
        if !is_over && tokio::time::timeout_at(deadline, tasks.finished()).await.is_err() {
            tasks.stop();
            tasks.finished().await;
        }
        drained
    }
}

/// Everything that a serving server has started; dropping it ends all of that. After a drain
/// nothing is left to end.
struct Serving {
    site: Arc<Site>,
    /// Cancelled when a shutdown begins.
    stop: CancellationToken,
    /// Cancelled when the listeners close.
    close: CancellationToken,
    /// Cancelled when the server stops waiting for kept HTTP connections.
    last_call: CancellationToken,
}

impl Drop for Serving {
    fn drop(&mut self) {
        for token in [&self.stop, &self.close, &self.last_call] {
            token.cancel();
        }
        if let Some(cluster) = self.site.api.cluster() {
            cluster.leave();
        }
        self.site.api.node().end();
    }
}
