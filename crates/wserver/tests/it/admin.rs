//! Administration: who may, from where, and what it does.

use std::net::UdpSocket;

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::api::{ask, connections, good, only_connection, push_v2};
use crate::harness::{Server, command};
use crate::raw::{Closed, End, Frame, Raw, Socket, request};
use crate::secure::publisher;
use crate::settings::file;

const PUSH_KEY: &str = "canary-push-key-0123456789";
const ADMIN_KEY: &str = "canary-admin-key-0123456789";
const STATIC_KEY: &str = "canary-static-key-0123456789";

/// Every request that administers, and what it is answered with when it may.
fn requests() -> [(&'static str, &'static str, String, u16); 11] {
    [
        ("POST", "/v2/presence", json!({"users": ["jack"]}).to_string(), 200),
        ("GET", "/v2/users/jack/connections", String::new(), 200),
        ("GET", "/v2/connections/999", String::new(), 404),
        ("DELETE", "/v2/connections/999", String::new(), 404),
        ("POST", "/v2/disconnect", json!({"user": "jack"}).to_string(), 200),
        ("POST", "/v2/disconnect", json!({"token": "canary-token"}).to_string(), 200),
        (
            "PUT",
            "/v2/connections/999/registrations",
            json!({"user": "jack", "event": "news"}).to_string(),
            404,
        ),
        ("DELETE", "/v2/connections/999/registrations?user=jack&event=news", String::new(), 404),
        ("GET", "/v2/node", String::new(), 200),
        ("GET", "/v2/explain?user=jack&event=news", String::new(), 200),
        // The stream of a user whose name is too long never begins.
        ("GET", LONG_TRACE, String::new(), 400),
    ]
}

/// A name of five bytes, where four are allowed.
const LONG_TRACE: &str = "/v2/trace?user=abcde";

fn start(flags: &[&str], environment: &[(&str, &str)]) -> Server {
    Server::start_with(&[&["--name-bytes-max", "4"], flags].concat(), environment)
}

