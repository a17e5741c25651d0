//! Requests byte by byte: which are answered and how, and what becomes of their connection.

use std::future::ready;
use std::time::{Duration, Instant};

use wserver_warp::auth::{Publisher, authorize_with};
use wserver_warp::{HttpLimitSettings, Server, ServerBuilder};

use crate::raw::{Answer, End, Raw, get, push, request};
use crate::{Log, Running, eventually, heard, pass, serve, serve_default};

/// How a push may come: in one piece, which is answered without hyper, or not.
const WAYS: [&str; 2] = ["whole", "in pieces"];

fn http(limits: HttpLimitSettings) -> ServerBuilder {
    Server::builder().http_limits(limits)
}

/// Sends a request so that the server reads it one of the two ways.
async fn send(raw: &mut Raw, way: &str, request: &str, other: &Running) {
    if way == "whole" {
        return raw.send(request).await;
    }
    let (first, rest) = request.split_at(10);
    raw.send(first).await;
    // The first piece was read before this is answered.
    Raw::connect(other).await.ask(get("/nothing")).await;
    raw.send(rest).await;
}

async fn ask(raw: &mut Raw, way: &str, request: &str, other: &Running) -> Answer {
    send(raw, way, request, other).await;
    raw.answer().await
}

/// Each row is a request and its status. A refusal of a malformed request ends the connection.
#[tokio::test]
async fn both_ways_give_a_push_the_same_answer() {
    let running = serve(http(HttpLimitSettings { head_bytes_max: 8192, ..Default::default() }));
    let mut listener = running.listen("jack", "news").await;
    let good = push(&[], "hello");
    let length = good.lines().find(|line| line.starts_with("content-length")).unwrap();
    let body = good.split("\r\n\r\n").nth(1).unwrap();
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let lines = ["host: localhost", length, "transfer-encoding: chunked"];
    let chunks = request("POST /push HTTP/1.1", &lines, &chunks);
    let long = format!("x: {}", "x".repeat(8192));
    let rows: &[(&str, String, u16)] = &[
        ("as it should be", good.clone(), 200),
        ("with a length and no chunks", push(&["transfer-encoding: chunked"], "hello"), 400),
        ("with a length and chunks", chunks, 400),
        ("with two lengths", push(&[length], "hello"), 400),
        ("with two hosts", push(&["host: localhost"], "hello"), 400),
        ("without a host", good.replacen("host: localhost\r\n", "", 1), 400),
        ("with a host that is none", good.replacen("localhost", "local host", 1), 400),
        ("with a head beyond its limit", push(&[&long], "hello"), 431),
        ("from a page", push(&["origin: http://elsewhere.example"], "hello"), 403),
    ];
    for (name, request, status) in rows {
        let mut answers = Vec::new();
        for way in WAYS {
            let mut raw = Raw::connect(&running).await;
            let answer = ask(&mut raw, way, request, &running).await;
            assert_eq!(answer.status, *status, "{name} {way}: {answer:?}");
            let date = answer.header("date").unwrap();
            assert!(date.ends_with(" GMT"), "{date}");
            if *status == 200 {
                assert_eq!(answer.body, "message sent to 1 clients", "{name} {way}");
                assert_eq!(heard(&mut listener).await, "hello", "{name} {way}");
            } else if *status != 403 {
                assert_eq!(raw.end().await, End::Eof, "{name} {way}");
            }
            answers.push(answer);
        }
        let [whole, parted] = answers.try_into().unwrap();
        assert_eq!(whole.headers_but_date(), parted.headers_but_date(), "{name}");
        assert_eq!(whole.body, parted.body, "{name}");
    }
}

/// Nothing of what comes behind a push is lost or taken for its body.
#[tokio::test]
async fn pushes_in_one_piece_are_answered_one_by_one() {
    let running = serve_default();
    let mut listener = running.listen("jack", "news").await;
    let mut raw = Raw::connect(&running).await;
    for _ in 0..2 {
        raw.send([push(&[], "first"), push(&[], "second"), push(&[], "third")].concat()).await;
        for message in ["first", "second", "third"] {
            assert_eq!(raw.answer().await.body, "message sent to 1 clients");
            assert_eq!(heard(&mut listener).await, message);
        }
    }
}

