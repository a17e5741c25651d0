//! The server as a program embeds it: built, bound, served.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::COOKIE;
use tokio::runtime::Handle as Runtime;
use tokio_util::sync::CancellationToken;
use wserver_api::{
    Api, DESCRIPTION_PATH, DemoPage, Elsewhere, OpenPushScope, PREFIX, Settings, Side,
};
use wserver_auth::{Authenticator, OpenAuthenticator, OpenPush, PushAuthorizer};
use wserver_cluster::{Broker, BrokerError, ClusterSettings, Joining};
use wserver_core::{CloseReason, LimitSettings, Limits};
use wserver_node::{Drained, Node};
use wserver_protocol::{CloseCode, frame, v2};

use crate::connection::close;
use crate::connection::cut_off;
use crate::connection::hooks::{Connection, Flow, Hooks, Received};
use crate::connection::wire::{self, Socket};
use crate::counters::EdgeCounters;
use crate::edge::{Edge, WallClock};
use crate::http::keep_alive::Kept;
use crate::http::proxies::TrustedProxies;
use crate::http::routes;
use crate::listen::accept;
use crate::listen::listener::{Door, Listen, Place};
use crate::metrics::Metrics;
use crate::server::handle::Handle;
use crate::tls::{self, Tls, TlsSettings};
use crate::upgrade::addresses::{Addresses, HandshakeRates};
use crate::upgrade::origin::OriginPolicy;
use crate::upgrade::public_page::PublicPage;
use wserver_auth::TokenSource;

/// How long a kept HTTP connection has for its next request when its listener is closed. Its answer
/// says that it was the last; without that time the request would cross with the connection's end.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// Where a server listens unless told otherwise: the ancestor's port, on this machine only.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:12345";

/// A push server whose settings hold together, not yet listening.
pub struct Server {
    listen: Listen,
    tls: Option<Arc<Tls>>,
    /// Where pushes are served, if it is not the same place.
    private: Option<(Listen, Option<Arc<Tls>>)>,
    /// What is served at `listen`.
    side: Side,
    settings: ServerBuilder,
    limits: Limits,
    proxies: TrustedProxies,
    serves_demo: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listen", &self.listen)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// To whom the demo page is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DemoPolicy {
    Never,
    /// Where only this machine reaches it.
    OnLoopback,
    Always,
}

/// Collects the settings of a [`Server`].
pub struct ServerBuilder {
    /// Taken out by [`ServerBuilder::build`].
    public: Option<Place>,
    private: Option<Place>,
    tls: Option<TlsSettings>,
    private_tls: Option<TlsSettings>,
    ws_path: String,
    push_path: String,
    origin: OriginPolicy,
    trusted_proxies: Vec<String>,
    authenticator: Arc<dyn Authenticator>,
    token_source: TokenSource,
    push_authorizer: Arc<dyn PushAuthorizer>,
    allow_open_push: bool,
    private_on_loopback: bool,
    demo_page: DemoPolicy,
    drain_close_code: u16,
    limits: LimitSettings,
    hooks: Hooks,
    wall_clock: WallClock,
    cluster: Option<(Arc<dyn Broker>, ClusterSettings)>,
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("public", &self.public)
            .field("private", &self.private)
            .field("tls", &self.tls)
            .field("private_tls", &self.private_tls)
            .field("ws_path", &self.ws_path)
            .field("push_path", &self.push_path)
            .field("origin", &self.origin)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("token_source", &self.token_source)
            .field("allow_open_push", &self.allow_open_push)
            .field("private_on_loopback", &self.private_on_loopback)
            .field("demo_page", &self.demo_page)
            .field("drain_close_code", &self.drain_close_code)
            .field("limits", &self.limits)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

/// All that is wrong with a server's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    problems: Vec<String>,
}

impl BuildError {
    pub(crate) const fn new(problems: Vec<String>) -> Self {
        Self { problems }
    }

