//! One running wserver node: connections in, pushes through, nothing about HTTP.
//!
//! [`Node`] holds the connections and the binder; [`Attachment`] is one connection's membership;
//! [`Outbox`] is its bounded way out; [`Tasks`] is the only place that spawns. What a push came to
//! is a [`PushReceipt`]; what happened to a user is in the journal, read as [`Entry`]s or followed
//! as a [`Trace`]. The fan-out is described in the project's `docs/architecture.md`.

mod node;
mod state;
mod attachment;
mod registration;
mod sweep;
mod message;
mod fanout;
mod lane;
mod receipt;
mod everyone;
mod gathered;
mod info;
mod interest;
mod outbox;
mod room;
mod journal;
mod entry;
mod trace;
mod tasks;
mod drain;
mod counters;
mod histogram;
mod probe;

pub use attachment::Attachment;
pub use counters::{Counter, Counters};
pub use drain::{Drained, Goodbyes};
pub use entry::{Entry, What};
pub use gathered::{Gathered, NodeId, NodeName};
pub use histogram::Histogram;
pub use info::ConnectionInfo;
pub use interest::Interest;
pub use message::Message;
pub use node::{Node, OpenError, Reservation, Selection};
pub use outbox::{CloseFrame, Flush, Outbox, Phase, Sent, Wire};
pub use probe::Probe;
pub use receipt::{EveryoneReceipt, NoDelivery, PushOptions, PushReceipt};
pub use registration::RegisterError;
pub use tasks::Tasks;
pub use trace::{Trace, TraceError, Traced};
// What its callers say of a connection.
pub use wserver_protocol::Protocol;
