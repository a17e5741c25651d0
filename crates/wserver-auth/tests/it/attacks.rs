//! Tokens that someone made who has no key, or the wrong one, or a key for something else.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use wserver_auth::{
    Authenticator, JWT_BYTES_MAX, JwtAuthenticator, JwtKeys, JwtPublishers, JwtSettings,
    JwtVerifier, PushAuthorizer, PushCredentials,
};

use crate::{answer, ask, fixture, verifier};

/// Claims that everybody would accept.
fn claims() -> Value {
    json!({
        "sub": "jack", "aud": "wserver-tests", "iss": "https://pyjwt.test", "exp": now() + 600,
    })
}

fn with(changes: Value) -> Value {
    let (Value::Object(mut claims), Value::Object(changes)) = (claims(), changes) else { panic!() };
    claims.extend(changes);
    Value::Object(claims)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn part(json: &Value) -> String {
    BASE64URL_NOPAD.encode(json.to_string().as_bytes())
}

/// A token with any header at all, signed with a secret.
fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn secret() -> String {
    fixture("secret.txt")
}

fn with_secret() -> JwtVerifier {
    verifier(JwtKeys::secret(secret().as_bytes()).unwrap())
}

/// What the authenticator answers, and what an inspection says to be wrong.
fn check(verifier: &JwtVerifier, token: &str, label: &str, problems: &str) {
    let authenticator = JwtAuthenticator::new(verifier.clone());
    let answered = match ask(&authenticator, token) {
        Ok(identity) => identity.user,
        Err(refusal) => refusal.as_str().to_owned(),
    };
    let inspection = answer(verifier.inspect(token, SystemTime::now()));
    let shown = &token[..token.len().min(200)];
    assert_eq!(
        (answered.as_str(), inspection.problems.join("; ").as_str()),
        (label, problems),
        "{shown}"
    );
}

const HS256: fn() -> Value = || json!({"alg": "HS256", "typ": "JWT"});

#[test]
fn what_is_signed_with_the_secret_is_accepted() {
    check(&with_secret(), &signed(&HS256(), &claims(), secret().as_bytes()), "jack", "");
}

#[test]
fn none_is_no_algorithm() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{}.{signature}", part(&json!({"alg": alg})), part(&claims()));
            let told = "its algorithm is unknown, or none";
            check(&with_secret(), &token, "unknown", told);
        }
    }
}

/// The public key, which everybody has, used as if it were a shared secret: in all the forms that
/// it might be kept in.
#[test]
fn a_public_key_is_no_secret() {
    let told = "the configured keys do not permit its algorithm";
    for name in ["rsa", "p256", "p384", "ed25519"] {
        let pem = fixture(&format!("{name}.pem"));
        let verifier = verifier(JwtKeys::public_key_pem(&pem).unwrap());
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
        let forms =
            [pem.as_bytes(), pem.trim_end().as_bytes(), base64.as_bytes(), &der, &der[24..]];
        for form in forms {
            check(&verifier, &signed(&HS256(), &claims(), form), "unknown", told);
            // As if it were signed by the kind of the key after all.
            let header = json!({"alg": "RS256"});
            let expected = if name == "rsa" { "its signature is wrong" } else { told };
            check(&verifier, &signed(&header, &claims(), form), "unknown", expected);
        }
    }
}

/// Nor are the keys of a set, each of which has a name that the attacker may use.
#[test]
fn a_set_of_public_keys_holds_no_secret() {
    let set = fixture("keys.json");
    let verifier = verifier(JwtKeys::jwks(&set).unwrap());
    let json: Value = serde_json::from_str(&set).unwrap();
    let x = json["keys"][3]["x"].as_str().unwrap();
    for kid in ["rsa", "p256", "ed25519", "unknown"] {
        let header = json!({"alg": "HS256", "kid": kid});
        let told = "the configured keys do not permit its algorithm";
        check(&verifier, &signed(&header, &claims(), x.as_bytes()), "unknown", told);
    }
    let header = json!({"alg": "EdDSA", "kid": "rsa"});
    check(
        &verifier,
        &signed(&header, &claims(), x.as_bytes()),
        "unknown",
        "no configured key matches its kid",
    );
}

