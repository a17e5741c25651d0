//! Pushes that wait for acknowledgements: which connections were given them, and what came back.
//!
//! All state belongs to the requests that wait and goes with them; a connection keeps nothing, and
//! a push that does not wait touches nothing here.

mod counts;
mod table;
mod wait;
mod asked;

pub(crate) use table::{AckTable, Fate};

pub use counts::{Acks, AwaitedPush, TooManyWaits, WaitFor, Waited};
pub use wait::AckWait;
