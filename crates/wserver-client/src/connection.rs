//! One open connection: what it sends, what arrives, how it ends.
//!
//! This module wraps the WebSocket library and hides it from callers; it knows the contract only
//! through wserver-protocol. It does not reconnect: `ReconnectingConnection` does.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Sink as _, SinkExt as _, Stream as Messages, StreamExt as _};
use tokio::time::{Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame as WsCloseFrame, Message};
use wserver_outgoing::Stream;
use wserver_protocol::{CloseCode, Protocol, Register};

use crate::Cause;
use crate::heartbeat::{Beat, Heartbeat};
use crate::text;

/// How long the other side may take for its part of a closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest reason that fits into a Close frame after the code.
const REASON_BYTES_MAX: usize = 123;

/// An open connection: a stream of the messages that are pushed to it.
///
/// The stream ends (`None`) when the server has closed the connection in order;
/// [`close_frame`](Self::close_frame) then says why. If the connection broke, the stream yields one
/// last error.
///
/// The connection answers pings only while the stream is polled, so the server soon closes a
/// connection that nobody reads. Dropping it ends it at once, without a Close;
/// [`close`](Self::close) ends it in order.
///
/// ```no_run
/// use futures::StreamExt;
/// use wserver_client::Client;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = Client::connect("ws://127.0.0.1:12345/ws").await?;
/// connection.register("aaa", "news").await?;
/// while let Some(message) = connection.next().await {
///     println!("{}", message?);
/// }
/// println!("closed: {:?}", connection.close_frame());
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    socket: WebSocketStream<Stream>,
    protocol: Protocol,
    heartbeat: Option<Heartbeat>,
    message_bytes_max: usize,
    /// Whether a ping or an acknowledgement of ours may not be completely written yet.
    is_unflushed: bool,
    /// The server's Close, once it has arrived.
    close_frame: Option<CloseFrame>,
    /// Runs from the server's Close until the server must also have closed the TCP connection.
    farewell: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Connection {
    pub(crate) fn new(
        socket: WebSocketStream<Stream>,
        protocol: Protocol,
        heartbeat: Option<Heartbeat>,
        message_bytes_max: usize,
    ) -> Self {
        Self {
            socket,
            protocol,
            heartbeat,
            message_bytes_max,
            is_unflushed: false,
            close_frame: None,
            farewell: None,
            ended: false,
        }
    }

    /// The version of the protocol that it speaks. By version 2, messages come as the server writes
    /// them, which [`FromServer::parse`](wserver_protocol::connection::FromServer::parse) reads, and
    /// [`send_text`](Self::send_text) sends requests and acknowledgements, which
    /// [`FromClient::encode`](wserver_protocol::connection::FromClient::encode) writes.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// By version 1: registers this connection for `event` of the user that `token` stands for.
    ///
    /// The server does not answer. If it refuses the token, no message arrives, and it closes the
    /// connection after some time unless another registration succeeds.
    ///
    /// # Errors
    ///
    /// When `token` or `event` is empty, which the server would silently ignore; when the
    /// connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// As for [`send_text`](Self::send_text).
    pub async fn register(&mut self, token: &str, event: &str) -> Result<(), SendError> {
        for (field, text) in [("token", token), ("event", event)] {
            if text.is_empty() {
                return Err(SendError::Empty { field });
            }
        }
        let register = Register { token: token.into(), event: event.into() };
        self.send_text(register.encode()).await
    }

    /// Sends a text message with any content, for servers that have their own message hook.
    ///
    /// # Errors
    ///
    /// When the connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message may have been sent, or may be sent with the next one.
    pub async fn send_text(&mut self, text: impl Into<String>) -> Result<(), SendError> {
        if self.ended || self.close_frame.is_some() {
            return Err(SendError::Closed);
        }
        self.socket.send(Message::text(text.into())).await.map_err(SendError::of)
    }

    /// The next message, if it arrives within `after`. It is the stream, for callers that wait for
    /// one message.
    ///
    /// # Errors
    ///
    /// When no message arrived in time, which does not change the connection; when the connection
    /// is closed, or breaks.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has taken no message.
    pub async fn next_text(&mut self, after: Duration) -> Result<String, NextTextError> {
        match timeout(after, self.next()).await {
            Ok(Some(message)) => Ok(message?),
            Ok(None) => Err(NextTextError::Closed { frame: self.close_frame.clone() }),
            Err(_elapsed) => Err(NextTextError::TimedOut { after }),
        }
    }

    /// The server's Close, once it has arrived.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.close_frame.as_ref()
    }

    /// Closes the connection in order, and returns the server's own Close, or `None` if the server
    /// did not answer within 5 s. Messages that arrive during this time are lost.
    ///
    /// It sends only as much of `reason` as fits into 123 bytes.
    ///
    /// # Errors
    ///
    /// When the connection breaks before the Close is written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection: the socket closes, and the Close may or may not
    /// have been sent.
    pub async fn close(
        mut self,
        code: CloseCode,
        reason: &str,
    ) -> Result<Option<CloseFrame>, SendError> {
        if self.ended {
            return Ok(self.close_frame);
        }
        let goodbye = timeout(CLOSE_TIMEOUT, async {
            self.socket.send(close_message(code, reason)).await.map_err(SendError::of)?;
            while self.next().await.is_some() {}
            Ok(())
        });
        match goodbye.await {
            // `Closed` means that the server sent its own Close first.
            Ok(Err(SendError::Closed)) | Ok(Ok(())) | Err(_) => Ok(self.close_frame),
            Ok(Err(error)) => Err(error),
        }
    }

    /// What a message of the socket means for the stream, if anything.
    fn handle_message(&mut self, message: Message) -> Option<Result<String, ReceiveError>> {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.handle_sign_of_life();
        }
        match message {
            Message::Text(text) => Some(Ok(text.as_str().to_owned())),
            Message::Binary(_) => Some(Err(ReceiveError::Binary)),
            Message::Close(frame) => {
                self.close_frame = Some(CloseFrame::of(frame));
                self.farewell = Some(Box::pin(sleep(CLOSE_TIMEOUT)));
                None
            }
            // The library answers pings itself, as soon as it is polled again.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
        }
    }

    /// Ends the stream with `error`, and tells the server why as far as this needs no waiting.
    fn fail(&mut self, cx: &mut Context<'_>, error: ReceiveError) -> ReceiveError {
        self.ended = true;
        let code = match error {
            ReceiveError::TooBig { .. } => Some(CloseCode::TOO_BIG),
            ReceiveError::Binary => Some(CloseCode::UNSUPPORTED),
            ReceiveError::Protocol { .. } => Some(CloseCode::PROTOCOL),
            ReceiveError::Silent | ReceiveError::Lost { .. } => None,
        };
        if let Some(code) = code {
            let mut socket = Pin::new(&mut self.socket);
            // The connection is broken anyway, so an error here adds nothing to the reported one.
            let _ = socket.as_mut().start_send(close_message(code, ""));
            let _ = socket.poll_flush(cx);
        }
        error
    }

    /// Sends a text message as far as this needs no waiting; the rest follows while the stream is
    /// polled.
    pub(crate) fn start_text(&mut self, cx: &mut Context<'_>, text: String) {
        // If the socket is broken, the next read reports it.
        let _ = self.socket.start_send_unpin(Message::text(text));
        self.is_unflushed = self.socket.poll_flush_unpin(cx).is_pending();
    }

    /// Whether what [`start_text`](Self::start_text) sent is written.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.is_unflushed
    }

    /// Pings a silent server; becomes ready when the ping was in vain.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_unflushed && self.socket.poll_flush_unpin(cx).is_ready() {
            self.is_unflushed = false;
        }
        let Some(heartbeat) = &mut self.heartbeat else {
            return Poll::Pending;
        };
        while ready!(heartbeat.poll_beat(cx)) == Beat::Ask {
            // If the socket is broken, the next read reports it.
            let _ = self.socket.start_send_unpin(Message::Ping(bytes::Bytes::new()));
            self.is_unflushed = self.socket.poll_flush_unpin(cx).is_pending();
        }
        Poll::Ready(())
    }
}

