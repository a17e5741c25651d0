//! How a client opens a connection: the address, the headers of the handshake, the limits.

use std::fmt;
use std::io;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Request, StatusCode, Uri};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use wserver_protocol::Protocol;

use crate::Cause;
use crate::connection::Connection;
use crate::endpoint::{Endpoint, UrlError};
use crate::heartbeat::Heartbeat;
use crate::refusal;
use crate::text::reason_shown;
#[cfg(feature = "tls")]
use crate::tls::CertificateError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const MESSAGE_BYTES_MAX: usize = 8 << 20;
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(10);

/// The size of a connection's read buffer. Every connection holds it, even when idle; a message
/// that is larger takes a few more reads.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// The longest part of a refusal's body that an error keeps.
const BODY_BYTES_MAX: usize = 1 << 10;

/// Opens connections to one server. It is cheap to clone, and can open any number of connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
    pub(crate) connect_timeout: Duration,
    message_bytes_max: usize,
    /// Silence and patience, in this order.
    heartbeat: Option<(Duration, Duration)>,
}

impl Client {
    /// A client of the server at `url`, for example `ws://127.0.0.1:12345/ws`.
    ///
    /// # Errors
    ///
    /// When the URL is not a valid `ws://` or `wss://` URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self {
            endpoint: Endpoint::parse(url, "ws", "wss")?,
            headers: HeaderMap::new(),
            connect_timeout: CONNECT_TIMEOUT,
            message_bytes_max: MESSAGE_BYTES_MAX,
            heartbeat: Some((SILENCE, PATIENCE)),
        })
    }

    /// Opens one connection to `url` with all defaults: [`new`](Self::new), then
    /// [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// When the URL is wrong, or the connection cannot be opened.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; it leaves no connection behind.
    pub async fn connect(url: &str) -> Result<Connection, ConnectError> {
        Self::new(url)?.open().await
    }

    /// Adds this header to the handshake, for example a `Cookie` or an `Origin`. It cannot replace
    /// the headers that the handshake itself needs.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Trusts the certificate authorities in this PEM text in addition to those that the machine
    /// trusts. It has an effect only with a `wss` URL.
    ///
    /// # Errors
    ///
    /// When the text contains no certificate that can be an authority.
    #[cfg(feature = "tls")]
    pub fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        self.endpoint = self.endpoint.with_ca_pem(pem)?;
        Ok(self)
    }

    /// Presents this certificate to a server that asks for one. Both texts are PEM: the certificate
    /// with its chain, and the unencrypted key.
    ///
    /// # Errors
    ///
    /// When the certificate or the key is missing, or they do not belong together.
    #[cfg(feature = "tls")]
    pub fn with_identity_pem(
        mut self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        self.endpoint = self.endpoint.with_identity_pem(certificate, key)?;
        Ok(self)
    }

    /// Gives up on an attempt to connect after this time, which includes name resolution and
    /// handshake; 10 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Refuses messages of more than this many bytes; 8 MiB by default.
    #[must_use]
    pub fn with_message_bytes_max(mut self, message_bytes_max: usize) -> Self {
        self.message_bytes_max = message_bytes_max;
        self
    }

    /// Sets the heartbeat; 30 s of silence and 10 s of patience by default.
    ///
    /// When the server has sent neither a message nor a ping for `silence` to twice that time, the
    /// client pings it. When no sign of life follows within `patience`, the connection counts as
    /// lost. Without a heartbeat, a server that vanished without a Close (a pulled plug, a NAT that
    /// forgot the connection) looks forever like a server with nothing to send.
    #[must_use]
    pub fn with_heartbeat(mut self, silence: Duration, patience: Duration) -> Self {
        self.heartbeat = Some((silence, patience));
        self
    }

    /// Turns the heartbeat off.
    #[must_use]
    pub fn without_heartbeat(mut self) -> Self {
        self.heartbeat = None;
        self
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// When the server is unreachable, refuses the handshake, does not speak WebSocket, or takes
    /// too long.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time; it leaves no connection behind.
    pub async fn open(&self) -> Result<Connection, ConnectError> {
        self.open_by(Protocol::V1).await
    }

    /// Opens a connection that speaks version 2, or version 1 if the server is older;
    /// [`Connection::protocol`] says which.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// As for [`open`](Self::open).
    pub async fn open_newest(&self) -> Result<Connection, ConnectError> {
        match self.open_by(Protocol::V2).await {
            Err(ConnectError::Older) => self.open().await,
            opened => opened,
        }
    }

    async fn open_by(&self, protocol: Protocol) -> Result<Connection, ConnectError> {
        let after = self.connect_timeout;
        tokio::time::timeout(after, self.handshake(protocol))
            .await
            .unwrap_or(Err(ConnectError::TimedOut { after }))
    }

    async fn handshake(&self, protocol: Protocol) -> Result<Connection, ConnectError> {
        let request = self.request(protocol).map_err(ConnectError::of)?;
        let dialed = self.endpoint.target().dial().await;
        let stream = dialed.map_err(|error| ConnectError::Unreachable { source: error.into() })?;
        let (socket, _response) = client_async_with_config(request, stream, Some(self.config()))
            .await
            .map_err(ConnectError::of)?;
        let heartbeat = self.heartbeat.map(|(silence, patience)| Heartbeat::new(silence, patience));
        Ok(Connection::new(socket, protocol, heartbeat, self.message_bytes_max))
    }

    pub(crate) fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // Everything sent is flushed at once; there is nothing to collect.
            .write_buffer_size(0)
            .max_message_size(Some(self.message_bytes_max))
            .max_frame_size(Some(self.message_bytes_max))
    }

    /// The handshake. Version 1 is offered by offering nothing, as its first clients do.
    pub(crate) fn request(&self, protocol: Protocol) -> Result<Request<()>, WsError> {
        // The host here only fills the place: the header that is sent is set below.
        let uri = Uri::builder()
            .scheme("ws")
            .authority("localhost")
            .path_and_query(self.endpoint.target().resource().clone())
            .build()?;
        let mut request = uri.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.endpoint.target().authority().clone());
        let own: Vec<HeaderName> = headers.keys().cloned().collect();
        for (name, value) in self.headers.iter().filter(|(name, _)| !own.contains(name)) {
            headers.append(name, value.clone());
        }
        if protocol == Protocol::V2 {
            let offered = HeaderValue::from_static(protocol.name());
            headers.insert(SEC_WEBSOCKET_PROTOCOL, offered);
        }
        Ok(request)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not valid for a connection.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The connection could not be opened: the name is unknown, nothing listens there, there is no
    /// route; or the TLS handshake failed, for example because the server's certificate is not
    /// trusted.
    #[error("server unreachable")]
    Unreachable {
        /// What the operating system reported.
        #[source]
        source: io::Error,
    },
    /// The attempt took too long.
    #[error("no connection after {after:?}")]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The server answered the handshake with something other than an upgrade.
    #[error("server refused the connection with {status}{}", reason_shown(reason.as_deref()))]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The part of the body that came with the head, up to 1 KiB.
        body: String,
        /// The value of its `Wserver-Error` header.
        reason: Option<String>,
    },
    /// The server does not know the version of the protocol that was offered.
    #[error("the server speaks an older version of the protocol")]
    Older,
    /// The answer is not a WebSocket handshake, or the connection broke during the handshake.
    #[error("WebSocket handshake failed")]
    Handshake {
        /// What was wrong.
        #[source]
        source: Cause,
    },
}

impl ConnectError {
    fn of(error: WsError) -> Self {
        match error {
            WsError::Http(response) => Self::Refused {
                status: response.status(),
                reason: refusal::reason(response.headers()),
                body: body_head(&response),
            },
            error if is_older(&error) => Self::Older,
            error => Self::Handshake { source: error.into() },
        }
    }
}

/// Whether the server did not take up the version of the protocol that was offered.
pub(crate) fn is_older(error: &WsError) -> bool {
    matches!(
        error,
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol
        ))
    )
}

/// The part of a refusal's body that came with its head, up to the length that errors keep.
pub(crate) fn body_head(response: &http::Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).into_owned()
}
