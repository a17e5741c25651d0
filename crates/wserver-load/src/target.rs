//! The adapters for servers: one for each dialect of requests.
//!
//! They make the bytes of requests and read answers; they have no sockets.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde_json::json;
use wserver_protocol::connection::{Asked, Request};
use wserver_protocol::frame::{self, Opcode};
use wserver_protocol::v2::{Acks, PositionNow, PushAnswer};
use wserver_protocol::{Protocol, PushRequest, Register, receipt};

use crate::frames::Word;
use crate::stamp::{STAMP_BYTES, Stamp};

/// `Sec-WebSocket-Key` of every handshake, and the answer to expect.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const KEY_ACCEPTED: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How long a push waits for acknowledgements at most.
const WAIT_SECONDS: u32 = 30;

/// Digits of a user's number: a name has the 36 characters of a UUID.
const USER_DIGITS: usize = 31;
const EVENT_DIGITS: usize = 2;

/// The kind of server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// wserver, or the Go ancestor.
    Wserver,
    /// The smallest loop that can deliver messages.
    Floor,
    /// Bun with `server.publish`.
    Bun,
    /// A Go server with gorilla/websocket.
    Gorilla,
    /// A `warp::ws()` server with a channel per connection.
    NaiveWarp,
    /// A node server with ws.
    Ws,
    /// nginx with nchan.
    Nchan,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// What a pusher asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A push.
    Push,
    /// A push that waits until every connection has acknowledged it.
    Wait,
    /// Where a user stands; from then on the user's messages are kept.
    Position,
}

/// What an answer says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// How many connections took the message.
    pub(crate) count: Option<u64>,
    /// Who has acknowledged it, if it waited.
    pub(crate) acks: Option<Acks>,
    /// The position of the user.
    pub(crate) at: Option<Word>,
}

/// The dialect of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Registration by message, pushes as JSON: the contract of wserver.
    V1,
    /// One channel for each user, in the query of the request, with plain messages as pushes; there
    /// are no events.
    Channels,
}

impl Target {
    fn dialect(self) -> Dialect {
        match self {
            Self::Nchan => Dialect::Channels,
            Self::Wserver
            | Self::Floor
            | Self::Bun
            | Self::Gorilla
            | Self::NaiveWarp
            | Self::Ws => Dialect::V1,
        }
    }

    /// The browser's request that opens a WebSocket for `user`.
    pub(crate) fn handshake(self, address: SocketAddr, user: u32, protocol: Protocol) -> Vec<u8> {
        let path = match self.dialect() {
            Dialect::V1 => "/ws".to_owned(),
            Dialect::Channels => format!("/sub?id={}", user_name(user)),
        };
        let offer = match protocol {
            Protocol::V1 => String::new(),
            Protocol::V2 | Protocol::Sse => {
                format!("Sec-WebSocket-Protocol: {}\r\n", protocol.name())
            }
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\
             Origin: https://app.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
             Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
        )
        .into_bytes()
    }

    /// The messages to send once the WebSocket is open, for the first `events` events. A user
    /// without an entry in `tokens` has its name as the token. By version 2 they may be behind a
    /// position.
    pub(crate) fn registration(
        self,
        user: u32,
        events: u32,
        tokens: &Tokens,
        protocol: Protocol,
        after: Option<&str>,
    ) -> Vec<u8> {
        if self.dialect() == Dialect::Channels {
            return Vec::new();
        }
        let name = user_name(user);
        let token = tokens.get(&name).unwrap_or(&name);
        let events = (0..events).map(event_name);
        let messages: Vec<String> = match protocol {
            Protocol::V1 => events
                .map(|event| Register { token: token.into(), event: event.into() }.encode())
                .collect(),
            Protocol::V2 | Protocol::Sse => {
                let (events, token) = (events.collect(), Some(token.clone()));
                let after = after.map(str::to_owned);
                vec![Request { id: 1, asked: Asked::Register { events, token, after } }.encode()]
            }
        };
        let frame = |it: &String| frame::masked(Opcode::Text, it.as_bytes(), [1, 2, 3, 4]);
        messages.iter().flat_map(frame).collect()
    }

