//! HTTP connections that are used again: how long they are kept, how they end, and that no end is
//! ever taken for an answer.

use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cluster::stage;
use crate::harness::{Server, eventually};
use crate::raw::{Answer, End, Raw, Socket, handshake, post, push_body, push_request, request};

/// The two ways that a push may come: in one piece, and with its head alone first.
const WAYS: [&str; 2] = ["whole", "in pieces"];

/// Sends a push one of the two ways.
fn send_push(raw: &mut Raw, way: &str, other: &Server) {
    let push = push_request("jack", "news", "m");
    let body = push_body("jack", "news", "m").len();
    if way == "whole" {
        return raw.send(push);
    }
    let (head, body) = push.split_at(push.len() - body);
    raw.send(head);
    // By then the head was read, also where there is no room for another request.
    let mut asking = Raw::connect(other);
    asking.send("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n");
    asking.answer();
    raw.send(body);
}

fn push_by(raw: &mut Raw, way: &str, server: &Server) -> Answer {
    send_push(raw, way, server);
    let answer = raw.answer();
    assert_eq!((answer.status, &*answer.body), (200, "message sent to 0 clients"), "{way}");
    answer
}

#[test]
fn a_kept_connection_outlives_the_time_of_a_head() {
    let server = Server::start_with(&["--header-timeout", "300ms"], &[]);
    for way in WAYS {
        let mut raw = Raw::connect(&server);
        push_by(&mut raw, way, &server);
        // One that sends nothing at all ends first.
        assert_eq!(Raw::connect(&server).end(), End::Eof);
        push_by(&mut raw, way, &server);
        // A head that has begun has its own time again.
        raw.send("POST /push HTTP/1.1\r\nHost:");
        assert_eq!(raw.end(), End::Eof, "{way}");
    }
}

#[test]
fn a_quiet_connection_ends_after_its_time() {
    let server = Server::start_with(&["--http-idle-timeout", "100ms"], &[]);
    for way in WAYS {
        let mut raw = Raw::connect(&server);
        // What lasts less than a second cannot be told.
        assert_eq!(push_by(&mut raw, way, &server).header("keep-alive"), None);
        assert_eq!(raw.end(), End::Eof, "{way}");
    }
}

#[test]
fn both_ways_of_answering_tell_how_long_the_connection_is_kept() {
    let server = Server::start();
    let mut answers = WAYS.map(|way| push_by(&mut Raw::connect(&server), way, &server));
    for answer in &mut answers {
        assert_eq!(answer.header("keep-alive"), Some("timeout=75"), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("keep-alive"), "{answer:?}");
        assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
    }
    assert_eq!(answers[0].headers_but_date(), answers[1].headers_but_date());
    // Who wants no more is told of no more.
    for (first, headers, connection) in [
        ("GET /livez HTTP/1.1", "Connection: close\r\n", Some("close")),
        ("GET /livez HTTP/1.0", "", Some("close")),
        ("GET /livez HTTP/1.0", "Connection: keep-alive\r\n", Some("keep-alive")),
        ("GET /livez HTTP/1.0", "Connection: keep-alive, close\r\n", Some("close")),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(format!("{first}\r\nHost: localhost\r\n{headers}\r\n"));
        let answer = raw.answer();
        assert_eq!(answer.header("connection"), connection, "{first} {headers} {answer:?}");
        let is_kept = connection == Some("keep-alive");
        assert_eq!(answer.header("keep-alive").is_some(), is_kept, "{first} {headers}");
        if !is_kept {
            assert_eq!(raw.end(), End::Eof);
        }
    }
}

/// What a refused client of HTTP/1.0 is told of its connection is one thing.
#[test]
fn a_connection_is_said_to_close_or_to_stay_and_not_both() {
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", "right-0123456789")]);
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut raw = Raw::connect(&server);
        raw.send(format!(
            "POST /push {version}\r\nHost: localhost\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
        let answer = raw.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (401, Some("close")),
            "{answer:?}"
        );
        assert_eq!(raw.end(), End::Eof);
    }
}

/// Pushes until an answer says that it was the last; how many there were.
fn push_until_told(mut raw: Raw, way: &str, server: &Server, total: &AtomicUsize) {
    loop {
        send_push(&mut raw, way, server);
        let answer = raw.answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        total.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") == Some("close") {
            assert_eq!(raw.end(), End::Eof);
            return;
        }
    }
}

