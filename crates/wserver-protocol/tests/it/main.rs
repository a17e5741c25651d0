//! The contract, tried from outside: each file holds cases as data and the one function that
//! checks them.

mod close;
mod json;
mod peers;
mod refusals;
mod streams;
mod v2;

use std::ops::ControlFlow;

use wserver_protocol::{CloseCode, DecodeError, DecodeLimits, Decoder, Inbound, Role};

/// The limits under which cases run unless they are about limits.
const LIMITS: DecodeLimits = DecodeLimits { message_bytes_max: 1 << 20, fragments_max: 64 };

/// What a decoder delivered, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Inbound<'_>> for Event {
    fn from(inbound: Inbound<'_>) -> Self {
        match inbound {
            Inbound::Text(text) => Self::Text(text.into()),
            Inbound::Binary(payload) => Self::Binary(payload.into()),
            Inbound::Ping(payload) => Self::Ping(payload.into()),
            Inbound::Pong(payload) => Self::Pong(payload.into()),
            Inbound::Close(close) => {
                Self::Close(close.map(|(code, reason)| (CloseCode::as_u16(code), reason.into())))
            }
        }
    }
}

/// Feeds `chunks` one after another, each from a buffer of its own that is overwritten afterwards,
/// as the shared one is. Returns all that was delivered, and what ended it.
fn decode<'a>(
    role: Role,
    limits: &DecodeLimits,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Result<Decoder, DecodeError>) {
    let mut decoder = Decoder::new(role);
    let mut events = Vec::new();
    for chunk in chunks {
        let mut shared = chunk.to_vec();
        let res = decoder.decode(limits, &mut shared, |inbound| {
            events.push(Event::from(inbound));
            ControlFlow::Continue(())
        });
        shared.fill(0xee);
        match res {
            Ok(consumed) => assert_eq!(consumed, chunk.len(), "nothing broke, so all is consumed"),
            Err(error) => {
                assert!(decoder.is_ended() && !decoder.is_partial(), "a refused stream is over");
                return (events, Err(error));
            }
        }
    }
    (events, Ok(decoder))
}
