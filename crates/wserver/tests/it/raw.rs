//! Connections byte by byte: HTTP and WebSockets without a library's kindness.
//!
//! What is sent may be as wrong as a test likes; what comes back must be right, and is read with
//! a bound on time.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use tokio::net::TcpSocket;
use wserver_protocol::frame::{self, Fin, Opcode};
use wserver_protocol::{PushRequest, Register, receipt};

use crate::harness::{PATIENCE, Server};

/// The sample key of RFC 6455, section 1.3, and what it must be accepted with.
pub(crate) const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The mask of every frame sent here; any will do.
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
}

/// One answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header that was sent once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        Some(&value.1)
    }

    /// Every header and its value in the order they came, but when it was.
    pub(crate) fn headers_but_date(&self) -> Vec<(&str, &str)> {
        let all = self.headers.iter().map(|(name, value)| (&**name, &**value));
        all.filter(|(name, _)| *name != "date").collect()
    }

    /// What `Wserver-Error` says, or nothing.
    pub(crate) fn error(&self) -> &str {
        self.header("wserver-error").unwrap_or_default()
    }
}

/// Bytes to and from the server, one of its connections.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    /// Read, and not yet taken.
    unread: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(server: &Server) -> Self {
        Self::new(server.connect())
    }

    /// A connection to where the server will be, or to its private listener.
    pub(crate) fn connect_at(address: SocketAddr) -> Self {
        Self::connect_by(address, |_as_it_is| Ok(()))
    }

    /// The same to a server that may have gone.
    pub(crate) fn try_connect_at(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Some(Self::new(stream))
    }

    /// A connection whose receive buffer is as small as the kernel allows.
    pub(crate) fn connect_small(server: &Server) -> Self {
        Self::connect_by(server.address, |socket| socket.set_recv_buffer_size(1))
    }

    /// A connection that is reset when it is dropped, whatever was read.
    pub(crate) fn connect_to_reset(server: &Server) -> Self {
        Self::connect_by(server.address, TcpSocket::set_zero_linger)
    }

    /// A connection from another address of this machine.
    pub(crate) fn connect_from(address: [u8; 4], server: &Server) -> Self {
        Self::connect_by(server.address, |socket| socket.bind((address, 0).into()))
    }

    /// The standard library has no such options yet.
    fn connect_by(
        address: SocketAddr,
        prepare: impl FnOnce(&TcpSocket) -> std::io::Result<()>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            prepare(&socket).unwrap();
            socket.connect(address).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// The same for a server that may have gone.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Reads more; how the connection ended, if there is no more.
    fn fill(&mut self) -> Result<(), End> {
        let mut bytes = [0; 64 * 1024];
        loop {
            return match self.stream.read(&mut bytes) {
                Ok(0) => Err(End::Eof),
                Ok(count) => {
                    self.unread.extend_from_slice(&bytes[..count]);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
                Err(error) => panic!("nothing came: {error}"),
            };
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.unread.len() < count {
            self.fill()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Reads one answer, with the body its length tells. `HEAD` has none, whatever it tells.
    pub(crate) fn try_answer(&mut self, method: &str) -> Result<Answer, End> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.take(end)?).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
        let status = status.and_then(|line| line.get(2..5)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {head:?}"));
        let headers = lines
            .map(|line| line.split_once(':').expect("a header has a colon"))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
        if method != "HEAD" && status >= 200 {
            let length =
                answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            answer.body = String::from_utf8(self.take(length)?).expect("a body is text");
        }
        Ok(answer)
    }

    /// Reads one answer.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer("GET").unwrap_or_else(|end| panic!("{end:?} instead of an answer"))
    }

    /// Waits for the end; nothing may come before it.
    pub(crate) fn end(&mut self) -> End {
        let end = match self.fill() {
            Err(end) => end,
            Ok(()) => End::Eof,
        };
        assert!(self.unread.is_empty(), "more came: {:?}", String::from_utf8_lossy(&self.unread));
        end
    }

    /// Posts a push and reads how many took it.
    pub(crate) fn push(&mut self, user: &str, event: &str, message: &str) -> usize {
        self.send(push_request(user, event, message));
        let answer = self.answer();
        let count = (answer.status == 200).then(|| receipt::parse_sent(&answer.body)).flatten();
        count.unwrap_or_else(|| panic!("refused: {answer:?}"))
    }

    /// One request and its answer, on another connection than the one under test: by then the
    /// server has had its chance to read what that one was sent.
    pub(crate) fn tick(&mut self) {
        self.send("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n");
        assert_eq!(self.answer().status, 404);
    }
}

/// A whole request with these headers and this body.
pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let body = body.as_ref();
    let mut head = format!("{method} {target} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let mut request = head.into_bytes();
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}

/// A whole `POST /push` with these headers and this body.
pub(crate) fn post(headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST", "/push", headers, body)
}

pub(crate) fn push_body(user: &str, event: &str, message: &str) -> String {
    PushRequest { user_id: user.into(), event: event.into(), message: message.into() }.encode()
}

pub(crate) fn push_request(user: &str, event: &str, message: &str) -> Vec<u8> {
    post(&[], push_body(user, event, message))
}

/// One push on a connection of its own: how many took it.
pub(crate) fn push(server: &Server, user: &str, event: &str, message: &str) -> usize {
    Raw::connect(server).push(user, event, message)
}

/// A correct handshake with these further headers.
pub(crate) fn handshake(headers: &[(&str, &str)]) -> String {
    let mut head = "GET /ws HTTP/1.1\r\nhost: localhost\r\n".to_owned();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", SAMPLE_KEY),
    ]
    .iter()
    .chain(headers)
    {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// What a client sends: a whole frame, masked.
pub(crate) fn masked(opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame::masked(opcode, payload.as_ref(), MASK).to_vec()
}

/// What a client sends: one frame of a fragmented message, masked.
pub(crate) fn fragment(fin: Fin, opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    frame::append(&mut out, fin, opcode, Some(MASK), payload.as_ref());
    out
}

/// A Close of a client.
pub(crate) fn masked_close(code: u16, reason: &[u8]) -> Vec<u8> {
    masked(Opcode::Close, [&code.to_be_bytes(), reason].concat())
}

pub(crate) fn register(token: &str, event: &str) -> Vec<u8> {
    masked(Opcode::Text, Register { token: token.into(), event: event.into() }.encode())
}

/// One frame of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        Self { opcode: opcode as u8, payload: payload.as_ref().to_vec() }
    }
}

/// The Close that a server sent: its code, or 1005 without one (RFC 6455, section 7.1.5).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

/// A WebSocket of the server, as its client holds it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) raw: Raw,
}