#[test]
fn keys_are_found_among_ours_alone() {
    let set = verifier(JwtKeys::jwks(&fixture("keys.json")).unwrap());
    let own =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    for (kid, told) in [
        (json!("foreign"), "no configured key matches its kid"),
        (json!("../../etc/passwd"), "no configured key matches its kid"),
        (json!("' OR 1=1"), "no configured key matches its kid"),
        (json!(""), "no configured key matches its kid"),
        (json!("rsa"), "its signature is wrong"),
        (json!(["rsa"]), "its header cannot be read"),
        (json!(7), "its header cannot be read"),
        (json!(null), "its header cannot be read"),
    ] {
        let header = json!({"alg": "RS256", "kid": kid});
        check(&set, &signed(&header, &claims(), b"x"), "unknown", told);
    }
    // By these a token would bring a key of its own. They are not looked at: with the right
    // signature the token is good, and with any other it is not.
    for (name, value) in [
        ("jku", json!("https://attacker.test/keys.json")),
        ("x5u", json!("https://attacker.test/cert.pem")),
        ("jwk", own),
        ("x5c", json!(["MIIBIjANBgkq"])),
        ("x5t", json!("AAAA")),
    ] {
        let header = json!({"alg": "HS256", name: value});
        let unreadable = json!({"alg": "HS256", name: {"kty": []}});
        let ours = secret();
        check(&with_secret(), &signed(&header, &claims(), ours.as_bytes()), "jack", "");
        check(&with_secret(), &signed(&unreadable, &claims(), ours.as_bytes()), "jack", "");
        let told = "its signature is wrong";
        check(&with_secret(), &signed(&header, &claims(), b"attacker's"), "unknown", told);
    }
    let without_kid = json!({"alg": "RS256"});
    check(&set, &signed(&without_kid, &claims(), b"x"), "unknown", "its signature is wrong");
}

#[test]
fn what_demands_to_be_understood_is_refused() {
    for crit in [json!(["b64"]), json!([]), json!("exp"), json!(null)] {
        let header = json!({"alg": "HS256", "crit": crit, "b64": false});
        let token = signed(&header, &claims(), secret().as_bytes());
        let told = "its header has crit, which demands an extension that the server does not know";
        check(&with_secret(), &token, "unknown", told);
    }
}

#[test]
fn claims_are_held_to_what_is_demanded() {
    for (changes, label, told) in [
        (json!({"exp": 1}), "expired", ""),
        (json!({"exp": now() - 31}), "expired", ""),
        (json!({"exp": null}), "unknown", "it has no exp"),
        (json!({"exp": "9999999999"}), "unknown", "its exp is not a number of seconds since 1970"),
        (json!({"nbf": now() + 600}), "not_yet_valid", ""),
        (json!({"nbf": "0"}), "unknown", "its nbf is not a number of seconds since 1970"),
        (json!({"aud": "others"}), "unknown", "its aud contains none of the configured audiences"),
        (
            json!({"aud": ["a", "b"]}),
            "unknown",
            "its aud contains none of the configured audiences",
        ),
        (json!({"aud": null}), "unknown", "it has no aud"),
        (
            json!({"iss": "https://evil.test"}),
            "unknown",
            "its iss is not one of the configured issuers",
        ),
        (json!({"iss": null}), "unknown", "it has no iss"),
    ] {
        let token = signed(&HS256(), &with(changes), secret().as_bytes());
        let problems = answer(with_secret().inspect(&token, SystemTime::now())).problems;
        let told = if told.is_empty() { problems.join("; ") } else { told.to_owned() };
        assert!(!told.is_empty());
        check(&with_secret(), &token, label, &told);
    }
    for sub in [json!(null), json!(""), json!(1.5), json!({"sub": "jack"}), json!(true)] {
        let token = signed(&HS256(), &with(json!({"sub": sub})), secret().as_bytes());
        check(&with_secret(), &token, "unknown", "");
    }
}

/// An expired token of a stranger is a stranger's: what it says is not looked at.
#[test]
fn the_signature_comes_first() {
    let token = signed(&HS256(), &with(json!({"exp": 1})), &[b'x'; 88]);
    let refusal = ask(&JwtAuthenticator::new(with_secret()), &token).unwrap_err();
    assert_eq!(refusal.as_str(), "unknown");
}

