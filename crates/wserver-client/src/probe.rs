//! Opens a connection step by step and reports what each step found, for tools that look for what
//! is wrong between a client and a server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use wserver_outgoing::{AskError, Line, LineError, Stream};
use wserver_protocol::connection::{Asked, FromServer, Notice, Outcome, Reply, Request};
use wserver_protocol::{CloseCode, Protocol, Register};

use crate::Cause;
use crate::client::{Client, body_head, is_older};
use crate::connection::{CloseFrame, ReceiveError, SendError, close_message};
#[cfg(feature = "tls")]
use crate::tls::TlsFacts;

/// The most bytes to read of an answer whose content is irrelevant.
const PLAIN_BYTES_MAX: usize = 1 << 20;

/// Opens connections of one [`Client`] step by step. No step takes longer than the client's
/// [`with_connect_timeout`](Client::with_connect_timeout).
#[derive(Debug, Clone)]
pub struct Probe {
    client: Client,
}

/// A TCP connection to a server.
#[derive(Debug)]
pub struct Dialed<'a> {
    client: &'a Client,
    stream: TcpStream,
    /// The server's address.
    pub address: SocketAddr,
}

/// A TCP connection with the layer on it: TLS or nothing.
pub struct Secured<'a> {
    client: &'a Client,
    stream: Stream,
    /// The facts of the TLS handshake; `None` without TLS.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsFacts>,
}

impl std::fmt::Debug for Secured<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secured").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Probe {
    /// A probe of the server that `client` would connect to, with the client's headers.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Resolves the server's name.
    ///
    /// # Errors
    /// The resolver's error.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.within(self.client.endpoint.target().addresses()).await
    }

    /// Connects to one of the addresses.
    ///
    /// # Errors
    /// The operating system's error.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; it leaves no connection behind.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<Dialed<'_>> {
        let stream = self.within(TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Dialed { client: &self.client, stream, address })
    }

    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        within(&self.client, work).await
    }
}

async fn within<T>(client: &Client, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(client.connect_timeout, work).await;
    done.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
}

impl<'a> Dialed<'a> {
    /// Makes the TLS handshake, if the URL requires TLS.
    ///
    /// # Errors
    /// Why the handshake failed, in the words of rustls: most often the certificate is not trusted,
    /// or is not for this name.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn secure(self) -> io::Result<Secured<'a>> {
        let Self { client, stream, .. } = self;
        let stream = within(client, client.endpoint.target().secure(stream)).await?;
        Ok(Secured {
            #[cfg(feature = "tls")]
            tls: stream.tls().map(TlsFacts::of),
            client,
            stream,
        })
    }
}

/// The head of an answer to a request without an upgrade.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlainAnswer {
    /// The status of the answer.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Secured<'_> {
    /// Requests the same URL without an upgrade. The answer shows whether a proxy blocks all
    /// requests or only upgrades.
    ///
    /// # Errors
    /// When no answer arrives in time, or the answer is not HTTP.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn get(self) -> io::Result<PlainAnswer> {
        let Self { client, stream, .. } = self;
        let asking = async {
            let target = client.endpoint.target();
            let resource = target.resource().clone();
            let mut request = target.request(Method::GET, resource, Bytes::new());
            for (name, value) in client.headers.iter() {
                request.headers_mut().append(name, value.clone());
            }
            let mut line = Line::open(stream).await.map_err(io::Error::other)?;
            match line.exchange(request, PLAIN_BYTES_MAX).await {
                Ok((head, _body)) => Ok(PlainAnswer { status: head.status, headers: head.headers }),
                Err(LineError::Lost(cause)) => Err(io::Error::other(cause)),
                Err(LineError::Unsent(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => Err(io::Error::other(AskError::from(error))),
            }
        };
        within(client, asking).await
    }

    /// Makes the WebSocket handshake for this version of the protocol.
    ///
    /// # Errors
    /// The answer, if it is not an upgrade, or not one for this version.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn upgrade(self, protocol: Protocol) -> Result<Probed, UpgradeError> {
        let Self { client, stream, .. } = self;
        let after = client.connect_timeout;
        let upgrading = async {
            let request = client.request(protocol)?;
            client_async_with_config(request, stream, Some(client.config())).await
        };
        let upgraded = timeout(after, upgrading).await;
        match upgraded.map_err(|_elapsed| UpgradeError::TimedOut { after })? {
            Ok((socket, response)) => {
                Ok(Probed { socket, protocol, headers: response.into_parts().0.headers })
            }
            Err(WsError::Http(response)) => Err(UpgradeError::Refused {
                status: response.status(),
                body: body_head(&response),
                headers: Box::new(response.into_parts().0.headers),
            }),
            Err(error) if is_older(&error) => Err(UpgradeError::Older),
            Err(error) if is_silence(&error) => {
                Err(UpgradeError::Unanswered { source: error.into() })
            }
            Err(error) => Err(UpgradeError::Failed { source: error.into() }),
        }
    }
}

