//! A cluster over core NATS: an adapter of [`wserver_cluster`]'s port.
//!
//! ```no_run
//! use wserver_cluster_nats::{NatsBroker, NatsSettings};
//!
//! let mut settings = NatsSettings::new("tls://nats-1:4222,nats-2:4222", "wserver");
//! settings.username = Some("wserver".into());
//! settings.password = Some(std::fs::read_to_string("/run/secrets/nats-password")?);
//! let broker = NatsBroker::new(settings)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Core NATS alone: no JetStream, nothing is stored. One connection carries all; a channel is a
//! subject, below the name of the cluster, and the user needs to publish and subscribe there:
//! `permissions { publish: "wserver.>", subscribe: "wserver.>" }`. `nats://` goes over to TLS where
//! the server demands it, `tls://` insists on it.
//!
//! Several servers are one NATS cluster. They tell each other of a subscription when it is made, but
//! nobody learns when they have: what a node publishes at one server in the moment after another
//! node has come to a second may pass the other by.

mod broker;
mod link;
mod servers;
mod settings;
mod tls;

pub use broker::NatsBroker;
pub use settings::NatsSettings;
