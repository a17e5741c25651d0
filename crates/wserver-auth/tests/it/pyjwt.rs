//! Tokens and keys of PyJWT, for every algorithm; `xtask/interop/python/tokens.py` made them.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use wserver_auth::{EventScope, JwtAlgorithm, JwtAuthenticator, JwtKeyError, JwtKeys};

use crate::{ask, fixture, verifier};

struct Made {
    algorithm: String,
    kid: String,
    token: String,
}

fn made() -> Vec<Made> {
    let tokens: Vec<Value> = serde_json::from_str(&fixture("tokens.json")).unwrap();
    let text = |token: &Value, name: &str| token[name].as_str().unwrap().to_owned();
    tokens
        .iter()
        .map(|token| Made {
            algorithm: text(token, "algorithm"),
            kid: text(token, "kid"),
            token: text(token, "token"),
        })
        .collect()
}

/// The key that a token was made with, from a file of its own.
fn own_key(made: &Made) -> JwtKeys {
    match made.kid.as_str() {
        "secret" => JwtKeys::secret(fixture("secret.txt").as_bytes()).unwrap(),
        name => JwtKeys::public_key_pem(&fixture(&format!("{name}.pem"))).unwrap(),
    }
}

#[test]
fn there_is_a_token_for_every_algorithm() {
    let made: Vec<String> = made().into_iter().map(|made| made.algorithm).collect();
    let all: Vec<String> = JwtAlgorithm::all().map(|algorithm| algorithm.to_string()).collect();
    assert_eq!(made, all);
}

#[test]
fn tokens_verify_with_their_key_and_with_the_set() {
    let set = JwtKeys::jwks(&fixture("keys.json")).unwrap();
    for made in made() {
        let mut keys = vec![own_key(&made)];
        keys.extend((made.kid != "secret").then(|| set.clone()));
        for keys in keys {
            let authenticator = JwtAuthenticator::new(verifier(keys)).with_events_claim("events");
            let identity = ask(&authenticator, &made.token).unwrap();
            assert_eq!(identity.user, "jack", "{}", made.algorithm);
            assert_eq!(identity.events, EventScope::only(["order.*", "chat"]));
            let end = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800 + 30);
            assert_eq!(identity.expires_at, Some(end), "exp and the leeway");
            let by_number = authenticator.with_user_claim("uid");
            assert_eq!(ask(&by_number, &made.token).unwrap().user, "42");
        }
    }
}

#[test]
fn tokens_verify_with_no_other_key() {
    let others = ["other-rsa", "other-p256", "other-p384", "other-ed25519", "rsa", "p256"];
    let others: Vec<(&str, JwtKeys)> = others
        .into_iter()
        .map(|name| (name, JwtKeys::public_key_pem(&fixture(&format!("{name}.pem"))).unwrap()))
        .chain([("secret", JwtKeys::secret(&[b'x'; 88]).unwrap())])
        .collect();
    for made in made() {
        for (name, keys) in others.iter().filter(|(name, _)| *name == "secret" || *name != made.kid)
        {
            let authenticator = JwtAuthenticator::new(verifier(keys.clone()));
            let refusal = ask(&authenticator, &made.token).unwrap_err();
            assert_eq!(refusal.as_str(), "unknown", "{} by {name}", made.algorithm);
        }
    }
}

/// However one character of a token is changed, it is refused: claims, header and signature alike.
#[test]
fn a_changed_token_is_refused() {
    for made in made() {
        let authenticator = JwtAuthenticator::new(verifier(own_key(&made)));
        for at in (0..made.token.len()).step_by(13) {
            let mut changed = made.token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(ask(&authenticator, &changed).is_err(), "{} at {at}", made.algorithm);
        }
    }
}

#[test]
fn algorithms_can_be_narrowed_to_what_the_key_is_for() {
    let rsa = JwtKeys::public_key_pem(&fixture("rsa.pem")).unwrap();
    let narrow = JwtAuthenticator::new(verifier(
        rsa.clone().only([JwtAlgorithm::PS256, JwtAlgorithm::RS512]).unwrap(),
    ));
    for made in made().iter().filter(|made| made.kid == "rsa") {
        let accepted = ask(&narrow, &made.token).is_ok();
        assert_eq!(accepted, ["PS256", "RS512"].contains(&made.algorithm.as_str()));
    }
    let unfit = rsa.clone().only([JwtAlgorithm::RS256, JwtAlgorithm::HS256]).unwrap_err();
    assert_eq!(
        unfit.to_string(),
        "none of the keys fits HS256; they permit RS256, RS384, RS512, PS256, PS384, PS512"
    );
    assert_eq!(rsa.only([]).unwrap_err(), JwtKeyError::NoAlgorithms);
}
