//! What strangers and other programs present: tokens made by attackers and by PyJWT, issuers that
//! rotate their keys or do not answer, and backends that misbehave.
#![cfg(feature = "jwt")]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod attacks;
#[cfg(all(feature = "callback", feature = "jwks"))]
mod callback;
#[cfg(feature = "jwks")]
mod http;
mod keys;
mod pyjwt;
#[cfg(feature = "jwks")]
mod rotation;
mod signing;
#[cfg(feature = "jwks")]
mod tls;

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use wserver_auth::{
    Authenticator, Credentials, Identity, JwtKeys, JwtSettings, JwtVerifier, Refusal,
};

/// How long anything may take before a test gives up: far beyond what is expected of a busy machine.
#[cfg(feature = "jwks")]
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A file that `xtask/interop/python/tokens.py` wrote.
pub(crate) fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pyjwt");
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Tokens for `wserver-tests` from `https://pyjwt.test`.
pub(crate) fn verifier(keys: JwtKeys) -> JwtVerifier {
    let settings = JwtSettings::for_audience(keys, ["wserver-tests"]);
    JwtVerifier::new(settings.with_issuers(["https://pyjwt.test"])).unwrap()
}

pub(crate) fn credentials(token: &str) -> Credentials {
    Credentials::new(token, "10.0.0.1:80".parse().unwrap()).with_event("chat")
}

pub(crate) fn ask(authenticator: &dyn Authenticator, token: &str) -> Result<Identity, Refusal> {
    answer(authenticator.authenticate(credentials(token)))
}

/// What a future answers that has nothing to wait for.
pub(crate) fn answer<F: Future>(asked: F) -> F::Output {
    match pin!(asked).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("waits for something"),
    }
}
