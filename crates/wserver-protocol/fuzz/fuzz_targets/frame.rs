//! Streams of frames: the same events and the same verdict however they are cut, memory only for
//! what has arrived, and what is accepted is what `tungstenite` reads.
//!
//! The first byte of an input chooses the reader and the second the length of the pieces; the rest
//! is the stream.

#![no_main]

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use tungstenite::protocol::{Role as PeerRole, WebSocket};
use tungstenite::{Error, Message};
use wserver_protocol::frame::{self, Fin, Opcode};
use wserver_protocol::{DecodeError, DecodeLimits, Decoder, Inbound, Role};

const LIMITS: DecodeLimits = DecodeLimits { message_bytes_max: 4096, fragments_max: 8 };

fuzz_target!(|input: &[u8]| {
    let [reader, piece, stream @ ..] = input else { return };
    let (role, peer) = match reader % 2 {
        0 => (Role::Server, PeerRole::Server),
        _ => (Role::Client, PeerRole::Client),
    };
    let (events, verdict) = decode(role, stream.chunks(stream.len().max(1)));
    let piece = usize::from(*piece).max(1);
    let (pieces, pieces_verdict) = decode(role, stream.chunks(piece));
    assert_eq!((&pieces, pieces_verdict), (&events, verdict));

    // Encoded anew and cut nowhere, they are the same once more.
    let key = (role == Role::Server).then_some([reader ^ 0x55, 1, 2, 3]);
    let mut again = Vec::new();
    for (opcode, payload) in &events {
        frame::append(&mut again, Fin::Last, *opcode, key, payload);
    }
    assert_eq!(decode(role, [&again[..]]).0, events);

    let closed = events.last().is_some_and(|(opcode, _)| *opcode == Opcode::Close);
    if verdict.is_ok() && !closed {
        assert_eq!(read_by_peer(peer, stream), events);
    }
});

type Event = (Opcode, Vec<u8>);

fn decode<'a>(
    role: Role,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Result<bool, DecodeError>) {
    let mut decoder = Decoder::new(role);
    let mut events = Vec::new();
    for piece in pieces {
        let mut shared = piece.to_vec();
        let res = decoder.decode(&LIMITS, &mut shared, |inbound| {
            events.push(match inbound {
                Inbound::Text(text) => (Opcode::Text, text.into()),
                Inbound::Binary(payload) => (Opcode::Binary, payload.into()),
                Inbound::Ping(payload) => (Opcode::Ping, payload.into()),
                Inbound::Pong(payload) => (Opcode::Pong, payload.into()),
                Inbound::Close(None) => (Opcode::Close, Vec::new()),
                Inbound::Close(Some((code, reason))) => {
                    (Opcode::Close, [&code.as_u16().to_be_bytes(), reason.as_bytes()].concat())
                }
            });
            ControlFlow::Continue(())
        });
        if let Err(error) = res {
            assert!(decoder.is_ended() && !decoder.is_partial());
            return (events, Err(error));
        }
    }
    assert!(!(decoder.is_ended() && decoder.is_partial()));
    (events, Ok(decoder.is_partial()))
}

/// A socket that only gives.
struct Tape<'a>(Cursor<&'a [u8]>);

impl Read for Tape<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Tape<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_by_peer(peer: PeerRole, stream: &[u8]) -> Vec<Event> {
    let mut socket = WebSocket::from_raw_socket(Tape(Cursor::new(stream)), peer, None);
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => events.push((Opcode::Text, text.as_bytes().to_vec())),
            Ok(Message::Binary(payload)) => events.push((Opcode::Binary, payload.to_vec())),
            Ok(Message::Ping(payload)) => events.push((Opcode::Ping, payload.to_vec())),
            Ok(Message::Pong(payload)) => events.push((Opcode::Pong, payload.to_vec())),
            Ok(Message::Close(_) | Message::Frame(_)) => unreachable!("no close was sent"),
            // The tape has ended.
            Err(Error::Protocol(_) | Error::Io(_) | Error::ConnectionClosed) => return events,
            Err(error) => panic!("refused by the peer: {error}"),
        }
    }
}
