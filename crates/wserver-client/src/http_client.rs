//! The HTTP side of one server: the key to present, how long to wait, and what a request looks like.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request};
use wserver_outgoing::{AskError as PoolError, Body, Incoming, Pool};

use crate::Cause;
use crate::endpoint::{Endpoint, UrlError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS_MAX: usize = 32;

/// The server, and the connections to it. Clones share them.
#[derive(Clone)]
pub(crate) struct HttpClient {
    endpoint: Endpoint,
    /// Invariant: its target is the endpoint's.
    pool: Pool,
    /// A secret.
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// How a request failed before there was an answer.
pub(crate) enum AskError {
    Unreachable { source: io::Error },
    TimedOut { after: Duration },
    Lost { source: Cause },
}

impl HttpClient {
    pub(crate) fn new(url: &str) -> Result<Self, UrlError> {
        let endpoint = Endpoint::parse(url, "http", "https")?;
        let pool = Pool::new(endpoint.target().clone())
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_idle_connections_max(IDLE_CONNECTIONS_MAX);
        Ok(Self { endpoint, pool, authorization: None, timeout: TIMEOUT })
    }

    /// The path and query of the URL.
    pub(crate) fn resource(&self) -> &PathAndQuery {
        self.endpoint.target().resource()
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

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// The same, at another endpoint.
    pub(crate) fn at(self, endpoint: Endpoint) -> Self {
        let pool = self.pool.with_target(endpoint.target().clone());
        Self { endpoint, pool, ..self }
    }

    pub(crate) fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.pool = self.pool.with_connect_timeout(connect_timeout);
        self
    }

    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub(crate) fn with_idle_connections_max(mut self, idle_connections_max: usize) -> Self {
        self.pool = self.pool.with_idle_connections_max(idle_connections_max);
        self
    }

    /// A request with the headers that each of them has.
    pub(crate) fn request(
        &self,
        method: Method,
        resource: PathAndQuery,
        body: Option<String>,
        accept: Option<&'static str>,
    ) -> Request<Body> {
        let has_body = body.is_some();
        let body = Bytes::from(body.unwrap_or_default());
        let mut request = self.endpoint.target().request(method, resource, body);
        let headers = request.headers_mut();
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

    /// Sends `request`, once, and reads the whole answer, of at most `bytes_max`.
    pub(crate) async fn ask(
        &self,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), AskError> {
        Ok(self.pool.ask(request, self.timeout, bytes_max).await?)
    }

    /// Sends `request` on a connection of its own, and leaves the answer's body to be read as it comes.
    pub(crate) async fn ask_for_stream(
        &self,
        request: Request<Body>,
    ) -> Result<(Parts, Incoming), AskError> {
        Ok(self.pool.ask_for_stream(request, self.timeout).await?)
    }
}

impl From<PoolError> for AskError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::TimedOut { after } => Self::TimedOut { after },
            PoolError::Connect(source) | PoolError::Tls(source) => Self::Unreachable { source },
            PoolError::Unsent => {
                Self::Unreachable { source: io::ErrorKind::ConnectionAborted.into() }
            }
            PoolError::Lost(source) => Self::Lost { source },
            error => Self::Lost { source: error.into() },
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("endpoint", &self.endpoint)
            .field("has_key", &self.authorization.is_some())
            .finish_non_exhaustive()
    }
}

/// Why a key cannot be presented: it is empty, has white space at an end, or a character in it that
/// no header can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the push key contains characters that a header cannot carry")]
#[non_exhaustive]
pub struct KeyError;
