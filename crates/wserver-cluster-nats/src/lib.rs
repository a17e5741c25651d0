//! An adapter that lets a [`wserver_cluster`] use core NATS as its broker.
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
//! It uses only core NATS: no JetStream, nothing is stored. One connection carries everything. A
//! channel is a subject below the name of the cluster, and the user needs to publish and subscribe
//! there: `permissions { publish: "wserver.>", subscribe: "wserver.>" }`. `nats://` switches to TLS
//! if the server demands it, and `tls://` insists on it.
//!
//! Several servers form one NATS cluster. They tell each other of a subscription when it is made,
//! but no client learns when they have done so. So a message that a node publishes at one server
//! just after another node has connected to a second server may not reach that node.

mod broker;
mod link;
mod servers;
mod settings;
mod tls;

pub use broker::NatsBroker;
pub use settings::NatsSettings;
