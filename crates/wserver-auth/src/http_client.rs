//! The small HTTP client for issuers and backends: one configured URL, HTTP/1.1, no redirects,
//! limits on everything.
//!
//! It uses only hyper's connection. The usual clients on top of it spawn a task per connection,
//! which a shutdown would not wait for, follow redirects, and read proxies from the environment.
//! Here only the call that uses a connection polls it, so dropping the call ends the connection.

mod endpoint;

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::endpoint::Security;
pub use self::endpoint::{HttpEndpoint, HttpEndpointError};

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How long a connection may be idle and still be used. Servers close theirs after 5 (Node) to 75
/// seconds (nginx).
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Calls one endpoint, and keeps a few connections to it for the next call.
pub(crate) struct HttpClient {
    endpoint: HttpEndpoint,
    /// Idle connections, the latest last. Calls take and return them; at most `idle_max`.
    idle: Mutex<Vec<Idle>>,
    idle_max: usize,
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
    pub(crate) body: Vec<u8>,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// A connection and its handle. Its owner polls it.
struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Pin<Box<Connection>>>,
}

type Connection = http1::Connection<TokioIo<Box<dyn Socket>>, Full<Bytes>>;

/// A plain socket, or TLS over one.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl HttpClient {
    pub(crate) fn new(endpoint: HttpEndpoint, idle_max: usize) -> Self {
        Self { endpoint, idle: Mutex::default(), idle_max }
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
        let called = tokio::time::timeout(call.timeout, self.call_in_time(call));
        called.await.map_err(|_elapsed| HttpError::Timeout { timeout: call.timeout })?
    }

    async fn call_in_time(&self, call: &Call) -> Result<Answer, HttpError> {
        while let Some(mut link) = self.take() {
            if !link.is_alive().await {
                continue;
            }
            match self.exchange(link, call).await {
                // The server may have closed it just then; for a kept connection, that says nothing
                // about this call.
                Err(HttpError::Http(_)) => break,
                answered => return answered,
            }
        }
        let link = self.connect().await?;
        self.exchange(link, call).await
    }

    fn take(&self) -> Option<Link> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < IDLE_MAX);
        idle.pop().map(|idle| idle.link)
    }

    fn keep(&self, link: Link) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if link.connection.is_some() && idle.len() < self.idle_max {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    async fn connect(&self) -> Result<Link, HttpError> {
        let address = (self.endpoint.connect_host(), self.endpoint.port());
        let socket = TcpStream::connect(address).await.map_err(HttpError::Connect)?;
        socket.set_nodelay(true).map_err(HttpError::Connect)?;
        let socket: Box<dyn Socket> = match self.endpoint.security() {
            Security::Plain => Box::new(socket),
            Security::Tls { config, name } => {
                let connector = TlsConnector::from(Arc::clone(config));
                let socket = connector.connect(name.clone(), socket).await;
                Box::new(socket.map_err(HttpError::Tls)?)
            }
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(HttpError::Http)?;
        Ok(Link { sender, connection: Some(Box::pin(connection)) })
    }

    async fn exchange(&self, mut link: Link, call: &Call) -> Result<Answer, HttpError> {
        let request = self.request(call);
        let Link { sender, connection } = &mut link;
        let response = drive(connection, sender.send_request(request)).await?;
        let (head, body) = response.into_parts();
        let encoding = head.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(HttpError::Encoded);
        }
        let body = collect(connection, body, call.answer_bytes_max).await?;
        self.keep(link);
        Ok(Answer { status: head.status, body })
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = self.endpoint.target().clone();
        let headers = request.headers_mut();
        headers.extend(call.headers.clone());
        headers.insert(HOST, self.endpoint.host_header().clone());
        let agent = concat!("wserver/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        request
    }
}

impl Link {
    /// Whether the server has left it open.
    async fn is_alive(&mut self) -> bool {
        let Self { sender, connection } = self;
        drive(connection, sender.ready()).await.is_ok()
    }
}

/// Runs `work` to its end while polling `connection`, without which `work` would not progress.
async fn drive<T, E>(
    connection: &mut Option<Pin<Box<Connection>>>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Some(running) = connection
            && running.as_mut().poll(cx).is_ready()
        {
            // `work` also sees an error of the connection.
            *connection = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}

async fn collect(
    connection: &mut Option<Pin<Box<Connection>>>,
    mut body: Incoming,
    bytes_max: usize,
) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::new();
    loop {
        let frame = drive(connection, async { body.frame().await.transpose() }).await?;
        let Some(frame) = frame else { return Ok(bytes) };
        // The other frames are trailers, which we ignore.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(HttpError::TooLarge { bytes_max });
        }
        bytes.extend_from_slice(&data);
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Why there was no answer. No variant contains any part of what was sent or received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no answer within {timeout:?}")]
    Timeout { timeout: Duration },
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("no TLS connection: {0}")]
    Tls(std::io::Error),
    #[error("HTTP broke off: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is longer than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the answer has a content-encoding, which was not asked for")]
    Encoded,
}
