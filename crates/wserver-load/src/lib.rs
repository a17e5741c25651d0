//! Puts load on a push server and reports honestly what the server did.
//!
//! The generator is one thread with one epoll loop and raw sockets, because it must be much cheaper
//! per frame than the server under test. Every frame carries a stamp and is accounted for: the
//! report shows each lost, duplicated or disordered message, and any of them fails the run. The
//! generator knows the wire contract and the process table, but nothing of a server's internals.

pub mod report;
pub mod settings;

mod drive;
mod engine;
mod sampler;
mod frames;
mod ledger;
mod connection;
mod process;
mod progress;
mod pusher;
mod scenario;
mod socket;
mod stamp;
mod target;

pub use report::Report;
pub use scenario::run;
pub use settings::Settings;
