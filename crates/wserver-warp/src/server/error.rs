//! What can be wrong with a server's settings.
//!
//! A problem has the settings concerned and their values as fields, and `Display` puts it into
//! words. Limits, the cluster, origins, proxies and TLS describe their own problems; this list
//! includes them.

use std::fmt;
use std::net::SocketAddr;

use wserver_auth::{TokenSource, TokenSourceError};
use wserver_core::LimitProblem;

use crate::cluster::ClusterProblem;
use crate::http::proxies::ProxyProblem;
use crate::listen::listener::AddressProblem;
use crate::tls::TlsProblem;
use crate::upgrade::origin::OriginProblem;

/// The names of settings in [`BuildProblem::settings`], besides those of limits, of the cluster and
/// of TLS. A program with other names translates them.
pub mod setting {
    macro_rules! names {
        ($($name:ident = $word:literal,)+) => {
            $(
                #[doc = concat!("`", $word, "`")]
                pub const $name: &str = $word;
            )+
            /// All of them.
            pub const ALL: &[&str] = &[$($name),+];
        };
    }

    names! {
        ADDRESS = "address",
        PRIVATE_ADDRESS = "private_address",
        PRIVATE_TLS = "private_tls",
        WS_PATH = "ws_path",
        PUSH_PATH = "push_path",
        ORIGIN = "origin",
        TRUSTED_PROXIES = "trusted_proxies",
        AUTHENTICATOR = "authenticator",
        TOKEN_SOURCE = "token_source",
        PUSH_AUTHORIZER = "push_authorizer",
        ALLOW_OPEN_PUSH = "allow_open_push",
        DEMO_PAGE = "demo_page",
        DRAIN_CLOSE_CODE = "drain_close_code",
    }
}

/// One problem with a server's settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildProblem {
    /// One of the limits.
    #[error(transparent)]
    Limit(#[from] LimitProblem),
    /// The policy of origins.
    #[error(transparent)]
    Origin(#[from] OriginProblem),
    /// The networks of trusted proxies.
    #[error(transparent)]
    TrustedProxies(#[from] ProxyProblem),
    /// The node's part in its cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterProblem),
    /// The certificate or the key of a listener.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// Where to listen.
    #[error(transparent)]
    Address(#[from] AddressProblem),
    /// The address where browsers connect is a Unix socket.
    #[error("address must be host:port, because browsers cannot reach a Unix socket")]
    AddressIsUnix,
    /// The address of a listener that the program passed cannot be read.
    #[error("{} has no address: {error}", listener(setting))]
    ListenerWithoutAddress {
        /// The setting that the listener replaces: `address` or `private_address`.
        setting: &'static str,
        /// What the operating system reported.
        error: String,
    },
    /// A path does not begin with a slash.
    #[error("{setting} {path:?} must start with /")]
    PathWithoutSlash {
        /// `ws_path` or `push_path`.
        setting: &'static str,
        /// Its value.
        path: String,
    },
    /// A path has a query, a fragment or an escape.
    #[error("{setting} {path:?} must be a plain path, without query, fragment or escapes")]
    PathNotPlain {
        /// `ws_path` or `push_path`.
        setting: &'static str,
        /// Its value.
        path: String,
    },
    /// The server uses a path itself.
    #[error("{setting} cannot be {path}, because the server uses that path itself")]
    PathReserved {
        /// `ws_path` or `push_path`.
        setting: &'static str,
        /// Its value.
        path: String,
    },
    /// Both paths are the same.
    #[error("ws_path and push_path are both {path}, but must differ")]
    PathsEqual {
        /// The path.
        path: String,
    },
    /// One of the paths is `/`, where the demo page is.
    #[error("the demo page is served at /, so neither ws_path nor push_path can be /")]
    DemoPageInTheWay,
    /// Browsers cannot reach the listener that would serve the demo page.
    #[error(
        "the demo page is served at the private address, but browsers cannot reach a Unix socket: turn the page off"
    )]
    DemoPageOnUnix,
    /// The server would refuse the pushes of the demo page.
    #[error(
        "the demo page pushes, but an address where browsers connect accepts no pushes without a key: set push_authorizer, private_on_loopback or allow_open_push"
    )]
    DemoPageWithoutKey,
    /// There is TLS for a private listener, but no such listener.
    #[error("private_tls needs a private_address that is host:port")]
    PrivateTlsUnused,
    /// Clients would not understand a close code as a shutdown.
    #[error("drain_close_code is {code}, but must be 1001 or 1012")]
    DrainCloseCode {
        /// Its value.
        code: u16,
    },
    /// Any web page could listen as its visitor.
    #[error(
        "{reader} and origin {origin} do not go together, since any web page could then listen as its \
         visitor: set origin to same-origin, or to the origins of your pages"
    )]
    CookiesOfAnyPage {
        /// What reads headers that browsers send for every page.
        reader: CookieReader,
        /// The policy of origins.
        origin: String,
    },
    /// Tokens cannot come from this source.
    #[error("token_source {source}: {error}", source = .token_source)]
    TokenSource {
        /// Its value.
        token_source: TokenSource,
        /// What is wrong with it.
        error: TokenSourceError,
    },
    /// Other machines could push without a key.
    #[error(
        "private_address {address} is reachable from other machines and pushes need no key: set a push \
         key (push_key_file, or in a program push_authorizer), or allow_open_push if everyone there may \
         push to everyone"
    )]
    OpenPush {
        /// The address at which they could.
        address: SocketAddr,
    },
}

