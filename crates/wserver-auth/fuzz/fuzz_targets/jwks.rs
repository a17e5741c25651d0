//! Key sets and PEM files: what cannot be used is told in words that hold nothing of it, and what
//! can be used accepts no token that somebody else signed.

#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wserver_auth::{
    Authenticator, Credentials, JwtAlgorithm, JwtAuthenticator, JwtKeys, JwtSettings, JwtSigner,
    JwtVerifier,
};

/// Those of PyJWT, whose private keys are forgotten: whichever key verifies one is PyJWT's.
const TOKENS: &str = include_str!("../../tests/pyjwt/tokens.json");
const SECRET: &str = include_str!("../../tests/pyjwt/secret.txt");
const SET: &str = include_str!("../../tests/pyjwt/keys.json");

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _signs = JwtSigner::private_key_pem(text, None).map_err(|error| error.to_string());
    let _one = JwtKeys::public_key_pem(text).map_err(|error| error.to_string());
    let Ok(keys) = JwtKeys::jwks(text).map_err(|error| error.to_string()) else { return };
    let _narrowed = keys.clone().only(JwtAlgorithm::all());
    let known: Value = serde_json::from_str(SET).unwrap();
    let known = known["keys"].as_array().unwrap();
    let ours = known.iter().filter_map(|key| key["n"].as_str().or(key["x"].as_str()));
    if ours.chain([SECRET]).any(|part| text.contains(part)) || text.contains('\\') {
        return;
    }
    let verifier = JwtVerifier::new(JwtSettings::for_any_audience(keys)).unwrap();
    let authenticator = JwtAuthenticator::new(verifier);
    let tokens: Vec<Value> = serde_json::from_str(TOKENS).unwrap();
    for token in tokens {
        let token = token["token"].as_str().unwrap();
        let credentials = Credentials::new(token, "10.0.0.1:80".parse().unwrap());
        let asked = pin!(authenticator.authenticate(credentials));
        let Poll::Ready(answer) = pin!(asked).poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("waits for something")
        };
        assert!(answer.is_err(), "{token} by {text}");
    }
});
