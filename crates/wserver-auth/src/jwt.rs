//! JSON Web Tokens: the keys, the rules that a token must meet, the user it belongs to; and tools
//! to make and inspect tokens by hand.
//!
//! The known attacks on tokens, and the defences here (RFC 8725):
//!
//! * The key decides which algorithms are allowed, never the token: a shared secret allows only
//!   HMAC, an RSA key only RSA signatures, and so on. `none` is not an algorithm.
//! * `kid` only chooses among our own keys. `jku`, `x5u`, `jwk` and `x5c`, with which a token
//!   brings its own key, are ignored. A token with `crit`, which lists extensions that must be
//!   understood, is refused.
//! * `exp` is mandatory, `aud` must be configured or explicitly waived, and `iss` is checked if it
//!   is configured.
//! * The length of a token is checked before it is decoded, and its signature before any of its
//!   claims.

mod algorithm;
mod claims;
mod fault;
mod key;
mod keys;
#[cfg(feature = "jwks")]
mod remote;
mod verifier;

mod authenticator;
mod inspect;
mod publishers;
mod sign;

pub use algorithm::{JwtAlgorithm, UnknownAlgorithm};
pub use authenticator::JwtAuthenticator;
pub use claims::JwtAudience;
pub use fault::JWT_BYTES_MAX;
pub use inspect::{Inspection, inspect_jwt};
pub use key::{JWT_SECRET_BYTES_MIN, JwtKeyError};
pub use keys::JwtKeys;
pub use publishers::JwtPublishers;
#[cfg(feature = "jwks")]
pub use remote::JwksUrl;
pub use sign::{JwtDraft, JwtSignError, JwtSigner};
pub use verifier::{
    JWT_LEEWAY_DEFAULT, JWT_LEEWAY_MAX, JwtSettings, JwtSettingsError, JwtVerifier,
};