    /// The problems, one sentence each, naming the setting.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for BuildError {}

impl Server {
    /// Starts from the defaults: loopback, `/ws`, `/push`, open authentication, the limits of [`LimitSettings`].
    #[must_use]
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            public: Some(Place::Address(DEFAULT_ADDRESS.to_owned())),
            private: None,
            tls: None,
            private_tls: None,
            ws_path: "/ws".to_owned(),
            push_path: "/push".to_owned(),
            origin: OriginPolicy::any(),
            trusted_proxies: Vec::new(),
            authenticator: Arc::new(OpenAuthenticator),
            token_source: TokenSource::default(),
            push_authorizer: Arc::new(OpenPush),
            allow_open_push: false,
            private_on_loopback: false,
            demo_page: DemoPolicy::Never,
            drain_close_code: CloseCode::GOING_AWAY.as_u16(),
            limits: LimitSettings::default(),
            hooks: Hooks::default(),
            wall_clock: WallClock::default(),
            cluster: None,
        }
    }

    /// Starts to listen. To be called within a tokio runtime, which will run the server.
    ///
    /// # Errors
    /// When an address cannot be had, which the error names, or there is no runtime.
    pub fn bind(self) -> io::Result<BoundServer> {
        let runtime = Runtime::try_current().map_err(io::Error::other)?;
        let has_client_ca = self.settings.asks_pushers_for_certificates(self.private.is_some());
        let tls = [self.tls.clone(), self.private.as_ref().and_then(|(_, tls)| tls.clone())];
        let tls: Vec<Arc<Tls>> = tls.into_iter().flatten().collect();
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
            // Where an operator has placed it is his own to tell.
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
        let node = Node::new(self.limits.clone(), close::close_frame, runtime);
        let joining = self.settings.cluster.map(|(broker, mut settings)| {
            settings.release_spread = self.limits.drain_spread;
            Joining::new(node.clone(), broker, settings)
        });
        let cluster = joining.as_ref().map(|joining| joining.cluster().clone());
        let goodbye_code =
            goodbye_code(self.settings.drain_close_code).unwrap_or(CloseCode::GOING_AWAY);
        let counters = Arc::new(EdgeCounters::default());
        let settings = Settings {
            limits: self.limits.clone(),
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
        if let Some(cluster) = &cluster {
            // Whoever answers must not keep the server alive.
            let api = Arc::downgrade(&api);
            cluster.answer_with(Box::new(move |from, question| match api.upgrade() {
                Some(api) => api.answer_node(from, &question),
                None => Box::pin(std::future::ready(None)),
            }));
        }
        let edge = Edge {
            api,
            cluster,
            node,
            ws_path: self.settings.ws_path,
            origin: self.settings.origin,
            authenticator: self.settings.authenticator,
            token_source: self.settings.token_source,
            public_page,
            hooks: self.settings.hooks,
            addresses: Arc::new(Addresses::new(self.limits.connections_per_address_max)),
            handshakes: HandshakeRates::new(&self.limits),
            proxies: self.proxies,
            tls,
            wall_clock: self.settings.wall_clock,
            stop: stop.clone(),
            last_call: CancellationToken::new(),
            kept: Kept::new(self.limits.http_idle_timeout),
            ping: frame::ping(),
            goodbye_code,
            counters,
            limits: self.limits,
        };
        let edge = Arc::new(edge);
        Ok(BoundServer { doors, address, private_address, edge, stop, joining })
    }

    /// [`bind`](Self::bind) and serve until [`Handle::shutdown`], or for ever.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn serve(self) -> io::Result<Drained> {
        Ok(self.bind()?.serve().await)
    }

    /// [`bind`](Self::bind) and serve until `shutdown` is ready, then drain.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> io::Result<Drained> {
        Ok(self.bind()?.serve_until(shutdown).await)
    }
}

