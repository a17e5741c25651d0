//! TLS, the private address and publishers by name, and their rotation under live connections.

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, Issuer, KeyPair};
use wserver_client::{Client, Pusher};

use crate::harness::{PATIENCE, Server, command, eventually};
use crate::raw::{End, Raw, push_request};
use crate::settings::{File, file};

const OLD_KEY: &str = "canary-old-key-0123456789";
const NEW_KEY: &str = "canary-new-key-0123456789";

/// A certificate for localhost and its key, in PEM.
pub(crate) fn certificate() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

/// The hash that `wserver key` would print.
fn hash(key: &str) -> String {
    wserver_auth::PublisherKeyHash::of(key).to_string()
}

/// The lines of a publisher who may push news.
pub(crate) fn publisher(name: &str, key: &str) -> String {
    format!("[[publisher]]\nname = \"{name}\"\nkey_hash = \"{}\"\nevents = [\"news\"]\n", hash(key))
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

struct Files {
    certificate: File,
    key: File,
}

impl Files {
    fn new() -> (Self, String) {
        let (certificate, key) = certificate();
        let files =
            Self { certificate: file("tls.pem", &certificate), key: file("tls-key.pem", key) };
        (files, certificate)
    }

    fn flags(&self) -> [&str; 4] {
        let (certificate, key) = (self.certificate.path(), self.key.path());
        ["--tls-certificate-file", certificate, "--tls-key-file", key]
    }
}

/// What `wserver key` prints is a settings file, and the key in its comment opens the server.
#[tokio::test]
async fn a_key_that_was_made_may_push() {
    let made = || {
        let output = command().arg("key").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = made();
    assert_ne!(printed, made());
    let key = printed.lines().find_map(|line| line.strip_prefix("# wsk_")).unwrap();
    let config = file("made.toml", &printed);
    let server = Server::start_with(&["--config", config.path()], &[]);
    let pusher = Pusher::new(&format!("http://{}/push", server.address)).unwrap();
    assert!(pusher.push("jack", "news", "m").await.is_err(), "without the key");
    let pusher = pusher.with_key(&format!("wsk_{key}")).unwrap();
    assert_eq!(pusher.push("jack", "news", "m").await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_keys_are_rotated_under_a_live_connection() {
    let (files, old_certificate) = Files::new();
    let config = file("secure.toml", publisher("shop", OLD_KEY));
    let flags = [
        &["--config", config.path(), "--private-address", "127.0.0.1:0"][..],
        &["--reload-interval", "0", "--log", "trace"],
        &files.flags(),
    ]
    .concat();
    let mut server = Server::start_with(&flags, &[]);
    let url = format!("wss://localhost:{}/ws", server.address.port());
    let mut log = server.follow_log();
    let line = log.until("pushes have a separate address");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let push_url = format!("http://127.0.0.1:{}/push", port(line["address"].as_str().unwrap()));

    let client = Client::new(&url).unwrap().with_ca_pem(old_certificate.as_bytes()).unwrap();
    let mut first = client.open().await.unwrap();
    first.register("jack", "news").await.unwrap();
    let old = Pusher::new(&push_url).unwrap().with_key(OLD_KEY).unwrap();
    while old.push("jack", "news", "old key").await.unwrap() == 0 {}
    assert_eq!(first.next_text(PATIENCE).await.unwrap(), "old key");
    assert!(old.push("jack", "chat", "m").await.is_err(), "another event");

    let (certificate, key) = certificate();
    files.certificate.replace(&certificate);
    files.key.replace(key);
    config.replace(publisher("shop", OLD_KEY) + &publisher("shop-next", NEW_KEY));
    server.signal("HUP");
    log.until(r#""changed":"publisher, tls_certificate_file, tls_key_file""#);
    let new = Pusher::new(&push_url).unwrap().with_key(NEW_KEY).unwrap();
    for pusher in [&old, &new] {
        assert_eq!(pusher.push("jack", "news", "both keys").await.unwrap(), 1);
        assert_eq!(first.next_text(PATIENCE).await.unwrap(), "both keys");
    }
    assert!(client.open().await.is_err(), "the old certificate is not shown any more");
    let client = Client::new(&url).unwrap().with_ca_pem(certificate.as_bytes()).unwrap();
    let mut second = client.open().await.unwrap();
    second.register("jack", "news").await.unwrap();
    config.replace(publisher("shop-next", NEW_KEY));
    server.signal("HUP");
    log.until(r#""changed":"publisher""#);
    assert!(old.push("jack", "news", "old key").await.is_err());
    while new.push("jack", "news", "new key").await.unwrap() < 2 {}
    assert_eq!(first.next_text(PATIENCE).await.unwrap(), "new key");
    assert_eq!(second.next_text(PATIENCE).await.unwrap(), "new key");

    // What is wrong changes nothing.
    files.key.replace("canary-nonsense");
    server.signal("HUP");
    log.until("settings not reloaded");
    assert!(client.open().await.is_ok());
    server.signal("TERM");
    drop((first, second));
    let log = log.rest();
    assert!(!log.contains("canary"), "{log}");
}

/// A reload is no new burst for who has used his up.
#[tokio::test]
async fn pushes_are_counted_on_over_a_reload() {
    const BURST: usize = 50;
    let rate = format!("pushes_per_second = 1\nburst = {BURST}\n");
    let content = |key: &str| publisher("shop", OLD_KEY) + &rate + &publisher("blog", key) + &rate;
    let config = file("rate.toml", content("canary-a-0123456789"));
    let flags = ["--config", config.path(), "--reload-interval", "0"];
    let mut server = Server::start_with(&flags, &[]);
    let mut log = server.follow_log();
    let url = format!("http://{}/push", server.address);
    let pusher = Pusher::new(&url).unwrap().with_key(OLD_KEY).unwrap();
    let passed = async || {
        let mut passed = 0;
        while pusher.push("jack", "news", "m").await.is_ok() {
            passed += 1;
        }
        passed
    };
    assert!(passed().await >= BURST);
    config.replace(content("canary-b-0123456789"));
    server.signal("HUP");
    log.until(r#""changed":"publisher""#);
    // One for each second that has gone by.
    assert!(passed().await < BURST, "the burst begins anew");
}

/// Who forgets the `s` of https is told so, and who stalls has the time of a head.
#[test]
fn what_is_no_tls_is_not_served() {
    let (files, _) = Files::new();
    let server =
        Server::start_with(&[&files.flags()[..], &["--header-timeout", "300ms"]].concat(), &[]);
    let mut raw = Raw::connect(&server);
    raw.send(push_request("jack", "news", "m"));
    let answer = raw.answer();
    assert_eq!(answer.status, 400);
    assert!(answer.body.ends_with("use https:// or wss:// to reach it"), "{answer:?}");
    // The head of a handshake's record, which announces more than comes; and nothing at all.
    for begun in [&[22, 3, 1, 2, 0, 1, 0][..], &[]] {
        let mut raw = Raw::connect(&server);
        raw.send(begun);
        assert_eq!(raw.end(), End::Eof, "{begun:?}");
    }
}

/// A certificate for localhost of an authority that is made for it, and its key; and the authority.
fn signed_certificate() -> (String, String, String) {
    let [authority, own] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = params.self_signed(&authority).unwrap().pem();
    let issuer = Issuer::new(params, authority);
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap().pem();
    (certificate, own.serialize_pem(), authority_pem)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_by_client_certificates() {
    let (files, authority) = Files::new();
    let [member, stranger] = [(); 2].map(|()| signed_certificate());
    let members = file("members.pem", &member.2);
    let flags = [
        "--private-address",
        "127.0.0.1:0",
        "--private-tls-certificate-file",
        files.certificate.path(),
        "--private-tls-key-file",
        files.key.path(),
        "--private-client-ca-file",
        members.path(),
    ];
    let mut server = Server::start_with(&flags, &[]);
    let mut log = server.follow_log();
    let line = log.until("pushes have a separate address");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let url = format!("https://localhost:{}/push", port(line["address"].as_str().unwrap()));
    let pusher = Pusher::new(&url).unwrap().with_ca_pem(authority.as_bytes()).unwrap();
    let by = |(certificate, key, _): &(String, String, String)| {
        pusher.clone().with_identity_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
    };
    assert_eq!(by(&member).push("jack", "news", "m").await.unwrap(), 0);
    assert!(by(&stranger).push("jack", "news", "m").await.is_err(), "of another authority");
    assert!(pusher.push("jack", "news", "m").await.is_err(), "without a certificate");
}

#[test]
fn a_private_address_may_be_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("wserver-it-{}.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let _server = Server::start_with(&["--private-address", &unix], &[]);
    eventually("the socket is there", || path.exists());
}

#[test]
fn mistakes_are_told() {
    let (files, _) = Files::new();
    let tls =
        |certificate: &str, rest: &str| format!("tls_certificate_file = '{certificate}'\n{rest}");
    let path = files.certificate.path();
    for (content, expected) in [
        (tls(path, ""), "tls_key_file is missing"),
        (format!("tls_key_file = '{path}'"), "tls_certificate_file is missing"),
        (format!("tls_client_ca_file = '{path}'"), "needs tls_certificate_file"),
        (tls(path, &format!("tls_key_file = '{path}'")), "tls_key_file"),
        (tls("/no/such", "tls_key_file = '/no/such'"), "No such file"),
        (
            format!(
                "private_tls_certificate_file = '{path}'\nprivate_tls_key_file = '{}'",
                files.key.path()
            ),
            "needs a private_address",
        ),
        ("private_address = 'nonsense'".to_owned(), "private_address"),
        (
            format!("[[publisher]]\nname = 'a'\nkey_hash = '{OLD_KEY}'"),
            "key_hash cannot be used: write sha256: and 64 hexadecimal digits",
        ),
        ("[[publisher]]\nname = 'a'".to_owned(), "key_hash is missing"),
        (publisher("a b", OLD_KEY), "the name of publisher 1 must be"),
        (publisher("a", OLD_KEY) + &publisher("a", NEW_KEY), "publisher a is listed twice"),
        (publisher("a", OLD_KEY) + &publisher("b", OLD_KEY), "publisher b has the same key as"),
        (publisher("a", OLD_KEY) + "users = []", "publisher a: users: the list is empty"),
        (publisher("a", OLD_KEY) + "users = ['']", "publisher a: users: a pattern is empty"),
        (publisher("a", OLD_KEY) + "users = ['a.*.b']", "has a * before its end"),
        (publisher("a", OLD_KEY).replace("news", "*news"), "publisher a: events: the pattern"),
        (publisher("a", OLD_KEY) + "burst = 3", "burst needs pushes_per_second"),
        (publisher("a", OLD_KEY) + "pushes_per_second = 0", "pushes_per_second must be at least 1"),
        (publisher("a", OLD_KEY) + "expires_at = 'soon'", "write a time such as 2027-01-31"),
    ] {
        let config = file("secure-bad.toml", &content);
        let output = command().args(["check", "--config", config.path()]).output().unwrap();
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(64), "{content}: {told}");
        assert!(told.contains(expected), "{content}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
}
