//! From a listener to an accepted stream: where it listens, and how many may come.

pub(crate) mod accept;
pub(crate) mod listener;
pub(crate) mod places;
pub(crate) mod transport;
pub(crate) mod canned;
