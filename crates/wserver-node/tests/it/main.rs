//! The node from outside, on wires that are scripted: every byte a connection is sent is on record.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod acks;
mod budgets;
mod everyone;
mod info;
mod interest;
mod journal;
mod life;
mod merge;
mod model;
mod observe;
mod peer;
mod protocols;
mod receipt;
mod replay;
mod trace;
mod ttl;
mod verdict;
mod wake;
mod wire;
