//! One WebSocket of the generator: connect, handshake, register, read.
//!
//! It knows its socket and its own state; the engine decides whose turn it is and what the messages
//! mean.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Type};
use wserver_protocol::frame::{self, Opcode};

use crate::frames::{Frames, HEADROOM, Item, Message, Word};
use crate::socket::{Socket, Tls};
use crate::target;

/// Maximum length of an answer's head.
const HEAD_BYTES_MAX: usize = 4096;

/// The `errno` of a connect in progress, EINPROGRESS on Linux.
const IN_PROGRESS: i32 = 115;

/// The phase of a connection's life.
#[derive(Debug)]
pub(crate) enum Phase {
    Connecting,
    /// The part of the answer's head that has arrived.
    Handshaking(Vec<u8>),
    Open,
    Closed(End),
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The generator left.
    Left,
    /// The server said Close with this code.
    Closed(u16),
    /// The server closed or reset the connection without a word.
    Cut,
}

/// The result of a read of the socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Same,
    Opened,
    Ended,
}

/// One WebSocket.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Option<Socket>,
    pub(crate) phase: Phase,
    pub(crate) user: u32,
    /// In microseconds of the engine's clock.
    pub(crate) began: u64,
    pub(crate) pings: u32,
    /// Where the server said that it stands; it registers behind a position that it has before.
    pub(crate) position: Option<Word>,
    /// While set, nothing is read.
    pub(crate) is_stalled: bool,
    /// A Close was sent, and no other may follow.
    has_said_close: bool,
    frames: Frames,
}

impl Connection {
    /// Starts to connect from this machine's address number `source`, or from any.
    pub(crate) fn connect(
        address: SocketAddr,
        tls: Option<&Tls>,
        source: Option<u16>,
        receive_buffer: Option<usize>,
        user: u32,
        protocol: wserver_protocol::Protocol,
        began: u64,
    ) -> Result<Self> {
        let stream = connect(address, source, receive_buffer)
            .with_context(|| format!("cannot connect to {address}"))?;
        Ok(Self {
            socket: Some(Socket::new(stream, tls)?),
            phase: Phase::Connecting,
            user,
            began,
            pings: 0,
            position: None,
            is_stalled: false,
            has_said_close: false,
            frames: Frames::new(protocol),
        })
    }

    pub(crate) fn protocol(&self) -> wserver_protocol::Protocol {
        self.frames.protocol
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Handles a writable socket: sends the handshake if it has just connected.
    pub(crate) fn handle_writable(&mut self, handshake: impl FnOnce(u32) -> Vec<u8>) -> Result<()> {
        if !matches!(self.phase, Phase::Connecting) {
            return Ok(());
        }
        let socket = self.socket.as_mut().expect("it is connecting");
        let stream = socket.stream();
        if let Some(error) = stream.take_error()? {
            return Err(error).context("cannot connect");
        }
        match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            peer => peer?,
        };
        write_all(socket, &handshake(self.user))?;
        self.phase = Phase::Handshaking(Vec::new());
        Ok(())
    }