#[test]
fn no_publisher_takes_the_end_of_a_stop_for_an_answer() {
    // The witness answers while the server that is stopped may not listen any more.
    let witness = Server::start();
    for flags in [&[][..], &["--drain-delay", "200ms"]] {
        let server = Server::start_with(flags, &[]);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..12 {
                let raw = Raw::connect(&server);
                let (total, witness) = (&total, &witness);
                scope.spawn(move || push_until_told(raw, WAYS[number % 2], witness, total));
            }
            eventually("all of them push", || total.load(Ordering::Relaxed) > 100);
            server.signal("TERM");
        });
        assert_eq!(server.wait().0.code(), Some(0));
    }
}

#[test]
fn an_idle_publisher_has_its_next_request_answered_when_the_server_stops() {
    let witness = Server::start();
    for way in WAYS {
        let server = Server::start();
        let mut listener = Socket::registered(&server, "rose", "news");
        let mut raw = Raw::connect(&server);
        push_by(&mut raw, way, &witness);
        server.signal("TERM");
        // By then nobody is let in any more.
        assert_eq!(listener.closed().code, 1001);
        let answer = push_by(&mut raw, way, &witness);
        assert_eq!(answer.header("connection"), Some("close"), "{way}");
        assert_eq!(raw.end(), End::Eof, "{way}");
        drop(listener);
        assert_eq!(server.wait().0.code(), Some(0));
    }
}

/// Sends, ends the sending side, and reads the answer.
fn ask_and_end(server: &Server, pieces: &[&[u8]]) -> Answer {
    let mut raw = Raw::connect(server);
    for piece in pieces {
        raw.send(piece);
    }
    raw.stream.shutdown(Shutdown::Write).unwrap();
    let answer = raw.answer();
    assert_eq!(raw.end(), End::Eof, "{answer:?}");
    answer
}

#[test]
fn who_ends_their_side_is_answered() {
    let server = Server::start();
    let push = push_request("jack", "news", "m");
    let (head, body) = push.split_at(push.len() - 20);
    let large = push_request("jack", "news", &"m".repeat(900 * 1024));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let (metrics, explain) = (get("/metrics"), get("/v2/explain?user=jack&event=news"));
    let chunked = [
        &b"POST /push HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
        format!("{:x}\r\n", push_body("jack", "news", "m").len()).as_bytes(),
        push_body("jack", "news", "m").as_bytes(),
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    for _ in 0..20 {
        for (name, pieces) in [
            ("a push", &[&*push][..]),
            ("a push in pieces", &[head, body]),
            ("a large push", &[&*large]),
            ("a push in chunks", &[&*chunked]),
            ("metrics", &[&*metrics]),
            ("explain", &[&*explain]),
        ] {
            let answer = ask_and_end(&server, pieces);
            assert_eq!(answer.status, 200, "{name}: {answer:?}");
        }
    }
    // What is not whole is not taken for a request.
    assert_eq!(ask_and_end(&server, &[&push[..push.len() - 1]]).status, 400);
    let mut raw = Raw::connect(&server);
    raw.send(&push[..20]);
    raw.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(raw.end(), End::Eof);
    // Of several requests each is answered.
    let mut raw = Raw::connect(&server);
    raw.send(push.repeat(3));
    raw.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(raw.answer().status, 200);
    }
    assert_eq!(raw.end(), End::Eof);
}

/// The answer waits for a node that stands still, and comes when it is waited for no longer.
#[test]
fn who_ends_their_side_is_answered_by_a_cluster() {
    let Some(redis) = stage::redis() else { return };
    let nodes = stage::three(&redis.url(), &[]);
    let _listeners = stage::one_each(&nodes);
    stage::pause(&nodes[1]);
    let push = push_request("jack", "news", "m");
    for pieces in [&[&*push][..], &[&push[..push.len() - 5], &push[push.len() - 5..]]] {
        let answer = ask_and_end(&nodes[0], pieces);
        assert_eq!((answer.status, &*answer.body), (200, "message sent to 2 clients"));
        assert_eq!(answer.header("wserver-nodes-missing"), Some("b"));
    }
    nodes[1].signal("CONT");
}

