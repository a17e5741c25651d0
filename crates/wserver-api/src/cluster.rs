//! The cluster in answers: how far a push reaches, what this node asks others, and what it answers
//! them.

pub(crate) mod reach;
pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod lent;
#[cfg(not(feature = "cluster"))]
mod none;
#[cfg(feature = "cluster")]
#[cfg(test)]
mod tests;

#[cfg(not(feature = "cluster"))]
pub(crate) use none::Stream;
#[cfg(not(feature = "cluster"))]
pub use none::{Cluster, CutOff, Whom};
#[cfg(feature = "cluster")]
pub(crate) use wserver_cluster::Stream;
#[cfg(feature = "cluster")]
pub use wserver_cluster::{Cluster, CutOff, Whom};