impl ServerBuilder {
    /// Where to listen: `host:port`; `:port` is every IPv4 address of this machine, `[::]:port` IPv6 too. Default: 127.0.0.1:12345.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.public = Some(Place::Address(address.into()));
        self
    }

    /// A listener that is bound already, instead of an address.
    #[must_use]
    pub fn listener(mut self, listener: StdTcpListener) -> Self {
        self.public = Some(Place::Listener(listener));
        self
    }

    /// Serves TLS, and nothing else, where browsers connect. Default: plain, for a proxy in front that ends TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Serves pushes at this address and no longer at [`address`](Self::address), which then carries
    /// the WebSockets alone: `host:port`, or `unix:/path` as [`private_unix`](Self::private_unix).
    ///
    /// What must not be open to strangers then has an address that can be kept from them. The
    /// demo page is served where pushes are.
    /// Each of the two listeners has `http_connections_max` of its own.
    #[must_use]
    pub fn private_address(mut self, address: impl Into<String>) -> Self {
        self.private = Some(Place::Address(address.into()));
        self
    }

    /// Where nothing is asked of publishers, serves pushes as [`private_address`](Self::private_address)
    /// does, on a port that only this machine reaches: 22345 beside 12345, ten thousand further than
    /// the port of the address (or before it, where there is none). It does nothing where there is a
    /// push authoriser, a private listener, or [`allow_open_push`](Self::allow_open_push).
    ///
    /// Without it, and without any of those, pushes are taken by the [`Handle`] alone, and over HTTP
    /// they are answered 403: whoever reaches the address through a proxy could push to everyone
    /// otherwise, as the proxy is a program on this machine and need leave no mark.
    #[must_use]
    pub fn private_on_loopback(mut self) -> Self {
        self.private_on_loopback = true;
        self
    }

    /// As [`private_address`](Self::private_address), on a Unix socket: its file is made with mode
    /// 0660, so that the server's own user and group may push, and is removed when the server ends.
    ///
    /// Authorisers see 127.0.0.1, port 0, as the peer.
    #[must_use]
    pub fn private_unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.private = Some(Place::Unix(path.into()));
        self
    }

    /// As [`private_address`](Self::private_address), with a listener that is bound already.
    #[must_use]
    pub fn private_listener(mut self, listener: StdTcpListener) -> Self {
        self.private = Some(Place::Listener(listener));
        self
    }

    /// As [`private_unix`](Self::private_unix), with a listener that is bound already; its file,
    /// and who may open it, are the business of whoever bound it.
    #[must_use]
    pub fn private_unix_listener(mut self, listener: StdUnixListener) -> Self {
        self.private = Some(Place::UnixListener(listener));
        self
    }

    /// Serves TLS, and nothing else, at the private address. With a
    /// [`client_ca_file`](TlsSettings::client_ca_file) a client's certificate is enough to push
    /// with, unless a push authoriser asks for more.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn private_tls(mut self, tls: TlsSettings) -> Self {
        self.private_tls = Some(tls);
        self
    }

    /// Where browsers open their WebSocket. Default: /ws.
    #[must_use]
    pub fn ws_path(mut self, path: impl Into<String>) -> Self {
        self.ws_path = path.into();
        self
    }

    /// Where backends post messages. Default: /push.
    #[must_use]
    pub fn push_path(mut self, path: impl Into<String>) -> Self {
        self.push_path = path.into();
        self
    }

    /// Which web pages may connect. Default: any.
    #[must_use]
    pub fn origin(mut self, origin: OriginPolicy) -> Self {
        self.origin = origin;
        self
    }

    /// The proxies in front, as networks (`10.0.0.0/8`) or addresses. Default: none.
    ///
    /// A request from one of them counts as the client's that its `X-Forwarded-For` names: the
    /// rightmost entry that is no such proxy. So limits per address, the log, `Credentials::peer`,
    /// `PushCredentials::peer` and [`Connection::peer_addr`] are about clients and not about the
    /// proxy. The port is 0 where the proxy does not tell it. `Forwarded` and the PROXY protocol are
    /// not read.
    #[must_use]
    pub fn trusted_proxies<I>(mut self, networks: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.trusted_proxies = networks.into_iter().map(Into::into).collect();
        self
    }

    /// Maps tokens to users. Default: the token is the user id.
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Arc::new(authenticator);
        self
    }

    /// Where a token comes from when a register message has none or an empty one. Default: from
    /// nowhere, and such a message is ignored.
    ///
    /// The token of the handshake is then authenticated for each such registration of the
    /// connection, and kept as long as it lives. A cookie goes with an [`origin`](Self::origin)
    /// policy only, because browsers send it along for every page.
    #[must_use]
    pub fn token_source(mut self, token_source: TokenSource) -> Self {
        self.token_source = token_source;
        self
    }

    /// Decides who may push. Default: the [`Handle`] alone, unless a private listener takes pushes
    /// without a key, for programs on this machine, or [`allow_open_push`](Self::allow_open_push) is set.
    #[must_use]
    pub fn push_authorizer(mut self, push_authorizer: impl PushAuthorizer) -> Self {
        self.push_authorizer = Arc::new(push_authorizer);
        self
    }

    /// Lets everyone who reaches the port push to everyone, as the ancestor did: on loopback, where
    /// that includes whoever comes through a proxy on this machine, and beyond it too.
    ///
    /// Only for a network whose every member may do so; web pages of other sites stay shut out.
    #[must_use]
    pub fn allow_open_push(mut self) -> Self {
        self.allow_open_push = true;
        self
    }

    /// Serves the demo page, a playground, at `/` of the listener that takes pushes, whoever reaches
    /// it. Default: not served.
    #[must_use]
    pub fn demo_page(mut self) -> Self {
        self.demo_page = DemoPolicy::Always;
        self
    }

    /// Serves the demo page at `/` where only this machine reaches it: if pushes are taken at a
    /// loopback address, there are no trusted proxies, the page may connect
    /// ([`origin`](Self::origin)), and nothing else is at `/`.
    #[must_use]
    pub fn demo_page_on_loopback(mut self) -> Self {
        self.demo_page = DemoPolicy::OnLoopback;
        self
    }

    /// The code with which connections are closed when the server shuts down: 1001, going away, or
    /// 1012, service restart, for clients that tell them apart. Default: 1001.
    #[must_use]
    pub fn drain_close_code(mut self, code: u16) -> Self {
        self.drain_close_code = code;
        self
    }

    /// Every bound: sizes, times, counts.
    #[must_use]
    pub fn limits(mut self, limits: LimitSettings) -> Self {
        self.limits = limits;
        self
    }

    /// Makes the server a node of a cluster, whose nodes find each other at `broker`: a push on any of
    /// them reaches its user on all of them. Default: it stands alone.
    ///
    /// [`BoundServer::join`] tells whether the broker can be used; without that call a server begins
    /// to serve and joins as soon as it can.
    #[must_use]
    pub fn cluster(mut self, broker: Arc<dyn Broker>, settings: ClusterSettings) -> Self {
        self.cluster = Some((broker, settings));
        self
    }

    /// Called with every message a client sends, before the server looks at it (the ancestor's `AfterReadFunc`).
    ///
    /// It runs on the connection's task, so it must not block. If it panics, that connection ends.
    #[must_use]
    pub fn on_message(
        mut self,
        hook: impl Fn(&Connection, Received<'_>) -> Flow + Send + Sync + 'static,
    ) -> Self {
        self.hooks.message = Some(Arc::new(hook));
        self
    }

    /// Called once for every connection whose task has not panicked, before its socket is closed
    /// (the ancestor's `BeforeCloseFunc`).
    ///
    /// It runs on the connection's task, so it must not block.
    #[must_use]
    pub fn before_close(
        mut self,
        hook: impl Fn(&Connection, CloseReason) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.close = Some(Arc::new(hook));
        self
    }

    /// What tells the time of day, which expiries of identities are compared with; by default the
    /// system's clock. It is asked at each turn of a connection, so it must be quick.
    ///
    /// A clock may be set: a connection whose identity has expired by a clock that was set forward
    /// is closed by its next ping, and one that has not by a clock that was set back lives on.
    #[must_use]
    pub fn wall_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.wall_clock = WallClock::new(clock);
        self
    }

    /// Checks all settings and the relations between them. Nothing is bound yet.
    ///
    /// # Errors
    /// [`BuildError`] with every problem, not only the first.
    pub fn build(mut self) -> Result<Server, BuildError> {
        let mut problems = Vec::new();
        let has_private = self.private.is_some();
        let listen = self.public.take().map(|place| place.resolve("address"));
        let listen = taken(listen.transpose(), &mut problems);
        let private = self.private.take().map(|place| place.resolve("private_address"));
        let mut private = taken(private.transpose(), &mut problems);
        problems.extend(path_problem("ws_path", &self.ws_path));
        problems.extend(path_problem("push_path", &self.push_path));
        for (name, path) in [("ws_path", &self.ws_path), ("push_path", &self.push_path)] {
            if routes::is_reserved(path) {
                problems.push(format!("{name} cannot be {path}, where the server has its own"));
            }
        }
        if self.ws_path == self.push_path {
            problems
                .push(format!("ws_path and push_path are both {}, they must differ", self.ws_path));
        }
        for (name, path) in [("ws_path", &self.ws_path), ("push_path", &self.push_path)] {
            if path.starts_with(PREFIX) || path == DESCRIPTION_PATH {
                problems.push(format!("{name} {path} is a path of the HTTP API"));
            }
        }
        let is_demo_wanted = self.demo_page == DemoPolicy::Always;
        let is_root_taken = self.ws_path == "/" || self.push_path == "/";
        if is_demo_wanted && is_root_taken {
            problems.push(
                "the demo page is served at /, so neither ws_path nor push_path can be /"
                    .to_owned(),
            );
        }
        if listen.as_ref().is_some_and(Listen::is_unix) {
            problems
                .push("address must be host:port, browsers cannot reach a Unix socket".to_owned());
        }
        let is_private_unix = private.as_ref().is_some_and(Listen::is_unix);
        if is_demo_wanted && is_private_unix {
            problems.push(
                "the demo page is served where pushes are taken, and browsers cannot reach a Unix \
                 socket: turn it off"
                    .to_owned(),
            );
        }
        if self.private_tls.is_some() && (!has_private || is_private_unix) {
            problems.push("private_tls needs a private_address that is host:port".to_owned());
        }
        if goodbye_code(self.drain_close_code).is_none() {
            let code = self.drain_close_code;
            problems.push(format!("drain_close_code is {code}, it must be 1001 or 1012"));
        }
        problems.extend(self.origin.problems());
        problems.extend(self.cookie_problem());
        if let Err(error) = self.token_source.check() {
            problems.push(format!("token_source {}: {error}", self.token_source));
        }
        let is_keyless = self.push_authorizer.is_open()
            && !self.allow_open_push
            && !self.asks_pushers_for_certificates(has_private);
        if is_keyless && let Some(private) = &private {
            match private.exposed() {
                Ok(Some(address)) => problems.push(format!(
                    "private_address {address} is reachable from other machines and pushes need no key: \
                     set a push key (push_key_file, or in a program push_authorizer), or \
                     allow_open_push if everyone there may push to everyone"
                )),
                Ok(None) => {}
                Err(error) => problems.push(format!("the private listener has no address: {error}")),
            }
        }
        self.private_on_loopback &= is_keyless && !has_private;
        if self.private_on_loopback
            && let Some(listen) = &listen
            && !listen.is_unix()
        {
            match listen.beside_on_loopback() {
                Ok(beside) => private = Some(beside),
                Err(error) => problems.push(format!("the listener has no address: {error}")),
            }
        }
        if is_demo_wanted && is_keyless && !has_private && !self.private_on_loopback {
            problems.push(
                "the demo page pushes, and pushes without a key are not taken at an address where browsers \
                 connect: set push_authorizer, private_on_loopback or allow_open_push"
                    .to_owned(),
            );
        }
        let proxies = TrustedProxies::parse(&self.trusted_proxies).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            TrustedProxies::default()
        });
        let limits = match self.limits.clone().build() {
            Ok(limits) => Some(limits),
            Err(error) => {
                problems.extend_from_slice(error.problems());
                None
            }
        };
        if let Some((_, settings)) = &self.cluster {
            problems.extend(settings.problems(self.limits.message_bytes_max));
        }
        let (pushes, max) = (self.limits.batch_pushes_max, v2::LIST_ITEMS_MAX);
        if pushes > max {
            problems.push(format!("batch_pushes_max is {pushes}, it must be at most {max}"));
        }
        let mut load = |settings: &Option<TlsSettings>, names| {
            let loaded = settings.as_ref().map(|settings| Tls::new(settings, names)).transpose();
            loaded.map_err(|more| problems.extend(more)).ok().flatten().map(Arc::new)
        };
        let tls = load(&self.tls, tls::PUBLIC);
        let private_tls = load(&self.private_tls, tls::PRIVATE);
        match (listen, limits) {
            (Some(listen), Some(limits)) if problems.is_empty() => {
                let serves_demo = is_demo_wanted
                    || self.demo_page == DemoPolicy::OnLoopback
                        && !is_root_taken
                        && self.trusted_proxies.is_empty()
                        && match &private {
                            // The page is of another origin than the WebSockets then.
                            Some(private) => {
                                matches!(private.exposed(), Ok(None))
                                    && !private.is_unix()
                                    && self.origin.is_any()
                            }
                            None => matches!(listen.exposed(), Ok(None)) && !is_keyless,
                        };
                let private = private.map(|private| (private, private_tls));
                // Without a key not even where nobody has placed pushes: a proxy in front may leave
                // no mark on what it passes on.
                let side = if private.is_some() || is_keyless { Side::Public } else { Side::Whole };
                Ok(Server {
                    listen,
                    tls,
                    private,
                    side,
                    settings: self,
                    limits,
                    proxies,
                    serves_demo,
                })
            }
            _ => Err(BuildError { problems }),
        }
    }

    /// A browser sends its cookies for every page, so without a check of origins any web page could
    /// listen as whoever visits it.
    fn cookie_problem(&self) -> Option<String> {
        let what = if self.token_source.is_ambient() {
            format!("token_source {}", self.token_source)
        } else if self.authenticator.handshake_headers().contains(&COOKIE) {
            "an authenticator that reads cookies".to_owned()
        } else {
            return None;
        };
        self.origin.is_any().then(|| {
            format!(
                "{what} and origin {} do not go together, since any web page could then listen as its visitor: \
                 set origin to same-origin, or to the origins of your pages",
                self.origin
            )
        })
    }

    /// Whether who cannot show a certificate cannot push.
    fn asks_pushers_for_certificates(&self, is_private: bool) -> bool {
        let tls = if is_private { &self.private_tls } else { &self.tls };
        tls.as_ref().is_some_and(TlsSettings::asks_for_clients)
    }
}

