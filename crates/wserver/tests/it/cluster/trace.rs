//! A user followed on one node, whatever happens on which.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::stage::{self, NAMES, joined, knows, node, three};
use crate::api::push_v1;
use crate::harness::eventually;
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
