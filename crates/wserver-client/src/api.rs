//! The HTTP API: pushes to many, and what an operator asks of a running server.

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

/// The longest answer that is read: a batch has a result for each of its pushes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest part of a refusal's body that is read where a stream was asked for.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What may stand as it is in a part of a path and in a query: RFC 3986's unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The HTTP API of one server, from `docs/http-api.md`; the types are [`v2`]'s.
///
/// Everything but pushing is for publishers whom the server lets administrate. It is for `&self`,
/// from any number of tasks at once; connections are kept as a [`Pusher`](crate::Pusher) keeps them.
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
    /// The API of the server at `url`, for instance `http://127.0.0.1:12345`. A path is what a
    /// proxy puts before the server's own. It connects with the first call.
    ///
    /// # Errors
    ///
    /// When the URL is no `http://` or `https://` URL that could be connected to.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self { http: HttpClient::new(url)? })
    }

    /// The same, presenting this key, as `Authorization: Bearer`.
    ///
    /// # Errors
    ///
    /// When the key is empty or cannot stand in a header.
    pub fn with_key(mut self, key: &str) -> Result<Self, KeyError> {
        self.http = self.http.with_key(key)?;
        Ok(self)
    }

    /// The same, by the Unix socket at `path` instead of the URL's host. TLS is not spoken on it.
    #[cfg(unix)]
    #[must_use]
    pub fn with_unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        let endpoint = self.http.endpoint().with_unix_socket(path.into());
        self.http = self.http.at(endpoint);
        self
    }

    /// The same, trusting the authorities in this PEM text too, beside those that the machine
    /// trusts. With another URL than `https` it is not looked at.
    ///
    /// # Errors
    ///
    /// When there is no certificate in it that can be an authority.
    #[cfg(feature = "tls")]
    pub fn with_ca_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        let endpoint = self.http.endpoint().with_ca_pem(pem)?;
        self.http = self.http.at(endpoint);
        Ok(self)
    }

    /// The same, trusting the server that shows the first certificate of this PEM text, whatever name
    /// it is for, and no other: for who has the server's own file, on the server's machine. With
    /// another URL than `https` it is not looked at.
    ///
    /// # Errors
    ///
    /// When there is no certificate in it.
    #[cfg(feature = "tls")]
    pub fn with_server_certificate_pem(mut self, pem: &[u8]) -> Result<Self, CertificateError> {
        let endpoint = self.http.endpoint().with_server_certificate_pem(pem)?;
        self.http = self.http.at(endpoint);
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
        let endpoint = self.http.endpoint().with_identity_pem(certificate, key)?;
        self.http = self.http.at(endpoint);
        Ok(self)
    }

    /// The same, giving up on a call after this long, connecting included; 10 s by default. A trace
    /// is given up on only until it has begun.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.http = self.http.with_timeout(timeout);
        self
    }

    /// Pushes to one user, several, or everyone.
    ///
    /// # Errors
    ///
    /// As of every call: when the server cannot be reached, refuses, answers with something else,
    /// or takes too long.
    ///
    /// # Cancel safety
    ///
    /// A push whose future is dropped may or may not arrive.
    pub async fn push(&self, push: &Push<'_>) -> Result<PushAnswer, ApiError> {
        let body = self.call(self.post("/v2/push", push.encode())).await?;
        Ok(PushAnswer::parse(&body)?)
    }

    /// The same, at most once for each `key`, however often it is called within ten minutes: an
    /// answer that was lost is given again, and nothing is delivered twice.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push); a key with another push than before, or with one that is still
    /// under way, is refused.
    pub async fn push_once(&self, key: &str, push: &Push<'_>) -> Result<PushAnswer, ApiError> {
        let mut request = self.post("/v2/push", push.encode());
        let key = HeaderValue::from_str(key).map_err(|_ignored| ApiError::IdempotencyKey)?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        let body = self.call(request).await?;
        Ok(PushAnswer::parse(&body)?)
    }

    /// Many pushes in one request, of which each has a result of its own, in their order.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push), for all of them together.
    pub async fn push_batch(&self, pushes: &[Push<'_>]) -> Result<BatchAnswer, ApiError> {
        let body = self.call(self.post("/v2/push/batch", Batch::encode(pushes))).await?;
        Ok(BatchAnswer::parse(&body)?)
    }

    /// How many connections each of these users has.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub async fn presence(&self, users: Vec<String>) -> Result<Online, ApiError> {
        let body = v2::encode(&Presence { users });
        Ok(Online::parse(&self.call(self.post("/v2/presence", body)).await?)?)
    }

    /// The connections of a user.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub async fn connections(&self, user: &str) -> Result<Connections, ApiError> {
        let path = format!("/v2/users/{}/connections", encoded(user));
        Ok(Connections::parse(&self.call(self.get(&path)).await?)?)
    }

    /// One connection by its id.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push); 404 when it is gone.
    pub async fn connection(&self, id: &str) -> Result<Connection, ApiError> {
        let path = format!("/v2/connections/{}", encoded(id));
        Ok(Connection::parse(&self.call(self.get(&path)).await?)?)
    }

    /// Closes connections.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub async fn disconnect(&self, whom: &Disconnect) -> Result<Closed, ApiError> {
        Ok(Closed::parse(&self.call(self.post("/v2/disconnect", whom.encode())).await?)?)
    }

    /// Registers an event of a user on a connection, as if the client had.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push); 404 when the connection is gone.
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

    /// Takes a registration off a connection.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push); 404 when the connection is gone.
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

    /// What the server says of itself.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub async fn node(&self) -> Result<NodeInfo, ApiError> {
        Ok(NodeInfo::parse(&self.call(self.get("/v2/node")).await?)?)
    }

    /// Every node of the server's cluster, the one that answers first; of a server that stands alone,
    /// itself.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub async fn nodes(&self) -> Result<Nodes, ApiError> {
        Ok(Nodes::parse(&self.call(self.get("/v2/nodes")).await?)?)
    }

    /// Whether the server should be sent anybody now: a message to itself has just arrived. It
    /// needs no key.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push); 503 with the reason when it should not.
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.call(self.get("/readyz")).await.map(drop)
    }

    /// Why a push of `event` to `user` would arrive, or would not, and what went wrong lately.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
    pub async fn explain(&self, user: &str, event: &str) -> Result<Explanation, ApiError> {
        let path = format!("/v2/explain?user={}&event={}", encoded(user), encoded(event));
        Ok(Explanation::parse(&self.call(self.get(&path)).await?)?)
    }

    /// What happens to `user` from now on, as it happens. Dropping it ends it.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push).
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
    /// No connection came about, or none that is secure where the URL asks for it.
    #[error("server unreachable")]
    Unreachable {
        /// What the operating system reported.
        #[source]
        source: io::Error,
    },
    /// It took longer than it may.
    #[error("no answer after {after:?}")]
    TimedOut {
        /// The time that was given.
        after: Duration,
    },
    /// The connection broke before the answer was there, or what came is no answer.
    #[error("connection lost")]
    Lost {
        /// What was seen.
        #[source]
        source: Cause,
    },
    /// The server did not accept it.
    #[error("refused with {status}{}", refusal_shown(body, reason.as_deref(), problem.as_deref()))]
    Refused {
        /// The status it answered with.
        status: StatusCode,
        /// The answer's body.
        body: String,
        /// What its `Wserver-Error` header says.
        reason: Option<String>,
        /// The body in terms that programs can act on.
        problem: Option<Box<Problem>>,
    },
    /// The answer was a 200, and not what was asked for: probably this is no wserver.
    #[error("answer is not what was asked for")]
    Malformed {
        /// What is wrong with it.
        #[from]
        source: BodyError,
    },
    /// The key of a push that shall happen once cannot stand in a header.
    #[error("idempotency key cannot stand in a header")]
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
