//! Where a publisher's scope, identity and rate end: what it is told, what is repeated to it, and what
//! one request may be.

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::api::ask;
use crate::harness::Server;
use crate::judge::{SECRET, claims, hs256};
use crate::raw::{Answer, Frame, Raw, Socket, post, push_body};
use crate::secure::publisher;
use crate::settings::{File, file};

const SHOP_KEY: &str = "canary-shop-0123456789";
const FIRST_KEY: &str = "canary-first-0123456789";
const SECOND_KEY: &str = "canary-second-0123456789";

/// A server with every way to be a publisher, and the files of its settings.
fn start() -> (Server, [File; 3]) {
    let keys = file("push-keys", format!("{FIRST_KEY}\n{SECOND_KEY}\n"));
    let secret = file("push-jwt-secret", SECRET);
    let config = file(
        "scope.toml",
        format!(
            "push_key_file = '{}'\n{}[push_jwt]\nsecret_file = '{}'\naudience = 'publishers'\n",
            keys.path(),
            publisher("shop", SHOP_KEY),
            secret.path()
        ),
    );
    (Server::start_with(&["--config", config.path()], &[]), [config, keys, secret])
}

/// A publisher's token, with these changes.
fn token(changes: &Value) -> String {
    let mut said = json!({"sub": "shop", "aud": "publishers", "users": ["*"], "events": ["*"]});
    said.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    hs256(SECRET.as_bytes(), &claims(&said))
}

fn body(message: &str) -> String {
    json!({"user": "jack", "event": "news", "message": message}).to_string()
}

fn push(server: &Server, bearer: &str, key: &str, body: impl AsRef<[u8]>) -> (Answer, Value) {
    let bearer = format!("Bearer {bearer}");
    let headers = [("authorization", &*bearer), ("idempotency-key", key)];
    ask(server, "POST", "/v2/push", &headers, body)
}

#[test]
fn an_idempotency_key_belongs_to_one_identity() {
    let (server, _files) = start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let publishers = [
        SHOP_KEY.to_owned(),
        FIRST_KEY.to_owned(),
        SECOND_KEY.to_owned(),
        token(&json!({})),
        token(&json!({"sub": 7})),
        token(&json!({"sub": "7"})),
        token(&json!({"sub": null, "jti": "one"})),
        token(&json!({"sub": null, "jti": "two"})),
        token(&json!({"sub": "shop", "iss": "https://other.example"})),
    ];
    for (number, bearer) in publishers.iter().enumerate() {
        let (answer, told) = push(&server, bearer, "a", body(&number.to_string()));
        assert_eq!((answer.status, &told["written"]), (200, &json!(1)), "{number} {told}");
        assert_eq!(answer.header("idempotency-replayed"), None, "{number}");
        assert_eq!(socket.next(), Frame::new(Opcode::Text, &*number.to_string()));
    }
    for (number, bearer) in publishers.iter().enumerate() {
        let (answer, _) = push(&server, bearer, "a", body(&number.to_string()));
        assert_eq!(answer.header("idempotency-replayed"), Some("true"), "{number}");
    }
    socket.sync();
}

#[test]
fn nothing_is_repeated_beyond_a_scope() {
    let (server, _files) = start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let wide = token(&json!({}));
    assert_eq!(push(&server, &wide, "a", body("m")).0.status, 200);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    // The same subject, which may not push it.
    for scope in [json!({"events": ["post"]}), json!({"users": ["rose"]})] {
        let (answer, problem) = push(&server, &token(&scope), "a", body("m"));
        assert_eq!((answer.status, &problem["status"]), (403, &json!(403)), "{scope}");
        assert_eq!(problem["type"], "urn:wserver:problem:out_of_scope");
    }
    // One which may, and is told nothing that was told to a wider one.
    let (answer, _) = push(&server, &token(&json!({"events": ["news"]})), "a", body("m"));
    assert_eq!(answer.status, 422);
    let again = token(&json!({"jti": "renewed"}));
    let (answer, _) = push(&server, &again, "a", body("m"));
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    socket.sync();
}

#[test]
fn events_beyond_a_scope_are_not_told() {
    let (server, _files) = start();
    let mut socket = Socket::registered(&server, "jack", "invoice.8841-overdue");
    socket.register("jack", "post");
    let narrow = token(&json!({"events": ["post*"]}));
    let wanted = json!({"user": "jack", "event": "post.x", "message": "m"}).to_string();
    let bearer = format!("Bearer {narrow}");
    let key = ("authorization", &*bearer);
    let (_, told) = ask(&server, "POST", "/v2/push", &[key], &wanted);
    assert_eq!(told["reason"], "no_registration_for_event");
    assert_eq!(told["events"], json!(["post"]), "{told}");
    let v1 = push_body("jack", "post.x", "m");
    let json = [key, ("accept", "application/json")];
    let (_, told) = ask(&server, "POST", "/push", &json, v1);
    assert_eq!(told["events"], json!(["post"]), "{told}");
    let many = json!({"users": ["jack"], "event": "post.x", "message": "m"});
    let (_, told) = ask(&server, "POST", "/v2/push", &[key], many.to_string());
    assert_eq!(told["results"][0]["events"], json!(["post"]), "{told}");
    let batch = format!("{{\"pushes\":[{wanted}]}}");
    let (_, told) = ask(&server, "POST", "/v2/push/batch", &[key], batch);
    assert_eq!(told["results"][0]["answer"]["events"], json!(["post"]), "{told}");
    // What would tell more is not for publishers.
    for target in ["/v2/explain?user=jack&event=post", "/v2/trace?user=jack"] {
        assert_eq!(ask(&server, "GET", target, &[key], "").0.status, 403, "{target}");
    }
}

