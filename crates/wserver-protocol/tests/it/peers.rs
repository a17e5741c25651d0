//! The same streams, read by another implementation and written by it.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::frame::coding::CloseCode as PeerCode;
use tungstenite::protocol::{CloseFrame, Role as PeerRole, WebSocket};
use tungstenite::{Error, Message, Utf8Bytes};
use wserver_protocol::Role;

use crate::streams::step;
use crate::{Event, LIMITS, decode};

/// A socket that gives what it was made with, a few bytes at a time, and keeps what is written.
#[derive(Debug)]
struct Tape {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl Tape {
    fn new(input: Vec<u8>) -> Self {
        Self { input, at: 0, output: Vec::new() }
    }
}

impl Read for Tape {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let rest = &self.input[self.at..];
        let len = rest.len().min(buf.len()).min(1000);
        buf[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn event(message: Message) -> Option<Event> {
    Some(match message {
        Message::Text(text) => Event::Text(text.as_str().to_owned()),
        Message::Binary(payload) => Event::Binary(payload.to_vec()),
        Message::Ping(payload) => Event::Ping(payload.to_vec()),
        Message::Pong(payload) => Event::Pong(payload.to_vec()),
        Message::Close(frame) => Event::Close(
            frame.map(|CloseFrame { code, reason }| (code.into(), reason.as_str().to_owned())),
        ),
        Message::Frame(_) => return None,
    })
}

fn message(event: &Event) -> Message {
    match event.clone() {
        Event::Text(text) => Message::text(text),
        Event::Binary(payload) => Message::binary(payload),
        Event::Ping(payload) => Message::Ping(payload.into()),
        Event::Pong(payload) => Message::Pong(payload.into()),
        Event::Close(close) => Message::Close(close.map(|(code, reason)| CloseFrame {
            code: PeerCode::from(code),
            reason: Utf8Bytes::from(reason),
        })),
    }
}

proptest! {
    /// What our encoders write, both read alike.
    #[test]
    fn read_alike(steps in prop::collection::vec(step(), 0..8), as_client in any::<bool>()) {
        let (role, peer) = if as_client {
            (Role::Client, PeerRole::Client)
        } else {
            (Role::Server, PeerRole::Server)
        };
        let mut stream = Vec::new();
        for step in &steps {
            step.encode(role, &mut stream);
        }
        let (ours, res) = decode(role, &LIMITS, [&stream[..]]);
        prop_assert!(res.is_ok());
        let mut socket = WebSocket::from_raw_socket(Tape::new(stream), peer, None);
        let mut theirs = Vec::new();
        let end = loop {
            match socket.read() {
                Ok(message) => theirs.extend(event(message)),
                Err(error) => break error,
            }
        };
        prop_assert!(!matches!(end, Error::Capacity(_) | Error::Utf8(_)), "{end}");
        prop_assert_eq!(ours, theirs);
    }

    /// What they write, we read.
    #[test]
    fn what_they_write_we_read(
        steps in prop::collection::vec(step(), 0..8),
        as_client in any::<bool>(),
        close in prop::option::of("[a-zé]{0,40}"),
    ) {
        let (role, peer) = if as_client {
            (Role::Client, PeerRole::Server)
        } else {
            (Role::Server, PeerRole::Client)
        };
        let mut socket = WebSocket::from_raw_socket(Tape::new(Vec::new()), peer, None);
        let mut events: Vec<_> = steps.into_iter().map(|step| step.event).collect();
        events.extend(close.map(|reason| Event::Close(Some((1000, reason)))));
        for event in &events {
            socket.send(message(event)).unwrap();
        }
        let stream = std::mem::take(&mut socket.get_mut().output);
        let (ours, res) = decode(role, &LIMITS, stream.chunks(777));
        prop_assert!(res.is_ok());
        prop_assert_eq!(ours, events);
    }
}
