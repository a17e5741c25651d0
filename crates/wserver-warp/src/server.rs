//! The server that a program embeds: building, binding, serving, and its handle.

pub(crate) mod builder;
pub(crate) mod build;
pub(crate) mod bind;
pub(crate) mod bound;
pub(crate) mod handle;
pub(crate) mod error;
