//! Requests to one target, over connections that are reused.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::response::Parts;
use tokio::time::{Instant, timeout};

use crate::Cause;
use crate::line::{Body, Incoming, Line, LineError};
use crate::target::{DialError, Target};

/// How long a connection may have been idle and still be used. Servers close idle connections after
/// 5 (Node) to 75 seconds (nginx), and a request that crosses the closing on its way is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A target, and the connections to it. Clones share the connections.
///
/// Any number of tasks can use it at once: each request in progress has its own connection.
/// Connections belong to the runtime that opened them, so a pool must not outlive it.
#[derive(Clone)]
pub struct Pool {
    target: Target,
    connect_timeout: Option<Duration>,
    idle_connections_max: usize,
    is_repeating: bool,
    /// Idle connections, and since when, oldest first. Each request takes one out and returns it;
    /// at most `idle_connections_max`. The lock is never held across an await.
    idle: Arc<Mutex<Vec<(Line, Instant)>>>,
}

/// Why there is no answer. No variant quotes what was sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The answer did not arrive in time.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// The connection could not be opened.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The TLS handshake failed.
    #[error("no TLS connection: {0}")]
    Tls(io::Error),
    /// A new connection was closed before any part of the request was sent.
    #[error("HTTP broke off: the connection was closed before the request was sent")]
    Unsent,
    /// The connection broke after part of the request may have been sent, or the answer is not
    /// HTTP.
    #[error("HTTP broke off: {0}")]
    Lost(Cause),
    /// The body of the answer is too long.
    #[error("the answer is longer than the limit of {bytes_max} bytes")]
    TooLong {
        /// The limit, in bytes.
        bytes_max: usize,
    },
}

impl Pool {
    /// A pool for `target` that keeps no connections. It connects with the first request.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            connect_timeout: None,
            idle_connections_max: 0,
            is_repeating: false,
            idle: Arc::default(),
        }
    }

    /// Changes the target; connections to the old one are not reused for it.
    #[must_use]
    pub fn with_target(self, target: Target) -> Self {
        Self { target, idle: Arc::default(), ..self }
    }

    /// Limits the time of an attempt to connect; by default only the time of the whole request
    /// counts.
    #[must_use]
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout: Some(connect_timeout), ..self }
    }

    /// Keeps up to this many idle connections. It does not limit the number of requests in
    /// progress.
    #[must_use]
    pub fn with_idle_connections_max(self, idle_connections_max: usize) -> Self {
        Self { idle_connections_max, ..self }
    }

    /// The same, for requests that may arrive twice, such as questions: a request that is lost on a
    /// kept connection is sent once more on a new one. The server may have closed the kept one while
    /// the request was on its way, which says nothing about the request.
    #[must_use]
    pub fn repeating(self) -> Self {
        Self { is_repeating: true, ..self }
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends `request` and reads the whole answer, with a body of at most `bytes_max` bytes; gives
    /// up after `after`, including the time to connect.
    ///
    /// If no part of a request was sent because a kept connection had been closed meanwhile, it is
    /// sent on another one.
    ///
    /// # Errors
    ///
    /// When there is no answer within bounds. An answer of any status is an answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not arrive. Its connection is closed at
    /// once, and the pool stays consistent.
    pub async fn ask(
        &self,
        request: Request<Body>,
        after: Duration,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), AskError> {
        timeout(after, self.exchange(request, bytes_max))
            .await
            .unwrap_or(Err(AskError::TimedOut { after }))
    }

    /// Sends `request` on a connection of its own, and lets the caller read the answer's body as it
    /// arrives; gives up if the answer has not begun after `after`.
    ///
    /// # Errors
    ///
    /// As for [`ask`](Self::ask).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not arrive, and its connection closes.
    pub async fn ask_for_stream(
        &self,
        request: Request<Body>,
        after: Duration,
    ) -> Result<(Parts, Incoming), AskError> {
        let asking = async { Ok(self.connect().await?.stream(request).await?) };
        timeout(after, asking).await.unwrap_or(Err(AskError::TimedOut { after }))
    }

    async fn exchange(
        &self,
        mut request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), AskError> {
        let mut may_be_kept = true;
        loop {
            let kept = if may_be_kept { self.take_idle() } else { None };
            let is_kept = kept.is_some();
            let line = match kept {
                Some(line) => line,
                None => self.connect().await?,
            };
            let again = (is_kept && self.is_repeating).then(|| request.clone());
            match (self.exchange_on(line, request, bytes_max).await, again) {
                // It was closed while it was idle.
                (Err(LineError::Unsent(unsent)), _) if is_kept => request = *unsent,
                (Err(LineError::Lost(_)), Some(again)) => {
                    request = again;
                    may_be_kept = false;
                }
                (answered, _) => return Ok(answered?),
            }
        }
    }

    async fn exchange_on(
        &self,
        mut line: Line,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), LineError> {
        let answer = line.exchange(request, bytes_max).await?;
        if line.is_reusable() {
            self.put_idle(line);
        }
        Ok(answer)
    }

    async fn connect(&self) -> Result<Line, AskError> {
        let opening = async {
            let stream = self.target.dial().await?;
            Line::open(stream).await.map_err(|cause| AskError::Connect(io::Error::other(cause)))
        };
        let Some(after) = self.connect_timeout else { return opening.await };
        let opened = timeout(after, opening).await;
        opened.unwrap_or_else(|_elapsed| Err(AskError::Connect(io::ErrorKind::TimedOut.into())))
    }

    /// The connection that was used last, if that was recently.
    fn take_idle(&self) -> Option<Line> {
        let mut idle = self.lock();
        let (line, since) = idle.pop()?;
        if since.elapsed() < IDLE_TIMEOUT {
            return Some(line);
        }
        // All others have been idle for even longer.
        idle.clear();
        None
    }

    fn put_idle(&self, line: Line) {
        let mut idle = self.lock();
        if idle.len() < self.idle_connections_max {
            idle.push((line, Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Line, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<DialError> for AskError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect(error) => Self::Connect(error),
            DialError::Tls(error) => Self::Tls(error),
        }
    }
}

impl From<LineError> for AskError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Unsent(_) => Self::Unsent,
            LineError::Lost(cause) => Self::Lost(cause),
            LineError::TooLong { bytes_max } => Self::TooLong { bytes_max },
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("target", &self.target).finish_non_exhaustive()
    }
}
