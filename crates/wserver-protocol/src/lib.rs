//! Converts between bytes and wire messages, without I/O, clocks or tasks. It is the only crate
//! that knows JSON and WebSocket frames, and it does not know which connection has which
//! registration.
//!
//! `docs/protocol.md` and `docs/protocol-v2.md` in the repository are the contracts for the wire.

// The contracts in docs/protocol.md and docs/protocol-v2.md and these types are one; tidy holds them
// together.
// protocol: f963dc15fd78940e
// protocol: 197f0575f332928d

pub mod connection;
pub mod events;
pub mod frame;
pub mod receipt;
pub mod v2;

mod close;
mod decode;
mod error;
mod json;
mod push;
mod register;
mod subprotocol;

pub use close::{CloseCode, reconnect_in, reconnect_reason};
pub use decode::{DecodeLimits, Decoder, Inbound, Role};
pub use error::{DecodeError, JsonError, PushError, RegisterError};
pub use push::PushRequest;
pub use register::Register;
pub use subprotocol::Protocol;

/// The contracts, whose examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/protocol.md")]
#[doc = include_str!("../../../docs/protocol-v2.md")]
struct Contract;