    /// The request of a push, or another, with fields to fill in. Only wserver is asked others.
    pub(crate) fn request(
        self,
        ask: Ask,
        address: SocketAddr,
        key: Option<&str>,
        message_bytes: usize,
    ) -> PushTemplate {
        let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let message = "@".repeat(STAMP_BYTES) + &"x".repeat(message_bytes - STAMP_BYTES);
        let (path, kind, body) = match self.dialect() {
            Dialect::V1 if ask == Ask::Position => {
                let body = json!({ "user": user_name(0) }).to_string();
                ("/v2/position".to_owned(), "application/json", body)
            }
            Dialect::V1 if ask == Ask::Wait => {
                let body = json!({
                    "user": user_name(0),
                    "event": event_name(0),
                    "message": message,
                    "wait": "all",
                    "timeout_seconds": WAIT_SECONDS,
                });
                ("/v2/push".to_owned(), "application/json", body.to_string())
            }
            Dialect::V1 => {
                let request = PushRequest {
                    user_id: user_name(0).into(),
                    event: event_name(0).into(),
                    message: message.as_str().into(),
                };
                ("/push".to_owned(), "application/json", request.encode())
            }
            Dialect::Channels => {
                (format!("/pub?id={}", user_name(0)), "text/plain", message.clone())
            }
        };
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\n{key}Content-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let find = |what: &str| bytes.find(what).map(|at| at + what.len());
        let user_end = find(&user_name(0)).expect("the request names the user");
        let event_end = find(&event_name(0));
        let stamp_start = bytes.rfind(&message);
        PushTemplate { bytes: bytes.into_bytes(), user_end, event_end, stamp_start }
    }

    /// What the body of an answer says.
    pub(crate) fn said(self, body: &str) -> Said {
        if self.dialect() == Dialect::V1 && body.starts_with('{') {
            if let Ok(PositionNow { at }) = PositionNow::parse(body.as_bytes()) {
                return Said { at: Word::new(at.as_bytes()), ..Said::default() };
            }
            let Ok(PushAnswer { delivery, .. }) = PushAnswer::parse(body.as_bytes()) else {
                return Said::default();
            };
            let count = Some(delivery.delivered() as u64);
            return Said { count, acks: delivery.acks, at: None };
        }
        Said { count: self.count(body), ..Said::default() }
    }

    fn count(self, body: &str) -> Option<u64> {
        match self.dialect() {
            Dialect::V1 => receipt::parse_sent(body).map(|count| count as u64),
            Dialect::Channels => {
                let line = body.lines().find_map(|it| it.strip_prefix("active subscribers: "))?;
                line.trim().parse().ok()
            }
        }
    }

    /// Whether `status` means that the server accepted a push.
    pub(crate) fn is_accepted(self, status: u16) -> bool {
        match self.dialect() {
            Dialect::V1 => status == 200,
            Dialect::Channels => matches!(status, 200..=202),
        }
    }
}

/// Tokens by the users' names.
pub(crate) type Tokens = HashMap<String, String>;

/// Reads a list of tokens in the format of wserver: one `TOKEN USER` per line.
pub(crate) fn tokens(text: &str) -> Tokens {
    let lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    lines.map(|(token, user)| (user.trim().to_owned(), token.to_owned())).collect()
}

/// Whether `head` is the head of an answer that opens the WebSocket, for this version.
pub(crate) fn is_upgrade(head: &[u8], protocol: Protocol) -> bool {
    let names = |what: &[u8]| head.windows(what.len()).any(|window| window == what);
    head.starts_with(b"HTTP/1.1 101 ")
        && names(KEY_ACCEPTED)
        && (protocol == Protocol::V1 || names(protocol.name().as_bytes()))
}

fn user_name(user: u32) -> String {
    format!("user-{user:0USER_DIGITS$}")
}

fn event_name(event: u32) -> String {
    format!("event-{event:0EVENT_DIGITS$}")
}

/// The bytes of one push; user, event and stamp are written in place.
#[derive(Debug, Clone)]
pub(crate) struct PushTemplate {
    bytes: Vec<u8>,
    user_end: usize,
    event_end: Option<usize>,
    stamp_start: Option<usize>,
}