fn listener(setting: &str) -> &'static str {
    if setting == setting::PRIVATE_ADDRESS { "the private listener" } else { "the listener" }
}

impl BuildProblem {
    /// The names of the settings concerned, the most important first.
    ///
    /// They are the names of [`ServerBuilder`]'s methods and of the fields of its limits; only TLS
    /// has a setting for each file.
    ///
    /// [`ServerBuilder`]: crate::ServerBuilder
    #[must_use]
    pub fn settings(&self) -> Vec<&'static str> {
        match self {
            Self::Limit(problem) => problem.settings(),
            Self::Cluster(problem) => problem.settings(),
            Self::Tls(problem) => problem.settings(),
            Self::Address(problem) => vec![problem.setting],
            Self::ListenerWithoutAddress { setting, .. }
            | Self::PathWithoutSlash { setting, .. }
            | Self::PathNotPlain { setting, .. }
            | Self::PathReserved { setting, .. } => vec![setting],
            Self::AddressIsUnix => vec![setting::ADDRESS],
            Self::PathsEqual { .. } => vec![setting::WS_PATH, setting::PUSH_PATH],
            Self::DemoPageInTheWay => {
                vec![setting::WS_PATH, setting::PUSH_PATH, setting::DEMO_PAGE]
            }
            Self::DemoPageOnUnix => vec![setting::DEMO_PAGE, setting::PRIVATE_ADDRESS],
            Self::DemoPageWithoutKey => vec![setting::DEMO_PAGE],
            Self::PrivateTlsUnused => vec![setting::PRIVATE_TLS, setting::PRIVATE_ADDRESS],
            Self::DrainCloseCode { .. } => vec![setting::DRAIN_CLOSE_CODE],
            Self::Origin(_) => vec![setting::ORIGIN],
            Self::CookiesOfAnyPage { reader, .. } => vec![reader.setting(), setting::ORIGIN],
            Self::TokenSource { .. } => vec![setting::TOKEN_SOURCE],
            Self::OpenPush { .. } => {
                vec![setting::PRIVATE_ADDRESS, setting::PUSH_AUTHORIZER, setting::ALLOW_OPEN_PUSH]
            }
            Self::TrustedProxies(_) => vec![setting::TRUSTED_PROXIES],
        }
    }
}

/// What reads headers that browsers send for every page.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CookieReader {
    /// The source of tokens.
    TokenSource(TokenSource),
    /// The authenticator, by its `handshake_headers`.
    Authenticator,
}

impl CookieReader {
    const fn setting(&self) -> &'static str {
        match self {
            Self::TokenSource(_) => setting::TOKEN_SOURCE,
            Self::Authenticator => setting::AUTHENTICATOR,
        }
    }
}

impl fmt::Display for CookieReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TokenSource(source) => write!(f, "token_source {source}"),
            Self::Authenticator => f.write_str("an authenticator that reads cookies"),
        }
    }
}

/// All problems with a server's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    problems: Vec<BuildProblem>,
}

impl BuildError {
    /// The problems, in the order in which they were found; at least one.
    #[must_use]
    pub fn problems(&self) -> &[BuildProblem] {
        &self.problems
    }
}

impl<P: Into<BuildProblem>> From<Vec<P>> for BuildError {
    fn from(problems: Vec<P>) -> Self {
        Self { problems: problems.into_iter().map(Into::into).collect() }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for BuildError {}
