//! A push on one node and the connections of all of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wserver_protocol::receipt;

use super::stage::{self, knows, one_each, pause, ready, resume, three, until};
use crate::api::{ask, good, only_connection, push_v1, push_v2};
use crate::harness::Server;
use crate::raw::{Answer, Raw, Socket, push_request};

/// The counts of each node, by its name.
fn by_node(answer: &Value) -> Value {
    let nodes = answer["by_node"].as_array().expect("who has a part in it");
    let counts = nodes.iter().map(|it| {
        for queue in ["queued", "dropped"] {
            assert_eq!(it[queue], 0, "{answer}");
        }
        assert_eq!(it["matched"], it["written"], "{answer}");
        (it["node"].as_str().unwrap().to_owned(), it["matched"].clone())
    });
    Value::Object(counts.collect())
}

/// Whole, and counted like this.
fn check(answer: &Value, matched: usize, nodes: &Value) {
    assert_eq!(answer["matched"], matched, "{answer}");
    assert_eq!((&answer["is_partial"], &answer["nodes_missing"]), (&json!(false), &json!([])));
    if nodes.is_null() {
        assert_eq!((&answer["nodes"], answer.get("by_node")), (&json!(1), None), "{answer}");
    } else {
        assert_eq!(by_node(answer), *nodes, "{answer}");
        assert_eq!(answer["nodes"], nodes.as_object().unwrap().len(), "{answer}");
    }
}

/// `POST /push` with text for an answer: the count and what is beside it.
fn push_text(node: &Server, user: &str) -> (Answer, usize) {
    let mut raw = Raw::connect(node);
    raw.send(push_request(user, "news", "text"));
    let answer = raw.answer();
    let count = receipt::parse_sent(&answer.body).unwrap_or_else(|| panic!("{answer:?}"));
    (answer, count)
}

fn check_reach(url: &str) {
    let [a, b, c] = three(url, &[]);
    let nodes = [&a, &b, &c];
    let on = |node, count| (0..count).map(move |_| Socket::registered(node, "jack", "news"));
    let mut sockets: Vec<Socket> = on(&a, 1).chain(on(&b, 2)).chain(on(&c, 1)).collect();
    let mut rose = Socket::registered(&b, "rose", "news");
    for (node, users) in [(&a, 3), (&b, 2), (&c, 3)] {
        knows(node, users);
    }
    for node in nodes {
        let (answer, count) = push_text(node, "jack");
        assert_eq!((count, answer.header("wserver-nodes-missing")), (4, None), "{answer:?}");
        check(&push_v1(node, "jack", "news", "json"), 4, &json!({"a": 1, "b": 2, "c": 1}));
    }
    check(&push_v2(&c, json!({"user": "jack"})), 4, &json!({"a": 1, "b": 2, "c": 1}));
    for socket in &mut sockets {
        for text in ["text", "json"].into_iter().cycle().take(6).chain(["m"]) {
            assert_eq!(socket.next().payload, text.as_bytes());
        }
    }
    // Who has nobody is not asked.
    check(&push_v1(&a, "rose", "news", "m"), 1, &json!({"a": 0, "b": 1}));
    check(&push_v1(&b, "rose", "news", "m"), 1, &Value::Null);
    let answer = push_v1(&c, "joe", "news", "m");
    check(&answer, 0, &Value::Null);
    assert_eq!(answer["reason"], "user_offline");
    let answer = push_v1(&a, "jack", "chat", "m");
    check(&answer, 0, &json!({"a": 0, "b": 0, "c": 0}));
    assert_eq!(answer["reason"], "no_registration_for_event", "{answer}");
    let told = answer["detail"].as_str().unwrap();
    assert!(told.starts_with("user jack has connections to several nodes, none"), "{told}");
    for _ in 0..2 {
        assert_eq!(rose.next().payload, b"m");
    }
    sockets.iter_mut().for_each(Socket::sync);
}

#[test]
fn over_redis_every_node_is_reached_and_counted() {
    let Some(redis) = stage::redis() else { return };
    check_reach(&redis.url());
}

#[test]
fn over_nats_every_node_is_reached_and_counted() {
    let Some(nats) = stage::nats() else { return };
    check_reach(&nats.url());
}

#[test]
fn lists_batches_and_everyone() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &[]);
    let mut rose = Socket::registered(&b, "rose", "news");
    let [mut on_a, mut on_b, mut on_c] =
        [&a, &b, &c].map(|node| Socket::registered(node, "jack", "news"));
    for (node, users) in [(&a, 3), (&b, 2), (&c, 3)] {
        knows(node, users);
    }

    let answer = push_v2(&a, json!({"users": ["jack", "rose", "joe"]}));
    assert_eq!((&answer["matched"], &answer["nodes"]), (&json!(4), &json!(3)), "{answer}");
    assert_eq!((&answer["is_partial"], &answer["nodes_missing"]), (&json!(false), &json!([])));
    let results = answer["results"].as_array().unwrap();
    check(&results[0], 3, &json!({"a": 1, "b": 1, "c": 1}));
    check(&results[1], 1, &json!({"a": 0, "b": 1}));
    check(&results[2], 0, &Value::Null);

    let pushes = json!([
        {"user": "jack", "event": "news", "message": "m"},
        {"user": "jack"},
        {"users": ["rose"], "event": "news", "message": "m"},
    ]);
    let answer = good(&c, "POST", "/v2/push/batch", &json!({"pushes": pushes}));
    let results = answer["results"].as_array().unwrap();
    check(&results[0]["answer"], 3, &json!({"a": 1, "b": 1, "c": 1}));
    assert_eq!(results[1]["status"], 400, "{answer}");
    assert_eq!(results[2]["answer"]["matched"], 1, "{answer}");

    let answer = push_v2(&b, json!({"everyone": true}));
    check(&answer, 4, &json!({"a": 1, "b": 2, "c": 1}));
    // Each node counts its users.
    assert_eq!(answer["users"], 4, "{answer}");
    for socket in [&mut on_a, &mut on_b, &mut on_c, &mut rose] {
        for _ in 0..3 {
            assert_eq!(socket.next().payload, b"m");
        }
        socket.sync();
    }
}

