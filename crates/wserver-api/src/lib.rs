//! What the server answers: pushes, the HTTP API, metrics, health. It knows no socket.
//!
//! [`Api`] is given a request's parts and a body, wherever they come from, and gives an answer.
//! `docs/http-api.md` of the repository is the contract.

mod answer;
mod request;
mod authorize;
mod body;
mod parameters;
mod push;
mod operate;
mod cluster;
mod observe;
mod demo;
mod api;
mod counters;
mod reply;
#[cfg(test)]
mod fixture;

pub use answer::{DESCRIPTION_PATH, PREFIX};
pub use api::{Api, Carrier, Settings};
pub use authorize::open_push::OpenPushScope;
pub use authorize::site::{is_loopback_host, is_same_origin};
pub use counters::Labelled;
pub use demo::DemoPage;
pub use observe::health::{ProbeEnds, Verdict};
pub use observe::metrics::Page;
pub use reply::refused::Elsewhere;
pub use reply::told::{Told, text};
pub use reply::{Format, Reply, ReplyBody, negotiate};
pub use request::{Request, Side};
