//! The builder with a server's settings.

use std::fmt;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use wserver_api::HttpLimitSettings;
use wserver_auth::{Authenticator, OpenAuthenticator, OpenPush, PushAuthorizer, TokenSource};
use wserver_core::{CloseReason, LimitSettings};
use wserver_protocol::CloseCode;

use crate::cluster::Plan;
#[cfg(feature = "cluster")]
use crate::cluster::{Broker, ClusterSettings};
use crate::connection::clock::WallClock;
use crate::connection::hooks::{Connection, Flow, Hooks, Received};
use crate::listen::listener::ListenSetting;
use crate::tls::TlsSettings;
use crate::upgrade::origin::OriginPolicy;

/// The default address: the ancestor's port, only on this machine.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:12345";

/// When to serve the demo page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DemoPolicy {
    Never,
    /// If only this machine can reach it.
    OnLoopback,
    Always,
}

/// Collects the settings of a [`Server`](crate::Server).
pub struct ServerBuilder {
    /// Taken out by [`ServerBuilder::build`].
    pub(super) public: Option<ListenSetting>,
    pub(super) private: Option<ListenSetting>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) private_tls: Option<TlsSettings>,
    pub(super) ws_path: String,
    pub(super) push_path: String,
    pub(super) origin: OriginPolicy,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) token_source: TokenSource,
    pub(super) push_authorizer: Arc<dyn PushAuthorizer>,
    pub(super) allow_open_push: bool,
    pub(super) private_on_loopback: bool,
    pub(super) demo_page: DemoPolicy,
    pub(super) drain_close_code: u16,
    pub(super) limits: LimitSettings,
    pub(super) http_limits: HttpLimitSettings,
    pub(super) hooks: Hooks,
    pub(super) wall_clock: WallClock,
    pub(super) cluster: Option<Plan>,
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
            .field("http_limits", &self.http_limits)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}

