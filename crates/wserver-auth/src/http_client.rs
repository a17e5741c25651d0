//! How issuers and backends are asked: one configured URL, and an answer that is read whole.
//!
//! Connections, timeouts and bounds are wserver-outgoing's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use wserver_outgoing::{AskError, Pool};

use crate::endpoint::HttpEndpoint;

/// Calls one endpoint, and keeps a few connections to it for the next call.
#[derive(Debug)]
pub(crate) struct HttpClient {
    endpoint: HttpEndpoint,
    pool: Pool,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The time for the whole call, from the first step to the last byte of the answer.
    pub(crate) timeout: Duration,
    /// The longest body that is read.
    pub(crate) answer_bytes_max: usize,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there was no answer. No variant contains any part of what was sent or received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the answer has a content-encoding, which the request did not allow")]
    Encoded,
}

impl HttpClient {
    pub(crate) fn new(endpoint: HttpEndpoint, idle_max: usize) -> Self {
        // Calls are questions: one that arrives twice is answered twice.
        let pool = Pool::new(endpoint.target().clone()).with_idle_connections_max(idle_max);
        Self { endpoint, pool: pool.repeating() }
    }

    pub(crate) fn host(&self) -> &str {
        self.endpoint.host()
    }

    /// Sends `call` and reads the whole answer.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time: that closes its connection, and leaves the client
    /// consistent.
    pub(crate) async fn call(&self, call: &Call) -> Result<Answer, HttpError> {
        let target = self.pool.target();
        let resource = target.resource().clone();
        let mut request = target.request(call.method.clone(), resource, call.body.clone());
        let headers = request.headers_mut();
        for (name, value) in &call.headers {
            headers.append(name, value.clone());
        }
        let agent = concat!("wserver/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        let (head, body) = self.pool.ask(request, call.timeout, call.answer_bytes_max).await?;
        let encoding = head.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(HttpError::Encoded);
        }
        Ok(Answer { status: head.status, body })
    }
}
