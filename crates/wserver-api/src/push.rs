//! Pushes: as version 1 has them, as the HTTP API has them, and what became of them.

pub(crate) mod v1;
pub(crate) mod v2;
mod check;
pub(crate) mod pushes;
pub(crate) mod idempotency;
pub(crate) mod outcome;
