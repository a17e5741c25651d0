//! Secrets of tokens, of a backend and of TLS, in good places and bad: nothing of them is told by the
//! log at any level, by an error, by `check` and `config`, or by the list of processes.

use serde_json::json;
use wserver_client::{Client, Pusher};

use crate::backend::{Asked, Backend, Reply};
use crate::harness::{Log, PATIENCE, Server, command};
use crate::judge::{SECRET, claims, hs256, now, unsigned};
use crate::settings::{File, file};

const PUSH_SECRET: &str = "canary-of-publishers-0123456789-0123456789";
const CALLBACK_SECRET: &str = "canary-of-the-callback";

/// Everything that nobody may be told.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    /// A token, and each part of it that says more than the algorithm.
    fn add_token(&mut self, token: String) -> String {
        let parts = token.split('.').skip(1).filter(|part| part.len() > 20);
        self.0.extend(parts.map(str::to_owned));
        self.0.push(token.clone());
        token
    }

    /// The body of a private key, line by line.
    fn add_key(&mut self, pem: &str) {
        let before = self.0.len();
        self.0.extend(pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
        assert!(self.0.len() > before + 1, "a key has lines");
    }

    fn check(&self, told: &str) {
        for line in told.lines() {
            assert!(!line.contains("canary"), "{line}");
            for secret in &self.0 {
                assert!(!line.contains(secret), "{secret:?} in {line}");
            }
        }
    }

    /// What `check`, or the server itself, says of settings that are wrong.
    fn check_mistake(&self, config: &File) {
        for arguments in [&["check", "--config", config.path()][..], &["--config", config.path()]] {
            let output = command().args(arguments).output().unwrap();
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(64), "{told}");
            self.check(&told);
        }
    }
}

/// Knows one token, and has something to say about all.
fn backend(asked: &Asked) -> Reply {
    let reply = |token: &str| match token {
        "canary-session" => (200, json!({"userId": "rose", "more": "canary"}).to_string()),
        "canary-failing" => (500, "canary".to_owned()),
        "canary-nonsense" => (200, "canary".to_owned()),
        _ => (401, "canary".to_owned()),
    };
    let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let (status, body) = reply(body["token"].as_str().unwrap());
    Reply::Say(status, body)
}

struct Parts {
    secret: File,
    push_secret: File,
    callback_secret: File,
    certificate: File,
    key: File,
    backend: Backend,
}

impl Parts {
    fn content(&self) -> String {
        format!(
            "tls_certificate_file = '{}'\ntls_key_file = '{}'\n\
             [jwt]\nsecret_file = '{}'\naudience = 'listeners'\n\
             [push_jwt]\nsecret_file = '{}'\naudience = 'publishers'\n\
             [callback]\nurl = '{}'\nsecret_file = '{}'\ncache_for = 0\n",
            self.certificate.path(),
            self.key.path(),
            self.secret.path(),
            self.push_secret.path(),
            self.backend.url("/"),
            self.callback_secret.path(),
        )
    }
}

