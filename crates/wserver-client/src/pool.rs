//! HTTP requests to one server, over connections that are kept and reused.

use std::fmt;
use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use tokio::time::{Instant, timeout};

use crate::Cause;
use crate::line::{Body, Incoming, Line, LineError};
use crate::target::{Target, UrlError};
#[cfg(feature = "tls")]
use crate::tls::CertificateError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS_MAX: usize = 32;

/// How long a connection can have been idle and still be reused. Servers close an idle connection
/// after some time, and a request that crosses the closing is lost, so it is better to open a new
/// one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The server, and the connections to it. Clones share both.
#[derive(Clone)]
pub(crate) struct Pool {
    target: Target,
    /// A secret.
    authorization: Option<HeaderValue>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) idle_connections_max: usize,
    /// Idle connections, and since when they are idle, oldest first. Each request takes one out and
    /// puts it back; `idle_connections_max` limits them. The lock is never held across an await.
    idle: Arc<Mutex<Vec<(Line, Instant)>>>,
}

/// How a request failed before there was an answer.
pub(crate) enum AskError {
    Unreachable { source: io::Error },
    TimedOut { after: Duration },
    Lost { source: Cause },
}

impl Pool {
    pub(crate) fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self {
            target: Target::parse(url, "http", "https")?,
            authorization: None,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            idle_connections_max: IDLE_CONNECTIONS_MAX,
            idle: Arc::default(),
        })
    }

    /// The path and query of the URL.
    pub(crate) fn resource(&self) -> &PathAndQuery {
        self.target.resource()
    }

    pub(crate) fn with_key(mut self, key: &str) -> Result<Self, KeyError> {
        if key.is_empty() || key.trim() != key {
            return Err(KeyError);
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_ignored| KeyError)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    #[cfg(unix)]
    pub(crate) fn with_unix_socket(mut self, path: PathBuf) -> Self {
        self.target = self.target.with_unix_socket(path);
        self.idle = Arc::default();
        self
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        self.target = self.target.with_ca_pem(pem)?;
        self.idle = Arc::default();
        Ok(self)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_server_certificate_pem(
        mut self,
        pem: &[u8],
    ) -> Result<Self, CertificateError> {
        self.target = self.target.with_server_certificate_pem(pem)?;
        self.idle = Arc::default();
        Ok(self)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_identity_pem(
        mut self,
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        self.target = self.target.with_identity_pem(certificate, key)?;
        self.idle = Arc::default();
        Ok(self)
    }

    /// A request with the headers that every request has.
    pub(crate) fn request(
        &self,
        method: Method,
        resource: PathAndQuery,
        body: Option<String>,
        accept: Option<&'static str>,
    ) -> Request<Body> {
        let has_body = body.is_some();
        let mut request = Request::new(Body::new(Bytes::from(body.unwrap_or_default())));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(resource);
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.authority().clone());
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }

    /// Sends `request` once, and reads the complete answer of at most `bytes_max` bytes.
    pub(crate) async fn ask(
        &self,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), AskError> {
        let after = self.timeout;
        timeout(after, self.exchange(request, bytes_max))
            .await
            .unwrap_or(Err(AskError::TimedOut { after }))
    }

    /// Sends `request` on a separate connection; the caller reads the body of the answer as it
    /// arrives.
    pub(crate) async fn ask_for_stream(
        &self,
        request: Request<Body>,
    ) -> Result<(Parts, Incoming), AskError> {
        let after = self.timeout;
        let asking = async { self.connect().await?.stream(request).await.map_err(AskError::of) };
        timeout(after, asking).await.unwrap_or(Err(AskError::TimedOut { after }))
    }

    async fn exchange(
        &self,
        mut request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), AskError> {
        loop {
            let idle = self.take_idle();
            let reused = idle.is_some();
            let mut line = match idle {
                Some(line) => line,
                None => self.connect().await?,
            };
            match line.exchange(request, bytes_max).await {
                Ok(answer) => {
                    if line.is_reusable() {
                        self.put_idle(line);
                    }
                    return Ok(answer);
                }
                // The connection was closed while it was idle, and none of this request was sent on
                // it.
                Err(LineError::Unsent(unsent)) if reused => request = *unsent,
                Err(error) => return Err(AskError::of(error)),
            }
        }
    }

    async fn connect(&self) -> Result<Line, AskError> {
        let opening = async {
            let stream = self.target.dial().await?;
            Line::open(stream).await.map_err(io::Error::other)
        };
        let opened = timeout(self.connect_timeout, opening).await;
        opened
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| AskError::Unreachable { source })
    }

    /// The connection that was used last, if that was recently.
    fn take_idle(&self) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (line, since) = idle.pop()?;
        if since.elapsed() < IDLE_TIMEOUT {
            return Some(line);
        }
        // All others have been idle even longer.
        idle.clear();
        None
    }

    fn put_idle(&self, line: Line) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.idle_connections_max {
            idle.push((line, Instant::now()));
        }
    }
}

impl AskError {
    fn of(error: LineError) -> Self {
        match error {
            LineError::Unsent(_) => {
                Self::Unreachable { source: io::Error::from(io::ErrorKind::ConnectionAborted) }
            }
            LineError::Lost(source) => Self::Lost { source },
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .field("has_key", &self.authorization.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a header cannot carry a key: it is empty, has white space at an end, or contains a character
/// that no header can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("push key cannot stand in a header")]
#[non_exhaustive]
pub struct KeyError;
