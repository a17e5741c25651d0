//! Many nodes as one.

pub mod broker;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use broker::{Broker, BrokerError, BrokerErrorKind, Channel, Inbound, Link, NodeId, To};
