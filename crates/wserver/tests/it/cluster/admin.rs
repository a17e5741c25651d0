//! What an operator sees and does on one node about the connections of all.

use serde_json::{Value, json};

use super::stage::{self, knows, names, one_each, pause, resume, three, until};
use crate::api::{ask, connections, good, only_connection, push_v2};
use crate::harness::{Server, eventually};
use crate::raw::Socket;
use crate::settings::file;

/// The type of a problem, and its status.
fn refused(node: &Server, method: &str, target: &str, body: &str) -> (u16, String) {
    let (answer, problem) = ask(node, method, target, &[], body);
    let kind = problem["type"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
    (answer.status, kind.trim_start_matches("urn:wserver:problem:").to_owned())
}

#[test]
fn presence_and_connections_of_all_nodes_are_told() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let _sockets = one_each(&nodes);
    let _rose = Socket::registered(&nodes[1], "rose", "chat");
    for node in &nodes {
        let users = json!({"users": ["jack", "rose", "joe"]});
        let online = good(node, "POST", "/v2/presence", &users);
        assert_eq!(online, json!({"online": {"jack": 3, "rose": 1, "joe": 0}}));
    }
    for (node, others) in nodes.iter().zip([["b", "c"], ["a", "c"], ["a", "b"]]) {
        let found = good(node, "GET", "/v2/users/jack/connections", &Value::Null);
        assert_eq!(found["count"], 3, "{found}");
        let list = found["connections"].as_array().unwrap();
        assert_eq!(list.len(), 3, "{found}");
        // This node's own come first and have no name.
        assert_eq!(list[0].get("node"), None, "{found}");
        let mut told: Vec<&str> = list[1..].iter().map(|it| it["node"].as_str().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, others);
        let ids: std::collections::BTreeSet<_> = list.iter().map(|it| it["id"].as_str()).collect();
        assert_eq!(ids.len(), 3, "each has an id of its own");
    }
}

#[test]
fn whom_a_disconnect_names_is_closed_on_every_node() {
    let Some(redis) = stage::redis() else { return };
    let tokens = file("cluster-tokens", "token-of-jack jack\ntoken-of-rose rose\n");
    let nodes = three(&redis.url(), &["--tokens-file", tokens.path()]);
    let open = |token| nodes.each_ref().map(|node| Socket::registered(node, token, "news"));
    let disconnect = |body: Value| good(&nodes[0], "POST", "/v2/disconnect", &body);
    let [jacks, roses] = ["token-of-jack", "token-of-rose"].map(open);
    assert_eq!(disconnect(json!({"user": "jack", "event": "chat"})), json!({"closed": 0}));
    assert_eq!(disconnect(json!({"user": "jack"})), json!({"closed": 3}));
    assert_eq!(disconnect(json!({"token": "token-of-rose"})), json!({"closed": 3}));
    for mut socket in jacks.into_iter().chain(roses) {
        assert_eq!(socket.closed().code, 1000);
    }
    for user in ["jack", "rose"] {
        eventually("nobody is left", || connections(&nodes[0], user) == 0);
    }
    let mut jack = Socket::registered(&nodes[2], "token-of-jack", "news");
    let id = only_connection(&nodes[0], "jack");
    assert_eq!(disconnect(json!({"connection": id})), json!({"closed": 1}));
    assert_eq!(jack.closed().code, 1000);
}

