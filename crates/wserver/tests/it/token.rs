//! `wserver token`: what it makes opens a server, and what it says of a token is what a server does.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::harness::{Server, command};
use crate::judge::{SECRET, claims, hs256, now};
use crate::raw::{Frame, Socket, push};
use crate::settings::{File, file};

/// Settings that name a secret, and these lines of `[jwt]`.
struct Settings {
    _secret: File,
    config: File,
}

impl Settings {
    fn new(secret: &str, jwt: &str) -> Self {
        let secret = file("jwt-secret", format!("{secret}\n"));
        let content = format!("[jwt]\nsecret_file = {:?}\n{jwt}", secret.path());
        Self { config: file("token.toml", content), _secret: secret }
    }

    fn make(&self, more: &[&str]) -> Output {
        command()
            .args(["token", "make", "--config", self.config.path()])
            .args(more)
            .output()
            .unwrap()
    }

    fn made(&self, more: &[&str]) -> String {
        let output = self.make(more);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stderr, b"", "nothing to warn of: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn inspect(&self, token: &str) -> (Option<i32>, String) {
        inspect(&["--config", self.config.path()], token)
    }
}

/// The exit code, and what was printed.
fn inspect(flags: &[&str], token: impl AsRef<[u8]>) -> (Option<i32>, String) {
    let mut command = command();
    command.args(["token", "inspect"]).args(flags);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It stops reading what is no token.
    let _ = child.stdin.take().unwrap().write_all(token.as_ref());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!told.contains("panicked"), "{told}");
    (output.status.code(), told)
}

#[test]
fn a_token_that_was_made_registers() {
    let settings = Settings::new(
        SECRET,
        "audience = [\"push\", \"chat\"]\nissuer = \"https://id.example\"\n\
         user_claim = \"uid\"\nevents_claim = \"events\"\nalgorithms = [\"HS384\"]",
    );
    let server = Server::start_with(&["--config", settings.config.path()], &[]);
    let push = |event| push(&server, "jack", event, event);
    let token = settings.made(&["--user", "jack", "--event", "news", "--event", "order.*"]);
    let mut socket = Socket::open(&server);
    for event in ["order.paid", "chat", "news"] {
        socket.register(token.trim(), event);
    }
    // The last one is bound, so all were judged.
    while push("news") == 0 {}
    assert_eq!(push("chat"), 0, "beyond its scope");
    assert_eq!(push("order.paid"), 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "news"));
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "order.paid"));

    let (code, told) = settings.inspect(&token);
    assert_eq!(code, Some(0), "{told}");
    for expected in [
        "\"alg\": \"HS384\"",
        "\"aud\": \"push\"",
        "\"iss\": \"https://id.example\"",
        "\"uid\": \"jack\"",
        "issued at (iat): 20",
        "valid until (exp): 20",
        "it expires in ",
        "accepted: it registers as user \"jack\" until 20",
        "Z, leeway included, for the events [\"news\", \"order.*\"]",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    // Without --event it holds for all.
    let (_, told) = settings.inspect(&settings.made(&["--user", "jack"]));
    assert!(told.contains("for the events [\"*\"]"), "{told}");
}

#[test]
fn an_inspection_names_what_is_wrong() {
    let settings = Settings::new(SECRET, "audience = \"listeners\"\nleeway = \"0s\"");
    let elsewhere = Settings::new(SECRET, "audience = \"chat\"");
    let forged = Settings::new("another-secret-of-more-than-32-bytes", "audience = \"listeners\"");
    let user = ["--user", "jack"];
    let sign = |changes: Value| hs256(SECRET.as_bytes(), &claims(&changes));
    let good = settings.made(&user);
    for (token, expected) in [
        (elsewhere.made(&user), "refused: its aud contains none of the configured audiences"),
        (forged.made(&user), "refused: its signature is wrong"),
        (sign(json!({"exp": now() - 3600})), "it has been expired for 1 h"),
        (sign(json!({"exp": now() - 3600})), "refused: it expired 360"),
        (sign(json!({"nbf": 32_503_680_000_u64})), "valid from (nbf): 3000-01-01T00:00:00Z"),
        (sign(json!({"sub": null})), "refused: it has no sub"),
        (sign(json!({"sub": "x".repeat(4097)})), "refused: it is "),
        (good.trim().to_owned() + "x", "refused: its signature is wrong"),
        ("canary".to_owned(), "refused: it is not a token: a token has three parts"),
        (String::new(), "error: standard input contains no token"),
        ("x".repeat(100_000), "error: standard input has 65536 bytes or more"),
    ] {
        let (code, told) = settings.inspect(&token);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(!told.contains("accepted") && !told.contains(SECRET), "{told}");
    }
    // What no calendar holds is shown as the last moment that one does.
    let (code, told) = settings.inspect(&sign(json!({"exp": i64::MAX})));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("valid until (exp): 9999-12-31T23:59:59Z"), "{told}");
    // A terminal takes no orders from a token.
    let (_, told) = settings.inspect(&sign(json!({"sub": "a\u{9b}2J\u{7f}"})));
    assert!(told.contains("\\u{9b}") && !told.contains(['\u{9b}', '\u{7f}']), "{told}");
}

