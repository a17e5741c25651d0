//! Pushes of version 1 and of the HTTP API, and their outcome.

pub(crate) mod v1;
pub(crate) mod v2;
mod check;
pub(crate) mod pushes;
pub(crate) mod position;
pub(crate) mod idempotency;
pub(crate) mod outcome;
mod waits;
#[cfg(test)]
mod tests;
