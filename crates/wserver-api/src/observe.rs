//! How the server is: its health and its figures.

pub(crate) mod health;
pub(crate) mod metrics;
