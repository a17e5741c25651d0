//! What an operator asks and changes.

pub(crate) mod admin;
pub(crate) mod explain;
pub(crate) mod trace;
pub(crate) mod sse;
pub(crate) mod show;
pub(crate) mod words;
#[cfg(test)]
mod tests;
