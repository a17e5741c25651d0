//! A server that listens: it joins its cluster, serves, and drains.

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

/// How long a kept HTTP connection has for its next request when its listener is closed. Its answer
/// says that it was the last; without that time the request would cross with the connection's end.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// A server that listens; connections wait in the kernel until it is served.
pub struct BoundServer {
    /// The public one, and then the private one if there is one.
    pub(super) doors: Vec<Door>,
    pub(super) address: SocketAddr,
    pub(super) private_address: Option<SocketAddr>,
    pub(super) site: Arc<Site>,
    /// The TLS of each listener that has any.
    pub(super) tls: Arc<[Arc<Tls>]>,
    /// With which code connections are closed when the server shuts down.
    pub(super) goodbye_code: CloseCode,
    /// Cancelled when a shutdown is to begin.
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
    /// Where it listens: the port that was given for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where pushes are served, if that is an address of its own; `None` of a Unix socket as well.
    #[must_use]
    pub fn private_addr(&self) -> Option<SocketAddr> {
        self.private_address
    }

    /// Whether the demo page is at `/`.
    #[must_use]
    pub fn serves_demo_page(&self) -> bool {
        self.site.api.serves_demo_page()
    }

    /// A handle to push, disconnect and shut down; it stays good while the server serves.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let (api, counters) = (Arc::clone(&self.site.api), Arc::clone(&self.site.counters));
        Handle::new(api, Arc::clone(&self.tls), counters, self.stop.clone())
    }

    /// Reaches for the broker of its cluster, so that what is wrong with it is known before anybody is
    /// served; without a cluster it does nothing. It needs the feature `cluster`.
    ///
    /// # Errors
    /// Why the broker cannot be used, in words for an operator. It may be tried again, and the server
    /// may be served all the same: it is not ready until it has joined.
    ///
    /// # Cancel safety
    /// If the future is dropped, the node has not joined; call it again, or serve all the same.
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
    /// 1. For `drain_delay` all is as before, but `/readyz` says no, so that balancers stop sending.
    /// 2. Over `drain_spread` every connection gets a Close (1001) behind what is queued for it.
    ///    New ones are answered 503; pushes are still taken, for those who are still there.
    /// 3. The listeners are closed, requests in flight are answered, queues are seen out. HTTP
    ///    connections that are kept have another two seconds for their next request.
    ///
    /// From the beginning HTTP answers say `Connection: close`.
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
        // The others have had its users until now.
        if let Some(cluster) = cluster {
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

/// What a server that serves has started; dropping it ends all of that. After a drain there is
/// nothing left to end.
struct Serving {
    site: Arc<Site>,
    /// Cancelled when a shutdown begins.
    stop: CancellationToken,
    /// Cancelled when the listeners close.
    close: CancellationToken,
    /// Cancelled when kept HTTP connections are waited for no longer.
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