    /// Handles a readable socket: reads what has arrived.
    ///
    /// All connections share `buffer`. `sink` gets each message; this function answers pings.
    pub(crate) fn handle_readable(
        &mut self,
        buffer: &mut [u8],
        is_read_closed: bool,
        registration: impl Fn(u32, Option<Word>) -> Vec<u8>,
        mut sink: impl FnMut(Message),
    ) -> Result<Progress> {
        let mut progress = Progress::Same;
        if self.is_stalled {
            return Ok(progress);
        }
        if let Some(socket) = &mut self.socket
            && socket.write_kept().is_err()
        {
            self.end(End::Cut);
            return Ok(Progress::Ended);
        }
        loop {
            let Some(socket) = &mut self.socket else { return Ok(Progress::Ended) };
            let count = match socket.read(&mut buffer[HEADROOM..]) {
                Ok(0) => {
                    self.end(End::Cut);
                    return Ok(Progress::Ended);
                }
                Ok(count) => count,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(progress),
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                        self.end(End::Cut);
                        return Ok(Progress::Ended);
                    }
                    _ => return Err(error).context("cannot read"),
                },
            };
            let is_drained = socket.is_drained(count, buffer.len() - HEADROOM) && !is_read_closed;
            match &mut self.phase {
                Phase::Handshaking(head) => {
                    head.extend_from_slice(&buffer[HEADROOM..HEADROOM + count]);
                    if let Some(end) = head.windows(4).position(|it| it == b"\r\n\r\n") {
                        if !target::is_upgrade(head, self.frames.protocol) {
                            bail!("refused: {}", String::from_utf8_lossy(head));
                        }
                        let rest = head.split_off(end + 4);
                        buffer[HEADROOM..HEADROOM + rest.len()].copy_from_slice(&rest);
                        write_all(socket, &registration(self.user, self.position))?;
                        self.phase = Phase::Open;
                        progress = Progress::Opened;
                        self.take(buffer, rest.len(), &mut sink)?;
                    } else if head.len() > HEAD_BYTES_MAX {
                        bail!("the head of the answer is longer than {HEAD_BYTES_MAX} bytes");
                    }
                }
                Phase::Open => self.take(buffer, count, &mut sink)?,
                Phase::Connecting | Phase::Closed(_) => {
                    bail!("received bytes on a connection that is not open")
                }
            }
            if matches!(self.phase, Phase::Closed(_)) {
                return Ok(Progress::Ended);
            }
            if is_drained {
                return Ok(progress);
            }
        }
    }

    /// Handles the frames in the `count` bytes just read.
    #[inline]
    fn take(
        &mut self,
        buffer: &mut [u8],
        count: usize,
        sink: &mut impl FnMut(Message),
    ) -> Result<()> {
        let mut answers = Vec::new();
        let mut told = None;
        let mut pings = 0;
        let mut position = None;
        self.frames.read(buffer, HEADROOM + count, |item| match item {
            Item::Ping(payload) => {
                pings += 1;
                answers.extend_from_slice(&frame::masked(Opcode::Pong, payload, [1, 2, 3, 4]));
            }
            Item::Close(code) => told = Some(code),
            Item::Message(message) => {
                match &message {
                    Message::Asked(_, _, id) => answers.extend_from_slice(&acknowledgement(id)),
                    Message::Granted { at, .. } => position = *at,
                    _ => {}
                }
                sink(message);
            }
            Item::Pong => {}
        })?;
        self.pings += pings;
        self.position = position.or(self.position);
        if let Some(code) = told
            && !self.has_said_close
        {
            let code = code.to_be_bytes();
            let payload = if code == [0, 0] { &[][..] } else { &code };
            answers.extend_from_slice(&frame::masked(Opcode::Close, payload, [1, 2, 3, 4]));
        }
        if !answers.is_empty()
            && let Some(socket) = &mut self.socket
            // The server may be gone already; then the next read says so.
            && write_all(socket, &answers).is_err()
        {
            return Ok(());
        }
        if let Some(code) = told {
            self.end(End::Closed(code));
        }
        Ok(())
    }

    /// Sends a Close; the server must end the connection.
    pub(crate) fn say_close(&mut self) -> Result<()> {
        if let Some(socket) = &mut self.socket {
            let close = frame::masked(Opcode::Close, &1000_u16.to_be_bytes(), [1, 2, 3, 4]);
            write_all(socket, &close)?;
            self.has_said_close = true;
        }
        Ok(())
    }

    /// Ends the connection without a Close: with a FIN, or with a reset.
    pub(crate) fn leave(&mut self, with_reset: bool) -> Result<()> {
        if with_reset && let Some(socket) = &mut self.socket {
            socket2::SockRef::from(&*socket.stream()).set_linger(Some(Duration::ZERO))?;
        }
        self.end(End::Left);
        Ok(())
    }

    fn end(&mut self, end: End) {
        self.socket = None;
        self.phase = Phase::Closed(end);
    }
}

/// What a client says when it has handled a push.
fn acknowledgement(id: &Word) -> Vec<u8> {
    let said = format!("{{\"ack\":[\"{}\"]}}", id.text());
    frame::masked(Opcode::Text, said.as_bytes(), [1, 2, 3, 4]).to_vec()
}

/// Opens a socket and starts to connect it.
pub(crate) fn connect(
    address: SocketAddr,
    source: Option<u16>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        let [high, low] = source.to_be_bytes();
        // 127.0.1.1 is the first, because 127.0.0.1 is for the server.
        let source = Ipv4Addr::new(127, 0, high + 1, low);
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// Writes a few bytes into a socket that has room for them.
fn write_all(socket: &mut Socket, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let count = socket.write(bytes).context("cannot write")?;
    anyhow::ensure!(count == bytes.len(), "the socket took {count} of {} bytes", bytes.len());
    Ok(())
}
