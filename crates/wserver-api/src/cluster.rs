//! How far a request reaches where there is a cluster.

pub(crate) mod ask;
mod reach;
