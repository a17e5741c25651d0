//! The wserver push server as a library: [`Server::builder`] begins one.
//!
//! `docs/library.md` of the repository is the guide. This crate is the edge, the only one that
//! knows HTTP; start reading at `connection.rs`.

mod server;
mod handle;
mod routes;
mod listen;
mod accept;
mod addresses;
mod proxies;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;
mod http_io;
mod framing;
mod exchange;
mod places;
mod host;
mod answer;
mod date;
mod upgrade;
mod connection;
mod wire;
mod read_buffer;
mod refused;
mod canned;
mod close;
mod unread;
mod public_page;
mod metrics;
mod counters;
mod cut_off;
mod origin;
mod files;
mod hooks;
mod edge;
mod express;

pub use files::read_regular_file;
pub use handle::{Handle, HandleError, Target};
pub use hooks::{Connection, Flow, Received};
pub use origin::OriginPolicy;
pub use server::{BoundServer, BuildError, DEFAULT_ADDRESS, Server, ServerBuilder};
#[cfg(feature = "tls")]
pub use tls::TlsSettings;
pub use wserver_auth as auth;
pub use wserver_auth::{TokenSource, TokenSourceError};
pub use wserver_cluster::{
    Broker, BrokerError, BrokerErrorKind, ClusterSettings, Gathered, Loopback, MemberInfo, NodeName,
};
pub use wserver_core::{
    CloseReason, ConnectionId, ConnectionsPerUserPolicy, Counts, EventName, LimitSettings,
    UnknownPolicy, UserId,
};
pub use wserver_node::{
    ConnectionInfo, Counters, Drained, Entry, EveryoneReceipt, NoDelivery, PushOptions,
    PushReceipt, RegisterError, Trace, TraceError, Traced, What,
};

/// The guide, whose examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct Guide;
