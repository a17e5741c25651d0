//! The HTTP API: pushes to many users, and an operator's questions to a running server.

use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use wserver_outgoing::Body;
use wserver_protocol::v2::{
    self, Batch, BatchAnswer, BodyError, Closed, Connection, Connections, Disconnect, Explanation,
    NodeInfo, Nodes, Online, Presence, Problem, Push, PushAnswer, Registered, Registration,
};

use crate::Cause;
use crate::endpoint::UrlError;
use crate::events::Trace;
use crate::http_client::{AskError, HttpClient, KeyError};
use crate::refusal::{self, refusal_shown};
#[cfg(feature = "tls")]
use crate::tls::CertificateError;

/// The longest answer to read: the answer to a batch has a result for each of its pushes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest part of a refusal's body to read if the request asked for a stream.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The characters that a path segment and a query can contain unescaped: RFC 3986's unreserved
/// characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The HTTP API of one server, as in `docs/http-api.md`; [`v2`] has the types.
///
/// Every call except a push needs the key of a publisher that may administer the server. All
/// methods take `&self` and can run in any number of tasks at once; the API keeps connections open
/// like a [`Pusher`](crate::Pusher).
///
/// ```no_run
/// use wserver_client::Api;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let api = Api::new("http://127.0.0.1:12345")?.with_key("shop-6f1e0c2b9a7d")?;
/// for sentence in api.explain("jack", "news").await?.sentences {
///     println!("{sentence}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Api {
    http: HttpClient,
}

