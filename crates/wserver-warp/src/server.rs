//! The server as a program embeds it.

pub(crate) mod build_error;
pub(crate) mod builder;
pub(crate) mod handle;
