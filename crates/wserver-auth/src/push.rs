//! Authorisation of publishers: the trait that judges push requests, its input and its answer.
//!
//! It sees only the head of a request, because the body has not been read yet.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::{HeaderMap, Uri};

use crate::BackendError;
use crate::head;
use crate::identity::{Method, PublisherId};
use crate::listen::HeaderNames;
use crate::rate::{Bucket, Short};
use crate::scope::PushScope;

/// Decides who may push.
///
/// # Cancel safety
///
/// The caller drops the future of [`authorize`](Self::authorize) when the request's deadline passes
/// or its connection ends. An implementation must stay consistent if it is dropped at any of its
/// awaits.
#[async_trait]
pub trait PushAuthorizer: Send + Sync + 'static {
    /// The publisher that sent `request`.
    ///
    /// # Errors
    ///
    /// The reason for the refusal; the server answers 401, or 429 if the request came too soon,
    /// without reading the body.
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal>;

    /// Whether it accepts every request, so that anybody who reaches the port may push to anybody.
    ///
    /// With an open authoriser a server takes pushes only from programs on its own machine, and
    /// refuses a private listener beyond loopback, unless its settings explicitly allow more. An
    /// implementation that never refuses must return `true`: with a wrong `false` the server leaves
    /// out this protection. `false` by default.
    fn is_open(&self) -> bool {
        false
    }
}

#[async_trait]
impl<T: PushAuthorizer + ?Sized> PushAuthorizer for Arc<T> {
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        (**self).authorize(request).await
    }

    fn is_open(&self) -> bool {
        (**self).is_open()
    }
}

/// The head of a push request. `Debug` shows no header's value and no query string.
#[derive(Clone)]
#[non_exhaustive]
pub struct PushCredentials {
    /// All headers of the request.
    pub headers: Arc<HeaderMap>,
    /// The address of the client, from the socket or from a trusted proxy; with port 0 unless the
    /// proxy names the port.
    pub peer: SocketAddr,
    /// The request's target: the path, and a query if one was sent.
    pub uri: Uri,
}

impl PushCredentials {
    /// A request to `/` with these headers, from `peer`.
    pub fn new(headers: impl Into<Arc<HeaderMap>>, peer: SocketAddr) -> Self {
        Self { headers: headers.into(), peer, uri: Uri::default() }
    }

    /// Sets the target.
    #[must_use]
    pub fn with_uri(mut self, uri: Uri) -> Self {
        self.uri = uri;
        self
    }

    /// The token of an `Authorization: Bearer …` header.
    ///
    /// `None` if there is none, if it is empty or not UTF-8, and if there are several
    /// `Authorization` headers, because a proxy may have read any of them.
    pub fn bearer(&self) -> Option<&str> {
        head::bearer(&self.headers)
    }

    /// The presented secret: the [bearer](Self::bearer) token, or else the value of the only
    /// `X-API-Key` header.
    pub fn api_key(&self) -> Option<&str> {
        self.bearer()
            .or_else(|| head::only(&self.headers, "x-api-key").filter(|key| !key.is_empty()))
    }
}

impl fmt::Debug for PushCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushCredentials")
            .field("path", &self.uri.path())
            .field("peer", &self.peer)
            .field("headers", &HeaderNames(&self.headers))
            .finish_non_exhaustive()
    }
}

/// A publisher, and what it may push to which users.
///
/// ```
/// use wserver_auth::{PushScope, Publisher};
///
/// let shop = Publisher::new()
///     .with_name("shop")
///     .with_scope(PushScope::everything().with_events(["order.*"]));
/// assert!(shop.permits("jack", "order.paid"));
/// assert!(!shop.permits("jack", "chat"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publisher {
    /// A name for logs and counters. It is neither a secret nor the key nor the
    /// [identity](Self::id).
    pub name: Option<String>,
    /// What this publisher may push; by default everything.
    pub scope: PushScope,
    /// Whether this publisher may administer the server; by default not. Pushing does not need it.
    pub admin: bool,
    pub(crate) account: Account,
    /// `None`: its name is its identity.
    pub(crate) id: Option<PublisherId>,
}

/// The bucket that counts a publisher's pushes, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account(pub(crate) Option<Arc<Bucket>>);

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Account {}

impl Publisher {
    /// A publisher without a name that may push everything to everyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name. For an authoriser of your own, the name is also the publisher's
    /// [identity](Self::id).
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Restricts the scope.
    #[must_use]
    pub fn with_scope(mut self, scope: PushScope) -> Self {
        self.scope = scope;
        self
    }

    /// Lets the publisher administer the server.
    #[must_use]
    pub fn with_admin(mut self) -> Self {
        self.admin = true;
        self
    }

    /// Whether this publisher may push `event` to `user`. The authoriser grants it; the code that
    /// reads the request's body enforces it.
    pub fn permits(&self, user: &str, event: &str) -> bool {
        self.scope.permits(user, event)
    }

    /// The identity of this publisher, under which the server keeps what belongs to this publisher
    /// only.
    #[must_use]
    pub fn id(&self) -> PublisherId {
        let name = || self.name.as_deref().unwrap_or_default().as_bytes();
        self.id.unwrap_or_else(|| PublisherId::new(Method::Other, [name()]))
    }

