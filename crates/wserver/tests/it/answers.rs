//! What a push is answered with: counts, and each reason for which nobody got it.

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::api::{
    ask, connections, gone, good, jwt, only_connection, overflow, push_v1, push_v2, start_with_jwt,
    start_with_small_queues,
};
use crate::harness::{Server, eventually};
use crate::limits::is_established;
use crate::raw::{Frame, Raw, Socket, masked_close, request};

/// Without its id, which differs.
fn without_id(mut answer: Value) -> Value {
    let id = answer.as_object_mut().unwrap().remove("id").expect("an id");
    assert!(id.as_str().unwrap().contains('-'), "{id}");
    answer
}

fn nobody(reason: &str, detail: &str) -> Value {
    json!({"matched": 0, "written": 0, "queued": 0, "dropped": 0, "reason": reason, "detail": detail})
}

#[test]
fn who_got_it_is_counted() {
    let server = Server::start();
    let mut sockets = [(); 3].map(|()| Socket::registered(&server, "jack", "news"));
    let _other = Socket::registered(&server, "jack", "chat");
    let answer = without_id(push_v1(&server, "jack", "news", "m"));
    let expected = json!({"matched": 3, "written": 3, "queued": 0, "dropped": 0, "reason": null, "detail": null});
    assert_eq!(answer, expected);
    assert_eq!(without_id(push_v2(&server, json!({"user": "jack"}))), expected);
    for socket in &mut sockets {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    }
}

