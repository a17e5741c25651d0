//! The server as a program embeds it.

pub(crate) mod builder;
pub(crate) mod handle;