impl Messages for Connection {
    type Item = Result<String, ReceiveError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        while let Poll::Ready(message) = this.socket.poll_next_unpin(cx) {
            match message {
                Some(Ok(message)) => match this.handle_message(message) {
                    Some(Ok(text)) => return Poll::Ready(Some(Ok(text))),
                    Some(Err(error)) => return Poll::Ready(Some(Err(this.fail(cx, error)))),
                    None => {}
                },
                // After the server's Close, it does not matter how the socket ends.
                Some(Err(error)) if this.close_frame.is_none() => {
                    let error = ReceiveError::of(error, this.message_bytes_max);
                    return Poll::Ready(Some(Err(this.fail(cx, error))));
                }
                Some(Err(_)) | None => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
        if let Some(farewell) = &mut this.farewell {
            ready!(farewell.as_mut().poll(cx));
            this.ended = true;
            return Poll::Ready(None);
        }
        ready!(this.poll_heartbeat(cx));
        Poll::Ready(Some(Err(this.fail(cx, ReceiveError::Silent))))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("close_frame", &self.close_frame)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// A Close with this code, and as much of the reason as fits.
pub(crate) fn close_message(code: CloseCode, reason: &str) -> Message {
    let reason = text::head(reason, REASON_BYTES_MAX);
    Message::Close(Some(WsCloseFrame { code: code.as_u16().into(), reason: reason.into() }))
}

/// The content of a server's Close.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseFrame {
    /// The close code; `None` if the Close frame was empty.
    pub code: Option<u16>,
    /// The reason, for people; often empty.
    pub reason: String,
}

impl CloseFrame {
    pub(crate) fn of(frame: Option<WsCloseFrame>) -> Self {
        match frame {
            Some(frame) => Self { code: Some(frame.code.into()), reason: frame.reason.to_string() },
            None => Self { code: None, reason: String::new() },
        }
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{code}")?,
            None => write!(f, "no code")?,
        }
        // Quoted and escaped, because it is the server's text and can end up in a log.
        if self.reason.is_empty() { Ok(()) } else { write!(f, " {:?}", self.reason) }
    }
}

/// Why something could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// A field is empty, so the server would ignore the registration.
    #[error("{field} is empty")]
    Empty {
        /// The field, as the contract spells it.
        field: &'static str,
    },
    /// The connection is closed, or is closing.
    #[error("connection closed")]
    Closed,
    /// The connection broke.
    #[error("connection lost")]
    Lost {
        /// What the operating system reported.
        #[source]
        source: io::Error,
    },
}

