//! The server as a program embeds it: built, bound, served, and spoken to.

pub(crate) mod builder;
pub(crate) mod build;
pub(crate) mod bind;
pub(crate) mod bound;
pub(crate) mod handle;
pub(crate) mod error;
