//! Connections byte by byte: what is sent may be as wrong as a test likes, and what comes back is
//! seen as it came.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use wserver_protocol::frame::{self, Opcode};

use crate::{PATIENCE, Running};

/// The sample key of RFC 6455, section 1.3, and what accepts it.
pub(crate) const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in small letters.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn read(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.parse().unwrap(),
            headers: headers.map(|(name, it)| (name.to_lowercase(), it.to_owned())).collect(),
            body: String::new(),
        }
    }

    /// The value of a header, which may come only once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} comes twice in {self:?}");
        Some(&value.1)
    }

    /// All headers except those that differ from answer to answer.
    pub(crate) fn headers_but_date(&self) -> Vec<&(String, String)> {
        self.headers.iter().filter(|(name, _)| name != "date").collect()
    }
}

/// One connection to a server.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    /// Read, but not taken yet.
    unread: Vec<u8>,
}

impl Raw {
    pub(crate) async fn connect(running: &Running) -> Self {
        Self::connect_by(running.address, |_| Ok(())).await
    }

    pub(crate) async fn connect_by(
        address: SocketAddr,
        prepare: impl FnOnce(&TcpSocket) -> io::Result<()>,
    ) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        prepare(&socket).unwrap();
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::new(stream)
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// A WebSocket, opened with these additional lines.
    pub(crate) async fn open(running: &Running, lines: &[&str]) -> Self {
        Self::connect(running).await.upgraded(lines).await
    }

    /// A WebSocket of version 2.
    pub(crate) async fn open_v2(running: &Running) -> Self {
        Self::open(running, &["sec-websocket-protocol: wserver.v2"]).await
    }

    pub(crate) async fn upgraded(mut self, lines: &[&str]) -> Self {
        self.send(handshake(lines)).await;
        let answer = self.answer().await;
        assert_eq!(answer.status, 101, "{answer:?}");
        self
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        written.expect("the server reads").unwrap();
    }

    pub(crate) async fn send_text(&mut self, text: impl AsRef<[u8]>) {
        self.send(masked(Opcode::Text, text)).await;
    }

    async fn fill(&mut self) -> Result<(), End> {
        let read = self.stream.read_buf(&mut self.unread);
        match tokio::time::timeout(PATIENCE, read).await.expect("something comes") {
            Ok(0) => Err(End::Eof),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => panic!("{error}"),
        }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.unread.len() < count {
            self.fill().await?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    pub(crate) async fn try_answer(&mut self) -> Result<Answer, End> {
        const END: &[u8] = b"\r\n\r\n";
        let end = loop {
            match self.unread.windows(END.len()).position(|window| window == END) {
                Some(at) => break at + END.len(),
                None => self.fill().await?,
            }
        };
        let mut answer = Answer::read(std::str::from_utf8(&self.take(end).await?).unwrap());
        let length = answer.header("content-length").map_or(0, |it| it.parse().unwrap());
        answer.body = String::from_utf8(self.take(length).await?).unwrap();
        Ok(answer)
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer comes")
    }

    /// Sends a request and returns its answer.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// How the connection ends; nothing may come before that.
    pub(crate) async fn end(&mut self) -> End {
        match self.take(1).await {
            Ok(_) => panic!("{:?} instead of the end", String::from_utf8_lossy(&self.unread)),
            Err(end) => end,
        }
    }

    /// Everything up to the end, which must be in order.
    pub(crate) async fn all(&mut self) -> Vec<u8> {
        while self.fill().await.map_err(|end| assert_eq!(end, End::Eof)).is_ok() {}
        std::mem::take(&mut self.unread)
    }

    /// How the connection ends, whatever comes before that.
    pub(crate) async fn end_at_last(&mut self) -> End {
        loop {
            self.unread.clear();
            if let Err(end) = self.fill().await {
                return end;
            }
        }
    }

    /// The next frame: its opcode and payload.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.take(2).await.expect("a frame comes");
        assert_eq!(head[0] & 0xf0, 0x80, "the server sends whole messages");
        let extended = match head[1] {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = match extended {
            0 => usize::from(head[1]),
            _ => {
                let bytes = self.take(extended).await.expect("a frame comes");
                bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
        };
        (head[0] & 0x0f, self.take(length).await.expect("a frame comes"))
    }

    /// The opcode of the next frame, which stays to be taken.
    pub(crate) async fn peek_opcode(&mut self) -> u8 {
        while self.unread.is_empty() {
            self.fill().await.expect("a frame comes");
        }
        self.unread[0] & 0x0f
    }

    /// The next message, which must be text.
    pub(crate) async fn text(&mut self) -> String {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, Opcode::Text as u8, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// The code and the reason of a Close, which must come next.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let (opcode, payload) = self.frame().await;
        assert_eq!(opcode, Opcode::Close as u8, "{payload:?}");
        let (code, reason) = payload.split_at(2);
        (u16::from_be_bytes([code[0], code[1]]), String::from_utf8(reason.to_vec()).unwrap())
    }
}

/// A frame of a client.
pub(crate) fn masked(opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame::masked(opcode, payload.as_ref(), [0x37, 0xfa, 0x21, 0x3d]).to_vec()
}

pub(crate) fn close(code: u16) -> Vec<u8> {
    masked(Opcode::Close, code.to_be_bytes())
}

/// A register message of version 1.
pub(crate) fn register(token: &str, event: &str) -> Vec<u8> {
    masked(Opcode::Text, format!(r#"{{"token":"{token}","event":"{event}"}}"#))
}

/// A handshake with these additional lines.
pub(crate) fn handshake(lines: &[&str]) -> String {
    let key = format!("sec-websocket-key: {SAMPLE_KEY}");
    let own = [
        "host: localhost",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        &key,
    ];
    request("GET /ws HTTP/1.1", &[&own, lines].concat(), "")
}

/// A request with exactly these lines between its first line and its body.
pub(crate) fn request(first: &str, lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{first}\r\n{lines}\r\n{body}")
}

/// A push with these additional lines.
pub(crate) fn push(lines: &[&str], message: &str) -> String {
    let body = format!(r#"{{"userId":"jack","event":"news","message":"{message}"}}"#);
    let length = format!("content-length: {}", body.len());
    request("POST /push HTTP/1.1", &[&["host: localhost", &*length], lines].concat(), &body)
}

/// A request without a body.
pub(crate) fn get(path: &str) -> String {
    request(&format!("GET {path} HTTP/1.1"), &["host: localhost"], "")
}
