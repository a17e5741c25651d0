//! Authentication of clients: the trait that judges register messages, its input and its answer.
//!
//! It does not know where a token came from (text frame, binary frame, a later protocol), and it
//! does not enforce what it grants: the connection enforces expiry and event scope.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use http::HeaderMap;
use http::header::HeaderName;

use crate::BackendError;
use crate::scope::EventScope;

/// Decides which user a token belongs to.
///
/// Each connection has at most one authentication in progress, with a deadline set by the caller.
///
/// # Cancel safety
///
/// The caller drops the future of [`authenticate`](Self::authenticate) when the deadline passes,
/// when the connection ends and when it is disconnected. An implementation must stay consistent if
/// it is dropped at any of its awaits.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The user that `credentials` belong to, and the events that this connection may register.
    ///
    /// # Errors
    ///
    /// The reason for the refusal. In version 1 the client does not learn of it: the server ignores
    /// the register message, and counts and logs the reason by its [label](Refusal::as_str).
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal>;

    /// The headers of the WebSocket handshake that this authenticator reads, for instance
    /// `Cookie`.
    ///
    /// Only these headers are kept for the life of a connection and passed on in
    /// [`Credentials::headers`], because keeping a browser's whole head for every idle connection
    /// would waste memory. None by default. The server calls this at each handshake, so the answer
    /// may change over time; a connection keeps the headers that were asked for when it was opened.
    /// `Cookie` is not passed on if pages of every origin may connect.
    fn handshake_headers(&self) -> Vec<HeaderName> {
        Vec::new()
    }

    /// Whether it accepts every token, so that anybody may register as any user.
    ///
    /// This only makes the start-up log say so: [`authenticate`](Self::authenticate) is still
    /// called.
    fn is_open(&self) -> bool {
        false
    }
}

#[async_trait]
impl<T: Authenticator + ?Sized> Authenticator for Arc<T> {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        (**self).authenticate(credentials).await
    }

    fn handshake_headers(&self) -> Vec<HeaderName> {
        (**self).handshake_headers()
    }

    fn is_open(&self) -> bool {
        (**self).is_open()
    }
}

/// What a client presented when it registered.
///
/// It owns its contents, so that the authenticator's future borrows nothing from the connection.
/// `Debug` shows neither the token nor any header's value.
#[derive(Clone)]
#[non_exhaustive]
pub struct Credentials {
    /// The token: a secret that must not be logged.
    pub token: String,
    /// The event to register, if the message names one (in version 1 it always does).
    pub event: Option<String>,
    /// The address of the client, from the socket or from a trusted proxy; with port 0 unless the
    /// proxy names the port.
    pub peer: SocketAddr,
    /// The handshake's headers that [`Authenticator::handshake_headers`] asked for, as far as the
    /// client sent them. All registrations of the connection share them.
    pub headers: Arc<HeaderMap>,
}

impl Credentials {
    /// Credentials with this token, from a client at `peer`, without event or headers.
    pub fn new(token: impl Into<String>, peer: SocketAddr) -> Self {
        Self { token: token.into(), event: None, peer, headers: Arc::default() }
    }

    /// Sets the event.
    #[must_use]
    pub fn with_event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// Sets the headers of the handshake.
    #[must_use]
    pub fn with_headers(mut self, headers: impl Into<Arc<HeaderMap>>) -> Self {
        self.headers = headers.into();
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("event", &self.event)
            .field("peer", &self.peer)
            .field("headers", &HeaderNames(&self.headers))
            .finish_non_exhaustive()
    }
}

/// Shows the names of headers, but not their values.
pub(crate) struct HeaderNames<'a>(pub(crate) &'a HeaderMap);

impl fmt::Debug for HeaderNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys().map(HeaderName::as_str)).finish()
    }
}

/// The user that a client was authenticated as, and the events it may register.
///
/// The authenticator grants it and the connection enforces it: an event outside
/// [`events`](Self::events) is refused as [`Refusal::Forbidden`], and the registration ends at
/// [`expires_at`](Self::expires_at).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use wserver_auth::{EventScope, Identity};
///
/// let identity = Identity::new("jack")
///     .with_expires_at(SystemTime::now() + Duration::from_secs(3600))
///     .with_events(EventScope::only(["chat", "order.*"]));
/// assert!(identity.events.permits("order.paid"));
/// assert!(!identity.is_expired(SystemTime::now()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The user id, which pushes name as `userId`. The caller refuses an empty or overlong one.
    pub user: String,
    /// When the identity expires; `None`: not while the connection lives.
    pub expires_at: Option<SystemTime>,
    /// The events that this connection may register as this user.
    pub events: EventScope,
}

