//! An authenticator or an authoriser that a reload can exchange under live connections.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use http::HeaderName;
use wserver_auth::{
    Authenticator, Credentials, Identity, Publisher, PushAuthorizer, PushCredentials, PushRefusal,
    Refusal,
};

/// The one in force. All clones share it.
pub(crate) struct Swap<T: ?Sized> {
    /// A reload writes it; each registration or push reads it. The lock is held only to clone or
    /// exchange the pointer, never during a decision, so a decision under way still uses the old
    /// one.
    current: Arc<RwLock<Arc<T>>>,
}

impl Swap<dyn Authenticator> {
    pub(crate) fn authenticator(first: impl Authenticator) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(first))) }
    }
}

impl Swap<dyn PushAuthorizer> {
    pub(crate) fn push_authorizer(first: impl PushAuthorizer) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(first))) }
    }
}

impl<T: ?Sized> Swap<T> {
    /// Puts `next` in force.
    pub(crate) fn set(&self, next: Arc<T>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// What is in force now.
    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: ?Sized> Clone for Swap<T> {
    fn clone(&self) -> Self {
        Self { current: Arc::clone(&self.current) }
    }
}

impl<T: ?Sized> fmt::Debug for Swap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Swap(..)")
    }
}

#[async_trait]
impl Authenticator for Swap<dyn Authenticator> {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        self.current().authenticate(credentials).await
    }

    fn handshake_headers(&self) -> Vec<HeaderName> {
        self.current().handshake_headers()
    }

    fn is_open(&self) -> bool {
        self.current().is_open()
    }
}

#[async_trait]
impl PushAuthorizer for Swap<dyn PushAuthorizer> {
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        self.current().authorize(request).await
    }

    fn is_open(&self) -> bool {
        self.current().is_open()
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;
    use wserver_auth::{OpenAuthenticator, OpenPush, StaticPushKeys, authenticate_with};

    use super::*;

    #[test]
    fn it_says_of_itself_what_is_in_force() {
        let by_cookie = authenticate_with(|_| async { Err(Refusal::Unknown) }).reading([COOKIE]);
        let listeners = Swap::authenticator(by_cookie);
        assert_eq!(listeners.handshake_headers(), [COOKIE]);
        assert!(!listeners.is_open());
        listeners.clone().set(Arc::new(OpenAuthenticator));
        assert!(listeners.is_open() && listeners.handshake_headers().is_empty());
        // Otherwise an open server would pass for a closed one, and listen anywhere.
        let publishers = Swap::push_authorizer(OpenPush);
        assert!(publishers.is_open());
        publishers.set(Arc::new(StaticPushKeys::new(["0123456789abcdef"]).unwrap()));
        assert!(!publishers.is_open());
    }
}
