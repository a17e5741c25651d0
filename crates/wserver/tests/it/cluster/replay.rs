//! Clients that come back to another node than the one that kept their messages.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::faults::Fallible;
use super::stage::{self, NAMES, joined, node, three};
use crate::api::good;
use crate::client::Client;
use crate::explain::{explain, sentences};
use crate::harness::Server;
use crate::metrics::scrape;

const KEEP: [&str; 2] = ["--replay", "order"];

fn come_back(server: &Server, after: &Value) -> (Client, Value) {
    let mut client = Client::open(server);
    let reply =
        client.ask(&json!({"id": 1, "register": ["order"], "token": "ann", "after": after}));
    (client, reply["ok"].clone())
}

fn pushed(server: &Server, message: &str) -> Value {
    good(server, "POST", "/v2/push", &json!({"user": "ann", "event": "order", "message": message}))
}

#[test]
fn what_one_node_kept_comes_by_another() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &KEEP);
    let mut client = Client::open(&a);
    let reply = client.ask(&json!({"id": 1, "register": ["order"], "token": "ann"}));
    let begin = reply["ok"]["at"].clone();
    stage::knows(&c, 1);
    assert_eq!(pushed(&c, "one")["matched"], 1);
    let at = client.pushed().0["at"].clone();
    drop(client);
    crate::api::gone(&a, "ann");
    let answer = pushed(&c, "two");
    assert_eq!((&answer["matched"], &answer["is_kept"]), (&json!(0), &json!(true)), "{answer}");
    pushed(&b, "three");
    let told = explain(&c, "ann", "order");
    let logs = told["now"]["replay"]["logs"].as_array().unwrap();
    let logs: Vec<_> = logs.iter().map(|log| (&log["node"], &log["messages"])).collect();
    assert_eq!(logs, [(&json!("a"), &json!(3))], "{told}");
    assert!(sentences(&told)[1].contains("kept for user ann: 3 messages ("), "{told}");

    // The messages that come meanwhile are held back and come behind.
    let (mut client, told) = come_back(&b, &at);
    assert_eq!(told["replaying"], 2, "{told}");
    assert_eq!(told["at"], at);
    let heard = [(); 2].map(|()| client.pushed());
    assert_eq!([&*heard[0].1, &*heard[1].1], ["two", "three"]);
    pushed(&a, "four");
    let (head, message) = client.pushed();
    assert_eq!(message, "four");
    // From now on its position is one of this node.
    let (_client, told) = come_back(&b, &head["at"]);
    assert_eq!(told["replaying"], 0, "{told}");
    let (_client, told) = come_back(&b, &heard[1].0["at"]);
    assert_eq!(told["replaying"], 1, "{told}");
    let (_client, told) = come_back(&b, &begin);
    assert_eq!(told["replaying"], 4, "the first node has kept all of it: {told}");
}

