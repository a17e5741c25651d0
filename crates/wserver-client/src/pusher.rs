//! The publisher's side: pushes messages and returns how many connections took them.

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

/// The longest answer to read. A receipt is one line; an answer in JSON can list events.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Pushes messages to the users of one server.
///
/// All methods take `&self` and can run in any number of tasks at once: each push under way has a
/// connection of its own, which stays open and is reused. Clones share these connections. The
/// connections belong to the runtime on which they were opened, so a pusher must not outlive it.
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
    /// A pusher to `url`, for example `http://127.0.0.1:12345/push`. The first push opens a
    /// connection.
    ///
    /// # Errors
    ///
    /// When the URL is not a valid `http://` or `https://` URL.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        Ok(Self { http: HttpClient::new(url)? })
    }

    /// Sends this key with each push, as `Authorization: Bearer`.
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

    /// Gives up on an attempt to connect after this time; 5 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.http = self.http.with_connect_timeout(connect_timeout);
        self
    }

    /// Gives up on a push after this time, which includes connecting; 10 s by default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.http = self.http.with_timeout(timeout);
        self
    }

    /// Keeps up to this many idle connections open; 32 by default. It does not limit the number of
    /// pushes under way.
    #[must_use]
    pub fn with_idle_connections_max(mut self, idle_connections_max: usize) -> Self {
        self.http = self.http.with_idle_connections_max(idle_connections_max);
        self
    }

    /// Pushes `message` for `event` to `user`, and returns how many connections took it; 0 if
    /// nobody is registered for it.
    ///
    /// The pusher sends the message once and never repeats it: a push that failed after it was sent
    /// may have arrived, and only the caller knows whether a duplicate is worse than a loss. See
    /// [`PushError::may_have_arrived`].
    ///
    /// # Errors
    ///
    /// When the server is unreachable, refuses the push, answers with something other than a
    /// receipt, or takes too long.
    ///
    /// # Cancel safety
    ///
    /// A push whose future is dropped may or may not arrive; its connection is closed.
    pub async fn push(&self, user: &str, event: &str, message: &str) -> Result<u64, PushError> {
        let (head, body) = self.ask(user, event, message, None).await?;
        judge(&head, &body)
    }

    /// Pushes like [`push`](Self::push), and asks for the answer in JSON: how many connections
    /// matched, in what state the message is with each of them, and, if nobody got it, why.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push); a refusal has a [`Problem`] if the server gives one.
    ///
    /// # Cancel safety
    ///
    /// As for [`push`](Self::push).
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

/// What the answer says about the push.
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
    /// The connection could not be opened, or not with the TLS that the URL requires.
    #[error("server unreachable")]
    Unreachable {
        /// What the operating system reported.
        #[source]
        source: io::Error,
    },
    /// The push took too long.
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
    /// The server refused the push.
    #[error("push refused with {status}{}", refusal_shown(body, reason.as_deref(), problem.as_deref()))]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The body of the answer, for example `request data illegal`.
        body: String,
        /// The value of its `Wserver-Error` header, which has more detail.
        reason: Option<String>,
        /// The refusal in a form that programs can act on, if the push asked for JSON.
        problem: Option<Box<Problem>>,
        /// The headers, which show any proxy in between.
        headers: Box<HeaderMap>,
    },
    /// The answer was a 200, but not a receipt: the server is probably not a wserver.
    #[error("the answer is not a receipt: {}", shown(body))]
    NoReceipt {
        /// The body of the answer.
        body: String,
    },
}

impl PushError {
    /// Whether the message may have arrived in spite of the error, so that another push could
    /// deliver it twice.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            // A 5xx can come from a proxy that lost its connection to the server.
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