/// The next push of a backend mostly differs from the last in its length alone.
#[tokio::test]
async fn a_head_that_comes_again_is_judged_by_its_own_length() {
    let seen: Log<String> = Log::default();
    let log = seen.clone();
    let limits = HttpLimitSettings { head_bytes_max: 8192, ..Default::default() };
    let authorizer = authorize_with(move |request| {
        log.add(request.headers["content-length"].to_str().unwrap().to_owned());
        ready(Ok(Publisher::new()))
    });
    let running = serve(http(limits).push_authorizer(authorizer));
    let mut raw = Raw::connect(&running).await;
    for (message, length) in [("m", "46"), ("mm", "47"), ("m", "46")] {
        assert_eq!(raw.ask(push(&[], message)).await.status, 200);
        assert_eq!(seen.all().last().unwrap(), length, "what the authoriser sees");
    }
    // The longest head, and then one digit more.
    let bare = push(&["x: "], "m");
    let head = bare.find("\r\n\r\n").unwrap() + 4;
    let padded = format!("x: {}", "p".repeat(8192 - head));
    let mut raw = Raw::connect(&running).await;
    assert_eq!(raw.ask(push(&[&padded], "m")).await.status, 200);
    assert_eq!(raw.ask(push(&[&padded], &"m".repeat(100))).await.status, 431);
}

/// Each row says what the answer and the connection do; a body that is not read ends it.
#[tokio::test]
async fn an_early_answer_says_whether_the_connection_goes_on() {
    let running = serve_default();
    let first = "POST /nothing HTTP/1.1";
    let host = "host: localhost";
    let chunks = |bytes: usize| format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", " ".repeat(bytes));
    let chunked = "transfer-encoding: chunked";
    let (long, most) = ("content-length: 100000", "content-length: 65536");
    for (name, request, is_kept) in [
        ("a short body", request(first, &[host, "content-length: 5"], "12345"), true),
        ("the longest body", request(first, &[host, most], &" ".repeat(65_536)), true),
        ("a long body", request(first, &[host, long], &" ".repeat(100_000)), false),
        ("short chunks", request(first, &[host, chunked], &chunks(1_000)), true),
        ("long chunks", request(first, &[host, chunked], &chunks(100_000)), false),
        (
            "a body that is held back",
            request(first, &[host, "content-length: 5", "expect: 100-continue"], ""),
            false,
        ),
    ] {
        let mut raw = Raw::connect(&running).await;
        let answer = raw.ask(request).await;
        assert_eq!(answer.status, 404, "{name}");
        let connection = if is_kept { "keep-alive" } else { "close" };
        assert_eq!(answer.header("connection"), Some(connection), "{name}");
        if is_kept {
            assert_eq!(raw.ask(get("/livez")).await.status, 200, "{name}");
        } else {
            assert_eq!(raw.end().await, End::Eof, "{name}");
        }
    }
}

#[tokio::test]
async fn http_2_is_told_in_http_2_what_is_spoken() {
    let running = serve_default();
    let mut raw = Raw::connect(&running).await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let answer = raw.all().await;
    // Empty SETTINGS, and GOAWAY with HTTP_1_1_REQUIRED (RFC 9113, section 7).
    assert_eq!(answer[..9], [0, 0, 0, 4, 0, 0, 0, 0, 0]);
    assert_eq!((answer[12], &answer[22..26]), (7, &[0, 0, 0, 0x0d][..]), "{answer:?}");
    let told = String::from_utf8_lossy(&answer[26..]);
    assert!(told.contains("HTTP/1.1"), "{told}");
}

/// One thing, once: hyper would add `keep-alive` to the `close` for a client of HTTP/1.0.
#[tokio::test]
async fn an_answer_says_one_thing_about_its_connection() {
    let running = serve_default();
    for (first, lines, status, connection) in [
        ("GET /livez HTTP/1.1", &[][..], 200, "keep-alive"),
        ("GET /livez HTTP/1.1", &["connection: close"], 200, "close"),
        ("GET /livez HTTP/1.0", &[], 200, "close"),
        ("GET /livez HTTP/1.0", &["connection: keep-alive"], 200, "keep-alive"),
        ("GET /ws HTTP/1.0", &["connection: keep-alive"], 400, "close"),
    ] {
        let mut raw = Raw::connect(&running).await;
        let answer = raw.ask(request(first, &[&["host: localhost"], lines].concat(), "")).await;
        assert_eq!(answer.status, status, "{first} {lines:?}");
        assert_eq!(answer.header("connection"), Some(connection), "{first} {lines:?}");
        let is_kept = connection == "keep-alive";
        assert_eq!(answer.header("keep-alive"), is_kept.then_some("timeout=75"), "{first}");
        if !is_kept {
            assert_eq!(raw.end().await, End::Eof, "{first} {lines:?}");
        }
    }
}

