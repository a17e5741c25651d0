//! JSON Web Tokens: keys, what a token must say, who it stands for; and making and inspecting them
//! by hand.
//!
//! What is known to go wrong with tokens, and what stands against it here (RFC 8725):
//!
//! * An algorithm is permitted by the key and never by the token: a shared secret permits HMAC
//!   alone, an RSA key RSA signatures alone, and so on. `none` is no algorithm.
//! * `kid` chooses among our own keys. `jku`, `x5u`, `jwk` and `x5c`, by which a token brings its own
//!   key, are not looked at. `crit`, which demands to be understood, is refused.
//! * `exp` must be there, `aud` must be configured or waived in so many words, and `iss` is checked
//!   once it is configured.
//! * A token's length is bounded before anything is decoded, and nothing it says is looked at
//!   before its signature.

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
