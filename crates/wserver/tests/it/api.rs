//! The HTTP API as its callers speak it, and the stages that several tests are played on.

use serde_json::{Value, json};

use crate::harness::{Server, eventually};
use crate::judge::{SECRET, claims, hs256, now};
use crate::raw::{Answer, Raw, Socket, request};
use crate::settings::{File, file};

impl Raw {
    /// One request and its answer, which must be JSON.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> (Answer, Value) {
        self.send(request(method, target, headers, body));
        let answer = self.answer();
        let kind = answer.header("content-type").unwrap_or_default();
        let expected = match answer.status {
            200 => "application/json",
            _ => "application/problem+json",
        };
        assert_eq!(kind, expected, "{answer:?}");
        let json: Value = serde_json::from_str(&answer.body).expect("JSON");
        if answer.status != 200 {
            assert_eq!(json["status"], answer.status, "{answer:?}");
            let kind = json["type"].as_str().unwrap();
            assert!(kind.starts_with("urn:wserver:problem:"), "{answer:?}");
        }
        (answer, json)
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(
    server: &Server,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> (Answer, Value) {
    Raw::connect(server).ask(method, target, headers, body)
}

/// One request that must be answered with 200.
pub(crate) fn good(server: &Server, method: &str, target: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (answer, json) = ask(server, method, target, &[], body);
    assert_eq!(answer.status, 200, "{method} {target} {answer:?}");
    json
}

/// `POST /push` with JSON for an answer.
pub(crate) fn push_v1(server: &Server, user: &str, event: &str, message: &str) -> Value {
    let body = json!({"userId": user, "event": event, "message": message}).to_string();
    let (answer, json) = ask(server, "POST", "/push", &[("accept", "application/json")], body);
    assert_eq!(answer.status, 200, "{answer:?}");
    json
}

/// `POST /v2/push` with these members beside event and message.
pub(crate) fn push_v2(server: &Server, mut more: Value) -> Value {
    more["event"] = "news".into();
    more["message"] = "m".into();
    good(server, "POST", "/v2/push", &more)
}

/// How many connections a user has.
pub(crate) fn connections(server: &Server, user: &str) -> u64 {
    let online = good(server, "POST", "/v2/presence", &json!({"users": [user]}));
    online["online"][user].as_u64().unwrap()
}

/// Waits until the server has noticed that a user is gone.
pub(crate) fn gone(server: &Server, user: &str) {
    eventually("the user is gone", || connections(server, user) == 0);
}

/// The id of a user's only connection.
pub(crate) fn only_connection(server: &Server, user: &str) -> String {
    let found = good(server, "GET", &format!("/v2/users/{user}/connections"), &Value::Null);
    assert_eq!(found["count"], 1, "{found}");
    found["connections"][0]["id"].as_str().unwrap().to_owned()
}

/// A server whose listeners have tokens that expire, and no leeway.
pub(crate) fn start_with_jwt() -> (Server, File) {
    let secret = file("jwt-secret", SECRET);
    let flags = ["--jwt-secret-file", secret.path(), "--jwt-audience", "any", "--jwt-leeway", "0s"];
    (Server::start_with(&flags, &[]), secret)
}

/// A token for `user` that lasts for so many seconds.
pub(crate) fn jwt(user: &str, seconds: u64) -> String {
    let claims = claims(&json!({"sub": user, "exp": now() + seconds}));
    hs256(SECRET.as_bytes(), &claims)
}

/// A server on which few bytes make a reader too slow.
pub(crate) fn start_with_small_queues() -> Server {
    Server::start_with(
        &[
            "--message-bytes-max=64KiB",
            "--walk-bytes-max=1KiB",
            "--outbox-bytes-max=256KiB",
            "--ping-interval=1h",
        ],
        &[],
    )
}

/// Pushes to a reader that does not read until it is too slow; the answer of the push that found it so.
pub(crate) fn overflow(server: &Server, user: &str) -> (Socket, Value) {
    let mut stalled = Socket::open_on(Raw::connect_small(server));
    stalled.register(user, "news");
    let message = "x".repeat(64 * 1024);
    loop {
        let answer = push_v1(server, user, "news", &message);
        if answer["dropped"] == 1 {
            return (stalled, answer);
        }
        assert_eq!(answer["matched"], 1, "{answer}");
    }
}