/// A thousand names of four kilobytes make no answer of half a gigabyte.
#[test]
fn events_in_one_answer_are_bounded() {
    let server = Server::start_with(&["--names-per-connection-bytes-max", "1MiB"], &[]);
    let mut socket = Socket::open(&server);
    let name = |number: usize| format!("{number:03}{}", "x".repeat(4000));
    for number in 0..100 {
        socket.register("jack", &name(number));
    }
    let body = json!({"users": ["jack", "jack"], "event": "none", "message": "m"}).to_string();
    let (answer, told) = ask(&server, "POST", "/v2/push", &[], body);
    assert_eq!(told["reason"], "no_registration_for_event");
    assert!(answer.body.len() < 300_000, "{}", answer.body.len());
    assert!(answer.body.len() > 200_000, "{}", answer.body.len());
}

#[test]
fn the_users_of_a_batch_are_bounded_in_all() {
    let server = Server::start_with(&["--batch-pushes-max", "4"], &[]);
    let mut socket = Socket::registered(&server, "a", "news");
    let push = |users: &[&str]| json!({"users": users, "event": "news", "message": "m"});
    let batch = |pushes: Value| json!({"pushes": pushes}).to_string();
    let target = "/v2/push/batch";
    let good = batch(json!([push(&["a", "b"]), push(&["c", "d"])]));
    assert_eq!(ask(&server, "POST", target, &[], good).0.status, 200);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    let (answer, problem) = ask(
        &server,
        "POST",
        target,
        &[],
        batch(json!([push(&["a", "b"]), push(&["c", "d", "e"])])),
    );
    assert_eq!(answer.status, 400);
    assert_eq!(problem["type"], "urn:wserver:problem:too_many_items");
    assert_eq!((&problem["limit"], &problem["setting"]), (&json!(4), &json!("batch_pushes_max")));
    assert_eq!(
        problem["detail"],
        "the pushes name more than 4 users in total, the limit batch_pushes_max"
    );
    // Nobody got any of it.
    socket.sync();
}

#[test]
fn a_rate_refuses_before_anything_is_pushed() {
    let content = publisher("shop", SHOP_KEY) + "pushes_per_second = 1\nburst = 5\n";
    let config = file("rates.toml", content);
    let server = Server::start_with(&["--config", config.path()], &[]);
    let mut socket = Socket::registered(&server, "a", "news");
    let bearer = format!("Bearer {SHOP_KEY}");
    let ask = |target: &str, body: Value| {
        ask(&server, "POST", target, &[("authorization", &*bearer)], body.to_string())
    };
    let push = |users: &[&str]| json!({"users": users, "event": "news", "message": "m"});
    // More than there ever is, as users of one push and as a batch.
    for (target, body) in [
        ("/v2/push", push(&["a", "b", "c", "d", "e", "f"])),
        ("/v2/push/batch", json!({"pushes": [push(&["a", "b", "c"]), push(&["d", "e", "f"])]})),
    ] {
        let (answer, problem) = ask(target, body);
        assert_eq!(answer.status, 400, "{problem}");
        assert_eq!(problem["type"], "urn:wserver:problem:too_many_items");
        assert_eq!(
            (&problem["limit"], &problem["setting"]),
            (&json!(5), &json!("publisher.burst"))
        );
    }
    // More than there is now: two were spent on asking.
    let (answer, problem) = ask("/v2/push", push(&["a", "b", "c", "d", "e"]));
    assert_eq!(answer.status, 429, "{problem}");
    assert_eq!(problem["type"], "urn:wserver:problem:push_rate");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    socket.sync();
}

/// The header means the same on the path of version 1, told as text or as JSON.
#[test]
fn version_1_repeats_no_push_either() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let body = |message: &str| push_body("jack", "news", message);
    // Both ways of a push: express takes the first, and hyper what comes with `TE`.
    for (key, more) in [("a", &[][..]), ("b", &[("te", "trailers")][..])] {
        let mut raw = Raw::connect(&server);
        let headers = [&[("idempotency-key", key)][..], more].concat();
        for replayed in [None, Some("true"), Some("true")] {
            raw.send(post(&headers, body(key)));
            let answer = raw.answer();
            assert_eq!((answer.status, &*answer.body), (200, "message sent to 1 clients"));
            assert_eq!(answer.header("idempotency-replayed"), replayed);
        }
        raw.send(post(&headers, body("other")));
        assert_eq!(raw.answer().status, 422);
        assert_eq!(socket.next(), Frame::new(Opcode::Text, key));
    }
    let json = [("idempotency-key", "a"), ("accept", "application/json")];
    let (answer, told) = ask(&server, "POST", "/push", &json, body("a"));
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    assert_eq!((&told["written"], told["id"].is_string()), (&json!(1), true), "{told}");
    // One key is for one path.
    let v2 = [("idempotency-key", "a")];
    assert_eq!(ask(&server, "POST", "/v2/push", &v2, self::body("a")).0.status, 422);
    let mut raw = Raw::connect(&server);
    raw.send(post(&[("idempotency-key", "a b")], body("m")));
    let answer = raw.answer();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, "request data illegal");
    assert!(answer.error().starts_with("Idempotency-Key must come once"), "{answer:?}");
    socket.sync();
}