#[test]
fn a_connection_of_another_node_is_left_out() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let mut rose = Socket::registered(&nodes[1], "rose", "news");
    let mut sockets = one_each_beside_rose(&nodes);
    let found = good(&nodes[2], "GET", "/v2/users/jack/connections", &Value::Null);
    let on_b = found["connections"].as_array().unwrap().iter().find(|it| it["node"] == "b");
    let id = &on_b.expect("one on b")["id"];
    let answer = push_v2(&nodes[0], json!({"user": "jack", "exclude_connection": id}));
    check(&answer, 2, &json!({"a": 1, "b": 0, "c": 1}));
    let answer = push_v2(&nodes[2], json!({"everyone": true, "exclude_connection": id}));
    check(&answer, 3, &json!({"a": 1, "b": 1, "c": 1}));
    for (at, count) in [(0, 2), (1, 0), (2, 2)] {
        for _ in 0..count {
            assert_eq!(sockets[at].next().payload, b"m");
        }
        sockets[at].sync();
    }
    assert_eq!(rose.next().payload, b"m");
    let id = only_connection(&nodes[2], "rose");
    let answer = push_v2(&nodes[0], json!({"user": "rose", "exclude_connection": id}));
    check(&answer, 0, &json!({"a": 0, "b": 0}));
    assert_eq!(answer["reason"], "excluded", "{answer}");
}

fn one_each_beside_rose(nodes: &[Server; 3]) -> [Socket; 3] {
    let sockets = nodes.each_ref().map(|node| Socket::registered(node, "jack", "news"));
    for (node, users) in nodes.iter().zip([3, 2, 3]) {
        knows(node, users);
    }
    sockets
}

#[test]
fn a_time_to_live_holds_on_every_node() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let [mut on_a, mut on_b, mut on_c] = one_each(&nodes);
    let over = push_v2(&nodes[0], json!({"user": "jack", "ttl_seconds": 0.000_001}));
    check(&over, 0, &json!({"a": 0, "b": 0, "c": 0}));
    assert_eq!(over["reason"], "expired", "{over}");
    let fine = push_v2(&nodes[0], json!({"user": "jack", "ttl_seconds": 60}));
    check(&fine, 3, &json!({"a": 1, "b": 1, "c": 1}));
    for socket in [&mut on_a, &mut on_b, &mut on_c] {
        assert_eq!(socket.next().payload, b"m");
        socket.sync();
    }
}

/// Who does not answer is named in every form of answer, and its connections get what it was sent in
/// time or never.
#[test]
fn a_node_that_does_not_answer_is_told() {
    let Some(redis) = stage::redis() else { return };
    // Half of it is when users may have come to b of whom nobody has heard.
    let nodes = three(&redis.url(), &["--cluster-lease", "60s"]);
    let [a, b, c] = &nodes;
    let [mut on_a, mut on_b, mut on_c] = one_each(&nodes);
    pause(b);
    let since = Instant::now();
    let (answer, count) = push_text(a, "jack");
    assert_eq!((count, answer.header("wserver-nodes-missing")), (2, Some("b")), "{answer:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "nobody is waited for longer than that");
    let answer = push_v1(c, "jack", "news", "json");
    assert_eq!((&answer["matched"], &answer["nodes"]), (&json!(2), &json!(2)), "{answer}");
    assert_eq!((&answer["is_partial"], &answer["nodes_missing"]), (&json!(true), &json!(["b"])));
    assert_eq!(by_node(&answer), json!({"a": 1, "c": 1}));
    let answer = push_v2(a, json!({"users": ["jack", "joe"]}));
    assert_eq!((&answer["is_partial"], &answer["nodes_missing"]), (&json!(true), &json!(["b"])));
    assert_eq!(answer["results"][1]["is_partial"], false, "{answer}");
    assert_eq!(ready(a), Ok(()));
    resume(b);
    let whole = until(|| push_v1(a, "jack", "news", "whole"), |it| it["matched"] == 3);
    check(&whole, 3, &json!({"a": 1, "b": 1, "c": 1}));
    while on_b.next().payload != b"whole" {}
    for socket in [&mut on_a, &mut on_c] {
        for text in ["text", "json", "m"] {
            assert_eq!(socket.next().payload, text.as_bytes());
        }
    }
}

/// A key belongs to a node, and its answer says what the cluster said then.
#[test]
fn a_repeated_push_is_answered_as_before() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let sockets = one_each(&nodes);
    let body = json!({"user": "jack", "event": "news", "message": "m"}).to_string();
    let key = [("idempotency-key", "one")];
    let (_, first) = ask(&nodes[0], "POST", "/v2/push", &key, &body);
    check(&first, 3, &json!({"a": 1, "b": 1, "c": 1}));
    assert_eq!(ask(&nodes[0], "POST", "/v2/push", &key, &body).1, first);
    for mut socket in sockets {
        assert_eq!(socket.next().payload, b"m");
        socket.sync();
    }
}
