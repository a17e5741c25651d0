//! A server with checked settings; its parts are created when it begins to listen.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::runtime::Handle as Runtime;
use tokio_util::sync::CancellationToken;
use wserver_api::{Api, DemoPage, Elsewhere, HttpLimits, OpenPushScope, Settings, Side};
use wserver_core::Limits;
use wserver_node::{Drained, Node};
use wserver_protocol::CloseCode;

use crate::connection::close;
use crate::connection::shared::Shared;
use crate::connection::wire;
use crate::counters::CarrierCounters;
use crate::http::keep_alive::KeepAlive;
use crate::http::proxies::TrustedProxies;
use crate::http::site::Site;
use crate::listen::listener::{Door, Listen};
use crate::metrics::Metrics;
use crate::server::bound::BoundServer;
use crate::server::builder::ServerBuilder;
use crate::tls::Tls;
use crate::upgrade::addresses::{Addresses, HandshakeRates};
use crate::upgrade::handshake::Handshakes;
use crate::upgrade::public_page::PublicPage;

/// A push server with checked settings that does not listen yet.
pub struct Server {
    pub(super) listen: Listen,
    pub(super) tls: Option<Arc<Tls>>,
    /// The private listener, if there is one.
    pub(super) private: Option<(Listen, Option<Arc<Tls>>)>,
    /// What the listener at `listen` serves.
    pub(super) side: Side,
    pub(super) settings: ServerBuilder,
    pub(super) limits: Limits,
    pub(super) http_limits: HttpLimits,
    pub(super) proxies: TrustedProxies,
    pub(super) serves_demo: bool,
    /// The code with which a shutdown closes connections.
    pub(super) goodbye_code: CloseCode,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listen", &self.listen)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Starts from the defaults: loopback, `/ws`, `/push`, open authentication, the limits of
    /// [`LimitSettings`](crate::LimitSettings) and [`HttpLimitSettings`](crate::HttpLimitSettings).
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Starts to listen. Call it within a tokio runtime, which will run the server.
    ///
    /// # Errors
    /// If an address cannot be listened on, which the error names, or if there is no runtime.
    pub fn bind(self) -> io::Result<BoundServer> {
        let runtime = Runtime::try_current().map_err(io::Error::other)?;
        let has_client_ca = self.settings.asks_pushers_for_certificates(self.private.is_some());
        let tls = [self.tls.clone(), self.private.as_ref().and_then(|(_, tls)| tls.clone())];
        let tls: Arc<[Arc<Tls>]> = tls.into_iter().flatten().collect();
        let side = self.side;
        let is_public_tls = self.tls.is_some();
        let has_private = self.private.is_some();
        let public = Door { listener: self.listen.bind("")?, side, tls: self.tls };
        let address = public.listener.local_addr()?;
        let mut doors = vec![public];
        let mut private_address = None;
        if let Some((listen, tls)) = self.private {
            let listener = listen.bind("private_address ")?;
            private_address = listener.local_addr().ok();
            doors.push(Door { listener, side: Side::Private, tls });
        }
        let ServerBuilder { ws_path, push_path, .. } = &self.settings;
        let pushes_elsewhere = match private_address {
            Some(address) if self.settings.private_on_loopback => {
                Some(Elsewhere::At(format!("http://{address}")))
            }
            // The operator knows an address that the operator chose.
            _ if has_private || side == Side::Whole => None,
            _ => Some(Elsewhere::Nowhere),
        };
        let sockets = (side == Side::Public).then(|| sockets_origin(address, is_public_tls));
        let demo_page =
            self.serves_demo.then(|| DemoPage::new(ws_path, push_path, sockets.as_deref()));
        let is_open_push = self.settings.push_authorizer.is_open();
        let is_one_for_all = side == Side::Whole && self.settings.allow_open_push;
        let public_page = (is_open_push && is_one_for_all).then(PublicPage::default);
        let open_push = is_open_push.then_some(if self.settings.allow_open_push || has_client_ca {
            OpenPushScope::Anyone
        } else {
            OpenPushScope::Loopback
        });
        let stop = CancellationToken::new();
        let (limits, close_frame) = (self.limits.clone(), close::close_frame);
        let (node, part) = match self.settings.cluster {
            None => (Node::new(limits, close_frame, runtime), None),
            Some(plan) => {
                let (node, part) = plan.node(limits, close_frame, runtime);
                (node, Some(part))
            }
        };
        let cluster = part.as_ref().map(|part| part.cluster().clone());
        let goodbye_code = self.goodbye_code;
        let counters = Arc::new(CarrierCounters::default());
        let settings = Settings {
            limits: self.limits.clone(),
            http_limits: self.http_limits.clone(),
            ws_path: self.settings.ws_path,
            push_path: self.settings.push_path,
            push_authorizer: self.settings.push_authorizer,
            open_push,
            pushes_elsewhere,
            demo_page,
        };
        let metrics = Metrics { node: node.clone(), counters: Arc::clone(&counters), goodbye_code };
        let api = Arc::new(Api::new(
            settings,
            node.clone(),
            cluster.clone(),
            stop.clone(),
            wire::pair,
            Arc::new(metrics),
        ));
        let keep_alive = KeepAlive::new(self.http_limits.http_idle_timeout, stop.clone());
        let rates = HandshakeRates::new(&self.http_limits);
        let addresses = Arc::new(Addresses::new(self.http_limits.connections_per_address_max));
        let shared = Shared::new(
            node,
            cluster.clone(),
            self.limits,
            self.settings.authenticator,
            self.settings.hooks,
            self.settings.wall_clock,
            Arc::clone(&counters),
        );
        let handshakes = Handshakes {
            shared: Arc::new(shared),
            cluster,
            origin: self.settings.origin,
            token_source: self.settings.token_source,
            addresses,
            rates,
            public_page,
        };
        let site = Site { api, handshakes, proxies: self.proxies, keep_alive, counters };
        let site = Arc::new(site);
        Ok(BoundServer { doors, address, private_address, site, tls, goodbye_code, stop, part })
    }

