//! How to open a connection: the address, the handshake's headers, the limits.

use std::fmt;
use std::io;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, StatusCode, Uri};
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

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

/// What a connection reads at a time. It is held by every connection, however idle, and messages
/// larger than it cost a few more reads.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// The longest part of a refusal's body that an error keeps.
const BODY_BYTES_MAX: usize = 1 << 10;

/// How to open connections to one server. Cheap to clone, and good for any number of connections.
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
    /// A client of the server at `url`, for instance `ws://127.0.0.1:12345/ws`.
    ///
    /// # Errors
    ///
    /// When the URL is no `ws://` or `wss://` URL that could be connected to.
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
    pub async fn connect(url: &str) -> Result<Connection, ConnectError> {
        Self::new(url)?.open().await
    }

    /// The same, with this header in the handshake, for instance a `Cookie` or an `Origin`. Those
    /// that make the handshake cannot be replaced.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// The same, trusting the authorities in this PEM text too, beside those that the machine
    /// trusts. With another URL than `wss` it is not looked at.
    ///
    /// # Errors
    ///
    /// When there is no certificate in it that can be an authority.
    #[cfg(feature = "tls")]
    pub fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        self.endpoint = self.endpoint.with_ca_pem(pem)?;
        Ok(self)
    }

    /// The same, showing this certificate to a server that asks for one; both in PEM, the
    /// certificate with its chain, the key not encrypted.
    ///
    /// # Errors
    ///
    /// When one of them is not there, or they do not fit each other.
    #[cfg(feature = "tls")]
    pub fn with_identity_pem(
        mut self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        self.endpoint = self.endpoint.with_identity_pem(certificate, key)?;
        Ok(self)
    }

    /// The same, giving up on an attempt to connect after this long, name resolution and handshake
    /// included; 10 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The same, refusing messages of more bytes than this; 8 MiB by default.
    #[must_use]
    pub fn with_message_bytes_max(mut self, message_bytes_max: usize) -> Self {
        self.message_bytes_max = message_bytes_max;
        self
    }

    /// The same, with this heartbeat; 30 s of silence and 10 s of patience by default.
    ///
    /// When the server has sent nothing, neither message nor ping, for `silence` to twice that, it
    /// is pinged; when another `patience` passes without a sign of life, the connection counts as
    /// lost. Without it, a server that vanished without a word (a pulled plug, a forgetful NAT)
    /// would look like one that has nothing to say, for ever.
    #[must_use]
    pub fn with_heartbeat(mut self, silence: Duration, patience: Duration) -> Self {
        self.heartbeat = Some((silence, patience));
        self
    }

    /// The same, without a heartbeat.
    #[must_use]
    pub fn without_heartbeat(mut self) -> Self {
        self.heartbeat = None;
        self
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, refuses, does not speak WebSocket, or takes too long.
    pub async fn open(&self) -> Result<Connection, ConnectError> {
        let after = self.connect_timeout;
        tokio::time::timeout(after, self.handshake())
            .await
            .unwrap_or(Err(ConnectError::TimedOut { after }))
    }

    async fn handshake(&self) -> Result<Connection, ConnectError> {
        let request = self.request().map_err(ConnectError::of)?;
        let dialed = self.endpoint.target().dial().await;
        let stream = dialed.map_err(|error| ConnectError::Unreachable { source: error.into() })?;
        let (socket, _response) = client_async_with_config(request, stream, Some(self.config()))
            .await
            .map_err(ConnectError::of)?;
        let heartbeat = self.heartbeat.map(|(silence, patience)| Heartbeat::new(silence, patience));
        Ok(Connection::new(socket, heartbeat, self.message_bytes_max))
    }

    pub(crate) fn config(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            // Everything sent is flushed at once; there is nothing to collect.
            .write_buffer_size(0)
            .max_message_size(Some(self.message_bytes_max))
            .max_frame_size(Some(self.message_bytes_max))
    }

    pub(crate) fn request(&self) -> Result<Request<()>, WsError> {
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
    /// The URL cannot be connected to.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No connection came about: the name is unknown, nobody listens, no route; or the two sides
    /// did not come to terms about TLS, as when the server's certificate is not trusted.
    #[error("server unreachable")]
    Unreachable {
        /// What the operating system reported.
        #[source]
        source: io::Error,
    },
    /// It took longer than it may.
    #[error("no connection after {after:?}")]
    TimedOut {
        /// The time that was given.
        after: Duration,
    },
    /// The server answered the handshake with something else than an upgrade.
    #[error("server refused the connection with {status}{}", reason_shown(reason.as_deref()))]
    Refused {
        /// The status it answered with.
        status: StatusCode,
        /// As much of the body as came with the head, up to 1 KiB.
        body: String,
        /// What its `Wserver-Error` header says.
        reason: Option<String>,
    },
    /// The answer makes no WebSocket, or the connection broke in the middle of it.
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
            error => Self::Handshake { source: error.into() },
        }
    }
}

/// As much of a refusal's body as came with its head, and is kept.
pub(crate) fn body_head(response: &http::Response<Option<Vec<u8>>>) -> String {
    let body = response.body().as_deref().unwrap_or_default();
    String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).into_owned()
}