/// What there is, if nothing is wrong with it.
fn taken<T>(checked: Result<Option<T>, String>, problems: &mut Vec<String>) -> Option<T> {
    checked.unwrap_or_else(|problem| {
        problems.push(problem);
        None
    })
}

/// Where a page on this machine opens its WebSockets, as a policy of its contents names it.
fn sockets_origin(address: SocketAddr, is_tls: bool) -> String {
    let scheme = if is_tls { "wss" } else { "ws" };
    let (ip, port) = (address.ip(), address.port());
    if ip.is_unspecified() {
        format!("{scheme}://{}:{port}", IpAddr::V4(Ipv4Addr::LOCALHOST))
    } else if ip.is_ipv6() && ip.is_loopback() {
        // Policies have no word for an IPv6 address.
        format!("{scheme}://localhost:{port}")
    } else {
        format!("{scheme}://{address}")
    }
}

/// A code by which a server may say that it goes away.
fn goodbye_code(code: u16) -> Option<CloseCode> {
    [CloseCode::GOING_AWAY, CloseCode::RESTART].into_iter().find(|it| it.as_u16() == code)
}

fn path_problem(name: &str, path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return Some(format!("{name} {path:?} must start with /"));
    }
    let is_plain =
        path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\"<>\\^`{|}".contains(&byte));
    (!is_plain).then(|| {
        format!("{name} {path:?} must be a plain path, without query, fragment or escapes")
    })
}

