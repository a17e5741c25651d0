//! What the server answers: pushes, the HTTP API, metrics, health. This crate knows no sockets.
//!
//! [`Api`] takes the parts of a request and its body, from any source, and returns a reply.
//! `docs/http-api.md` in the repository is the contract.

mod answer;
mod routes;
mod request;
mod limits;
mod authorize;
mod body;
mod parameters;
mod push;
mod operate;
mod observe;
mod browser;
mod demo;
mod cluster;
mod api;
mod counters;
mod registration;
mod reply;
#[cfg(test)]
mod fixture;

pub use api::{Api, Settings};
// From the feature `cluster`; without it, types that have no values.
pub use authorize::open_push::OpenPushScope;
pub use authorize::site::{is_loopback_host, is_same_origin};
pub use cluster::kept::fetch_kept;
pub use cluster::{Cluster, CutOff, Whom};
pub use counters::Labelled;
pub use demo::DemoPage;
pub use limits::{HttpLimitSettings, HttpLimits};
pub use observe::health::{ProbeEnds, Verdict};
pub use observe::metrics::page::{Carrier, Page};
pub use registration::RegistrationRefusal;
pub use reply::details::ProblemDetails;
pub use reply::kind::ProblemKind;
pub use reply::refused::Elsewhere;
pub use reply::{Format, Reply, ReplyBody, ReplyStream};
pub use request::{Request, Side};
pub use routes::{Endpoint, Found, is_api_path, is_reserved};
