//! Load on a push server, and an honest account of what it did under it.
//!
//! One thread, one epoll loop, raw sockets: the generator has to be much cheaper per frame than
//! the server it measures. Every frame carries a stamp, so that each one is accounted for: what
//! was lost, came twice or out of order is told, and makes the run fail. It knows the wire
//! contract and the process table; it knows no server's inside.

pub mod report;
pub mod settings;

mod drive;
mod engine;
mod sampler;
mod frames;
mod ledger;
mod listener;
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
