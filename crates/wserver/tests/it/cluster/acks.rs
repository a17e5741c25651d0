//! A push that waits for acknowledgements of connections to several nodes.

use serde_json::{Value, json};

use super::stage::{self, knows, pause, resume, three};
use crate::acks::{Waiting, acknowledge, asked};
use crate::client::Client;
use crate::harness::eventually;
use crate::metrics::scrape;
use crate::raw::Socket;
use crate::trace::Stream;

fn acks(acked: usize, waiting: usize, unable: usize, lost: usize) -> Value {
    json!({"acked": acked, "waiting": waiting, "unable": unable, "lost": lost})
}

fn check_acks(url: &str) {
    let nodes = three(url, &[]);
    let [a, b, c] = &nodes;
    let [mut on_a, mut on_b] = [a, b].map(|node| Client::registered(node, "jack", &["news"]));
    let mut older = Socket::registered(c, "jack", "news");
    nodes.iter().for_each(|node| knows(node, 2));

    let mut trace = Stream::open(b, "jack");
    let waiting = Waiting::begin(a, json!({"wait": "all", "timeout_seconds": 30}));
    let id = asked(&mut on_b);
    assert_eq!((asked(&mut on_a), older.next().payload), (id.clone(), b"m".to_vec()));
    acknowledge(&mut on_a, &id);
    acknowledge(&mut on_b, &id);
    let answer = waiting.answer();
    assert_eq!(
        (&answer["acks"], &answer["is_partial"]),
        (&acks(2, 0, 1, 0), &json!(false)),
        "{answer}"
    );

    // The sum is told once, as the fact of the node that took the push.
    let (_, told) = std::iter::from_fn(|| trace.next()).find(|(what, _)| what == "waited").unwrap();
    assert_eq!((&told["node"], &told["acks"]), (&json!("a"), &acks(2, 0, 1, 0)), "{told}");
    drop(trace);

    // From a node that has no such connection itself; and the first is enough.
    let waiting = Waiting::begin(c, json!({"wait": "first", "timeout_seconds": 30}));
    let id = asked(&mut on_b);
    asked(&mut on_a);
    acknowledge(&mut on_b, &id);
    let answer = waiting.answer();
    assert_eq!(
        (&answer["acks"], &answer["nodes_missing"]),
        (&acks(1, 1, 1, 0), &json!([])),
        "{answer}"
    );
    eventually("no node waits", || {
        nodes.iter().all(|node| scrape(node).of("wserver_waits") == 0.0)
    });

    // Who ends on another node is lost.
    let waiting = Waiting::begin(a, json!({"wait": "all", "timeout_seconds": 30}));
    let id = asked(&mut on_a);
    asked(&mut on_b);
    acknowledge(&mut on_a, &id);
    drop(on_b);
    assert_eq!(waiting.answer()["acks"], acks(1, 0, 1, 1));
}

#[test]
fn over_redis_every_node_tells_its_acknowledgements() {
    let Some(redis) = stage::redis() else { return };
    check_acks(&redis.url());
}

#[test]
fn over_nats_every_node_tells_its_acknowledgements() {
    let Some(nats) = stage::nats() else { return };
    check_acks(&nats.url());
}

/// It has made the push and told its count, and then stands still.
#[test]
fn a_node_that_does_not_answer_again_is_missing() {
    let Some(redis) = stage::redis() else { return };
    let nodes = three(&redis.url(), &[]);
    let [a, b, _] = &nodes;
    let mut client = Client::registered(b, "jack", &["news"]);
    knows(a, 1);
    let answered = scrape(b).of("wserver_cluster_answered_total");
    let waiting = Waiting::begin(a, json!({"wait": "first", "timeout_seconds": 3}));
    asked(&mut client);
    eventually("it has answered once", || {
        scrape(b).of("wserver_cluster_answered_total") > answered
    });
    // What it has answered is on its way.
    eventually("nothing waits for the broker", || {
        scrape(b).of("wserver_cluster_outbound_bytes") == 0.0
    });
    pause(b);
    let answer = waiting.answer();
    resume(b);
    assert_eq!(answer["acks"], acks(0, 1, 0, 0), "{answer}");
    assert_eq!((&answer["is_partial"], &answer["nodes_missing"]), (&json!(true), &json!(["b"])));
    assert_eq!((&answer["written"], &answer["nodes"]), (&json!(1), &json!(2)), "its count is told");
}
