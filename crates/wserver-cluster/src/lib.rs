//! Makes many nodes one: a push to any node reaches its user on all nodes, and its count covers all
//! of them.
//!
//! [`Cluster`] is one node's part in it. Nodes talk through a [`Broker`], which carries opaque
//! messages; `wserver-cluster-redis` and `wserver-cluster-nats` are two brokers, and [`Loopback`]
//! is one in memory. Each node tells the others which users it has, so a push goes only to the
//! nodes that have its user, and knows whose answers to wait for. `docs/cluster.md` in the
//! repository is the guide; start reading at `cluster.rs` (what a node asks of others) and
//! `receive.rs` (what the others do).

mod cluster;
mod joining;
mod state;
mod ids;
mod run;
mod outage;
mod seldom;
mod receive;
mod envelope;
mod outbound;
mod sequence;
mod requests;
mod streams;
mod waits;
mod members;
mod arrival;
mod directory;
mod measure;
mod reachability;
mod receipt;
mod settings;
mod counters;
mod loopback;
mod broker;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use broker::{Broker, BrokerError, BrokerErrorKind, Channel, Inbound, Link, To};
pub use cluster::{Cluster, Gauges, Whom};
pub use counters::Counters;
#[doc(hidden)]
pub use envelope::fuzz;
pub use joining::Joining;
pub use loopback::Loopback;
#[doc(hidden)]
pub use measure::measure_directory;
pub use members::MemberInfo;
pub use receive::Answerer;
pub use settings::{ClusterProblem, ClusterSettings};
pub use state::CutOff;
pub use streams::Stream;
// What a cluster speaks of as every node does.
pub use wserver_node::{Gathered, NodeId, NodeName};
