//! A push with an `Idempotency-Key` reaches nobody twice, however often it is sent.

use serde_json::json;
use wserver_protocol::frame::Opcode;

use crate::api::{ask, connections};
use crate::harness::{Server, eventually};
use crate::raw::{Frame, Raw, Socket, request};

fn body(message: &str) -> String {
    json!({"user": "jack", "event": "news", "message": message}).to_string()
}

fn key(key: &str) -> [(&'static str, &str); 1] {
    [("idempotency-key", key)]
}

#[test]
fn a_push_that_is_sent_again_is_answered_again_and_not_pushed() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let (first, answer) = ask(&server, "POST", "/v2/push", &key("a"), body("one"));
    assert_eq!((first.header("idempotency-replayed"), &answer["written"]), (None, &json!(1)));
    for _ in 0..3 {
        let (again, repeated) = ask(&server, "POST", "/v2/push", &key("a"), body("one"));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(repeated, answer);
    }
    let (other, _) = ask(&server, "POST", "/v2/push", &key("b"), body("two"));
    assert_eq!(other.header("idempotency-replayed"), None);
    for message in ["one", "two"] {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, message));
    }
    socket.sync();
}

#[test]
fn a_key_is_for_one_request() {
    let server = Server::start();
    ask(&server, "POST", "/v2/push", &key("a"), body("one"));
    for (target, body) in
        [("/v2/push", body("two")), ("/v2/push/batch", json!({"pushes": []}).to_string())]
    {
        let (answer, problem) = ask(&server, "POST", target, &key("a"), body);
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(problem["type"], "urn:wserver:problem:idempotency_key_reused");
    }
    for wrong in ["", &"x".repeat(256), "ö", "a b"] {
        let (answer, problem) = ask(&server, "POST", "/v2/push", &key(wrong), body("m"));
        assert_eq!((answer.status, &problem["field"]), (400, &json!("Idempotency-Key")), "{wrong}");
    }
    let twice = [key("a"), key("b")].concat();
    assert_eq!(ask(&server, "POST", "/v2/push", &twice, body("m")).0.status, 400);
}

#[test]
fn what_was_refused_may_be_sent_again_under_its_key() {
    let server = Server::start();
    for _ in 0..2 {
        assert_eq!(ask(&server, "POST", "/v2/push", &key("a"), "{}").0.status, 400);
    }
    assert_eq!(ask(&server, "POST", "/v2/push", &key("a"), body("m")).0.status, 200);
}

#[test]
fn a_batch_is_repeated_as_a_whole() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let batch = format!(r#"{{"pushes":[{},{{}},{}]}}"#, body("one"), body("two"));
    let (_, answer) = ask(&server, "POST", "/v2/push/batch", &key("a"), &batch);
    let (_, repeated) = ask(&server, "POST", "/v2/push/batch", &key("a"), &batch);
    assert_eq!(answer, repeated);
    for message in ["one", "two"] {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, message));
    }
    socket.sync();
}

/// Many clients send the same at once: one is carried out, the others are told that it is under way
/// or what it was answered with.
#[test]
fn of_many_at_once_one_is_carried_out() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| ask(&server, "POST", "/v2/push", &key("a"), body("m")).0.status)
            })
            .collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    socket.sync();
}

/// The client that goes away is the one that will send it again.
#[test]
fn a_push_is_carried_out_although_its_client_is_gone() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect_to_reset(&server);
    raw.send(request("POST", "/v2/push", &key("a"), body("m")));
    drop(raw);
    assert_eq!(connections(&server, "jack"), 1);
    // The reset may overtake the request; then the one that is sent again is the first.
    let mut status = 0;
    eventually("it is answered", || {
        status = ask(&server, "POST", "/v2/push", &key("a"), body("m")).0.status;
        status != 409
    });
    assert_eq!(status, 200);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    socket.sync();
}
