//! Closures as authenticators and authorisers, for embedding programs with their own lookup.

use std::fmt;

use async_trait::async_trait;
use http::header::HeaderName;

use crate::listen::{Authenticator, Credentials, Identity, Refusal};
use crate::push::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};

/// Makes an [`Authenticator`] from an async closure.
///
/// ```
/// use http::header::COOKIE;
/// use wserver_auth::{Identity, Refusal, authenticate_with};
///
/// let by_cookie = authenticate_with(|credentials| async move {
///     let cookie = credentials.headers.get(COOKIE).ok_or(Refusal::Unknown)?;
///     if cookie == "session=abc" { Ok(Identity::new("jack")) } else { Err(Refusal::Unknown) }
/// })
/// .reading([COOKIE]);
/// # use wserver_auth::Authenticator;
/// # assert_eq!(by_cookie.handshake_headers(), [COOKIE]);
/// ```
pub fn authenticate_with<F, R>(judge: F) -> AuthenticateWith<F>
where
    F: Fn(Credentials) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Identity, Refusal>> + Send + 'static,
{
    AuthenticateWith { judge, handshake_headers: Vec::new() }
}

/// See [`authenticate_with`].
#[derive(Clone)]
pub struct AuthenticateWith<F> {
    judge: F,
    handshake_headers: Vec<HeaderName>,
}

impl<F> AuthenticateWith<F> {
    /// Asks for these headers of the handshake; see [`Authenticator::handshake_headers`].
    #[must_use]
    pub fn reading(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.handshake_headers.extend(headers);
        self
    }
}

#[async_trait]
impl<F, R> Authenticator for AuthenticateWith<F>
where
    F: Fn(Credentials) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Identity, Refusal>> + Send + 'static,
{
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        (self.judge)(credentials).await
    }

    fn handshake_headers(&self) -> Vec<HeaderName> {
        self.handshake_headers.clone()
    }
}

impl<F> fmt::Debug for AuthenticateWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateWith")
            .field("handshake_headers", &self.handshake_headers)
            .finish_non_exhaustive()
    }
}

/// Makes a [`PushAuthorizer`] from an async closure.
///
/// The time that `==` takes on the presented secret tells an attacker how much of a guess is right;
/// if all you have is a list of secrets, use [`StaticPushKeys`](crate::StaticPushKeys).
///
/// ```
/// use wserver_auth::{PushRefusal, Publisher, authorize_with};
///
/// let from_inside = authorize_with(|request| async move {
///     if request.peer.ip().is_loopback() { Ok(Publisher::new()) } else { Err(PushRefusal::Wrong) }
/// });
/// ```
pub fn authorize_with<F, R>(judge: F) -> AuthorizeWith<F>
where
    F: Fn(PushCredentials) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Publisher, PushRefusal>> + Send + 'static,
{
    AuthorizeWith { judge }
}

/// See [`authorize_with`].
#[derive(Clone)]
pub struct AuthorizeWith<F> {
    judge: F,
}

#[async_trait]
impl<F, R> PushAuthorizer for AuthorizeWith<F>
where
    F: Fn(PushCredentials) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Publisher, PushRefusal>> + Send + 'static,
{
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        (self.judge)(request).await
    }
}

impl<F> fmt::Debug for AuthorizeWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeWith").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderMap;

    use super::*;
    use crate::testing::answer;

    #[test]
    fn closures_stand_behind_the_traits() {
        let authenticator: Arc<dyn Authenticator> =
            Arc::new(authenticate_with(|credentials| async move {
                match credentials.token.as_str() {
                    "aaa" => Ok(Identity::new("jack")),
                    _ => Err(Refusal::Unknown),
                }
            }));
        let authorizer: Arc<dyn PushAuthorizer> = Arc::new(authorize_with(|request| async move {
            request.bearer().map(|_| Publisher::new()).ok_or(PushRefusal::Missing)
        }));
        let peer = "10.0.0.1:80".parse().unwrap();
        let ask = |token: &str| answer(authenticator.authenticate(Credentials::new(token, peer)));
        assert_eq!(ask("aaa").unwrap().user, "jack");
        assert_eq!(ask("bbb").unwrap_err().as_str(), "unknown");
        let request = PushCredentials::new(HeaderMap::new(), peer);
        assert_eq!(answer(authorizer.authorize(request)).unwrap_err().as_str(), "missing");
        assert!(!authenticator.is_open() && !authorizer.is_open());
    }

    #[test]
    fn debug_shows_nothing_of_the_closure() {
        let secret = "canary".to_owned();
        let authorizer = authorize_with(move |_| {
            let refused = secret.is_empty();
            async move { if refused { Err(PushRefusal::Wrong) } else { Ok(Publisher::new()) } }
        });
        assert_eq!(format!("{authorizer:?}"), "AuthorizeWith { .. }");
    }
}