impl PushTemplate {
    pub(crate) fn fill(&mut self, user: u32, event: u32, stamp: Stamp) {
        write_digits(&mut self.bytes[..self.user_end], USER_DIGITS, user);
        if let Some(end) = self.event_end {
            write_digits(&mut self.bytes[..end], EVENT_DIGITS, event);
        }
        if let Some(start) = self.stamp_start {
            let place = self.bytes[start..].first_chunk_mut();
            stamp.write(place.expect("a message is at least a stamp long"));
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes `number` as the last `digits` bytes of `out`.
fn write_digits(out: &mut [u8], digits: usize, mut number: u32) {
    for place in out.iter_mut().rev().take(digits) {
        *place = b'0' + (number % 10).to_le_bytes()[0];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use wserver_protocol::v2::Push;

    use super::*;

    #[test]
    fn a_template_becomes_any_push() {
        let address = "127.0.0.1:80".parse().unwrap();
        for (target, body_start) in [(Target::Wserver, "{"), (Target::Nchan, "@")] {
            let mut template = target.request(Ask::Push, address, Some("secret"), 40);
            let stamp = Stamp { stream: 1, sequence: 2, micros: 3 };
            template.fill(4_294_967_295, 17, stamp);
            let text = std::str::from_utf8(template.bytes()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(body.starts_with(body_start), "{body}");
            assert!(head.contains("\r\nAuthorization: Bearer secret\r\n"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(text.contains("user-0000000000000000000004294967295"), "{text}");
            if target == Target::Wserver {
                let push = PushRequest::parse(body.as_bytes()).unwrap();
                assert_eq!(push.event, event_name(17));
                assert_eq!(push.message.len(), 40);
                assert_eq!(Stamp::read(push.message.as_bytes()), Some(stamp));
            }
        }
    }

    #[test]
    fn who_has_a_token_registers_with_it() {
        let tokens = tokens("secret user-0000000000000000000000000000007\n\n");
        let register = |user| {
            let mut message =
                Target::Wserver.registration(user, 1, &tokens, Protocol::V1, None).split_off(6);
            message
                .iter_mut()
                .zip([1, 2, 3, 4].into_iter().cycle())
                .for_each(|(it, key)| *it ^= key);
            String::from_utf8(message).unwrap()
        };
        assert!(register(7).contains(r#""token":"secret""#), "{}", register(7));
        assert!(register(8).contains(&user_name(8)), "{}", register(8));
    }

    #[test]
    fn other_requests_name_the_user_and_the_message() {
        let address = "127.0.0.1:80".parse().unwrap();
        let stamp = Stamp { stream: 1, sequence: 2, micros: 3 };
        let body = |ask| {
            let mut template = Target::Wserver.request(ask, address, None, 40);
            template.fill(7, 1, stamp);
            let text = String::from_utf8(template.bytes().to_vec()).unwrap();
            text.split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        assert_eq!(body(Ask::Position), json!({ "user": user_name(7) }).to_string());
        let waits = body(Ask::Wait);
        let push = Push::parse(waits.as_bytes()).unwrap();
        assert_eq!((&*push.event, Stamp::read(push.message.as_bytes())), ("event-01", Some(stamp)));
        assert!(push.wait.is_some() && waits.contains(&user_name(7)), "{waits}");
    }

    #[test]
    fn receipts_are_read() {
        let said = Target::Wserver.said(r#"{"at":"5f3a9c01b2d4.0000002a"}"#);
        assert_eq!(said.at.unwrap().text(), "5f3a9c01b2d4.0000002a");
        let acks = Acks { acked: 2, waiting: 1, ..Acks::default() };
        let said = Target::Wserver.said(
            r#"{"id":"1-2","matched":3,"written":3,"queued":0,"dropped":0,"reason":null,"detail":null,"acks":{"acked":2,"waiting":1,"unable":0,"lost":0}}"#,
        );
        assert_eq!((said.count, said.acks), (Some(3), Some(acks)));
        assert_eq!(Target::Wserver.count("message sent to 12 clients"), Some(12));
        let answer = "queued messages: 1\r\nlast requested: 0 sec. ago\r\nactive subscribers: 7\r\nlast message id: 1:0";
        assert_eq!(Target::Nchan.count(answer), Some(7));
        assert_eq!(Target::Nchan.count("nothing"), None);
    }
}
