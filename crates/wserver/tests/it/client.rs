//! A client of version 2 on a raw socket.

use std::net::SocketAddr;

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::harness::Server;
use crate::raw::{Closed, Raw, Socket, handshake, masked};

pub(crate) const OFFER: (&str, &str) = ("sec-websocket-protocol", "wserver.v2");

/// A connection that speaks version 2.
pub(crate) struct Client {
    pub(crate) socket: Socket,
}

impl Client {
    pub(crate) fn open(server: &Server) -> Self {
        Self::open_with(server, &[])
    }

    pub(crate) fn open_with(server: &Server, headers: &[(&str, &str)]) -> Self {
        let mut raw = Raw::connect(server);
        raw.send(handshake(&[&[OFFER], headers].concat()));
        let answer = raw.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), Some("wserver.v2"));
        Self { socket: Socket { raw } }
    }

    /// One that has these events of the user `token`, by a server that takes tokens for users.
    pub(crate) fn registered(server: &Server, token: &str, events: &[&str]) -> Self {
        let mut client = Self::open(server);
        let reply = client.ask(&json!({"id": 0, "register": events, "token": token}));
        assert_eq!(reply["ok"]["registered"], json!(events), "{reply}");
        client
    }

    /// The same at an address where there may be no server any more.
    pub(crate) fn try_open(address: SocketAddr) -> Option<Self> {
        let mut raw = Raw::try_connect_at(address)?;
        raw.try_send(handshake(&[OFFER])).ok()?;
        let answer = raw.try_answer("GET").ok()?;
        (answer.status == 101).then_some(Self { socket: Socket { raw } })
    }

    /// The text of the next message; `None` if the connection ends.
    pub(crate) fn try_text(&mut self) -> Option<String> {
        loop {
            let frame = self.socket.try_next().ok()?;
            if frame.opcode == Opcode::Text as u8 {
                return String::from_utf8(frame.payload).ok();
            }
            if frame.opcode == Opcode::Close as u8 {
                return None;
            }
        }
    }

    pub(crate) fn send(&mut self, request: &Value) {
        self.socket.send(masked(Opcode::Text, request.to_string()));
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.send(bytes);
    }

    pub(crate) fn text(&mut self) -> String {
        loop {
            let frame = self.socket.next();
            if frame.opcode == Opcode::Text as u8 {
                return String::from_utf8(frame.payload).unwrap();
            }
        }
    }

    /// The next message, which is no push.
    pub(crate) fn next(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        self.next()
    }

    /// The next message, which is a push: its head and the message.
    pub(crate) fn pushed(&mut self) -> (Value, String) {
        let text = self.text();
        let (head, message) = text.split_once('\n').unwrap_or_else(|| panic!("no push: {text}"));
        (serde_json::from_str(head).unwrap(), message.to_owned())
    }

    pub(crate) fn closed(&mut self) -> Closed {
        self.socket.closed()
    }
}