#[test]
fn a_connection_of_another_node_is_seen_and_changed() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &[]);
    let mut jack = Socket::registered(&b, "jack", "news");
    let id = only_connection(&a, "jack");
    let path = format!("/v2/connections/{id}");
    let found = good(&a, "GET", &path, &Value::Null);
    assert_eq!((&found["id"], &found["registrations"]), (&json!(id), &json!({"jack": ["news"]})));
    assert_eq!(found["node"], "b");

    let registrations = format!("{path}/registrations");
    let registration = json!({"user": "rose", "event": "chat"});
    let changed = |expected: bool| json!({"changed": expected});
    assert_eq!(good(&a, "PUT", &registrations, &registration), changed(true));
    assert_eq!(good(&c, "PUT", &registrations, &registration), changed(false));
    knows(&a, 2);
    let push = json!({"user": "rose", "event": "chat", "message": "m"});
    assert_eq!(good(&a, "POST", "/v2/push", &push)["matched"], 1);
    assert_eq!(jack.next().payload, b"m");
    let one = format!("{registrations}?user=rose&event=chat");
    assert_eq!(good(&c, "DELETE", &one, &Value::Null), changed(true));
    assert_eq!(good(&c, "DELETE", &one, &Value::Null), changed(false));
    // What is wrong with it is told by the node it belongs to.
    assert_eq!(refused(&a, "PUT", &registrations, "{}"), (400, "body_invalid".to_owned()));
    let long = json!({"user": "x".repeat(5000), "event": "chat"}).to_string();
    assert_eq!(refused(&a, "PUT", &registrations, &long), (400, "name_too_long".to_owned()));

    assert_eq!(good(&c, "DELETE", &path, &Value::Null), json!({"closed": 1}));
    assert_eq!(jack.closed().code, 1000);
    drop(jack);
    // One that is no more, one of nobody, and one of the node itself.
    eventually("it is no more", || ask(&a, "GET", &path, &[], "").0.status == 404);
    let own = Socket::registered(&a, "own", "news");
    let own_id: u64 = only_connection(&a, "own").parse().unwrap();
    for id in [id, "999".to_owned(), (own_id + 1).to_string()] {
        let path = format!("/v2/connections/{id}");
        let registrations = format!("{path}/registrations");
        let one = format!("{registrations}?user=rose&event=chat");
        for (method, target, body) in [
            ("GET", &path, String::new()),
            ("DELETE", &path, String::new()),
            ("PUT", &registrations, registration.to_string()),
            ("DELETE", &one, String::new()),
        ] {
            let expected = (404, "connection_unknown".to_owned());
            assert_eq!(refused(&a, method, target, &body), expected, "{method} {target}");
        }
    }
    drop(own);
}

#[test]
fn what_belongs_to_a_node_that_does_not_answer_is_told_so() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let [a, b, c] = &nodes;
    let mut sockets = one_each(&nodes);
    let found = good(a, "GET", "/v2/users/jack/connections", &Value::Null);
    let on_b = found["connections"].as_array().unwrap().iter().find(|it| it["node"] == "b");
    let path = format!("/v2/connections/{}", on_b.expect("one on b")["id"].as_str().unwrap());
    let registrations = format!("{path}/registrations");
    let registration = json!({"user": "rose", "event": "chat"}).to_string();
    let one = format!("{registrations}?user=rose&event=chat");
    pause(b);
    for (method, target, body) in
        [("GET", &path, ""), ("PUT", &registrations, &registration), ("DELETE", &one, "")]
    {
        let expected = (503, "node_missing".to_owned());
        assert_eq!(refused(a, method, target, body), expected, "{method} {target}");
    }
    let (answer, problem) = ask(c, "DELETE", &path, &[], "");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
    assert_eq!(problem["detail"], "b did not answer within cluster_answer_timeout");
    let missing = json!(["b"]);
    let online = good(a, "POST", "/v2/presence", &json!({"users": ["jack"]}));
    assert_eq!(online, json!({"online": {"jack": 2}, "nodes_missing": missing}));
    for (method, target, body) in [
        ("GET", "/v2/users/jack/connections", Value::Null),
        ("POST", "/v2/disconnect", json!({"user": "nobody"})),
        ("GET", "/v2/nodes", Value::Null),
        ("GET", "/v2/explain?user=jack&event=news", Value::Null),
    ] {
        assert_eq!(good(a, method, target, &body)["nodes_missing"], missing, "{target}");
    }
    resume(b);
    // What it was asked too long ago it has not done.
    until(|| push_v2(a, json!({"user": "jack"})), |it| it["matched"] == 3);
    while sockets[1].next().payload != b"m" {}
}

#[test]
fn every_node_is_told() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let _sockets = one_each(&nodes);
    let told = good(&nodes[1], "GET", "/v2/nodes", &Value::Null);
    assert_eq!(told["broker"], "redis", "{told}");
    assert_eq!(told.get("nodes_missing"), None, "{told}");
    assert_eq!(names(&nodes[1]), ["b", "a", "c"]);
    let list = told["nodes"].as_array().unwrap();
    for (at, node) in list.iter().enumerate() {
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"), "{told}");
        assert_eq!((&node["connections"], &node["users"]), (&json!(1), &json!(1)), "{told}");
        assert_eq!((&node["is_draining"], node.get("not_ready")), (&json!(false), None), "{told}");
        // A node needs nobody to know of itself.
        assert_eq!(node.get("round_trip_ms").is_some(), at > 0, "{told}");
    }
    let ids: std::collections::BTreeSet<_> = list.iter().map(|it| it["id"].as_str()).collect();
    assert_eq!(ids.len(), 3, "{told}");
    let own = good(&nodes[2], "GET", "/v2/node", &Value::Null);
    assert_eq!((&own["name"], &own["id"]), (&json!("c"), &list[2]["id"]));
}
