//! One open connection: what is sent on it, what arrives, how it ends.
//!
//! It wraps the WebSocket library, of which nothing shows outside, and knows the contract only
//! through wserver-protocol. It does not come back once it is lost: that is the listener's.

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
use wserver_protocol::{CloseCode, Register};

use crate::Cause;
use crate::heartbeat::{Beat, Heartbeat};
use crate::text;

/// How long the other side may take over its part of a closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest reason that fits into a Close frame beside its code.
const REASON_BYTES_MAX: usize = 123;

/// An open connection: a stream of the messages that are pushed to it.
///
/// The stream ends (`None`) when the server has closed the connection in order;
/// [`close_frame`](Self::close_frame) then says why. It yields one last error when the connection
/// broke without that.
///
/// Pings are answered while the stream is polled, and only then: a connection that nobody reads is
/// soon closed by the server. Dropping it ends it at once, without a Close; [`close`](Self::close)
/// says goodbye.
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
    heartbeat: Option<Heartbeat>,
    message_bytes_max: usize,
    /// Whether a ping of ours may not be wholly written yet.
    ping_unflushed: bool,
    /// What the server's Close said, once it came.
    close_frame: Option<CloseFrame>,
    /// Runs from the server's Close until it must have closed the TCP connection, too.
    farewell: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Connection {
    pub(crate) fn new(
        socket: WebSocketStream<Stream>,
        heartbeat: Option<Heartbeat>,
        message_bytes_max: usize,
    ) -> Self {
        Self {
            socket,
            heartbeat,
            message_bytes_max,
            ping_unflushed: false,
            close_frame: None,
            farewell: None,
            ended: false,
        }
    }

    /// Registers this connection for `event` of the user that `token` stands for.
    ///
    /// The server does not answer. A token that it refuses shows in nothing but that no message
    /// comes, and that it closes the connection after a while unless another registration is good.
    ///
    /// # Errors
    ///
    /// When `token` or `event` is empty, which the server would ignore without a word; when the
    /// connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// As of [`send_text`](Self::send_text).
    pub async fn register(&mut self, token: &str, event: &str) -> Result<(), SendError> {
        for (field, text) in [("token", token), ("event", event)] {
            if text.is_empty() {
                return Err(SendError::Empty { field });
            }
        }
        let register = Register { token: token.into(), event: event.into() };
        self.send_text(register.encode()).await
    }

    /// Sends a text message of any content, for servers with a message hook of their own.
    ///
    /// # Errors
    ///
    /// When the connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped may have sent its message, or leave it to be sent with the next.
    pub async fn send_text(&mut self, text: impl Into<String>) -> Result<(), SendError> {
        if self.ended || self.close_frame.is_some() {
            return Err(SendError::Closed);
        }
        self.socket.send(Message::text(text.into())).await.map_err(SendError::of)
    }

    /// The next message, if it comes within `after`: the stream, for those who wait for one thing.
    ///
    /// # Errors
    ///
    /// When nothing came in time, which leaves the connection as it was; when the connection is
    /// closed, or breaks.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has taken no message.
    pub async fn next_text(&mut self, after: Duration) -> Result<String, NextTextError> {
        match timeout(after, self.next()).await {
            Ok(Some(message)) => Ok(message?),
            Ok(None) => Err(NextTextError::Closed { frame: self.close_frame.clone() }),
            Err(_elapsed) => Err(NextTextError::TimedOut { after }),
        }
    }

    /// What the server's Close said, once it came.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.close_frame.as_ref()
    }

    /// Closes the connection in order, and returns the server's own Close, or `None` if it did not
    /// answer within 5 s. Messages that arrive meanwhile are lost.
    ///
    /// Of `reason`, only as much is sent as fits into 123 bytes.
    ///
    /// # Errors
    ///
    /// When the connection breaks before the Close is written.
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
            // The server was faster with its own Close.
            Ok(Err(SendError::Closed)) | Ok(Ok(())) | Err(_) => Ok(self.close_frame),
            Ok(Err(error)) => Err(error),
        }
    }

    /// What the socket's message is to the stream, if it is anything.
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

    /// Ends the stream with `error`, telling the server why as far as that goes without waiting.
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
            // It is broken anyway: an error here adds nothing to the one that is reported.
            let _ = socket.as_mut().start_send(close_message(code, ""));
            let _ = socket.poll_flush(cx);
        }
        error
    }

    /// Pings a silent server; is ready when that was in vain.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ping_unflushed && self.socket.poll_flush_unpin(cx).is_ready() {
            self.ping_unflushed = false;
        }
        let Some(heartbeat) = &mut self.heartbeat else {
            return Poll::Pending;
        };
        while ready!(heartbeat.poll_beat(cx)) == Beat::Ask {
            // If the socket is broken, reading it will tell.
            let _ = self.socket.start_send_unpin(Message::Ping(bytes::Bytes::new()));
            self.ping_unflushed = self.socket.poll_flush_unpin(cx).is_pending();
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
                // After the server's Close all is said, in whatever way its socket ends.
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

/// What a server said when it closed a connection.
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
        // Quoted and escaped, since it is the server's word and may end up in a log.
        if self.reason.is_empty() { Ok(()) } else { write!(f, " {:?}", self.reason) }
    }
}

/// Why something could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The server would ignore a registration without this.
    #[error("{field} is empty")]
    Empty {
        /// The field, as the contract spells it.
        field: &'static str,
    },
    /// The connection is closed, or about to be.
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
    /// The library's errors may hold the message that was not sent, so none is kept as it is.
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
    /// A message had more bytes than this client accepts.
    #[error("message exceeds {bytes_max} bytes")]
    TooBig {
        /// The most it accepts.
        bytes_max: usize,
    },
    /// A binary message came; the contract knows text only.
    #[error("unexpected binary message")]
    Binary,
    /// The server broke the WebSocket protocol.
    #[error("WebSocket protocol broken by the server")]
    Protocol {
        /// In which way.
        #[source]
        source: Cause,
    },
    /// Nothing came for a while, and no answer to a ping either.
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
    /// Nothing came in time.
    #[error("no message within {after:?}")]
    TimedOut {
        /// The time that was given.
        after: Duration,
    },
    /// The connection is over: the server closed it, or an earlier call reported how it broke.
    #[error("connection closed{}", frame.as_ref().map(|it| format!(" with {it}")).unwrap_or_default())]
    Closed {
        /// What the server said, if it said anything.
        frame: Option<CloseFrame>,
    },
    /// The connection broke.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
}
