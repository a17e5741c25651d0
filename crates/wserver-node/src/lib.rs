//! One running wserver node: connections in, pushes through, nothing about HTTP.
//!
//! [`Node`] holds the connections and the binder; [`Attachment`] is a live connection; [`Outbox`]
//! is its bounded queue; only [`Tasks`] spawns. A [`PushReceipt`] says what became of a push; the
//! journal keeps what happened to a user, as [`Entry`]s, which a [`Trace`] shows live. The
//! project's `docs/architecture.md` describes the fan-out.

mod node;
mod state;
mod attachment;
mod registration;
mod sweep;
mod message;
mod fanout;
mod lane;
mod receipt;
mod acks;
mod everyone;
mod gathered;
mod info;
mod interest;
mod outbox;
mod room;
mod replay;
mod resume;
mod journal;
mod entry;
mod trace;
mod tasks;
mod drain;
mod counters;
mod histogram;
mod probe;

pub use acks::{AckWait, Acks, AwaitedPush, TooManyWaits, WaitFor, Waited};
pub use attachment::Attachment;
pub use counters::{Counter, Counters};
pub use drain::{Drained, Goodbyes};
pub use entry::{Entry, What};
pub use gathered::{Gathered, NodeId, NodeName};
pub use histogram::Histogram;
pub use info::{ConnectionInfo, LogInfo, ReplayInfo};
pub use interest::Interest;
pub use message::Message;
pub use node::{Node, OpenError, PositionError, Reservation, Selection};
pub use outbox::{CloseFrame, Flush, Outbox, Phase, Sent, Wire};
pub use probe::Probe;
pub use receipt::{EveryoneReceipt, NoDelivery, PushOptions, PushReceipt};
pub use registration::RegisterError;
pub use replay::{GapReason, Kept, ReplayCounters};
pub use resume::{After, Held, Missed, Registered, Resumption};
pub use tasks::Tasks;
pub use trace::{Trace, TraceError, Traced};
// Callers name the protocol of a connection.
pub use wserver_protocol::Protocol;
