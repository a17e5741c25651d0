//! From an HTTP request to a WebSocket: what a handshake must be, and who may make one.

pub(crate) mod handshake;
pub(crate) mod origin;
pub(crate) mod addresses;
pub(crate) mod public_page;
