//! From a listener to an accepted stream: addresses, and limits of connections.

pub(crate) mod accept;
pub(crate) mod listener;
pub(crate) mod places;
pub(crate) mod transport;
pub(crate) mod canned;
