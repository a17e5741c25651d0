//! The product from outside: the real binary, real sockets, port 0.
//!
//! Tests wait on events, never on sleeps. Those of the module `slow` run when `WSERVER_SLOW` is
//! set, and say so aloud when they are left out.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod harness;
mod raw;
mod backend;
mod judge;
mod api;

mod acks;
mod admin;
mod ancestor;
mod answers;
mod bodies;
mod budgets;
mod callback;
mod client;
mod cluster;
mod config;
mod contract;
mod delivery;
mod doctor;
mod events;
mod explain;
mod frames;
mod goodbye;
mod guard;
mod handshake;
mod health;
mod http;
mod idempotency;
mod json;
mod jwt;
mod kept;
mod limits;
mod log;
mod metrics;
mod mistakes;
mod problems;
mod protocol_v2;
mod push_jwt;
mod readme;
mod reload;
mod replay;
mod rotation;
mod scope;
mod secrets;
mod secure;
mod settings;
mod shutdown;
mod supervised;
mod token;
mod token_source;
mod tool;
mod trace;

mod slow;