#[test]
fn text_stays_for_who_does_not_ask_for_json() {
    let server = Server::start();
    let body = r#"{"userId":"jack","event":"news","message":"m"}"#;
    for accept in ["*/*", "text/plain", "application/json, text/plain, */*", "application/json;q=0"]
    {
        let mut raw = Raw::connect(&server);
        for (body, status, text) in
            [(body, 200, "message sent to 0 clients"), ("{}", 400, "request data illegal")]
        {
            raw.send(request("POST", "/push", &[("accept", accept)], body));
            let answer = raw.answer();
            assert_eq!((answer.status, &*answer.body), (status, text), "{accept}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        }
    }
}

#[test]
fn an_offline_user_is_told() {
    let server = Server::start();
    let expected = nobody("user_offline", "user jack has no connection");
    assert_eq!(without_id(push_v1(&server, "jack", "news", "m")), expected);
    assert_eq!(without_id(push_v2(&server, json!({"user": "jack"}))), expected);
    // Who was there and left by itself is offline too, and it is told how.
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.send(masked_close(1000, b""));
    socket.closed();
    gone(&server, "jack");
    let answer = push_v1(&server, "jack", "news", "m");
    assert_eq!(answer["reason"], "user_offline", "{answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.contains("the last one was closed") && detail.ends_with("the client closed it"),
        "{detail}"
    );
}

#[test]
fn another_event_is_told_with_those_there_are() {
    let server = Server::start();
    let _sockets = [(); 2].map(|()| Socket::registered(&server, "jack", "chat"));
    for answer in [push_v1(&server, "jack", "news", "m"), push_v2(&server, json!({"user": "jack"}))]
    {
        let mut expected = nobody(
            "no_registration_for_event",
            "user jack has 2 connections, none registered for news",
        );
        expected["events"] = json!(["chat"]);
        assert_eq!(without_id(answer), expected);
    }
}

#[test]
fn a_reader_that_is_too_slow_is_told_at_once_and_afterwards() {
    let server = start_with_small_queues();
    let (_stalled, answer) = overflow(&server, "jack");
    let detail = "the server closed 1 connection of user jack for reading too slowly";
    let expected = json!({"matched": 1, "written": 0, "queued": 0, "dropped": 1, "reason": "slow_consumer", "detail": detail});
    assert_eq!(without_id(answer), expected);
    let answer = push_v1(&server, "jack", "news", "m");
    assert_eq!((&answer["matched"], &answer["reason"]), (&json!(0), &json!("slow_consumer")));
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("user jack has no connection") && detail.contains("outbox_bytes_max"),
        "{detail}"
    );
}

/// The server is held still while the push and the reader's reset arrive, so that it may meet the
/// push first and find the socket dead.
#[test]
fn a_connection_that_was_just_ending_is_told() {
    let server = Server::start_with(&[], &[("TOKIO_WORKER_THREADS", "1")]);
    let body = json!({"userId": "jack", "event": "news", "message": "m"}).to_string();
    let push = request("POST", "/push", &[("accept", "application/json")], body);
    for attempt in 0.. {
        let mut raw = Raw::connect(&server);
        raw.tick();
        let mut reader = Socket::open_on(Raw::connect_to_reset(&server));
        reader.register("jack", "news");
        let address = reader.raw.stream.local_addr().unwrap();
        server.signal("STOP");
        let state = format!("/proc/{}/stat", server.pid());
        eventually("it stands still", || std::fs::read_to_string(&state).unwrap().contains(") T "));
        // Which of the two it looks at first when it goes on is its runtime's business.
        let is_push_first = attempt % 2 == 0;
        if is_push_first {
            raw.send(&push);
        }
        drop(reader);
        eventually("the reset has come", || !is_established(&server, address));
        if !is_push_first {
            raw.send(&push);
        }
        server.signal("CONT");
        let answer: Value = serde_json::from_str(&raw.answer().body).unwrap();
        gone(&server, "jack");
        if answer["reason"] == "connection_ending" {
            assert_eq!(
                (&answer["matched"], &answer["dropped"]),
                (&json!(1), &json!(1)),
                "{answer}"
            );
            assert_eq!(answer["detail"], "1 connection of user jack had already begun to close");
            break;
        }
        assert_eq!(answer["reason"], "user_offline", "{answer}");
        assert!(attempt < 200, "never in the order that was meant");
    }
}

#[test]
fn an_excluded_connection_is_told() {
    let server = Server::start();
    let mut sender = Socket::registered(&server, "jack", "news");
    let id = only_connection(&server, "jack");
    let push = json!({"user": "jack", "exclude_connection": id});
    let detail = "the only connection registered for the event is the one that the push leaves out";
    assert_eq!(without_id(push_v2(&server, push.clone())), nobody("excluded", detail));
    let mut other = Socket::registered(&server, "jack", "news");
    assert_eq!(push_v2(&server, push)["written"], 1);
    assert_eq!(other.next(), Frame::new(Opcode::Text, "m"));
    sender.sync();
}

#[test]
fn a_push_that_comes_too_late_is_told() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let push = |ttl: f64| push_v2(&server, json!({"user": "jack", "ttl_seconds": ttl}));
    let answer = without_id(push(1e-9));
    assert_eq!(answer["reason"], "expired", "{answer}");
    assert_eq!(answer["detail"], "ttl_seconds had passed before the push was accepted");
    assert_eq!(push(3600.0)["written"], 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
}

#[test]
fn a_user_whose_identity_expired_is_told() {
    let (server, _secret) = start_with_jwt();
    let mut socket = Socket::registered(&server, &jwt("jack", 2), "news");
    assert_eq!(connections(&server, "jack"), 1);
    assert_eq!(socket.closed().reason, "token expired");
    gone(&server, "jack");
    let answer = push_v1(&server, "jack", "news", "m");
    assert_eq!(answer["reason"], "expired", "{answer}");
    assert!(answer["detail"].as_str().unwrap().ends_with(
        "the token that it registered with has \
                                                          expired"
    ));
}

#[test]
fn several_users_are_told_apart() {
    let server = Server::start();
    let _jack = Socket::registered(&server, "jack", "news");
    let _jill = Socket::registered(&server, "jill", "chat");
    let answer = push_v2(&server, json!({"users": ["jack", "jill", "joe"]}));
    assert_eq!((&answer["matched"], &answer["reason"]), (&json!(1), &Value::Null), "{answer}");
    let results = answer["results"].as_array().unwrap();
    let shown: Vec<_> = results
        .iter()
        .map(|it| {
            (it["user"].as_str().unwrap(), it["written"].as_u64().unwrap(), it["reason"].as_str())
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("jack", 1, None),
            ("jill", 0, Some("no_registration_for_event")),
            ("joe", 0, Some("user_offline")),
        ]
    );
    let answer = push_v2(&server, json!({"users": ["joe", "jim"]}));
    assert_eq!(answer["reason"], "user_offline", "{answer}");
    let answer = push_v2(&server, json!({"users": ["joe", "jill"]}));
    assert_eq!(answer["reason"], Value::Null, "{answer}");
    assert_eq!(
        answer["detail"],
        "none of 2 users got the message; results gives the reason for each"
    );
}

#[test]
fn everyone_is_everyone_on_the_event() {
    let server = Server::start();
    let answer = push_v2(&server, json!({"everyone": true}));
    assert_eq!(
        (&answer["users"], &answer["detail"]),
        (&json!(0), &json!("nobody is registered for news"))
    );
    let mut sockets: Vec<Socket> = (0..50)
        .map(|number| Socket::registered(&server, &format!("user-{}", number / 2), "news"))
        .collect();
    let mut other = Socket::registered(&server, "user-1", "chat");
    let answer = push_v2(&server, json!({"everyone": true}));
    assert_eq!((&answer["users"], &answer["matched"]), (&json!(25), &json!(50)), "{answer}");
    for socket in &mut sockets {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    }
    other.sync();
}

#[test]
fn each_push_of_a_batch_has_its_own_result() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let push =
        |user: &str, message: &str| json!({"user": user, "event": "news", "message": message});
    let mut pushes = vec![
        push("jack", "one"),
        json!({"user": "jack"}),
        push("joe", "m"),
        push("", "m"),
        json!(7),
    ];
    pushes.push(push(&"x".repeat(5000), "m"));
    pushes.push(push("jack", "two"));
    let answer = good(&server, "POST", "/v2/push/batch", &json!({"pushes": pushes}));
    let results = answer["results"].as_array().unwrap();
    let shown: Vec<_> = results
        .iter()
        .map(|it| (it["status"].as_u64().unwrap(), it["problem"]["detail"].as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            (200, None),
            (400, Some("pushes[1].event is missing")),
            (200, None),
            (400, Some("user is empty")),
            (400, Some("pushes[4] must be a JSON object")),
            (400, Some("user is 5000 bytes long, the limit name_bytes_max is 4096")),
            (200, None),
        ]
    );
    assert_eq!(results[2]["answer"]["reason"], "user_offline");
    let fields = [1, 3, 4, 5].map(|at| results[at]["problem"]["field"].as_str().unwrap());
    assert_eq!(fields, ["pushes[1].event", "pushes[3].user", "pushes[4]", "pushes[5].user"]);
    for message in ["one", "two"] {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, message));
    }
}

#[test]
fn lists_are_bounded() {
    let server = Server::start_with(&["--batch-pushes-max", "2"], &[]);
    let push = json!({"user": "jack", "event": "news", "message": "m"});
    for (target, field, body) in [
        ("/v2/push/batch", "pushes", json!({"pushes": [push, push, push]})),
        ("/v2/push", "users", json!({"users": ["a", "b", "c"], "event": "news", "message": "m"})),
        ("/v2/presence", "users", json!({"users": ["a", "b", "c"]})),
    ] {
        let (answer, problem) = ask(&server, "POST", target, &[], body.to_string());
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(problem["type"], "urn:wserver:problem:too_many_items");
        assert_eq!((&problem["field"], &problem["limit"]), (&json!(field), &json!(2)));
        assert_eq!(problem["setting"], "batch_pushes_max");
    }
}