#[test]
fn garbage_is_refused() {
    let good = signed(&HS256(), &claims(), secret().as_bytes());
    let [header, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(3000), "}".repeat(3000));
    let deep = BASE64URL_NOPAD.encode(deep.as_bytes());
    let list = BASE64URL_NOPAD.encode(b"[1,2]");
    let twice = BASE64URL_NOPAD.encode(br#"{"alg":"none","alg":"HS256"}"#);
    for token in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        "jack".to_owned(),
        "\u{0}.\u{0}.\u{0}".to_owned(),
        "ü.ü.ü".to_owned(),
        format!("{header}.{body}"),
        format!("{header}.{body}.{signature}."),
        format!("{header}.{body}.{signature}.{signature}"),
        format!("{header}.{body}.{signature}="),
        format!("{header}.{body}.{signature} "),
        format!(" {header}.{body}.{signature}"),
        format!("{header}.{body}.{signature}\n"),
        format!("{header}.{body}."),
        format!("{header}.{body}.{}", &signature[1..]),
        format!("{header}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{body}.{body}.{signature}"),
        format!("{list}.{body}.{signature}"),
        format!("{header}.{list}.{signature}"),
        format!("{deep}.{body}.{signature}"),
        format!("{header}.{deep}.{signature}"),
        format!("{twice}.{body}.{signature}"),
    ] {
        let refusal = ask(&JwtAuthenticator::new(with_secret()), &token).unwrap_err();
        assert_eq!(refusal.as_str(), "unknown", "{token}");
        let inspection = answer(with_secret().inspect(&token, SystemTime::now()));
        assert!(!inspection.problems.is_empty(), "{token}");
    }
    // Signed well, and still nothing that could be read.
    let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
    for claims in [&b"[]"[..], b"null", b"{", b"\xff", deep.as_bytes()] {
        let message = format!("{header}.{}", BASE64URL_NOPAD.encode(claims));
        let key = EncodingKey::from_secret(secret().as_bytes());
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        let token = format!("{message}.{signature}");
        check(&with_secret(), &token, "unknown", "its claims are not a JSON object");
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let filled = |bytes: usize| with(json!({"filling": "x".repeat(bytes)}));
    let sign = |claims| signed(&HS256(), &claims, secret().as_bytes());
    let fits = sign(filled(11_900));
    assert!(fits.len() <= JWT_BYTES_MAX);
    check(&with_secret(), &fits, "jack", "");
    let long = sign(filled(JWT_BYTES_MAX));
    let told = format!("it is {} bytes long, but must have at most 16384", long.len());
    check(&with_secret(), &long, "unknown", &told);
}

#[test]
fn any_audience_has_to_be_asked_for() {
    let keys = JwtKeys::secret(secret().as_bytes()).unwrap();
    let any = JwtVerifier::new(JwtSettings::for_any_audience(keys.clone())).unwrap();
    for aud in [json!("others"), json!(null), json!(["x"])] {
        let token = signed(&HS256(), &with(json!({"aud": aud})), secret().as_bytes());
        check(&any, &token, "jack", "");
    }
    let none: [&str; 0] = [];
    for audiences in [&none[..], &["push", ""]] {
        let settings = JwtSettings::for_audience(keys.clone(), audiences.iter().copied());
        let error = JwtVerifier::new(settings).unwrap_err().to_string();
        assert!(error.starts_with("no audience is set, or an empty one"), "{error}");
    }
    let settings = JwtSettings::for_any_audience(keys.clone()).with_issuers([""]);
    assert_eq!(JwtVerifier::new(settings).unwrap_err().to_string(), "an issuer is empty");
    let settings = JwtSettings::for_any_audience(keys).with_leeway(Duration::from_secs(301));
    let error = JwtVerifier::new(settings).unwrap_err().to_string();
    assert_eq!(error, "the leeway is 301 s, but must be at most 300 s");
}

#[test]
fn an_events_claim_that_is_missing_permits_none() {
    let authenticator = JwtAuthenticator::new(with_secret()).with_events_claim("events");
    let events = |changes| {
        let token = signed(&HS256(), &with(changes), secret().as_bytes());
        ask(&authenticator, &token).map(|identity| identity.events)
    };
    for (changes, chat, order) in [
        (json!({"events": ["chat"]}), true, false),
        (json!({"events": "chat order.*"}), true, true),
        (json!({"events": "*"}), true, true),
        (json!({"events": []}), false, false),
        (json!({}), false, false),
    ] {
        let events = events(changes.clone()).unwrap();
        assert_eq!((events.permits("chat"), events.permits("order.1")), (chat, order), "{changes}");
    }
    assert!(events(json!({"events": {"chat": true}})).is_err());
}

/// A listener's token opens nothing for a publisher, and a publisher's opens what it says.
#[test]
fn publishers_need_to_be_told_what_they_may() {
    let publishers = JwtPublishers::new(with_secret());
    let ask = |token: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let request = PushCredentials::new(headers, "10.0.0.1:80".parse().unwrap());
        answer(publishers.authorize(request))
    };
    let sign = |changes| signed(&HS256(), &with(changes), secret().as_bytes());
    for (changes, label) in [
        (json!({}), "wrong"),
        (json!({"events": ["*"]}), "wrong"),
        (json!({"users": ["*"]}), "wrong"),
        (json!({"users": ["*"], "events": [1]}), "wrong"),
        (json!({"users": ["*"], "events": ["*"], "exp": 1}), "expired"),
        (json!({"users": ["*"], "events": ["*"], "nbf": now() + 600}), "not_yet_valid"),
    ] {
        assert_eq!(ask(&sign(changes.clone())).unwrap_err().as_str(), label, "{changes}");
    }
    let publisher = ask(&sign(json!({"users": "shop:*", "events": ["order.*"]}))).unwrap();
    assert_eq!(publisher.name.as_deref(), Some("jack"));
    assert!(!publisher.admin);
    assert!(publisher.permits("shop:1", "order.paid"));
    assert!(!publisher.permits("bank:1", "order.paid") && !publisher.permits("shop:1", "chat"));
    let nothing = PushCredentials::new(http::HeaderMap::new(), "10.0.0.1:80".parse().unwrap());
    assert_eq!(answer(publishers.authorize(nothing)).unwrap_err().as_str(), "missing");
}

