//! The state of the server: its health and its metrics.

pub(crate) mod health;
pub(crate) mod metrics;
#[cfg(test)]
pub(crate) mod tests;