/// A server that listens; connections wait in the kernel until it is served.
pub struct BoundServer {
    /// The public one, and then the private one if there is one.
    doors: Vec<Door>,
    address: SocketAddr,
    private_address: Option<SocketAddr>,
    edge: Arc<Edge>,
    /// Cancelled when a shutdown is to begin.
    stop: CancellationToken,
    /// What it has not begun to take part in.
    joining: Option<Joining<Socket>>,
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
        self.edge.api.serves_demo_page()
    }

    /// A handle to push, disconnect and shut down; it stays good while the server serves.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.edge), self.stop.clone())
    }

    /// Reaches for the broker of its cluster, so that what is wrong with it is known before anybody is
    /// served; without a cluster it does nothing.
    ///
    /// # Errors
    /// Why the broker cannot be used, in words for an operator. It may be tried again, and the server
    /// may be served all the same: it is not ready until it has joined.
    pub async fn join(&mut self) -> Result<(), BrokerError> {
        match &mut self.joining {
            Some(joining) => joining.connect().await,
            None => Ok(()),
        }
    }

    /// Serves until [`Handle::shutdown`], then drains.
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
    pub async fn serve_until(self, shutdown: impl Future<Output = ()>) -> Drained {
        let Self { doors, edge, stop, joining, .. } = self;
        let tasks = edge.node.tasks().clone();
        if let Some(joining) = joining {
            joining.start();
        }
        let close = CancellationToken::new();
        for door in doors {
            tasks.spawn(accept::run(Arc::clone(&edge), door, close.clone()));
        }
        if let Some(cluster) = &edge.cluster {
            tasks.spawn(cut_off::run(Arc::clone(&edge), cluster.cut_off(), stop.clone()));
        }
        if !edge.tls.is_empty() {
            tasks.spawn(tls::watch(edge.tls.clone(), close.clone()));
        }
        tokio::select! {
            () = shutdown => stop.cancel(),
            () = stop.cancelled() => {}
        }
        let limits = &edge.limits;
        let deadline = tokio::time::Instant::now() + limits.drain_timeout;
        if let Some(cluster) = &edge.cluster {
            cluster.drain();
        }
        tokio::time::sleep(limits.drain_delay).await;
        let goodbyes = close::goodbyes(edge.goodbye_code);
        let told = edge.node.dismiss(limits.drain_spread, deadline, &goodbyes).await;
        close.cancel();
        let last_call = deadline.min(tokio::time::Instant::now() + KEPT_FOR);
        let mut drained = edge.node.drain(deadline).await;
        drained.closed += told;
        // The others have had its users until now.
        if let Some(cluster) = &edge.cluster {
            cluster.leave();
        }
        let is_over = tokio::time::timeout_at(last_call, tasks.finished()).await.is_ok();
        edge.last_call.cancel();
        if !is_over && tokio::time::timeout_at(deadline, tasks.finished()).await.is_err() {
            tasks.stop();
            tasks.finished().await;
        }
        drained
    }
}
