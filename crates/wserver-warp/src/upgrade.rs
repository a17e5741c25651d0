//! From an HTTP request to a WebSocket or a stream of events: the rules of a handshake, and the permissions.

pub(crate) mod handshake;
pub(crate) mod events;
pub(crate) mod origin;
pub(crate) mod addresses;
pub(crate) mod public_page;