#[test]
fn without_keys_a_token_is_only_read() {
    let token = Settings::new(SECRET, "audience = \"push\"").made(&["--user", "jack"]);
    let (code, told) = inspect(&[], format!("\n{token}\n"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"sub\": \"jack\""), "{told}");
    assert!(told.contains("problem: its signature was not verified"), "{told}");
    assert!(told.contains("help: with --config FILE"), "{told}");
    let (code, told) = inspect(&[], [0xff, 0xfe]);
    assert_eq!(code, Some(1));
    assert!(told.contains("UTF-8"), "{told}");
    // It is taken from standard input alone.
    let output = command().args(["token", "inspect", token.trim()]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}

#[test]
fn the_issuers_private_key_signs() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let (public, private) =
        (file("public.pem", pair.public_key_pem()), file("private.pem", pair.serialize_pem()));
    let content = format!("[jwt]\npublic_key_file = {:?}\naudience = \"any\"\n", public.path());
    let config = file("token-key.toml", content);
    let make = |key: &File| {
        let flags = ["token", "make", "--config", config.path(), "--user", "jack"];
        command().args(flags).args(["--key-file", key.path(), "--key-id", "k1"]).output().unwrap()
    };
    let output = make(&private);
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{output:?}");
    let (code, told) = inspect(&["--config", config.path()], output.stdout);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"kid\": \"k1\"") && told.contains("for every event"), "{told}");
    // Somebody else's key makes a token too, and it is told at once what it is worth.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let output = make(&file("other.pem", other.serialize_pem()));
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told,
        "warning: a server with these settings would refuse it: its signature is \
                      wrong\n"
    );
}

#[test]
fn what_makes_no_token_is_told() {
    let plain = Settings::new(SECRET, "audience = \"push\"");
    for (output, expected) in [
        (plain.make(&[]), "--user <USER>"),
        (plain.make(&["--user", ""]), "--user <USER>"),
        (plain.make(&["--user", "jack", "--for", "10ms"]), "at least one second"),
        (plain.make(&["--user", "jack", "--event", "news"]), "--event needs jwt_events_claim"),
        (plain.make(&["--user", "jack", "--key-file", "/no/such"]), "--key-file /no/such"),
        (
            Settings::new("canary-short", "audience = \"push\"").make(&["--user", "jack"]),
            "the secret has 12 bytes, but needs at least 32",
        ),
        (Settings::new(SECRET, "").make(&["--user", "jack"]), "jwt_audience is missing"),
        (
            command().args(["token", "make", "--user", "jack"]).output().unwrap(),
            "the settings have no jwt_secret_file; name the issuer's private key with --key-file",
        ),
        (command().arg("token").output().unwrap(), "inspect"),
    ] {
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{expected}: {told}");
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

/// What turns the direction of writing around would show another user than the token's.
#[test]
fn a_strangers_token_turns_no_line_around() {
    let claims = json!({"sub": "jack\u{202e}toor", "note": "\u{200b}\u{feff}\u{1b}[2J"});
    let token = crate::judge::unsigned(&json!({"alg": "HS256"}), &claims) + "AAAA";
    let (_, told) = inspect(&[], &token);
    assert!(told.contains(r"jack\u{202e}toor"), "{told}");
    for hidden in ['\u{202e}', '\u{200b}', '\u{feff}', '\u{1b}'] {
        assert!(!told.contains(hidden), "{told:?}");
    }
}
