//! One connection, a WebSocket or a stream of events, from its upgrade to its end.

pub(crate) mod driver;
pub(crate) mod registering;
pub(crate) mod requests;
pub(crate) mod declined;
pub(crate) mod farewell;
pub(crate) mod shared;
pub(crate) mod hooks;
pub(crate) mod clock;
pub(crate) mod wire;
pub(crate) mod pipe;
pub(crate) mod read_buffer;
pub(crate) mod close;
