//! What can serve as a key, and what is said of the rest.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use wserver_auth::{JwtAuthenticator, JwtKeyError, JwtKeys};

use crate::{ask, fixture, verifier};

fn check(keys: Result<JwtKeys, JwtKeyError>, expected: &Expect) {
    expected.assert_eq(&keys.map_or_else(|error| error.to_string(), |_| "fit".to_owned()));
}

#[test]
fn secrets_are_long() {
    check(JwtKeys::secret(&[7; 32]), &expect!["fit"]);
    check(JwtKeys::secret(&[7; 31]), &expect!["the secret has 31 bytes, but needs at least 32"]);
    check(JwtKeys::secret(&[]), &expect!["the secret has 0 bytes, but needs at least 32"]);
}

#[test]
fn pem_is_one_public_key() {
    let pem = |text: &str| JwtKeys::public_key_pem(text);
    for name in ["rsa", "p256", "p384", "ed25519"] {
        check(pem(&fixture(&format!("{name}.pem"))), &expect!["fit"]);
        let windows = fixture(&format!("{name}.pem")).replace('\n', "\r\n");
        check(pem(&format!("of the issuer:\r\n{windows}")), &expect!["fit"]);
    }
    check(
        pem(&fixture("weak-rsa.pem")),
        &expect!["the RSA key has 1024 bits, but must have 2048 to 8192"],
    );
    check(
        pem(""),
        &expect!["it contains no PEM block; a public key begins with -----BEGIN PUBLIC KEY-----"],
    );
    check(
        pem("canary"),
        &expect!["it contains no PEM block; a public key begins with -----BEGIN PUBLIC KEY-----"],
    );
    check(
        pem(&[fixture("rsa.pem"), fixture("p256.pem")].concat()),
        &expect!["it contains several PEM blocks; to give several keys, use a JWKS"],
    );
    check(
        pem(&[fixture("rsa.pem").trim_end(), &fixture("p256.pem")].concat()),
        &expect!["it contains several PEM blocks; to give several keys, use a JWKS"],
    );
    let block = |label: &str| fixture("rsa.pem").replace("PUBLIC KEY", label);
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        check(
            pem(&block(label)),
            &expect![
                "this is a private key; give only its public half, which `openssl pkey -pubout` \
                 prints"
            ],
        );
    }
    check(
        pem(&block("CERTIFICATE")),
        &expect!["this is a certificate; `openssl x509 -pubkey -noout` prints its public key"],
    );
    check(
        pem(&block("OPENSSH\u{7}")),
        &expect![[r"this PEM block is a OPENSSH\u{7}, not a PUBLIC KEY"]],
    );
    check(
        pem("-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----\n"),
        &expect!["the key cannot be used: the PEM block cannot be read"],
    );
    check(
        pem("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"),
        &expect!["the key cannot be used: the PEM block cannot be read"],
    );
}

fn set(keys: &[Value]) -> Result<JwtKeys, JwtKeyError> {
    JwtKeys::jwks(&json!({"keys": keys}).to_string())
}

fn rsa() -> Value {
    let set: Value = serde_json::from_str(&fixture("keys.json")).unwrap();
    set["keys"][0].clone()
}

/// The RSA key with these members changed.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut key = rsa();
    for (name, value) in changes {
        key[*name] = value.clone();
    }
    key
}