/// Listeners and publishers with tokens good and bad; each is waited for.
async fn visit(server: &Server, log: &mut Log, authority: &str, secrets: &mut Secrets) {
    let port = server.address.port();
    let client = Client::new(&format!("wss://localhost:{port}/ws")).unwrap();
    let client = client.with_ca_pem(authority.as_bytes()).unwrap();
    let mut connection = client.open().await.unwrap();
    let good = secrets.add_token(hs256(SECRET.as_bytes(), &claims(&json!({}))));
    for token in [&good, "canary-session"] {
        connection.register(token, "news").await.unwrap();
        log.until(r#"registered"#);
    }
    for bad in [
        hs256(SECRET.as_bytes(), &claims(&json!({"exp": now() - 40}))),
        hs256(SECRET.as_bytes(), &claims(&json!({"aud": "others"}))),
        hs256(PUSH_SECRET.as_bytes(), &claims(&json!({}))),
        unsigned(&json!({"alg": "none"}), &claims(&json!({}))),
        format!("{good}x"),
        "canary-unknown".to_owned(),
        "canary-failing".to_owned(),
        "canary-nonsense".to_owned(),
    ] {
        connection.register(&secrets.add_token(bad), "news").await.unwrap();
        log.until("registration refused");
    }
    let publishing = |changes: serde_json::Value| {
        let mut said = claims(&json!({"aud": "publishers", "users": "*", "events": "*"}));
        said.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        hs256(PUSH_SECRET.as_bytes(), &said)
    };
    let pusher = Pusher::new(&format!("https://localhost:{port}/push")).unwrap();
    let pusher = pusher.with_ca_pem(authority.as_bytes()).unwrap();
    let token = secrets.add_token(publishing(json!({})));
    let may = pusher.clone().with_key(&token).unwrap();
    assert_eq!(may.push("jack", "news", "canary-message").await.unwrap(), 1);
    assert_eq!(connection.next_text(PATIENCE).await.unwrap(), "canary-message");
    for bad in [
        publishing(json!({"exp": now() - 40})),
        publishing(json!({"users": null})),
        publishing(json!({"users": "shop"})),
        good,
    ] {
        let pusher = pusher.clone().with_key(&secrets.add_token(bad)).unwrap();
        let refused = pusher.push("jack", "news", "canary-message").await.unwrap_err();
        secrets.check(&refused.to_string());
    }
}

/// Settings that are wrong about secrets, and files that are.
fn check_mistakes(parts: &Parts, config: &File, key: &str, secrets: &Secrets) {
    for (from, to) in [
        ("audience = 'listeners'", "secret = 'canary-in-the-file'"),
        ("audience = 'listeners'", "audience = 'listeners'\nsecret_file = 'canary'"),
        ("[callback]", "[callback]\nsecret = 'canary-in-the-file'"),
        ("[callback]", "[callback]\nsecret = canary-in-the-file"),
        ("[callback]", "[callback\nsecret = 'canary-in-the-file'"),
        ("http://", "https://user:canary@"),
    ] {
        let content = parts.content();
        assert!(content.contains(from), "{content}");
        config.replace(content.replace(from, to));
        secrets.check_mistake(config);
    }
    config.replace(parts.content());
    let half = &key[..key.len() / 2];
    for (file, good, bads) in [
        (&parts.secret, SECRET, &["canary-short", ""][..]),
        (&parts.push_secret, PUSH_SECRET, &["canary-short"]),
        (&parts.callback_secret, CALLBACK_SECRET, &["canary\ncanary", "canary\u{0}", ""]),
        (&parts.key, key, &[half, "canary", &key.replace("PRIVATE KEY", "PUBLIC KEY")]),
    ] {
        for bad in bads {
            file.replace(bad);
            secrets.check_mistake(config);
        }
        file.replace(good);
    }
    // Keys in the places of others.
    for from in ["[jwt]\nsecret_file", "[push_jwt]\nsecret_file"] {
        let table = from.split('\n').next().unwrap();
        for other in ["public_key_file", "jwks_file"] {
            let path = parts.key.path();
            let to = format!("{table}\n{other} = '{path}'\n#");
            config.replace(parts.content().replace(from, &to));
            secrets.check_mistake(config);
        }
    }
    config.replace(parts.content());
}

async fn check_canaries(format: &str) {
    let (certificate, key) = crate::secure::certificate();
    let mut secrets = Secrets::default();
    secrets.add_key(&key);
    let parts = Parts {
        secret: file("s-secret", format!("{SECRET}\n")),
        push_secret: file("s-push-secret", PUSH_SECRET),
        callback_secret: file("s-callback-secret", CALLBACK_SECRET),
        certificate: file("s-certificate.pem", &certificate),
        key: file("s-key.pem", &key),
        backend: Backend::start(backend),
    };
    let config = file("s.toml", parts.content());
    let mut server = Server::spawn(
        command()
            .args(["--config", config.path(), "--log", "trace", "--log-format", format])
            .args(["--address", "127.0.0.1:0", "--reload-interval", "0"]),
    );
    let mut log = server.follow_log();
    visit(&server, &mut log, &certificate, &mut secrets).await;
    check_mistakes(&parts, &config, &key, &secrets);
    for bad in ["canary-short", SECRET] {
        parts.secret.replace(bad);
        server.signal("HUP");
        log.until("settings ");
    }
    for arguments in [&["check", "--config", config.path()][..], &["config"]] {
        let output = command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        secrets.check(&String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    secrets.check(&String::from_utf8_lossy(&arguments));
    server.signal("TERM");
    let log = log.rest();
    for words in ["token refused", "callback failed", "publisher's token refused", "stopped"] {
        assert!(log.contains(words), "the filter lets details through: {words} not in {log}");
    }
    secrets.check(&log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_tokens_and_tls_are_told_nowhere() {
    check_canaries("json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_tokens_and_tls_are_not_told_to_people_either() {
    check_canaries("human").await;
}