    /// Calls [`bind`](Self::bind), and serves until [`Handle::shutdown`](crate::Handle::shutdown),
    /// or for ever.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Cancel safety
    /// Dropping the future stops the server, see [`BoundServer::serve_until`].
    pub async fn serve(self) -> io::Result<Drained> {
        Ok(self.bind()?.serve().await)
    }

    /// Calls [`bind`](Self::bind), serves until `shutdown` is ready, and then drains.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Cancel safety
    /// Dropping the future stops the server, see [`BoundServer::serve_until`].
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> io::Result<Drained> {
        Ok(self.bind()?.serve_until(shutdown).await)
    }
}

/// The origin to which a page on this machine opens its WebSockets, for its content policy.
fn sockets_origin(address: SocketAddr, is_tls: bool) -> String {
    let scheme = if is_tls { "wss" } else { "ws" };
    let (ip, port) = (address.ip(), address.port());
    if ip.is_unspecified() {
        format!("{scheme}://{}:{port}", IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else if ip.is_ipv6() && ip.is_loopback() {
        // Content policies cannot express an IPv6 address.
        format!("{scheme}://localhost:{port}")
    } else {
        format!("{scheme}://{address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_opens_its_sockets_where_a_browser_gets_through() {
        for (address, is_tls, origin) in [
            ("127.0.0.1:80", false, "ws://127.0.0.1:80"),
            ("0.0.0.0:80", false, "ws://127.0.0.1:80"),
            ("[::]:443", true, "wss://127.0.0.1:443"),
            ("[::1]:443", true, "wss://localhost:443"),
            ("192.0.2.1:80", false, "ws://192.0.2.1:80"),
        ] {
            assert_eq!(sockets_origin(address.parse().unwrap(), is_tls), origin, "{address}");
        }
    }
}
