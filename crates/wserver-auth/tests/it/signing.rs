//! Tokens made by hand and looked at by hand.

use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use data_encoding::BASE64;
use expect_test::{Expect, expect};
use wserver_auth::{
    EventScope, JwtAlgorithm, JwtAuthenticator, JwtDraft, JwtKeys, JwtSigner, inspect_jwt,
};

use crate::{answer, ask, verifier};

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A fresh pair of keys: private and public.
pub(crate) fn pair(kind: &str) -> [String; 2] {
    let random = SystemRandom::new();
    let (private, public) = match kind {
        "rsa" => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            (
                pair.as_der().unwrap().as_ref().to_vec(),
                pair.public_key().as_der().unwrap().as_ref().to_vec(),
            )
        }
        "ed25519" => {
            let private = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
            let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
            (private.as_ref().to_vec(), pair.public_key().as_der().unwrap().as_ref().to_vec())
        }
        curve => {
            let signing = match curve {
                "p256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
                _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
            };
            let private = EcdsaKeyPair::generate_pkcs8(signing, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(signing, private.as_ref()).unwrap();
            (private.as_ref().to_vec(), pair.public_key().as_der().unwrap().as_ref().to_vec())
        }
    };
    [pem("PRIVATE KEY", &private), pem("PUBLIC KEY", &public)]
}

fn draft() -> JwtDraft {
    JwtDraft::new(SystemTime::now(), Duration::from_secs(600))
        .with_text("sub", "jack")
        .with_list("aud", ["wserver-tests", "others"])
        .with_text("iss", "https://pyjwt.test")
}

#[test]
fn what_is_signed_here_is_accepted_here() {
    use JwtAlgorithm::{ES256, ES384, EdDSA, HS384, PS256, PS384, PS512, RS256, RS384, RS512};
    for (kind, usual, others) in [
        ("rsa", RS256, &[RS384, RS512, PS256, PS384, PS512][..]),
        ("p256", ES256, &[]),
        ("p384", ES384, &[]),
        ("ed25519", EdDSA, &[]),
    ] {
        let [private, public] = pair(kind);
        let authenticator =
            JwtAuthenticator::new(verifier(JwtKeys::public_key_pem(&public).unwrap()));
        let named = [&[usual], others].concat();
        for algorithm in [None].into_iter().chain(named.into_iter().map(Some)) {
            let signer = JwtSigner::private_key_pem(&private, algorithm).unwrap();
            let token = signer.sign(&draft()).unwrap();
            assert_eq!(ask(&authenticator, &token).unwrap().user, "jack");
            let header = inspect_jwt(&token, SystemTime::now()).header.unwrap();
            assert!(header.contains(algorithm.unwrap_or(usual).as_str()), "{header}");
            assert!(!format!("{signer:?}").contains("content"), "{signer:?}");
        }
        let unfit = JwtSigner::private_key_pem(&private, Some(HS384)).unwrap_err();
        assert_eq!(unfit.to_string(), "the key cannot sign with HS384");
        let other = if kind == "p256" { ES384 } else { ES256 };
        assert!(JwtSigner::private_key_pem(&private, Some(other)).is_err(), "{kind}");
    }
}

#[test]
fn what_cannot_sign_is_told() {
    let check = |pem: &str, expected: &Expect| {
        expected.assert_eq(&JwtSigner::private_key_pem(pem, None).unwrap_err().to_string());
    };
    let none = expect!["it contains no readable private key (RSA, P-256, P-384 or Ed25519)"];
    check("", &none);
    check(&pem("PUBLIC KEY", b"canary"), &none);
    check(&pem("PRIVATE KEY", b"canary"), &none);
    check(
        &pem("EC PRIVATE KEY", b"canary"),
        &expect![
            "this is an EC PRIVATE KEY; `openssl pkcs8 -topk8 -nocrypt` converts it to a PRIVATE \
             KEY"
        ],
    );
    check(
        &pem("ENCRYPTED PRIVATE KEY", b"canary"),
        &expect!["the private key is encrypted; `openssl pkey` removes the passphrase"],
    );
    let short = JwtSigner::secret(b"short", JwtAlgorithm::HS256).unwrap_err();
    expect!["the secret has 5 bytes, but needs at least 32"].assert_eq(&short.to_string());
    let unfit = JwtSigner::secret(&[7; 32], JwtAlgorithm::RS256).unwrap_err();
    expect!["the key cannot sign with RS256"].assert_eq(&unfit.to_string());
}