impl Api {
    /// The API of the server at `url`, for example `http://127.0.0.1:12345`. A path in it is the
    /// prefix that a proxy puts before the server's own paths. The first call opens a connection.
    ///
    /// # Errors
    ///
    /// When the URL is not a valid `http://` or `https://` URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self { http: HttpClient::new(url)? })
    }

    /// Sends this key with each request, as `Authorization: Bearer`.
    ///
    /// # Errors
    ///
    /// When the key is empty or cannot stand in a header.
    pub fn with_key(mut self, key: &str) -> Result<Self, KeyError> {
        self.http = self.http.with_key(key)?;
        Ok(self)
    }

    /// Connects to the Unix socket at `path` instead of the URL's host, without TLS.
    #[cfg(unix)]
    #[must_use]
    pub fn with_unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        let endpoint = self.http.endpoint().with_unix_socket(path.into());
        self.http = self.http.at(endpoint);
        self
    }

    /// Trusts the certificate authorities in this PEM text in addition to those that the machine
    /// trusts. It has an effect only with an `https` URL.
    ///
    /// # Errors
    ///
    /// When the text contains no certificate that can be an authority.
    #[cfg(feature = "tls")]
    pub fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        let endpoint = self.http.endpoint().with_ca_pem(pem)?;
        self.http = self.http.at(endpoint);
        Ok(self)
    }

    /// Trusts only a server that presents the first certificate of this PEM text, whatever name the
    /// certificate is for. It is for callers that have the server's own file, on the server's
    /// machine. It has an effect only with an `https` URL.
    ///
    /// # Errors
    ///
    /// When the text contains no certificate.
    #[cfg(feature = "tls")]
    pub fn with_server_certificate_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        let endpoint = self.http.endpoint().with_server_certificate_pem(pem)?;
        self.http = self.http.at(endpoint);
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
        let endpoint = self.http.endpoint().with_identity_pem(certificate, key)?;
        self.http = self.http.at(endpoint);
        Ok(self)
    }

    /// Gives up on a call after this time, which includes connecting; 10 s by default. For a trace,
    /// the limit ends when the trace has started.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.http = self.http.with_timeout(timeout);
        self
    }

    /// Pushes to one user, several, or everyone.
    ///
    /// The answer to a push that waits for acknowledgements may take as long as its
    /// [`Wait::timeout`](v2::Wait::timeout), so [`with_timeout`](Self::with_timeout) must be longer.
    ///
    /// # Errors
    ///
    /// As for every call: when the server is unreachable, refuses the request, gives an unexpected
    /// answer, or takes too long.
    ///
    /// # Cancel safety
    ///
    /// A push whose future is dropped may or may not arrive.
    pub async fn push(&self, push: &Push<'_>) -> Result<PushAnswer, ApiError> {
        let body = self.call(self.post("/v2/push", push.encode())).await?;
        Ok(PushAnswer::parse(&body)?)
    }

    /// Pushes at most once for each `key`, however often it is called within ten minutes: if the
    /// first answer was lost, the server gives that answer again and delivers nothing twice.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push). The server also refuses a key that it knows from another push,
    /// or from a push that is still under way.
    ///
    /// # Cancel safety
    ///
    /// A push whose future is dropped may or may not arrive. Call it again with the same `key`:
    /// nothing is delivered twice.
    pub async fn push_once(&self, key: &str, push: &Push<'_>) -> Result<PushAnswer, ApiError> {
        let mut request = self.post("/v2/push", push.encode());
        let key = HeaderValue::from_str(key).map_err(|_ignored| ApiError::IdempotencyKey)?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        let body = self.call(request).await?;
        Ok(PushAnswer::parse(&body)?)
    }

    /// Sends many pushes in one request. Each has a result of its own, in the same order.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push), for all pushes together.
    ///
    /// # Cancel safety
    ///
    /// A batch whose future is dropped may or may not arrive, as a whole or in part.
    pub async fn push_batch(&self, pushes: &[Push<'_>]) -> Result<BatchAnswer, ApiError> {
        let body = self.call(self.post("/v2/push/batch", Batch::encode(pushes))).await?;
        Ok(BatchAnswer::parse(&body)?)
    }

    /// How many connections each of these users has.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn presence(&self, users: Vec<String>) -> Result<Online, ApiError> {
        let body = v2::encode(&Presence { users });
        Ok(Online::parse(&self.call(self.post("/v2/presence", body)).await?)?)
    }

    /// The connections of a user.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn connections(&self, user: &str) -> Result<Connections, ApiError> {
        let path = format!("/v2/users/{}/connections", encoded(user));
        Ok(Connections::parse(&self.call(self.get(&path)).await?)?)
    }

    /// One connection, by its id.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push); 404 if the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn connection(&self, id: &str) -> Result<Connection, ApiError> {
        let path = format!("/v2/connections/{}", encoded(id));
        Ok(Connection::parse(&self.call(self.get(&path)).await?)?)
    }

    /// Closes connections.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may or may not have carried the request out.
    pub async fn disconnect(&self, whom: &Disconnect) -> Result<Closed, ApiError> {
        Ok(Closed::parse(&self.call(self.post("/v2/disconnect", whom.encode())).await?)?)
    }

    /// Registers an event of a user on a connection, as if the client had registered it.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push); 404 if the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may or may not have carried the request out.
    pub async fn register(
        &self,
        connection: &str,
        user: &str,
        event: &str,
    ) -> Result<Registered, ApiError> {
        let path = format!("/v2/connections/{}/registrations", encoded(connection));
        let body = v2::encode(&Registration { user: user.to_owned(), event: event.to_owned() });
        let request = self.request(Method::PUT, &path, Some(body), JSON);
        Ok(Registered::parse(&self.call(request).await?)?)
    }

    /// Removes a registration from a connection.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push); 404 if the connection is gone.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may or may not have carried the request out.
    pub async fn unregister(
        &self,
        connection: &str,
        user: &str,
        event: &str,
    ) -> Result<Registered, ApiError> {
        let path = format!(
            "/v2/connections/{}/registrations?user={}&event={}",
            encoded(connection),
            encoded(user),
            encoded(event),
        );
        let request = self.request(Method::DELETE, &path, None, JSON);
        Ok(Registered::parse(&self.call(request).await?)?)
    }

    /// What the server reports about itself.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn node(&self) -> Result<NodeInfo, ApiError> {
        Ok(NodeInfo::parse(&self.call(self.get("/v2/node")).await?)?)
    }

    /// Every node of the server's cluster, beginning with the node that answers. A server without a
    /// cluster lists itself.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn nodes(&self) -> Result<Nodes, ApiError> {
        Ok(Nodes::parse(&self.call(self.get("/v2/nodes")).await?)?)
    }

    /// Succeeds if the server is ready for clients, that is, if a message to itself has just
    /// arrived. It needs no key.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push); 503 with the reason if the server is not ready.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.call(self.get("/readyz")).await.map(drop)
    }

    /// Why a push of `event` to `user` would arrive, or would not, and what went wrong recently.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not have been answered; it changes
    /// nothing at the server.
    pub async fn explain(&self, user: &str, event: &str) -> Result<Explanation, ApiError> {
        let path = format!("/v2/explain?user={}&event={}", encoded(user), encoded(event));
        Ok(Explanation::parse(&self.call(self.get(&path)).await?)?)
    }

    /// What happens to `user` from now on, as it happens. Drop the trace to end it.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no trace is open: its connection closes, and the server ends the
    /// trace.
    pub async fn trace(&self, user: &str) -> Result<Trace, ApiError> {
        let path = format!("/v2/trace?user={}", encoded(user));
        let request = self.request(Method::GET, &path, None, EVENT_STREAM);
        let (head, incoming) = self.http.ask_for_stream(request).await?;
        if head.status == StatusCode::OK {
            return Ok(Trace::new(incoming));
        }
        let body = incoming.head(REFUSAL_BYTES_MAX).await;
        Err(ApiError::refused(&head, &body))
    }

    fn get(&self, path: &str) -> Request<Body> {
        self.request(Method::GET, path, None, JSON)
    }

    fn post(&self, path: &str, body: String) -> Request<Body> {
        self.request(Method::POST, path, Some(body), JSON)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        accept: &'static str,
    ) -> Request<Body> {
        let prefix = self.http.resource().path().trim_end_matches('/');
        let resource = PathAndQuery::try_from(format!("{prefix}{path}"));
        let resource = resource.expect("a path with what is encoded behind it is one");
        self.http.request(method, resource, body, Some(accept))
    }

    async fn call(&self, request: Request<Body>) -> Result<bytes::Bytes, ApiError> {
        let (head, body) = self.http.ask(request, ANSWER_BYTES_MAX).await?;
        if head.status == StatusCode::OK { Ok(body) } else { Err(ApiError::refused(&head, &body)) }
    }
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, RESERVED)
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The connection could not be opened, or not with the TLS that the URL requires.
    #[error("server unreachable")]
    Unreachable {
        /// What the operating system reported.
        #[source]
        source: io::Error,
    },
    /// The call took too long.
    #[error("no answer after {after:?}")]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The connection broke before the answer was complete, or the answer is not HTTP.
    #[error("connection lost")]
    Lost {
        /// What went wrong.
        #[source]
        source: Cause,
    },
    /// The server refused the request.
    #[error("refused with {status}{}", refusal_shown(body, reason.as_deref(), problem.as_deref()))]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The body of the answer.
        body: String,
        /// The value of its `Wserver-Error` header.
        reason: Option<String>,
        /// The body in a form that programs can act on.
        problem: Option<Box<Problem>>,
    },
    /// The answer was a 200, but not the expected answer: the server is probably not a wserver.
    #[error("the answer is not of the requested type")]
    Malformed {
        /// What is wrong with it.
        #[from]
        source: BodyError,
    },
    /// The idempotency key of the push cannot stand in a header.
    #[error("the idempotency key contains characters that a header cannot carry")]
    IdempotencyKey,
}

impl ApiError {
    fn refused(head: &http::response::Parts, body: &[u8]) -> Self {
        Self::Refused {
            status: head.status,
            body: String::from_utf8_lossy(body).into_owned(),
            reason: refusal::reason(&head.headers),
            problem: refusal::problem(head, body),
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unreachable { source } => Self::Unreachable { source },
            AskError::TimedOut { after } => Self::TimedOut { after },
            AskError::Lost { source } => Self::Lost { source },
        }
    }
}
