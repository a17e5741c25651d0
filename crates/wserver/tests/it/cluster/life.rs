//! A node's way in and out of its cluster, as balancers and the others see it.

use std::net::TcpListener;

use serde_json::{Value, json};
use wserver_test_brokers::process::{is_there, reserved_port};
use wserver_test_brokers::{nats, redis};

use super::stage::{self, NAMES, is_cut_off, is_told, joined, knows, names, node, one_each, three};
use crate::api::{connections, good, push_v1};
use crate::harness::{Server, eventually};
use crate::metrics::scrape;
use crate::raw::Socket;

/// The others see it draining, and its users go with it: nobody waits for who has left.
#[test]
fn a_node_that_ends_leaves() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &["--drain-delay", "1s"]);
    let on = |node| Socket::registered(node, "jack", "news");
    let [mut on_a, mut on_b, _on_c] = [on(&a), on(&b), on(&c)];
    let mut rose = Socket::registered(&b, "rose", "news");
    for (node, users) in [(&a, 3), (&b, 2), (&c, 3)] {
        knows(node, users);
    }
    b.signal("TERM");
    eventually("the others see it draining", || {
        let told = good(&a, "GET", "/v2/nodes", &Value::Null);
        let nodes = told["nodes"].as_array().unwrap();
        nodes.iter().any(|it| it["name"] == "b" && it["is_draining"] == true)
    });
    // Until it tells its connections to go, they are there.
    let answer = push_v1(&a, "jack", "news", "while draining");
    assert_eq!((&answer["matched"], &answer["is_partial"]), (&json!(3), &json!(false)));
    assert_eq!(on_b.next().payload, b"while draining");
    assert_eq!((on_b.closed().code, rose.closed().code), (1001, 1001));
    drop((on_b, rose));
    assert_eq!(b.wait().0.code(), Some(0));
    for node in [&a, &c] {
        knows(node, 1);
        assert_eq!(scrape(node).of("wserver_cluster_nodes"), 2.0);
        assert_eq!(names(node).len(), 2);
        for _ in 0..20 {
            let answer = push_v1(node, "jack", "news", "m");
            assert_eq!((&answer["matched"], &answer["is_partial"]), (&json!(2), &json!(false)));
            assert_eq!(push_v1(node, "rose", "news", "m")["reason"], "user_offline");
        }
        assert_eq!(connections(node, "rose"), 0);
        // It went, and was not taken for dead.
        assert_eq!(scrape(node).of("wserver_cluster_nodes_expired_total"), 0.0);
        assert_eq!(stage::ready(node), Ok(()));
    }
    assert_eq!(on_a.next().payload, b"while draining");
}

/// Nodes of two clusters at one broker have nothing to do with each other.
#[test]
fn a_broker_serves_two_clusters() {
    let Some(redis) = stage::redis() else { return };
    let url = redis.url();
    let one = node(&url, "a", &[]);
    let other = node(&url, "b", &["--cluster-name", "other"]);
    joined([&one].into_iter());
    joined([&other].into_iter());
    let _jack = Socket::registered(&one, "jack", "news");
    let answer = push_v1(&other, "jack", "news", "m");
    assert_eq!((&answer["matched"], &answer["nodes"]), (&json!(0), &json!(1)), "{answer}");
    assert_eq!(names(&one), ["a"]);
}

/// Without a name of its own a node is called by its id.
#[test]
fn a_node_without_a_name_has_its_id() {
    let Some(redis) = stage::redis() else { return };
    let server = Server::start_with(&["--cluster-broker", &redis.url()], &[]);
    joined([&server].into_iter());
    let own = good(&server, "GET", "/v2/node", &Value::Null);
    assert_eq!(own["name"], own["id"]);
    assert!(own["id"].as_str().is_some_and(|id| !id.is_empty()), "{own}");
}

/// `/readyz` names the broker and what is the matter with it.
#[test]
fn a_balancer_is_told_why() {
    let Some(mut redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let _sockets = one_each(&nodes);
    redis.process().kill();
    for node in &nodes {
        is_told(node, is_cut_off);
        is_told(node, |told| {
            told.as_ref().is_err_and(|why| {
                let port = redis.port();
                why.starts_with("cut off from the cluster (redis): ")
                    && why.contains(&format!("127.0.0.1:{port}"))
            })
        });
        assert_eq!(scrape(node).of("wserver_cluster_ready"), 0.0);
        // Who is here is served all the same.
        let answer = push_v1(node, "jack", "news", "m");
        assert_eq!((&answer["matched"], &answer["is_partial"]), (&json!(1), &json!(true)));
        assert_ne!(answer["nodes_missing"], json!([]), "{answer}");
    }
    redis.restart();
    for node in &nodes {
        is_told(node, Result::is_ok);
        assert_eq!(scrape(node).of("wserver_cluster_ready"), 1.0);
    }
}

fn check_waits(url: &str, start: impl FnOnce()) {
    let nodes = NAMES.map(|name| node(url, name, &["--cluster-wait-for-broker"]));
    let _jack = Socket::registered(&nodes[0], "jack", "news");
    for node in &nodes {
        is_told(node, is_cut_off);
        let answer = push_v1(node, "jack", "news", "m");
        assert_eq!((&answer["is_partial"], &answer["nodes"]), (&json!(true), &json!(1)));
        assert_eq!(answer["nodes_missing"], json!(["every other node"]), "{answer}");
    }
    start();
    for node in &nodes {
        is_told(node, Result::is_ok);
    }
    joined(nodes.iter());
    knows(&nodes[1], 1);
    assert_eq!(push_v1(&nodes[1], "jack", "news", "m")["matched"], 1);
}

#[test]
fn a_redis_is_waited_for() {
    if !is_there(redis::PROGRAM) {
        return;
    }
    // One that was there, so that the port is known, and is gone.
    let mut redis = redis::Standalone::start(&[]);
    redis.process().kill();
    check_waits(&redis.url(), || redis.restart());
}

#[test]
fn a_nats_server_is_waited_for() {
    if !is_there(nats::PROGRAM) {
        return;
    }
    let mut nats = nats::Server::start("");
    nats.kill();
    check_waits(&nats.url(), || nats.restart());
}

/// One that does not answer at all is waited for just so.
#[test]
fn a_broker_that_says_nothing_is_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for url in
        [format!("redis://127.0.0.1:{port}"), format!("redis://127.0.0.1:{}", reserved_port())]
    {
        let server = node(&url, "a", &["--cluster-wait-for-broker"]);
        is_told(&server, is_cut_off);
        server.signal("TERM");
        assert_eq!(server.wait().0.code(), Some(0));
    }
}
