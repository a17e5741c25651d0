//! Several servers as one, over real brokers: what a push, an operator and a balancer see of them, and
//! what becomes of it when a part fails.
//!
//! The brokers are processes of the tests' own. Where a program is missing, the tests that need it
//! leave themselves out and say so aloud. A node that is cut off is in a network of its own, or behind a
//! proxy where none can be made.

pub(crate) mod stage;
pub(crate) mod proxy;
mod namespace;
pub(crate) mod line;
mod traffic;

mod acks;
mod admin;
mod alone;
mod explain;
pub(crate) mod faults;
mod fickle;
mod forged;
mod life;
mod mistakes;
mod pushes;
mod repeated;
mod replay;
mod secrets;
mod trace;