impl Socket {
    /// A WebSocket that the server has taken over.
    pub(crate) fn open(server: &Server) -> Self {
        Self::open_on(Raw::connect(server))
    }

    pub(crate) fn open_on(mut raw: Raw) -> Self {
        raw.send(handshake(&[]));
        let answer = raw.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        Self { raw }
    }

    /// A WebSocket that is bound to this token and event.
    pub(crate) fn registered(server: &Server, token: &str, event: &str) -> Self {
        let mut socket = Self::open(server);
        socket.register(token, event);
        socket
    }

    /// Registers, and waits until that was looked at.
    pub(crate) fn register(&mut self, token: &str, event: &str) {
        self.send(register(token, event));
        self.sync();
    }

    /// Waits until the server has read all that was sent: its pong comes behind.
    pub(crate) fn sync(&mut self) {
        self.send(masked(Opcode::Ping, "sync"));
        assert_eq!(self.next(), Frame::new(Opcode::Pong, "sync"));
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.raw.send(bytes);
    }

    /// The next frame, or how the connection ended. It must be whole, unmasked and in its shortest form.
    pub(crate) fn try_next(&mut self) -> Result<Frame, End> {
        let head = self.raw.take(2)?;
        assert_eq!(head[0] & 0xf0, 0x80, "one final frame, no reserved bits");
        let length = match head[1] {
            short @ 0..=125 => usize::from(short),
            126 => {
                let bytes = self.raw.take(2)?;
                usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
            }
            127 => {
                let bytes = self.raw.take(8)?;
                let bytes = <[u8; 8]>::try_from(&*bytes).expect("eight were taken");
                usize::try_from(u64::from_be_bytes(bytes)).expect("a length that fits")
            }
            128.. => panic!("a server's frame is masked"),
        };
        Ok(Frame { opcode: head[0] & 0x0f, payload: self.raw.take(length)? })
    }

    pub(crate) fn next(&mut self) -> Frame {
        self.try_next().unwrap_or_else(|end| panic!("{end:?} instead of a frame"))
    }

    /// Reads up to the server's Close, answers it, and reads the end, which must not be a reset.
    pub(crate) fn closed(&mut self) -> Closed {
        let closed = self.close();
        // In vain where the server has had a Close of ours already, and has gone.
        let _ = self.raw.stream.write_all(&masked_close(1000, b""));
        assert_eq!(self.raw.end(), End::Eof, "behind {closed:?}");
        closed
    }

    /// Reads up to the server's Close, and does not answer it.
    pub(crate) fn close(&mut self) -> Closed {
        let close = loop {
            let frame = self.next();
            if frame.opcode == Opcode::Close as u8 {
                break frame;
            }
        };
        match close.payload.split_first_chunk() {
            Some((code, reason)) => Closed {
                code: u16::from_be_bytes(*code),
                reason: String::from_utf8(reason.to_vec()).expect("a reason is text"),
            },
            None => Closed { code: 1005, reason: String::new() },
        }
    }
}

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Close,
    Eof,
    Reset,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Close, Self::Eof, Self::Reset];
}

/// A client that has sent its registration, which was read, and is going to leave this way.
pub(crate) fn leaving(server: &Server, way: Way, token: &str) -> Socket {
    let raw = if way == Way::Reset { Raw::connect_to_reset(server) } else { Raw::connect(server) };
    let mut socket = Socket::open_on(raw);
    socket.send(register(token, "news"));
    socket.sync();
    socket
}

pub(crate) fn leave(mut socket: Socket, way: Way) {
    if way == Way::Close {
        socket.send(masked_close(1000, b""));
        assert_eq!(socket.closed().code, 1000);
    }
}