impl SendError {
    /// The library's errors can contain the message that was not sent, so this keeps none of them
    /// as they are.
    pub(crate) fn of(error: WsError) -> Self {
        match error {
            WsError::ConnectionClosed
            | WsError::AlreadyClosed
            | WsError::Protocol(ProtocolError::SendAfterClosing) => Self::Closed,
            WsError::Io(source) => Self::Lost { source },
            _ => Self::Lost { source: io::Error::other("WebSocket failed") },
        }
    }
}

/// Why a connection broke while it was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// A message had more bytes than the client accepts.
    #[error("message exceeds {bytes_max} bytes")]
    TooBig {
        /// The maximum number of bytes.
        bytes_max: usize,
    },
    /// A binary message arrived; the contract has only text messages.
    #[error("unexpected binary message")]
    Binary,
    /// The server broke the WebSocket protocol.
    #[error("the server broke the WebSocket protocol")]
    Protocol {
        /// What went wrong.
        #[source]
        source: Cause,
    },
    /// Nothing arrived for some time, not even an answer to a ping.
    #[error("server silent")]
    Silent,
    /// The connection ended without a Close.
    #[error("connection lost")]
    Lost {
        /// What the operating system reported; an unexpected end of file if it just ended.
        #[source]
        source: io::Error,
    },
}

impl ReceiveError {
    pub(crate) fn of(error: WsError, bytes_max: usize) -> Self {
        match error {
            WsError::Io(source) => Self::Lost { source },
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                Self::Lost { source: io::ErrorKind::UnexpectedEof.into() }
            }
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => Self::TooBig { bytes_max },
            error => Self::Protocol { source: error.into() },
        }
    }
}

/// Why [`Connection::next_text`] has no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NextTextError {
    /// No message arrived in time.
    #[error("no message within {after:?}")]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The connection is over: the server closed it, or an earlier call reported how it broke.
    #[error("connection closed{}", frame.as_ref().map(|it| format!(" with {it}")).unwrap_or_default())]
    Closed {
        /// The server's Close, if there was one.
        frame: Option<CloseFrame>,
    },
    /// The connection broke.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}