    /// Counts `pushes` in addition to the one that the authoriser has counted, for example for a
    /// request to several users, before any of them is carried out.
    ///
    /// # Errors
    ///
    /// [`PushRefusal::RateExceeded`] if fewer are left now, and [`PushRefusal::BeyondBurst`] if
    /// there can never be as many. In both cases it counts nothing.
    pub fn charge(&self, pushes: u32) -> Result<(), PushRefusal> {
        let Some(bucket) = &self.account.0 else { return Ok(()) };
        bucket.charge(Instant::now(), pushes).map_err(|short| match short {
            Short::Until(wait) => PushRefusal::RateExceeded { wait },
            Short::Ever { burst } => PushRefusal::BeyondBurst { burst },
        })
    }
}

/// Why a push request was refused: a closed list, which answers follow.
#[derive(Debug, thiserror::Error)]
pub enum PushRefusal {
    /// The request presents no key or token.
    #[error("push key missing")]
    Missing,
    /// The presented key or token is not valid.
    #[error("push key wrong")]
    Wrong,
    /// The presented key or token has expired.
    #[error("push key expired")]
    Expired,
    /// The presented token is not valid yet.
    #[error("push key not yet valid")]
    NotYetValid,
    /// The key is valid, but has used up its rate.
    #[error("push rate exceeded")]
    RateExceeded {
        /// How long until the key has enough pushes again.
        wait: Duration,
    },
    /// The request needs more pushes at once than the key can ever have, so repeating it does not
    /// help.
    #[error("the request has more pushes than the burst of {burst}")]
    BeyondBurst {
        /// The most pushes at once.
        burst: u32,
    },
    /// The authoriser's backend did not answer, so the request could not be judged. The publisher
    /// may try again.
    #[error("push authoriser unavailable")]
    Unavailable {
        /// What the backend reported.
        #[source]
        source: BackendError,
    },
}

impl PushRefusal {
    /// [`Unavailable`](Self::Unavailable) because of `source`, an error or a message.
    pub fn unavailable(source: impl Into<BackendError>) -> Self {
        Self::Unavailable { source: source.into() }
    }

    /// A label from a closed set, fit for counters and log fields.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::RateExceeded { .. } => "rate_exceeded",
            Self::BeyondBurst { .. } => "beyond_burst",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::OpenPush;
    use crate::testing::answer;

    fn request(head: &[(&str, &str)]) -> PushCredentials {
        let mut headers = HeaderMap::new();
        for (name, value) in head {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        PushCredentials::new(headers, "10.0.0.1:80".parse().unwrap())
    }

    fn check(head: &[(&str, &str)], expected: &Expect) {
        let request = request(head);
        expected.assert_eq(&format!(
            "bearer={} key={}",
            request.bearer().unwrap_or("-"),
            request.api_key().unwrap_or("-"),
        ));
    }

    #[test]
    fn secrets_are_found_in_two_headers() {
        check(&[], &expect!["bearer=- key=-"]);
        check(&[("authorization", "Bearer abc")], &expect!["bearer=abc key=abc"]);
        check(&[("authorization", "bEARER   abc  ")], &expect!["bearer=abc key=abc"]);
        check(&[("authorization", "Bearer")], &expect!["bearer=- key=-"]);
        check(&[("authorization", "Bearer  ")], &expect!["bearer=- key=-"]);
        check(&[("authorization", "Bearerabc")], &expect!["bearer=- key=-"]);
        check(&[("authorization", "Basic abc")], &expect!["bearer=- key=-"]);
        check(&[("authorization", "Bearer schlüssel")], &expect!["bearer=schlüssel key=schlüssel"]);
        check(&[("X-API-Key", "abc")], &expect!["bearer=- key=abc"]);
        check(&[("x-api-key", "")], &expect!["bearer=- key=-"]);
        check(&[("authorization", "Basic abc"), ("x-api-key", "k")], &expect!["bearer=- key=k"]);
        check(&[("authorization", "Bearer b"), ("x-api-key", "k")], &expect!["bearer=b key=b"]);
    }

    #[test]
    fn what_was_sent_twice_is_not_guessed_at() {
        check(
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &expect!["bearer=- key=-"],
        );
        check(&[("x-api-key", "a"), ("x-api-key", "b")], &expect!["bearer=- key=-"]);
    }

    #[test]
    fn debug_of_credentials_holds_no_secret() {
        let request = request(&[("authorization", "Bearer canary"), ("x-api-key", "canary")])
            .with_uri("/push?key=canary".parse().unwrap());
        let shown = format!("{request:?} {request:#?}");
        assert!(!shown.contains("canary"), "{shown}");
        expect![[
            r#"PushCredentials { path: "/push", peer: 10.0.0.1:80, headers: {"authorization", "x-api-key"}, .. }"#
        ]]
        .assert_eq(&format!("{request:?}"));
    }

    #[test]
    fn the_trait_is_object_safe_and_passes_through_arc() {
        let shared: Arc<dyn PushAuthorizer> = Arc::new(Arc::new(OpenPush));
        assert!(shared.is_open());
        let publisher = answer(shared.authorize(request(&[]))).unwrap();
        assert!(publisher.permits("jack", "chat"));
    }
}