/// Whose connection is reset asks for nothing any more, and its place is free.
#[test]
fn who_is_gone_frees_their_place() {
    let Some(redis) = stage::redis() else { return };
    let flags = ["--http-connections-max", "1", "--cluster-answer-timeout", "30s"];
    let nodes = [stage::node(&redis.url(), "a", &flags), stage::node(&redis.url(), "b", &[])];
    stage::joined(nodes.iter());
    let _listener = Socket::registered(&nodes[1], "jack", "news");
    stage::knows(&nodes[0], 1);
    stage::pause(&nodes[1]);
    let start = Instant::now();
    for way in WAYS {
        let mut raw = Raw::connect_to_reset(&nodes[0]);
        send_push(&mut raw, way, &nodes[0]);
        drop(raw);
        eventually("there is room again", || {
            let mut raw = Raw::connect(&nodes[0]);
            raw.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
            raw.try_answer("GET").is_ok_and(|answer| answer.status == 404)
        });
    }
    nodes[1].signal("CONT");
    assert!(start.elapsed() < Duration::from_secs(25), "no answer was waited for");
}

#[test]
fn an_early_answer_leaves_the_connection_good_or_says_that_it_ends() {
    let server = Server::start();
    let body = push_body("jack", "news", "m");
    let mut raw = Raw::connect(&server);
    for (method, target, headers, status) in [
        ("POST", "/push/", &[][..], 404),
        ("PUT", "/push", &[], 405),
        ("POST", "/ws", &[], 405),
        ("POST", "/livez", &[], 405),
        ("POST", "/metrics", &[], 405),
        ("GET", "/metrics", &[], 200),
        ("POST", "/v2/nothing", &[], 404),
        ("DELETE", "/v2/push", &[], 405),
        ("GET", "/v2/node", &[], 200),
        ("POST", "/push", &[("content-encoding", "gzip")], 415),
        ("POST", "/v2/push", &[("content-encoding", "br")], 415),
    ] {
        let request = request(method, target, headers, &body);
        let (head, body) = request.split_at(request.len() - body.len());
        raw.send(head);
        // The answer is known, and the body has not come.
        Raw::connect(&server).tick();
        raw.send(body);
        let answer = raw.answer();
        assert_eq!(answer.status, status, "{method} {target}");
        assert_ne!(answer.header("connection"), Some("close"), "{method} {target}");
        assert_eq!(raw.push("jack", "news", "good"), 0, "{method} {target}");
    }
    // A body that is not worth reading ends the connection, and no reset eats the answer.
    for headers in [&[][..], &[("expect", "100-continue")]] {
        let mut raw = Raw::connect(&server);
        raw.send(request("POST", "/nothing", headers, vec![b' '; 1024 * 1024]));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
        assert_eq!(raw.end(), End::Eof);
    }
    // So does one that does not come.
    let mut raw = Raw::connect(&server);
    raw.send("POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(raw.answer().header("connection"), Some("close"));
}

#[test]
fn a_body_is_not_taken_for_a_head() {
    let server = Server::start();
    let trap = "{\nContent-Length\nContent-Length: 1\n\nContent-Length: 2\r\n\r\n";
    let good = push_body("jack", "news", "m");
    let padded = trap.to_owned() + &" ".repeat(200) + &good[1..];
    for head_bytes in [200, 8162, 8170, 8191, 8192] {
        for (method, target, body) in
            [("POST", "/ws", trap), ("POST", "/nothing", trap), ("POST", "/push", trap)]
        {
            let bare = request(method, target, &[("x", "")], body);
            let padding = "p".repeat(head_bytes + body.len() - bare.len());
            let mut raw = Raw::connect(&server);
            raw.send(request(method, target, &[("x", &padding)], body));
            assert_ne!(raw.answer().status, 200, "{target}");
            raw.send(handshake(&[]));
            assert_eq!(raw.answer().status, 101, "{head_bytes} {target}");
        }
    }
    // Nor in chunks, and what stands behind them is looked at again.
    let mut raw = Raw::connect(&server);
    let chunks = format!("{:x}\r\n{padded}\r\n0\r\nContent-Length: 7\r\n\r\n", padded.len());
    raw.send(format!(
        "POST /push HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
    ));
    raw.send(post(&[], &good));
    assert_eq!(raw.answer().status, 400);
    assert_eq!(raw.answer().status, 200);
    raw.send(post(&[("content-length", "5")], &good));
    assert_eq!(raw.answer().status, 400);
    assert_eq!(raw.end(), End::Eof);
}