/// Each request is answered as one that may.
fn check_may(server: &Server, headers: &[(&str, &str)]) {
    for (method, target, body, status) in requests() {
        // Names are short on these servers.
        let body = if target == "/v2/disconnect" && body.contains("token") {
            String::from(r#"{"token":"tok"}"#)
        } else {
            body
        };
        let (answer, _) = ask(server, method, target, headers, body);
        assert_eq!(answer.status, status, "{method} {target} {headers:?} {answer:?}");
    }
}

/// Each request is refused, before its body is read.
fn check_may_not(server: &Server, headers: &[(&str, &str)], status: u16, kind: &str) {
    for (method, target, body, _) in requests() {
        let mut raw = Raw::connect(server);
        let whole = request(method, target, headers, &body);
        let head = &whole[..whole.len() - body.len()];
        raw.send(head);
        let answer = raw.answer();
        assert_eq!(answer.status, status, "{method} {target} {headers:?} {answer:?}");
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        let expected = format!("urn:wserver:problem:{kind}");
        assert_eq!(problem["type"], expected, "{method} {target} {answer:?}");
        assert_eq!(raw.end(), End::Eof, "{method} {target}");
    }
}

fn publishers() -> String {
    publisher("shop", PUSH_KEY) + &publisher("ops", ADMIN_KEY) + "admin = true\n"
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[test]
fn with_keys_only_an_admins_key_administers() {
    let config = file("admin.toml", publishers());
    let server = start(&["--config", config.path()], &[("WSERVER_PUSH_KEY", STATIC_KEY)]);
    let (push, admin, fixed, wrong) = (
        bearer(PUSH_KEY),
        bearer(ADMIN_KEY),
        bearer(STATIC_KEY),
        bearer("canary-wrong-0123456789"),
    );
    check_may(&server, &[("authorization", &admin)]);
    check_may(&server, &[("x-api-key", ADMIN_KEY), ("host", "push.example.com")]);
    check_may_not(&server, &[], 401, "unauthorized");
    check_may_not(&server, &[("authorization", &wrong)], 401, "unauthorized");
    check_may_not(&server, &[("authorization", &push)], 403, "not_admin");
    check_may_not(&server, &[("authorization", &fixed)], 403, "not_admin");
    // An admin's key is good for pushes as well.
    for key in [&push, &admin, &fixed] {
        let push = json!({"user": "jack", "event": "news", "message": "m"}).to_string();
        let (answer, _) = ask(&server, "POST", "/v2/push", &[("authorization", key)], push);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[test]
fn without_a_key_programs_on_this_machine_administer() {
    for flags in [&[][..], &["--allow-open-push"]] {
        let server = start(flags, &[]);
        check_may(&server, &[]);
        check_may(&server, &[("authorization", "Bearer whatever")]);
        for foreign in [
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "cross-site"),
            ("x-forwarded-for", "127.0.0.1"),
            ("host", "push.example.com"),
        ] {
            check_may_not(&server, &[foreign], 403, "admin_needs_key");
        }
    }
}

/// `allow_open_push` is about pushes. A `Host` can be made up, so the address counts too.
#[test]
fn open_pushes_open_no_administration_to_others() {
    let elsewhere = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: it tells which address this machine has for others.
    let has_route = elsewhere.connect("192.0.2.1:9").is_ok();
    let own = elsewhere.local_addr().unwrap().ip();
    let mut server =
        Server::start_at("0.0.0.0:0", &["--allow-open-push", "--name-bytes-max", "4"], &[]);
    if has_route && !own.is_loopback() {
        server.address.set_ip(own);
        check_may_not(&server, &[("host", "localhost")], 403, "admin_needs_key");
        assert_eq!(push_v2(&server, json!({"user": "jack"}))["reason"], "user_offline");
    } else {
        eprintln!("this machine has no address but loopback: one half is left out");
    }
    server.address.set_ip([127, 0, 0, 1].into());
    check_may(&server, &[]);
    check_may_not(&server, &[("host", "push.example.com")], 403, "admin_needs_key");
}

#[test]
fn with_a_private_address_the_public_one_knows_nothing_of_it() {
    let config = file("admin-private.toml", publishers());
    let flags = ["--config", config.path(), "--private-address", "127.0.0.1:0"];
    let mut server = start(&flags, &[]);
    let mut log = server.follow_log();
    let line: Value = serde_json::from_str(&log.until("pushes have a separate address")).unwrap();
    let admin = bearer(ADMIN_KEY);
    for (method, target, body, _) in requests() {
        let mut raw = Raw::connect(&server);
        raw.send(request(method, target, &[("authorization", &admin)], body));
        assert_eq!(raw.answer().status, 404, "{method} {target}");
    }
    for target in ["/push", "/v2/push", "/openapi.json"] {
        let mut raw = Raw::connect(&server);
        raw.send(request("POST", target, &[("authorization", &admin)], ""));
        assert_eq!(raw.answer().status, 404, "{target}");
    }
    server.address = line["address"].as_str().unwrap().parse().unwrap();
    check_may(&server, &[("authorization", &admin)]);
    check_may_not(&server, &[], 401, "unauthorized");
}

#[test]
fn a_key_that_was_made_for_it_administers() {
    let output = command().args(["key", "--admin"]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let key = printed.lines().find_map(|line| line.strip_prefix("# wsk_")).unwrap();
    let config = file("admin-made.toml", &printed);
    let server = start(&["--config", config.path()], &[]);
    check_may(&server, &[("authorization", &format!("Bearer wsk_{key}"))]);
}

#[test]
fn presence_and_connections_are_told() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack/é", "news");
    socket.register("jack/é", "chat");
    socket.register("jill", "news");
    let online =
        good(&server, "POST", "/v2/presence", &json!({"users": ["jack/é", "joe", "jill"]}));
    assert_eq!(online, json!({"online": {"jack/é": 1, "jill": 1, "joe": 0}}));
    let found = good(&server, "GET", "/v2/users/jack%2F%C3%A9/connections", &Value::Null);
    assert_eq!(found["count"], 1);
    let connection = &found["connections"][0];
    let id = connection["id"].as_str().unwrap();
    let mut alone = good(&server, "GET", &format!("/v2/connections/{id}"), &Value::Null);
    let mut events: Vec<&str> = alone["registrations"]["jack/é"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    events.sort_unstable();
    assert_eq!(events, ["chat", "news"]);
    assert_eq!(alone["registrations"]["jill"], json!(["news"]));
    assert_eq!(alone["peer"], socket.raw.stream.local_addr().unwrap().to_string());
    assert_eq!(alone["queued_bytes"], 0);
    assert!(alone["age_seconds"].is_u64() && alone["silent_seconds"].is_u64(), "{alone}");
    assert!(alone["written_bytes"].take().as_u64() > Some(0));
    let node = good(&server, "GET", "/v2/node", &Value::Null);
    assert_eq!(
        (&node["connections"], &node["users"], &node["registrations"]),
        (&json!(1), &json!(2), &json!(3))
    );
    assert_eq!(
        (&node["is_draining"], &node["version"]),
        (&json!(false), &json!(env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn connections_are_closed_by_user_event_connection_and_token() {
    let tokens = file("admin-tokens", "canary-one jack\ncanary-two jack\ncanary-rose rose\n");
    let mut server = Server::start_with(&["--tokens-file", tokens.path(), "--log", "trace"], &[]);
    let log = server.follow_log();
    let disconnected = Closed { code: 1000, reason: "disconnected by the server".to_owned() };
    let disconnect =
        |body: Value| good(&server, "POST", "/v2/disconnect", &body)["closed"].as_u64();

    let mut one = Socket::registered(&server, "canary-one", "news");
    let mut two = Socket::registered(&server, "canary-two", "chat");
    assert_eq!(disconnect(json!({"token": "canary-nobody"})), Some(0));
    assert_eq!(disconnect(json!({"token": "canary-one"})), Some(1));
    assert_eq!(one.closed(), disconnected);
    assert_eq!(disconnect(json!({"user": "jack", "event": "news"})), Some(0));
    assert_eq!(disconnect(json!({"user": "jack", "event": "chat"})), Some(1));
    assert_eq!(two.closed(), disconnected);

    let mut three = Socket::registered(&server, "canary-one", "news");
    let id = only_connection(&server, "jack");
    assert_eq!(disconnect(json!({"connection": id})), Some(1));
    assert_eq!(three.closed(), disconnected);
    let mut four = Socket::registered(&server, "canary-one", "news");
    let id = only_connection(&server, "jack");
    let closed = good(&server, "DELETE", &format!("/v2/connections/{id}"), &Value::Null);
    assert_eq!(closed, json!({"closed": 1}));
    assert_eq!(four.closed(), disconnected);
    let mut many = [(); 3].map(|()| Socket::registered(&server, "canary-two", "news"));
    let mut rose = Socket::registered(&server, "canary-rose", "news");
    assert_eq!(disconnect(json!({"user": "jack"})), Some(3));
    for socket in &mut many {
        assert_eq!(socket.closed(), disconnected);
    }
    // What is wrong about a token is told without it.
    let (answer, _) = ask(&server, "POST", "/v2/disconnect", &[], r#"{"token":["canary-one"]}"#);
    assert!(answer.status == 400 && !answer.body.contains("canary"), "{answer:?}");
    rose.sync();
    server.signal("TERM");
    drop(rose);
    let log = log.rest();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn registrations_are_made_and_ended_from_here() {
    let server = Server::start_with(&["--bindings-per-connection-max", "2"], &[]);
    let mut socket = Socket::registered(&server, "jack", "chat");
    let id = only_connection(&server, "jack");
    let target = format!("/v2/connections/{id}/registrations");
    let put = |user: &str, event: &str| {
        ask(&server, "PUT", &target, &[], json!({"user": user, "event": event}).to_string())
    };
    assert_eq!(put("jill", "news").1, json!({"changed": true}));
    assert_eq!(put("jill", "news").1, json!({"changed": false}));
    assert_eq!(push_v2(&server, json!({"user": "jill"}))["written"], 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    let (answer, problem) = put("jill", "more");
    assert_eq!((answer.status, &problem["setting"]), (409, &json!("bindings_per_connection_max")));
    for changed in [true, false] {
        let target = format!("{target}?user=jill&event=news");
        let ended = good(&server, "DELETE", &target, &Value::Null);
        assert_eq!(ended, json!({"changed": changed}));
    }
    assert_eq!(push_v2(&server, json!({"user": "jill"}))["reason"], "user_offline");
    assert_eq!(connections(&server, "jack"), 1);
    socket.sync();
}

/// What a client never registered it may be registered for: then its deadline is met.
#[test]
fn a_registration_from_here_meets_the_register_deadline() {
    let server = Server::start_with(&["--register-timeout", "5s"], &[]);
    let mut socket = Socket::open(&server);
    socket.sync();
    let (answer, _) = ask(
        &server,
        "PUT",
        "/v2/connections/1/registrations",
        &[],
        json!({"user": "jack", "event": "news"}).to_string(),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    // Opened later, so its deadline comes later.
    assert_eq!(Socket::open(&server).closed().code, 1008);
    assert_eq!(push_v2(&server, json!({"user": "jack"}))["written"], 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
}
