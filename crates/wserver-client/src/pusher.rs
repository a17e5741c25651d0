//! The backend's side: posts messages and learns how many connections took them.

use std::io;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, Method, StatusCode};
use wserver_protocol::v2::{Problem, PushAnswer};
use wserver_protocol::{PushRequest, receipt};

use crate::Cause;
use crate::endpoint::UrlError;
use crate::http_client::{AskError, HttpClient, KeyError};
use crate::refusal::{self, refusal_shown};
use crate::text::shown;
#[cfg(feature = "tls")]
use crate::tls::CertificateError;

/// The longest answer that is read. A receipt is one line; an answer in JSON may list events.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Pushes messages to the users of one server.
///
/// It is for `&self`, from any number of tasks at once: each push under way has a connection of its
/// own, which is kept open and used again. Clones share these connections. They belong to the
/// runtime they were opened on, so a pusher must not outlive it.
///
/// ```no_run
/// use wserver_client::Pusher;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pusher = Pusher::new("http://127.0.0.1:12345/push")?.with_key("shop-6f1e0c2b9a7d")?;
/// let clients = pusher.push("jack", "news", "the kettle boils").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Pusher {
    http: HttpClient,
}

impl Pusher {
    /// A pusher to `url`, for instance `http://127.0.0.1:12345/push`. It connects with the first
    /// push.
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

    /// The same, giving up on an attempt to connect after this long; 5 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.http = self.http.with_connect_timeout(connect_timeout);
        self
    }

    /// The same, giving up on a push after this long, connecting included; 10 s by default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.http = self.http.with_timeout(timeout);
        self
    }

    /// The same, keeping up to this many connections open that have nothing to do; 32 by default.
    /// It does not bound how many pushes are under way.
    #[must_use]
    pub fn with_idle_connections_max(mut self, idle_connections_max: usize) -> Self {
        self.http = self.http.with_idle_connections_max(idle_connections_max);
        self
    }

    /// Pushes `message` for `event` to `user`, and returns how many connections took it; 0 if
    /// nobody listens.
    ///
    /// It is sent once, and never again by itself: a push that failed after it was sent may have
    /// arrived, and only the caller knows whether twice is worse than not at all. See
    /// [`PushError::may_have_arrived`].
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, refuses, answers with something else than a receipt, or
    /// takes too long.
    ///
    /// # Cancel safety
    ///
    /// A push whose future is dropped may or may not arrive; its connection is closed.
    pub async fn push(&self, user: &str, event: &str, message: &str) -> Result<u64, PushError> {
        let (head, body) = self.ask(user, event, message, None).await?;
        judge(&head, &body)
    }

    /// The same, asking for the answer in JSON: how many connections matched, in what state the
    /// message is with each of them, and why if nobody got it.
    ///
    /// # Errors
    ///
    /// As of [`push`](Self::push); a refusal then has a [`Problem`] where the server gives one.
    ///
    /// # Cancel safety
    ///
    /// As of [`push`](Self::push).
    pub async fn push_json(
        &self,
        user: &str,
        event: &str,
        message: &str,
    ) -> Result<PushAnswer, PushError> {
        let (head, body) = self.ask(user, event, message, Some("application/json")).await?;
        if head.status != StatusCode::OK {
            return Err(refused(&head, &body));
        }
        PushAnswer::parse(&body).map_err(|_ignored| PushError::NoReceipt {
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn ask(
        &self,
        user: &str,
        event: &str,
        message: &str,
        accept: Option<&'static str>,
    ) -> Result<(Parts, bytes::Bytes), PushError> {
        let push =
            PushRequest { user_id: user.into(), event: event.into(), message: message.into() };
        let resource = self.http.resource().clone();
        let request = self.http.request(Method::POST, resource, Some(push.encode()), accept);
        Ok(self.http.ask(request, ANSWER_BYTES_MAX).await?)
    }
}

/// What an answer says about the push.
fn judge(head: &Parts, body: &[u8]) -> Result<u64, PushError> {
    if head.status != StatusCode::OK {
        return Err(refused(head, body));
    }
    let text = String::from_utf8_lossy(body);
    receipt::parse_sent(&text)
        .and_then(|clients| u64::try_from(clients).ok())
        .ok_or_else(|| PushError::NoReceipt { body: text.into_owned() })
}

fn refused(head: &Parts, body: &[u8]) -> PushError {
    PushError::Refused {
        status: head.status,
        body: String::from_utf8_lossy(body).into_owned(),
        reason: refusal::reason(&head.headers),
        problem: refusal::problem(head, body),
        headers: Box::new(head.headers.clone()),
    }
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
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
    /// The server did not accept the push.
    #[error("push refused with {status}{}", refusal_shown(body, reason.as_deref(), problem.as_deref()))]
    Refused {
        /// The status it answered with.
        status: StatusCode,
        /// The answer's body, for instance `request data illegal`.
        body: String,
        /// What its `Wserver-Error` header says, in more detail.
        reason: Option<String>,
        /// The same in terms that programs can act on, where JSON was asked for.
        problem: Option<Box<Problem>>,
        /// Its headers, which tell of whoever stands between.
        headers: Box<HeaderMap>,
    },
    /// The answer was a 200, but no receipt: probably this is no wserver.
    #[error("answer is no receipt: {}", shown(body))]
    NoReceipt {
        /// The answer's body.
        body: String,
    },
}

impl PushError {
    /// Whether the message may have reached someone in spite of the error, so that pushing it again
    /// could deliver it twice.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            // A 5xx may come from a proxy that lost sight of the server.
            Self::Refused { status, .. } => !status.is_client_error(),
            Self::TimedOut { .. } | Self::Lost { .. } | Self::NoReceipt { .. } => true,
        }
    }
}

impl From<AskError> for PushError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unreachable { source } => Self::Unreachable { source },
            AskError::TimedOut { after } => Self::TimedOut { after },
            AskError::Lost { source } => Self::Lost { source },
        }
    }
}