impl Identity {
    /// A user without expiry who may register every event.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), expires_at: None, events: EventScope::Any }
    }

    /// Sets the moment of expiry.
    #[must_use]
    pub fn with_expires_at(mut self, expires_at: SystemTime) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Restricts the events.
    #[must_use]
    pub fn with_events(mut self, events: EventScope) -> Self {
        self.events = events;
        self
    }

    /// Whether the identity has expired at `now`; it has at the very moment of expiry.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

/// Why a register message was refused: a closed list, which counters and answers follow.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The token belongs to nobody: never issued, revoked, malformed or wrongly signed.
    #[error("token unknown")]
    Unknown,
    /// Like `Unknown`, with what is wrong with the token. The client learns no more than for an
    /// unknown one.
    #[error("token unknown ({fault})")]
    Faulty {
        /// A label from a closed set, for the operator; it contains no part of the token.
        fault: &'static str,
    },
    /// The token has expired.
    #[error("token expired")]
    Expired,
    /// The token is not valid yet.
    #[error("token not yet valid")]
    NotYetValid,
    /// The token is valid, but not for this event.
    #[error("event not permitted")]
    Forbidden,
    /// The authenticator's backend did not answer, so the token could not be judged. The client may
    /// try again.
    #[error("authenticator unavailable")]
    Unavailable {
        /// What the backend reported.
        #[source]
        source: BackendError,
    },
}

impl Refusal {
    /// [`Unavailable`](Self::Unavailable) because of `source`, an error or a message.
    pub fn unavailable(source: impl Into<BackendError>) -> Self {
        Self::Unavailable { source: source.into() }
    }

    /// What is wrong with the token, if that is known: a label from a closed set, for the operator.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Faulty { fault } => Some(fault),
            _ => None,
        }
    }

    /// A label from a closed set, fit for counters and log fields.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown | Self::Faulty { .. } => "unknown",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Forbidden => "forbidden",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;
    use http::HeaderValue;
    use http::header::COOKIE;

    use super::*;
    use crate::OpenAuthenticator;
    use crate::testing::answer;

    #[test]
    fn debug_of_credentials_holds_no_secret() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("canary-cookie"));
        let credentials = Credentials::new("canary-token", "10.0.0.1:80".parse().unwrap())
            .with_event("order.paid")
            .with_headers(headers);
        let shown = format!("{credentials:?} {credentials:#?}");
        assert!(!shown.contains("canary"), "{shown}");
        expect![[
            r#"Credentials { event: Some("order.paid"), peer: 10.0.0.1:80, headers: {"cookie"}, .. }"#
        ]]
        .assert_eq(&format!("{credentials:?}"));
    }

    #[test]
    fn an_identity_ends_at_its_expiry() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let second = Duration::from_secs(1);
        let identity = Identity::new("jack").with_expires_at(end);
        let at = [end - second, end, end + second].map(|now| identity.is_expired(now));
        assert_eq!(at, [false, true, true]);
        assert!(!Identity::new("jack").is_expired(end));
    }

    #[test]
    fn the_trait_is_object_safe_and_passes_through_arc() {
        struct Cookies;
        #[async_trait]
        impl Authenticator for Cookies {
            async fn authenticate(&self, _: Credentials) -> Result<Identity, Refusal> {
                Err(Refusal::unavailable("no answer"))
            }
            fn handshake_headers(&self) -> Vec<HeaderName> {
                vec![COOKIE]
            }
        }
        let shared: Arc<dyn Authenticator> = Arc::new(Arc::new(Cookies));
        assert_eq!(shared.handshake_headers(), [COOKIE]);
        assert!(!shared.is_open());
        assert!(Arc::new(OpenAuthenticator).is_open());
        let credentials = Credentials::new("t", "10.0.0.1:80".parse().unwrap());
        let refusal = answer(shared.authenticate(credentials)).unwrap_err();
        assert_eq!(refusal.as_str(), "unavailable");
    }
}
