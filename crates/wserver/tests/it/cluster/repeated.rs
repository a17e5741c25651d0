//! A request with an `Idempotency-Key` that comes to several nodes.

use std::thread;

use serde_json::{Value, json};

use super::stage::{self, three};

use crate::harness::Server;
use crate::raw::{Answer, Raw, Socket};

fn pushed(server: &Server, path: &str, key: &str, message: &str) -> (Answer, Value) {
    let body = match path {
        "/push" => json!({"userId": "ann", "event": "news", "message": message}),
        _ => json!({"user": "ann", "event": "news", "message": message}),
    };
    Raw::connect(server).ask(
        "POST",
        path,
        &[("idempotency-key", key), ("accept", "application/json")],
        body.to_string(),
    )
}

#[test]
fn a_repeated_request_is_carried_out_by_one_node_only() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, c] = three(&redis.url(), &[]);
    let mut ann = Socket::registered(&c, "ann", "news");
    for node in [&a, &b] {
        stage::knows(node, 1);
    }
    for path in ["/v2/push", "/push"] {
        let (first, told) = pushed(&a, path, path, "once");
        assert_eq!(first.header("idempotency-replayed"), None, "{first:?}");
        assert_eq!(first.header("idempotency-unheard"), None, "{first:?}");
        let (again, told_again) = pushed(&b, path, path, "once");
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again:?}");
        assert_eq!((again.body, told_again), (first.body, told), "{path}");
        let (other, _) = pushed(&c, path, path, "another message");
        assert_eq!(other.status, 422, "{other:?}");
        assert_eq!(ann.next().payload, b"once");
    }
    // At once, at all nodes: whoever does not carry it out says so, and the next try gets the answer.
    for round in 0..20 {
        let key = format!("round-{round}");
        let answers: Vec<(Answer, Value)> = thread::scope(|scope| {
            let each = [&a, &b, &c].map(|node| {
                let key = key.as_str();
                scope.spawn(move || {
                    loop {
                        let (answer, json) = pushed(node, "/v2/push", key, key);
                        match answer.status {
                            200 => break (answer, json),
                            409 => thread::yield_now(),
                            status => panic!("{status} {answer:?}"),
                        }
                    }
                })
            });
            each.map(|asking| asking.join().unwrap()).into()
        });
        let id = &answers[0].1["id"];
        assert!(answers.iter().all(|(_, json)| json["id"] == *id), "{answers:?}");
        let carried_out =
            answers.iter().filter(|(it, _)| it.header("idempotency-replayed").is_none());
        assert_eq!(carried_out.count(), 1, "{answers:?}");
        assert_eq!(ann.next().payload, key.as_bytes(), "and nothing of the rounds before");
    }
}

/// With the node that knew it gone, nobody can know, and the answer says who did not say.
#[test]
fn a_node_that_is_gone_may_have_known_it() {
    let Some(redis) = stage::redis() else { return };
    let [a, b, _c] = three(&redis.url(), &[]);
    let mut ann = Socket::registered(&b, "ann", "news");
    stage::knows(&a, 1);
    let (first, _) = pushed(&a, "/v2/push", "key", "m");
    assert_eq!(first.status, 200);
    a.signal("KILL");
    drop(a);
    let (again, told) = pushed(&b, "/v2/push", "key", "m");
    assert_eq!(again.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-unheard"), Some("a"), "{again:?}");
    assert_eq!(told["written"], 1);
    assert_eq!((ann.next().payload, ann.next().payload), (b"m".to_vec(), b"m".to_vec()));
}
