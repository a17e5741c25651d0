//! Tokens: what no key of ours has signed is refused; what one has signed is accepted exactly when
//! an inspection finds nothing wrong, and then says who it is and until when.
//!
//! The first byte of an input chooses: the rest is a whole token, or a header and claims, divided
//! by the first line end, that are then signed as they should be.

#![no_main]

use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use wserver_auth::{
    Authenticator, Credentials, JwtAuthenticator, JwtKeys, JwtSettings, JwtVerifier, inspect_jwt,
};

const SECRET: &[u8] = b"a secret that nothing but this fuzzer uses";

static WITH_SECRET: LazyLock<JwtVerifier> =
    LazyLock::new(|| verifier(JwtKeys::secret(SECRET).unwrap()));
static WITH_SET: LazyLock<JwtVerifier> =
    LazyLock::new(|| verifier(JwtKeys::jwks(include_str!("../../tests/pyjwt/keys.json")).unwrap()));

fuzz_target!(|input: &[u8]| {
    let [how, rest @ ..] = input else { return };
    if how % 2 == 0 {
        let token = String::from_utf8_lossy(rest);
        for verifier in [&WITH_SECRET, &WITH_SET] {
            // PyJWT's tokens are meant for somebody else.
            assert!(accepted(verifier, &token).is_none(), "{token}");
        }
        let _seen = inspect_jwt(&token, SystemTime::now()).to_string();
        return;
    }
    let newline = rest.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, claims) = rest.split_at(newline);
    let claims = claims.strip_prefix(b"\n").unwrap_or(claims);
    let part = |bytes| BASE64URL_NOPAD.encode(bytes);
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    let token = format!("{message}.{signature}");
    assert!(accepted(&WITH_SET, &token).is_none());
    if let Some(user) = accepted(&WITH_SECRET, &token) {
        let header: Map<String, Value> = serde_json::from_slice(header).unwrap();
        assert!(header["alg"] == "HS256" && !header.contains_key("crit"));
        let claims: Map<String, Value> = serde_json::from_slice(claims).unwrap();
        assert!(claims["exp"].is_number() && claims["aud"] != Value::Null);
        match &claims["sub"] {
            Value::String(sub) => assert_eq!(user, *sub),
            sub => assert_eq!(user, sub.to_string()),
        }
    }
});

fn verifier(keys: JwtKeys) -> JwtVerifier {
    JwtVerifier::new(JwtSettings::for_audience(keys, ["fuzz"])).unwrap()
}

/// The user, if there is one; and the inspection thinks the same.
fn accepted(verifier: &JwtVerifier, token: &str) -> Option<String> {
    let authenticator = JwtAuthenticator::new(verifier.clone()).with_events_claim("events");
    let credentials = Credentials::new(token, "10.0.0.1:80".parse().unwrap());
    let identity = answer(authenticator.authenticate(credentials));
    let inspection = answer(verifier.inspect(token, SystemTime::now()));
    let _seen = inspection.to_string();
    let identity = identity.ok()?;
    assert_eq!(inspection.problems, [""; 0]);
    assert!(!identity.user.is_empty() && !identity.is_expired(SystemTime::now()));
    Some(identity.user)
}

fn answer<F: Future>(asked: F) -> F::Output {
    match pin!(asked).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("waits for something"),
    }
}