#[test]
fn a_node_that_was_killed_is_a_gap_for_those_who_were_there() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &KEEP);
    let (_client, told) = come_back(&a, &json!(""));
    let (_other, told_at_b) = come_back(&b, &json!(""));
    a.signal("KILL");
    drop(a);
    let (mut client, told) = come_back(&c, &told["at"]);
    assert_eq!(told["gap"]["reason"], "node_gone", "{told}");
    pushed(&b, "from now on");
    assert_eq!(client.pushed().1, "from now on");
    let (_client, told) = come_back(&c, &told_at_b["at"]);
    assert_eq!(told["replaying"], 1, "{told}");
    assert_eq!(scrape(&c).of(r#"wserver_replay_gaps_total{reason="node_gone"}"#), 1.0);
}

/// A client that stays connected while the broker is away is told of what was lost.
#[test]
fn what_the_broker_has_lost_is_a_gap_for_those_who_stayed() {
    let Some(mut redis) = stage::redis() else { return };
    let [a, b, _c] = three(&redis.url(), &KEEP);
    let (mut client, _) = come_back(&a, &json!(""));
    let (mut other, _) = come_back(&b, &json!(""));
    stage::knows(&b, 1);
    assert_eq!(pushed(&b, "one")["matched"], 2);
    assert_eq!((client.pushed().1, other.pushed().1), ("one".to_owned(), "one".to_owned()));
    redis.kill();
    let answer = pushed(&b, "two");
    assert_eq!(answer["is_partial"], true, "{answer}");
    assert_eq!(other.pushed().1, "two", "the connections of the node itself get it");
    redis.start();
    let notice = client.next();
    assert_eq!(notice["gap"], json!({"reason": "lost", "spread_seconds": 15}), "{notice}");
    stage::until(|| pushed(&b, "three"), |answer| answer["matched"] == 2);
    assert_eq!(client.pushed().1, "three");
    let (_client, told) = come_back(&a, &notice["at"]);
    assert!(told["replaying"].as_u64().unwrap() >= 1, "{told}");
    assert!(scrape(&a).of(r#"wserver_replay_gaps_total{reason="lost"}"#) >= 1.0);
}

/// Nodes are restarted one after the other under pushes, and clients come back to any that is
/// there: nothing is lost, nothing comes twice, and nobody is told of a gap.
#[test]
fn a_rolling_restart_loses_nothing() {
    let Some(redis) = stage::redis() else { return };
    let url = redis.url();
    let flags = [&KEEP[..], &["--drain-spread", "200ms", "--drain-timeout", "3s"]].concat();
    let mut nodes: Vec<Server> = three(&url, &flags).into();
    let addresses = |nodes: &[Server]| nodes.iter().map(|node| node.address).collect::<Vec<_>>();
    let open = Arc::new(std::sync::Mutex::new(addresses(&nodes)));
    let is_over = Arc::new(AtomicBool::new(false));
    let listening = Arc::new(AtomicUsize::new(0));
    let listeners: Vec<_> = (0..6)
        .map(|number| {
            let (open, listening) = (Arc::clone(&open), Arc::clone(&listening));
            thread::spawn(move || listen(number, &open, &listening))
        })
        .collect();
    crate::harness::eventually("all listen", || listening.load(Ordering::Acquire) == 6);
    nodes.iter().for_each(|node| stage::knows(node, 2));
    let publisher = {
        let (open, is_over) = (Arc::clone(&open), Arc::clone(&is_over));
        thread::spawn(move || publish(&open, &is_over))
    };
    for (at, name) in NAMES.iter().enumerate() {
        thread::park_timeout(Duration::from_millis(300));
        let old = nodes.remove(0);
        // The balancer sends nobody there any more.
        open.lock().unwrap().retain(|address| *address != old.address);
        old.signal("TERM");
        assert_eq!(old.wait().0.code(), Some(0), "{at}");
        nodes.push(node(&url, name, &flags));
        joined(nodes.iter());
        *open.lock().unwrap() = addresses(&nodes);
    }
    is_over.store(true, Ordering::Release);
    let sent: Vec<String> = publisher.join().unwrap();
    assert!(sent.len() > 50, "{}", sent.len());
    for listener in listeners {
        let heard = listener.join().unwrap();
        let twice = heard.len() - heard.iter().collect::<HashSet<_>>().len();
        assert_eq!(twice, 0, "nothing comes twice");
        let missing: Vec<_> = sent.iter().filter(|id| !heard.contains(id)).collect();
        assert_eq!(missing, Vec::<&String>::new(), "of {}", sent.len());
    }
}

type Open = std::sync::Mutex<Vec<std::net::SocketAddr>>;

/// Pushes at any node that is there; the ids of all pushes.
fn publish(open: &Open, is_over: &AtomicBool) -> Vec<String> {
    let mut sent = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let address = open.lock().unwrap()[sent.len() % 2];
        let body = json!({"user": "ann", "event": "order", "message": format!("{}", sent.len())});
        let (answer, json) =
            crate::raw::Raw::connect_at(address).ask("POST", "/v2/push", &[], body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(json["is_partial"], false, "{json}");
        sent.push(json["id"].as_str().unwrap().to_owned());
        thread::park_timeout(Duration::from_millis(20));
    }
    // The last one, which every listener waits for.
    let address = open.lock().unwrap()[0];
    let body = json!({"user": "ann", "event": "order", "message": "the end"}).to_string();
    crate::raw::Raw::connect_at(address).ask("POST", "/v2/push", &[], body);
    sent
}

/// Listens until the end, and comes back as often as it must; the ids of what it got.
fn listen(number: usize, open: &Open, listening: &AtomicUsize) -> Vec<String> {
    let mut heard = Vec::new();
    let mut at = Value::Null;
    for attempt in 0.. {
        let nodes = open.lock().unwrap().clone();
        let Some(mut client) = Client::try_open(nodes[(number + attempt) % nodes.len()]) else {
            thread::park_timeout(Duration::from_millis(20));
            continue;
        };
        let mut request = json!({"id": 1, "register": ["order"], "token": "ann"});
        if !at.is_null() {
            request["after"] = at.clone();
        }
        client.send(&request);
        while let Some(text) = client.try_text() {
            let (head, message) = text.split_once('\n').unwrap_or((&text, ""));
            let head: Value = serde_json::from_str(head).unwrap();
            if head["event"].is_string() {
                at = head["at"].clone();
                if message == "the end" {
                    return heard;
                }
                heard.push(head["id"].as_str().unwrap().to_owned());
            } else if head["re"].is_u64() {
                assert_eq!(head["ok"].get("gap"), None, "{head}");
                at = head["ok"]["at"].clone();
                if attempt == 0 {
                    listening.fetch_add(1, Ordering::Release);
                }
            }
        }
    }
    heard
}
