//! The wserver push server as a library: [`Server::builder`] begins one.
//!
//! `docs/library.md` in the repository is the guide. This crate carries requests and connections;
//! `wserver-api` answers the requests. Start reading at `listen/accept.rs`.

mod server;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(not(feature = "cluster"))]
#[path = "cluster/none.rs"]
mod cluster;
mod listen;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls/none.rs"]
mod tls;
mod http;
mod upgrade;
mod connection;
mod metrics;
mod counters;
mod files;

pub use cluster::ClusterProblem;
#[cfg(feature = "cluster")]
pub use cluster::{Broker, BrokerError, BrokerErrorKind, ClusterSettings, Loopback, MemberInfo};
pub use connection::hooks::{Connection, Flow, Received};
pub use files::read_regular_file;
pub use http::proxies::{ProxyFault, ProxyProblem};
pub use listen::listener::{AddressFault, AddressProblem};
pub use server::bind::Server;
pub use server::bound::BoundServer;
pub use server::builder::{DEFAULT_ADDRESS, ServerBuilder};
pub use server::error::{BuildError, BuildProblem, CookieReader, setting};
pub use server::handle::{Handle, HandleError, Target};
pub use tls::TlsProblem;
#[cfg(feature = "tls")]
pub use tls::{TlsPart, TlsSettings};
pub use upgrade::origin::{OriginFault, OriginPolicy, OriginProblem};
pub use wserver_api::HttpLimitSettings;
pub use wserver_auth as auth;
pub use wserver_auth::{TokenSource, TokenSourceError};
pub use wserver_core::{
    CloseReason, ConnectionId, ConnectionsPerUserPolicy, Counts, EventName, LimitProblem,
    LimitSettings, Patterns, UnknownPolicy, UserId,
};
pub use wserver_node::{
    ConnectionInfo, Counters, Drained, Entry, EveryoneReceipt, Gathered, NoDelivery, NodeName,
    PushOptions, PushReceipt, RegisterError, Trace, TraceError, Traced, What,
};
pub use wserver_protocol::DecodeError;

/// The guide, whose examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Guide;