/// A request head has one time, and the wait for the next request a longer one.
#[tokio::test]
async fn a_kept_connection_outlives_the_time_of_a_head() {
    let running = serve_default();
    let mut raws = Vec::new();
    for way in WAYS {
        let mut raw = Raw::connect(&running).await;
        assert_eq!(ask(&mut raw, way, &push(&[], "m"), &running).await.status, 200, "{way}");
        raws.push(raw);
    }
    let began = Instant::now();
    let mut silent = Raw::connect(&running).await;
    until_seen(&running).await;
    pass(Duration::from_secs(11)).await;
    assert_eq!(silent.end().await, End::Eof);
    for raw in &mut raws {
        assert_eq!(raw.ask(push(&[], "m")).await.status, 200);
        raw.send("POST /push HTTP/1.1\r\nhost:").await;
    }
    until_seen(&running).await;
    pass(Duration::from_secs(11)).await;
    for raw in &mut raws {
        assert_eq!(raw.end().await, End::Eof);
    }
    // Not by another timer.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

/// Returns when the server has seen what was sent and who has connected before.
async fn until_seen(running: &Running) {
    Raw::connect(running).await.ask(get("/nothing")).await;
}

/// The client has a second more than it is told, and less than a second cannot be told.
#[tokio::test]
async fn a_quiet_connection_ends_after_its_time() {
    for (millis, told) in [(75_000, Some("timeout=75")), (100, None)] {
        let http_idle_timeout = Duration::from_millis(millis);
        let running = serve(http(HttpLimitSettings { http_idle_timeout, ..Default::default() }));
        for way in WAYS {
            let mut raw = Raw::connect(&running).await;
            let answer = ask(&mut raw, way, &push(&[], "m"), &running).await;
            assert_eq!(answer.header("keep-alive"), told, "{way}");
            pass(http_idle_timeout).await;
            assert_eq!(raw.ask(push(&[], "m")).await.status, 200, "{way} {millis}");
            until_seen(&running).await;
            pass(http_idle_timeout + Duration::from_secs(1)).await;
            assert_eq!(raw.end().await, End::Eof, "{way} {millis}");
        }
    }
}

/// The answer is known, so the body is waited for only to keep the connection.
#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_a_moment() {
    let running = serve_default();
    let mut raw = Raw::connect(&running).await;
    let lines = ["host: localhost", "content-length: 5"];
    raw.send(request("POST /nothing HTTP/1.1", &lines, "1234")).await;
    until_seen(&running).await;
    pass(Duration::from_secs(1)).await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    assert_eq!(raw.end().await, End::Eof);
}

/// A client that is refused is listened to for a moment, so that no reset overtakes the answer, but
/// for no longer.
#[tokio::test]
async fn a_refused_client_is_listened_to_for_a_moment() {
    let running = serve_default();
    let mut raw = Raw::connect(&running).await;
    let answer = raw.ask("GET /livez HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    assert_eq!(raw.end().await, End::Eof);
    for _ in 0..3 {
        raw.send("more").await;
        until_seen(&running).await;
    }
    pass(Duration::from_secs(2)).await;
    eventually("nobody listens", || raw.stream.try_write(b"x").is_err()).await;
}

/// A client that reads no answer gives its place back.
#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let running = serve(http(HttpLimitSettings { http_connections_max: 1, ..Default::default() }));
    let mut deaf = Raw::connect_by(running.address, |socket| socket.set_recv_buffer_size(1)).await;
    // The answers are more than the kernel holds for one socket.
    deaf.send(get("/metrics").repeat(400)).await;
    deaf.stream.readable().await.unwrap();
    let status = async || Raw::connect(&running).await.ask(get("/nothing")).await.status;
    assert_eq!(status().await, 503);
    // Its time runs from when the kernel takes no more.
    for _ in 0..1_000 {
        if status().await == 404 {
            return;
        }
        pass(Duration::from_secs(1)).await;
    }
    panic!("there is no room");
}
