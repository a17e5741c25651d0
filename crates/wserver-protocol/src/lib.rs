//! Converts between bytes and wire messages, without I/O, clocks or tasks. It is the only crate
//! that knows JSON and WebSocket frames, and it does not know which connection has which
//! registration.
//!
//! `docs/protocol.md` in the repository is the contract for the wire.

// The contract in docs/protocol.md and these types are one; tidy holds them together.
// protocol: e3ce09951f38e2d2

pub mod frame;
pub mod receipt;
pub mod v2;

mod close;
mod decode;
mod error;
mod json;
mod push;
mod register;

pub use close::{CloseCode, reconnect_in, reconnect_reason};
pub use decode::{DecodeLimits, Decoder, Inbound, Role};
pub use error::{DecodeError, JsonError, PushError, RegisterError};
pub use push::PushRequest;
pub use register::Register;

/// The contract, whose examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/protocol.md")]
struct Contract;