#[test]
fn sets_are_read_and_what_is_unusable_passed_over() {
    for (text, expected) in [
        ("", expect!["this is not a JWKS: EOF while parsing a value at line 1 column 0"]),
        ("[]", expect!["this is not a JWKS: it has no list named keys"]),
        ("{}", expect!["this is not a JWKS: it has no list named keys"]),
        (r#"{"keys":{}}"#, expect!["this is not a JWKS: it has no list named keys"]),
        (r#"{"keys":[]}"#, expect!["this is not a JWKS: its list of keys is empty"]),
    ] {
        check(JwtKeys::jwks(text), &expected);
    }
    check(set(&[rsa()]), &expect!["fit"]);
    check(set(&[json!(7), json!({"kty": "new"}), rsa()]), &expect!["fit"]);
    check(
        set(&vec![rsa(); 101]),
        &expect!["this is not a JWKS: it has 101 keys, but at most 100 are allowed"],
    );
    let last = |key: Value| set(&[json!(7), key]);
    check(
        last(with(&[("use", json!("enc"))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its use is not sig"
        ],
    );
    check(
        last(with(&[("key_ops", json!(["sign"]))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its key_ops do not include verify"
        ],
    );
    check(
        last(with(&[("alg", json!("ES256"))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its alg is unknown or does not match its key type"
        ],
    );
    check(
        last(with(&[("alg", json!("RSA-OAEP"))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its alg is unknown or does not match its key type"
        ],
    );
    check(
        last(with(&[("n", json!("AQAB"))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the RSA \
             key has 17 bits, but must have 2048 to 8192"
        ],
    );
    check(
        last(with(&[("n", json!("canary!"))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: it is not valid base64url"
        ],
    );
    check(
        last(with(&[("kty", json!("canary"))])),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its kty is not RSA, EC, OKP or oct, or one of its members is missing"
        ],
    );
    check(
        last(json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"})),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its coordinates are not a point on its curve"
        ],
    );
    check(
        last(json!({"kty": "EC", "crv": "P-521", "x": "AQAB", "y": "AQAB"})),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its curve is neither P-256 nor P-384"
        ],
    );
    let coordinate = "NXOJ9JbMn5q9AL6vmEiVX3Fmm-F-u9SW5TFVQ7yPHBw";
    check(
        last(json!({"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate})),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: its coordinates are not a point on its curve"
        ],
    );
    check(
        last(json!({"kty": "OKP", "crv": "Ed25519", "x": "AQAB"})),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the key \
             cannot be used: it is not on the curve Ed25519"
        ],
    );
    check(
        last(json!({"kty": "oct", "k": "Y2FuYXJ5"})),
        &expect![
            "none of the keys in the JWKS can be used; the last one was rejected because the \
             secret has 6 bytes, but needs at least 32"
        ],
    );
}

/// With `alg` in the set, the other algorithms of the kind are not for that key.
#[test]
fn a_key_may_name_its_algorithm() {
    let tokens: Vec<Value> = serde_json::from_str(&fixture("tokens.json")).unwrap();
    let keys = set(&[with(&[("alg", json!("PS384"))])]).unwrap();
    let authenticator = JwtAuthenticator::new(verifier(keys));
    for token in tokens.iter().filter(|token| token["kid"] == "rsa") {
        let accepted = ask(&authenticator, token["token"].as_str().unwrap()).is_ok();
        assert_eq!(accepted, token["algorithm"] == "PS384", "{token}");
    }
}

/// Tokens of PyJWT name `rsa` as their key.
#[test]
fn names_choose_among_keys() {
    let named = |kid: &str| with(&[("kid", json!(kid))]);
    let nameless = || with(&[("kid", json!(null))]);
    let other = |kid: Value| {
        let mut other = json!({"kty": "RSA", "e": "AQAB", "kid": kid});
        // Some other modulus of the same length.
        let n = rsa()["n"].as_str().unwrap().to_owned();
        other["n"] = json!(format!("x{}", &n[1..]));
        other
    };
    let many_and = |key: Value| {
        let n = rsa()["n"].as_str().unwrap().to_owned();
        let others = ["a", "b", "c", "d"]
            .map(|first| json!({"kty": "RSA", "e": "AQAB", "n": format!("x{first}{}", &n[2..])}));
        others.into_iter().chain([key]).collect::<Vec<_>>()
    };
    let tokens: Vec<Value> = serde_json::from_str(&fixture("tokens.json")).unwrap();
    let token = tokens[3]["token"].as_str().unwrap();
    for (keys, accepted) in [
        (vec![named("rsa")], true),
        (vec![named("new")], false),
        (vec![nameless()], true),
        (vec![named("rsa"), other(json!("new"))], true),
        (vec![other(json!("rsa")), named("new")], false),
        (vec![named("rsa"), other(json!(null))], true),
        (vec![other(json!("rsa")), nameless()], false),
        (vec![named("new"), nameless()], true),
        // Of several that fit each is tried, up to a bound.
        (vec![nameless(), other(json!(null))], true),
        (vec![named("rsa"), other(json!("rsa"))], true),
        (vec![other(json!("rsa")), named("rsa")], true),
        (vec![other(json!("rsa")), other(json!("rsa"))], false),
        (vec![named("rsa"); 9], true),
        (many_and(nameless()), false),
    ] {
        let authenticator = JwtAuthenticator::new(verifier(set(&keys).unwrap()));
        assert_eq!(ask(&authenticator, token).is_ok(), accepted, "{keys:?}");
    }
}

/// Java's `BigInteger` writes a sign, which RFC 7518 (section 6.3.1.1) forbids.
#[test]
fn a_number_with_a_leading_zero_octet_is_the_number() {
    use data_encoding::BASE64URL_NOPAD;
    let decoded = |text: &Value| BASE64URL_NOPAD.decode(text.as_str().unwrap().as_bytes()).unwrap();
    let signed = |text: &Value| json!(BASE64URL_NOPAD.encode(&[&[0], &*decoded(text)].concat()));
    let tokens: Vec<Value> = serde_json::from_str(&fixture("tokens.json")).unwrap();
    let all: Value = serde_json::from_str(&fixture("keys.json")).unwrap();
    let mut tried = 0;
    for key in all["keys"].as_array().unwrap() {
        let mut key = key.clone();
        match key["kty"].as_str().unwrap() {
            "RSA" => {
                key["n"] = signed(&key["n"]);
                key["e"] = signed(&key["e"]);
            }
            "EC" => {
                key["x"] = signed(&key["x"]);
                key["y"] = signed(&key["y"]);
            }
            _ => continue,
        }
        let authenticator = JwtAuthenticator::new(verifier(set(&[key.clone()]).unwrap()));
        for token in tokens.iter().filter(|token| token["kid"] == key["kid"]) {
            let asked = ask(&authenticator, token["token"].as_str().unwrap());
            assert!(asked.is_ok(), "{token} {asked:?}");
            tried += 1;
        }
    }
    assert!(tried > 3, "{tried}");
}

/// Whoever rotates a shared secret names both.
#[test]
fn a_set_from_a_file_may_hold_secrets() {
    use wserver_auth::{JwtAlgorithm, JwtDraft, JwtSigner};
    let key = |kid: &str, byte: u8| json!({"kty": "oct", "kid": kid, "k": data_encoding::BASE64URL_NOPAD.encode(&[byte; 32])});
    let authenticator =
        JwtAuthenticator::new(verifier(set(&[key("old", 1), key("new", 2)]).unwrap()));
    let draft = JwtDraft::new(std::time::SystemTime::now(), std::time::Duration::from_secs(600))
        .with_text("sub", "jack")
        .with_text("aud", "wserver-tests")
        .with_text("iss", "https://pyjwt.test");
    for (byte, kid, accepted) in
        [(1, "old", true), (2, "new", true), (1, "new", false), (2, "newer", false)]
    {
        let signer = JwtSigner::secret(&[byte; 32], JwtAlgorithm::HS512).unwrap().with_kid(kid);
        assert_eq!(ask(&authenticator, &signer.sign(&draft).unwrap()).is_ok(), accepted, "{kid}");
    }
}
