//! A user followed on one node, whatever happens on which.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::faults::LEASE;
use super::line::Line as _;
use super::proxy::{Proxy, Way};
use super::stage::{self, NAMES, is_cut_off, is_told, joined, knows, node, three};
use crate::api::push_v1;
use crate::harness::{Server, eventually};
use crate::metrics::scrape;
use crate::raw::{Socket, masked_close};
use crate::trace::Stream;

#[test]
fn what_happens_on_another_node_is_told_with_its_name() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &[]);
    let mut trace = Stream::open(&a, "jack");
    let mut socket = Socket::registered(&b, "jack", "news");
    let told = trace.expect("registered");
    assert_eq!((&told["node"], &told["user"]), (&json!("b"), &json!("jack")), "{told}");
    assert!(told["sentence"].as_str().unwrap().ends_with(" was registered for news"), "{told}");

    // Another user's is another's.
    let _jill = Socket::registered(&b, "jill", "news");
    push_v1(&b, "jack", "news", "m");
    let told = trace.expect("pushed");
    assert_eq!((&told["node"], &told["delivery"]["written"]), (&json!("b"), &json!(1)), "{told}");

    // A push of a third node happens where the user is, and where it was asked for.
    knows(&c, 2);
    push_v1(&c, "jack", "news", "m");
    let mut nodes = [0, 1].map(|_| trace.expect("pushed")["node"].clone());
    nodes.sort_by_key(ToString::to_string);
    assert_eq!(nodes, [json!("b"), json!("c")]);

    let _own = Socket::registered(&a, "jack", "news");
    let told = trace.expect("registered");
    assert_eq!(told.get("node"), None, "{told}");
    socket.send(masked_close(1000, b""));
    socket.closed();
    let told = trace.expect("closed");
    assert_eq!((&told["node"], &told["reason"]), (&json!("b"), &json!("peer_closed")), "{told}");
}

/// Whoever joins later is asked as well, and whoever follows elsewhere is not in the way.
#[test]
fn a_node_that_joins_later_is_followed_too() {
    let Some(redis) = stage::redis() else { return };
    let url = redis.url();
    let nodes = [node(&url, NAMES[0], &[]), node(&url, NAMES[1], &[])];
    joined(nodes.iter());
    let traces = nodes.each_ref().map(|node| Stream::open(node, "jack"));
    let [a, b] = nodes;
    let nodes = [a, b, node(&url, NAMES[2], &[])];
    joined(nodes.iter());
    // It is asked within five seconds, and what happens before that is not seen.
    let seen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for mut trace in traces {
            let seen = &seen;
            scope.spawn(move || {
                let (_, told) = trace.next().expect("an event");
                assert_eq!(told["node"], "c", "{told}");
                seen.fetch_add(1, Ordering::Relaxed);
            });
        }
        eventually("both have seen it", || {
            Socket::registered(&nodes[2], "jack", "news");
            seen.load(Ordering::Relaxed) == 2
        });
    });
}

/// Whoever is back, or there at last, is followed as soon as it is ready, and not some seconds later.
/// What happens first is seen, and nothing before it was missed.
fn is_followed(trace: &mut Stream, at: &Server, name: &str) {
    let events: Vec<String> = (0..100).map(|number| format!("event-{number}")).collect();
    let seen = AtomicUsize::new(usize::MAX);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let told = std::iter::from_fn(|| trace.next());
            let (_, told) = { told }.find(|(_, told)| told["node"] == name).expect("an event");
            let number = events.iter().position(|event| told["event"] == event.as_str());
            seen.store(number.expect("one of these"), Ordering::Relaxed);
        });
        let mut sockets = Vec::new();
        for event in &events {
            if seen.load(Ordering::Relaxed) != usize::MAX {
                break;
            }
            sockets.push(Socket::registered(at, "jack", event));
            std::thread::park_timeout(Duration::from_millis(50));
        }
        eventually("it is followed", || seen.load(Ordering::Relaxed) != usize::MAX);
    });
    // All of them take five seconds and more, after which everybody is asked anyway. A busy machine
    // may take its time.
    let seen = seen.into_inner();
    assert!(seen < 30, "{seen} registrations at {name} were not seen");
}

#[test]
fn a_trace_begun_before_a_node_joins_follows_it_at_once() {
    let Some(redis) = stage::redis() else { return };
    let url = redis.url();
    let a = node(&url, NAMES[0], &[]);
    let mut trace = Stream::open(&a, "jack");
    let b = node(&url, NAMES[1], &[]);
    joined([&a, &b].into_iter());
    is_followed(&mut trace, &b, "b");
}

/// Of the node that is cut off, and of the other one, which takes it for dead.
#[test]
fn a_trace_begun_while_a_node_is_cut_off_follows_it_at_once_when_it_is_back() {
    let Some(redis) = stage::redis() else { return };
    let line = Proxy::to(redis.port(), Way::Cut);
    let a = line.node(NAMES[0], &LEASE);
    let b = node(&redis.url(), NAMES[1], &LEASE);
    joined([&a, &b].into_iter());
    line.cut();
    is_told(&a, is_cut_off);
    eventually("it is taken for dead", || scrape(&b).of("wserver_cluster_nodes") == 1.0);
    let [mut on_a, mut on_b] = [&a, &b].map(|node| Stream::open(node, "jack"));
    line.mend();
    joined([&a, &b].into_iter());
    is_followed(&mut on_a, &b, "b");
    is_followed(&mut on_b, &a, "a");
}