/// Who it is hangs on issuer and subject, as they are spelt; not on the name, and not on the scope.
#[test]
fn publishers_are_told_apart_by_issuer_and_subject() {
    let keys = JwtKeys::secret(secret().as_bytes()).unwrap();
    let settings = JwtSettings::for_audience(keys, ["wserver-tests"]);
    let publishers = JwtPublishers::new(JwtVerifier::new(settings).unwrap());
    let who = |changes: Value| {
        let mut said = json!({"users": ["*"], "events": ["*"]});
        said.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let token = signed(&HS256(), &with(said), secret().as_bytes());
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let request = PushCredentials::new(headers, "10.0.0.1:80".parse().unwrap());
        answer(publishers.authorize(request)).unwrap()
    };
    let jack = who(json!({}));
    assert_eq!(who(json!({"events": ["news"]})).id(), jack.id(), "a scope is nobody else");
    assert_eq!(who(json!({"sub": 7})).name.as_deref(), Some("7"));
    let others = [
        json!({"sub": 7}),
        json!({"sub": "7"}),
        json!({"iss": "https://other.example"}),
        json!({"sub": null, "jti": "one"}),
        json!({"sub": null, "jti": "two"}),
    ];
    let ids: std::collections::HashSet<_> =
        others.into_iter().map(|it| who(it).id()).chain([jack.id()]).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");
    for id in ids {
        assert_eq!(id.method(), "token");
    }
}

#[test]
fn nothing_shows_the_secret() {
    let verifier = with_secret();
    let authenticator = JwtAuthenticator::new(verifier.clone());
    let shown =
        format!("{verifier:?} {authenticator:?} {:?}", JwtPublishers::new(verifier.clone()));
    assert!(!shown.contains("test-only") && !shown.contains("116, 101, 115"), "{shown}");
    assert!(!authenticator.is_open() && authenticator.handshake_headers().is_empty());
}