/// 2026-01-01 00:00:00 UTC.
fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

#[test]
fn an_inspection_says_all_that_is_wrong() {
    let signer = JwtSigner::secret(&[7; 32], JwtAlgorithm::HS256).unwrap().with_kid("k1");
    let draft = JwtDraft::new(clock(), Duration::from_secs(3600)).with_text("sub", "jack");
    let token = signer.sign(&draft).unwrap();
    let later = clock() + Duration::from_secs(3 * 86_400 + 3600 + 5 * 3600);
    let check = |text: String, expected: Expect| expected.assert_eq(&text);
    check(
        inspect_jwt(&token, clock() + Duration::from_secs(90)).to_string(),
        expect![[r#"
            header: {
              "alg": "HS256",
              "kid": "k1",
              "typ": "JWT"
            }
            claims: {
              "exp": 1767229200,
              "iat": 1767225600,
              "sub": "jack"
            }
            it expires in 58 min 30 s
            problem: its signature was not verified: no key is available
        "#]],
    );
    let wrong = verifier(JwtKeys::secret(&[8; 32]).unwrap());
    check(
        answer(wrong.inspect(&token, later)).to_string(),
        expect![[r#"
            header: {
              "alg": "HS256",
              "kid": "k1",
              "typ": "JWT"
            }
            claims: {
              "exp": 1767229200,
              "iat": 1767225600,
              "sub": "jack"
            }
            it has been expired for 3 d 5 h
            problem: its signature is wrong
            problem: it expired 277200 seconds ago
            problem: it has no aud
            problem: it has no iss
        "#]],
    );
    let early = draft.with_number("nbf", 1_767_225_600 + 120);
    let early = signer.sign(&early).unwrap();
    let right = verifier(JwtKeys::secret(&[7; 32]).unwrap());
    let inspection = answer(right.inspect(&early, clock()));
    assert_eq!(inspection.validity.as_deref(), Some("it will be valid in 2 min"));
    assert_eq!(inspection.problems[0], "it becomes valid in 120 seconds");
    check(
        inspect_jwt("canary", clock()).to_string(),
        expect![[r"
            problem: its signature was not verified: no key is available
            problem: it is not a token: a token has three parts in base64url, joined by dots
        "]],
    );
    let accepted = verifier(JwtKeys::secret(&[7; 32]).unwrap());
    let good = signer
        .sign(
            &JwtDraft::new(clock(), Duration::from_secs(1))
                .with_text("aud", "wserver-tests")
                .with_text("iss", "https://pyjwt.test"),
        )
        .unwrap();
    let inspection = answer(accepted.inspect(&good, clock()));
    assert!(inspection.problems.is_empty(), "{inspection}");
    assert!(inspection.to_string().ends_with("it expires in 1 s\nit is accepted\n"));
}

#[test]
fn an_inspection_by_the_authenticator_says_who_registers() {
    let signer = JwtSigner::secret(&[7; 32], JwtAlgorithm::HS256).unwrap();
    let authenticator = JwtAuthenticator::new(verifier(JwtKeys::secret(&[7; 32]).unwrap()))
        .with_events_claim("events");
    let draft = JwtDraft::new(clock(), Duration::from_secs(60))
        .with_text("aud", "wserver-tests")
        .with_text("iss", "https://pyjwt.test")
        .with_list("events", ["news"]);
    let inspect =
        |draft: &JwtDraft, now| answer(authenticator.inspect(&signer.sign(draft).unwrap(), now));
    let inspection = inspect(&draft.clone().with_text("sub", "jack"), clock());
    let identity = inspection.identity.unwrap();
    assert_eq!((identity.user.as_str(), identity.events), ("jack", EventScope::only(["news"])));
    let second = Duration::from_secs(1);
    assert_eq!(identity.expires_at, Some(clock() + 90 * second), "leeway included");
    assert_eq!(inspection.issued_at, Some(clock()));
    assert_eq!(inspection.expires_at, Some(clock() + 60 * second));
    let inspection = inspect(&draft, clock());
    assert_eq!(inspection.problems, ["it has no sub"]);
    assert_eq!(inspection.identity, None);
    let inspection = inspect(&draft.with_text("sub", "jack"), clock() + 100 * second);
    assert_eq!(inspection.problems, ["it expired 40 seconds ago"]);
    assert_eq!(inspection.identity, None, "what it would have been is not told");
}
