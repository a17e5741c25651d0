//! Nodes that are one, over a broker in memory which loses, holds back and breaks as it is told.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod peers;

mod acks;
mod broker;
mod faults;
mod losses;
mod members;
mod pushes;
mod questions;
mod slow;
mod vanished;
