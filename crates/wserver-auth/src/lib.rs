//! Decides which clients may register and which publishers may push: the two decisions of a
//! wserver, as traits.
//!
//! * [`Authenticator`] maps the token of a register message to a user, or refuses it. Ready-made:
//!   [`OpenAuthenticator`] (the user id *is* the token), [`StaticTokens`] (a list),
//!   `JwtAuthenticator` (JSON Web Tokens; feature `jwt`, and `jwks` for an issuer's keys),
//!   `CallbackAuthenticator` (asks your backend; feature `callback`), and [`authenticate_with`] for
//!   your own closure.
//! * [`PushAuthorizer`] examines the head of a push request, before its body is read, and names the
//!   publisher, or refuses. Ready-made: [`OpenPush`] (everybody may push), [`StaticPushKeys`]
//!   (shared secrets), [`PublisherKeys`] (named publishers, each with a scope and a rate),
//!   `JwtPublishers` (feature `jwt`), and [`authorize_with`] for a closure.
//!
//! [`AnyOf`] and [`AnyOfPush`] ask several of them in turn. [`TokenSource`] says where a handshake
//! holds the token if the register message has none.
//!
//! This crate knows neither sockets nor the wire format of a wserver: it gets what was presented,
//! and answers. Only its features ask issuers and backends. No log line, `Debug` output or error of
//! it holds a token, a key or a header's value; without features it logs nothing at all. It never
//! spawns a task: the caller polls everything it waits for.
//!
//! ```
//! use wserver_auth::{Identity, Refusal, authenticate_with};
//!
//! let sessions = authenticate_with(|credentials| async move {
//!     // Look the session up wherever it is kept: a database, a cache, another service.
//!     match credentials.token.strip_prefix("session-of-") {
//!         Some(user) => Ok(Identity::new(user)),
//!         None => Err(Refusal::Unknown),
//!     }
//! });
//! # use wserver_auth::{Authenticator, Credentials};
//! # let peer = "127.0.0.1:9".parse().unwrap();
//! # let mut asked = sessions.authenticate(Credentials::new("session-of-jack", peer));
//! # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
//! # let std::task::Poll::Ready(found) = asked.as_mut().poll(&mut context) else { panic!() };
//! # assert_eq!(found.unwrap().user, "jack");
//! ```

mod listen;
mod push;
mod scope;
mod token_source;

mod any_of;
#[cfg(feature = "callback")]
mod callback;
mod closures;
mod digest;
mod head;
mod identity;
#[cfg(any(feature = "callback", feature = "jwks"))]
mod endpoint;
#[cfg(any(feature = "callback", feature = "jwks"))]
mod http_client;
#[cfg(feature = "jwt")]
mod jwt;
mod keys;
mod open;
mod publisher_key;
mod publishers;
mod rate;
mod tokens;
mod visible;

pub use any_of::{AnyOf, AnyOfPush};
#[cfg(feature = "callback")]
pub use callback::{CallbackAuthenticator, CallbackSettings, CallbackSettingsError};
pub use closures::{AuthenticateWith, AuthorizeWith, authenticate_with, authorize_with};
#[cfg(any(feature = "callback", feature = "jwks"))]
pub use endpoint::{HttpEndpoint, HttpEndpointError};
pub use identity::PublisherId;
#[cfg(feature = "jwks")]
pub use jwt::JwksUrl;
#[cfg(feature = "jwt")]
pub use jwt::{
    Inspection, JWT_BYTES_MAX, JWT_LEEWAY_DEFAULT, JWT_LEEWAY_MAX, JWT_SECRET_BYTES_MIN,
    JwtAlgorithm, JwtAudience, JwtAuthenticator, JwtDraft, JwtKeyError, JwtKeys, JwtPublishers,
    JwtSettings, JwtSettingsError, JwtSignError, JwtSigner, JwtVerifier, UnknownAlgorithm,
    inspect_jwt,
};
pub use keys::{PUSH_KEY_BYTES_MIN, PushKeyError, StaticPushKeys};
pub use listen::{Authenticator, Credentials, Identity, Refusal};
pub use open::{OpenAuthenticator, OpenPush};
pub use publisher_key::{KeyHashError, NoRandomness, PublisherKey, PublisherKeyHash};
pub use publishers::{
    PUBLISHER_NAME_BYTES_MAX, PublisherEntry, PublisherKeys, PublisherKeysError, PublisherProblem,
};
pub use push::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};
pub use rate::PushRate;
pub use scope::{EventScope, PushScope};
pub use token_source::{TokenSource, TokenSourceError};
pub use tokens::{StaticTokens, TokenListError, TokenProblem};
pub use visible::{invisible_character, without_byte_order_mark};

/// The cause of an [`Unavailable`](Refusal::Unavailable) answer, as the backend reported it.
///
/// It appears in logs, so its message must not hold tokens or keys.
pub type BackendError = Box<dyn std::error::Error + Send + Sync + 'static>;

#[cfg(test)]
mod testing {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// What a future answers that has nothing to wait for.
    pub(crate) fn answer<F: Future>(asked: F) -> F::Output {
        match pin!(asked).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("waits for something"),
        }
    }
}