impl ServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            public: Some(ListenSetting::Address(DEFAULT_ADDRESS.to_owned())),
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
            http_limits: HttpLimitSettings::default(),
            hooks: Hooks::default(),
            wall_clock: WallClock::default(),
            cluster: None,
        }
    }

    /// Sets where to listen: `host:port`; `:port` is every IPv4 address of this machine,
    /// `[::]:port` also every IPv6 address. Default: 127.0.0.1:12345.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.public = Some(ListenSetting::Address(address.into()));
        self
    }

    /// Uses a listener that is already bound, instead of an address.
    #[must_use]
    pub fn listener(mut self, listener: StdTcpListener) -> Self {
        self.public = Some(ListenSetting::Listener(listener));
        self
    }

    /// Serves only TLS where browsers connect. Default: plain HTTP, for a proxy in front that
    /// terminates TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsSettings) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Accepts pushes at this address instead of at [`address`](Self::address), which then serves
    /// only WebSockets: `host:port`, or `unix:/path` as [`private_unix`](Self::private_unix).
    ///
    /// You can then protect this address from strangers. It also serves the demo page. Each of the
    /// two listeners has its own `http_connections_max`.
    #[must_use]
    pub fn private_address(mut self, address: impl Into<String>) -> Self {
        self.private = Some(ListenSetting::Address(address.into()));
        self
    }

    /// If pushes need no authentication, accepts them as [`private_address`](Self::private_address)
    /// does, at a port that only this machine reaches: 22345 for 12345, that is the port of the
    /// address plus ten thousand (or minus, if there is no such port). It does nothing if there is
    /// a push authoriser, a private listener, or [`allow_open_push`](Self::allow_open_push).
    ///
    /// Without this and without any of those, only the [`Handle`](crate::Handle) can push, and
    /// pushes over HTTP get 403. Otherwise every client that reaches the address through a proxy
    /// could push to everyone, because the proxy is a program on this machine and may leave no
    /// mark.
    #[must_use]
    pub fn private_on_loopback(mut self) -> Self {
        self.private_on_loopback = true;
        self
    }

    /// As [`private_address`](Self::private_address), on a Unix socket. Its file has mode 0660, so
    /// that the server's user and group may push, and is removed when the server ends.
    ///
    /// Authorisers see 127.0.0.1, port 0, as the peer.
    #[must_use]
    pub fn private_unix(mut self, path: impl Into<PathBuf>) -> Self {
        self.private = Some(ListenSetting::Unix(path.into()));
        self
    }

    /// As [`private_address`](Self::private_address), with a listener that is already bound.
    #[must_use]
    pub fn private_listener(mut self, listener: StdTcpListener) -> Self {
        self.private = Some(ListenSetting::Listener(listener));
        self
    }

    /// As [`private_unix`](Self::private_unix), with a listener that is already bound; the program
    /// that bound it is responsible for its file and permissions.
    #[must_use]
    pub fn private_unix_listener(mut self, listener: StdUnixListener) -> Self {
        self.private = Some(ListenSetting::UnixListener(listener));
        self
    }

    /// Serves only TLS at the private address. With a
    /// [`client_ca_file`](TlsSettings::client_ca_file), a client certificate is enough to push,
    /// unless a push authoriser requires more.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn private_tls(mut self, tls: TlsSettings) -> Self {
        self.private_tls = Some(tls);
        self
    }

    /// The path at which browsers open their WebSocket. Default: /ws.
    #[must_use]
    pub fn ws_path(mut self, path: impl Into<String>) -> Self {
        self.ws_path = path.into();
        self
    }

    /// The path at which backends post messages. Default: /push.
    #[must_use]
    pub fn push_path(mut self, path: impl Into<String>) -> Self {
        self.push_path = path.into();
        self
    }

    /// The web pages that may connect. Default: any.
    #[must_use]
    pub fn origin(mut self, origin: OriginPolicy) -> Self {
        self.origin = origin;
        self
    }

    /// The proxies in front, as networks (`10.0.0.0/8`) or addresses. Default: none.
    ///
    /// For a request from one of them, the client is the address that its `X-Forwarded-For` gives:
    /// the rightmost entry that is not such a proxy. Limits per address, the log,
    /// `Credentials::peer`, `PushCredentials::peer` and [`Connection::peer_addr`] then refer to the
    /// client and not to the proxy. The port is 0 if the proxy does not give it. `Forwarded` and
    /// the PROXY protocol are not read.
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

    /// Sets where a token comes from if a register message has none or an empty one. Default: from
    /// nowhere, and such a message is ignored.
    ///
    /// The token of the handshake is then authenticated for each such registration, and kept as
    /// long as the connection lives. Cookies require an [`origin`](Self::origin) policy, because
    /// browsers send them with the requests of every page.
    #[must_use]
    pub fn token_source(mut self, token_source: TokenSource) -> Self {
        self.token_source = token_source;
        self
    }

    /// Decides which requests may push. By default only the [`Handle`](crate::Handle) can push,
    /// unless a private listener accepts pushes without a key from programs on this machine, or
    /// [`allow_open_push`](Self::allow_open_push) is set.
    #[must_use]
    pub fn push_authorizer(mut self, push_authorizer: impl PushAuthorizer) -> Self {
        self.push_authorizer = Arc::new(push_authorizer);
        self
    }

    /// Lets every client that reaches the port push to everyone, as the ancestor did. On loopback
    /// that includes clients of a proxy on this machine.
    ///
    /// Use it only in a network whose every member may do so; web pages of other sites are still
    /// refused.
    #[must_use]
    pub fn allow_open_push(mut self) -> Self {
        self.allow_open_push = true;
        self
    }

    /// Serves the demo page, a playground, at `/` of the listener that accepts pushes, to every
    /// client that reaches it. Default: off.
    #[must_use]
    pub fn demo_page(mut self) -> Self {
        self.demo_page = DemoPolicy::Always;
        self
    }

    /// Serves the demo page at `/` if only this machine reaches it: if pushes are accepted at a
    /// loopback address, there are no trusted proxies, the page may connect
    /// ([`origin`](Self::origin)), and nothing else is at `/`.
    #[must_use]
    pub fn demo_page_on_loopback(mut self) -> Self {
        self.demo_page = DemoPolicy::OnLoopback;
        self
    }

    /// Sets the code with which a shutdown closes connections: 1001, going away, or 1012, service
    /// restart, for clients that distinguish them. Default: 1001.
    #[must_use]
    pub fn drain_close_code(mut self, code: u16) -> Self {
        self.drain_close_code = code;
        self
    }

    /// Sets the limits of connections, their messages and their queues: sizes, times, counts.
    #[must_use]
    pub fn limits(mut self, limits: LimitSettings) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the limits of HTTP: of requests, of the connections that carry them, and of handshakes.
    #[must_use]
    pub fn http_limits(mut self, limits: HttpLimitSettings) -> Self {
        self.http_limits = limits;
        self
    }

    /// Makes the server a node of a cluster whose nodes find each other at `broker`: a push to any
    /// node reaches its user on all nodes. Default: no cluster.
    ///
    /// [`BoundServer::join`](crate::BoundServer::join) reports whether the broker can be used;
    /// without that call, a server begins to serve and joins as soon as it can. It needs the
    /// feature `cluster`.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn cluster(mut self, broker: Arc<dyn Broker>, settings: ClusterSettings) -> Self {
        self.cluster = Some(Plan::new(broker, settings));
        self
    }

    /// Calls `hook` with every message from a client, before the server reads it (the ancestor's
    /// `AfterReadFunc`).
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

    /// Calls `hook` once for every connection whose task has not panicked, before its socket is
    /// closed (the ancestor's `BeforeCloseFunc`).
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

    /// Sets the clock with which expiries of identities are compared; by default the system's. It
    /// is read in each turn of a connection, so it must be quick.
    ///
    /// The clock may be set at any time. If it is set forward past an expiry, the connection is
    /// closed by its next ping; if it is set back before one, the connection lives on.
    #[must_use]
    pub fn wall_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.wall_clock = WallClock::new(clock);
        self
    }
}