/// Whether the connection ended without an answer.
fn is_silence(error: &WsError) -> bool {
    match error {
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => true,
        WsError::Io(error) => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        ),
        _ => false,
    }
}

/// Why there was no upgrade.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The server answered with something else.
    #[error("answered with {status}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// Its headers.
        headers: Box<HeaderMap>,
        /// The part of its body that came with the head, up to 1 KiB.
        body: String,
    },
    /// The answer is an upgrade, but does not name the version of the protocol that was offered.
    #[error("the answer does not name the version of the protocol that was offered")]
    Older,
    /// The connection ended before an answer arrived.
    #[error("handshake failed")]
    Unanswered {
        /// What the connection showed last.
        #[source]
        source: Cause,
    },
    /// The answer is not an upgrade for this handshake.
    #[error("handshake failed")]
    Failed {
        /// What went wrong.
        #[source]
        source: Cause,
    },
    /// No answer arrived in time.
    #[error("no answer after {after:?}")]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
}

/// An open WebSocket that shows everything that arrives.
pub struct Probed {
    socket: WebSocketStream<Stream>,
    protocol: Protocol,
    /// The headers of the server's upgrade.
    pub headers: HeaderMap,
}

/// One item that arrived.
#[derive(Debug)]
#[non_exhaustive]
pub enum Seen {
    /// A push: its message. By version 1, every text is one.
    Pushed(String),
    /// By version 2: what became of a request.
    Replied(Outcome),
    /// By version 2: a notice.
    Noticed(Notice),
    /// By version 2: a message that this release does not know.
    Unknown,
    /// A ping, which the probe answers.
    Ping,
    /// A pong.
    Pong,
    /// A Close.
    Closed(CloseFrame),
    /// The connection ended without a Close, or violated the protocol.
    Lost(ReceiveError),
}

impl Probed {
    /// The next item, if one arrives within `after`.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has taken nothing.
    pub async fn next(&mut self, after: Duration) -> Option<Seen> {
        let message = timeout(after, self.socket.next()).await.ok()?;
        Some(match message {
            Some(Ok(Message::Text(text))) if self.protocol == Protocol::V2 => seen(text.as_str()),
            Some(Ok(Message::Text(text))) => Seen::Pushed(text.as_str().to_owned()),
            Some(Ok(Message::Ping(_))) => Seen::Ping,
            Some(Ok(Message::Pong(_))) => Seen::Pong,
            Some(Ok(Message::Close(frame))) => Seen::Closed(CloseFrame::of(frame)),
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => Seen::Lost(ReceiveError::Binary),
            Some(Err(error)) => Seen::Lost(ReceiveError::of(error, usize::MAX)),
            None => Seen::Lost(ReceiveError::Lost { source: io::ErrorKind::UnexpectedEof.into() }),
        })
    }

    /// The version of the protocol that it speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// When the connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message may or may not be sent; the connection stays usable.
    pub async fn ping(&mut self) -> Result<(), SendError> {
        self.send(Message::Ping(Bytes::new())).await
    }

    /// Registers for `event` of the user that `token` stands for. By version 2, a reply follows; by
    /// version 1, nothing does.
    ///
    /// # Errors
    /// When the connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message may or may not be sent; the connection stays usable.
    pub async fn register(&mut self, token: &str, event: &str) -> Result<(), SendError> {
        let text = match self.protocol {
            Protocol::V1 => Register { token: token.into(), event: event.into() }.encode(),
            Protocol::V2 | Protocol::Sse => {
                let (events, token) = (vec![event.to_owned()], Some(token.to_owned()));
                Request { id: 1, asked: Asked::Register { events, token, after: None } }.encode()
            }
        };
        self.send(Message::text(text)).await
    }

    /// Sends a Close; the server's own Close then arrives as an item.
    ///
    /// # Errors
    /// When the connection is closed or breaks.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message may or may not be sent; the connection stays usable.
    pub async fn close(&mut self) -> Result<(), SendError> {
        self.send(close_message(CloseCode::NORMAL, "")).await
    }

    async fn send(&mut self, message: Message) -> Result<(), SendError> {
        self.socket.send(message).await.map_err(SendError::of)
    }
}

/// What a message of version 2 is.
fn seen(text: &str) -> Seen {
    match FromServer::parse(text) {
        Some(FromServer::Push { message, .. }) => Seen::Pushed(message.to_owned()),
        Some(FromServer::Reply(Reply { outcome, .. })) => Seen::Replied(outcome),
        Some(FromServer::Notice(notice)) => Seen::Noticed(notice),
        _ => Seen::Unknown,
    }
}

impl std::fmt::Debug for Probed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probed").finish_non_exhaustive()
    }
}
