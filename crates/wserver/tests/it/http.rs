//! Requests as HTTP/1.1 has them: where each ends, which are refused, which methods and paths there are.
//!
//! Long because requests that go wrong, and how each is answered, are read beside each other.

use std::io::Read as _;

use wserver_protocol::frame::Opcode;

use crate::harness::Server;
use crate::raw::{End, Frame, Raw, Socket, post, push_body, push_request};

const SENT_TO_NONE: &str = "message sent to 0 clients";

/// A request with exactly these lines between its first line and its body.
fn request(first: &str, lines: &[&str], body: &str) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{first}\r\n{lines}\r\n{body}")
}

pub(crate) fn push_with(lines: &[&str], body: &str) -> String {
    request("POST /push HTTP/1.1", &[&["Host: localhost"], lines].concat(), body)
}

/// A body in one chunk, and its end.
fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// Sends `request` and what a smuggler hides behind it; exactly one answer may come, then the end.
fn check_refused_and_closed(server: &Server, name: &str, request: &str, statuses: &[u16]) {
    let mut raw = Raw::connect(server);
    raw.send([request.as_bytes(), &push_request("jack", "news", "smuggled")].concat());
    let answer = raw.answer();
    assert!(statuses.contains(&answer.status), "{name}: {answer:?}");
    assert_eq!(raw.end(), End::Eof, "{name}");
}

/// What `request` is answered when it is sent in these two parts, and whether the connection goes on.
fn answer_of(server: &Server, request: &[u8], parts_at: usize) -> (String, bool) {
    answer_on(&mut Raw::connect(server), server, request, parts_at)
}

/// The same on a connection that may have had requests before.
fn answer_on(raw: &mut Raw, server: &Server, request: &[u8], parts_at: usize) -> (String, bool) {
    let (first, second) = request.split_at(parts_at);
    raw.send(first);
    if !first.is_empty() {
        // By then the server has read the first part.
        Raw::connect(server).tick();
    }
    raw.send(second);
    let answer = raw.answer();
    let date = answer.header("date").expect("an answer has a date");
    httpdate::parse_http_date(date).expect("it is one of HTTP");
    let told = format!("{} {:?} {}", answer.status, answer.headers_but_date(), answer.body);
    raw.send(push_request("nobody", "news", "next"));
    let goes_on = raw.try_answer("POST").is_ok_and(|answer| answer.status == 200);
    // Whether a refused request was read to its end depends on what had come by then.
    (told, goes_on || answer.status != 200)
}

/// What comes in one piece goes another way through the server than what comes in parts.
#[test]
fn a_push_is_answered_alike_whether_it_comes_whole_or_in_parts() {
    let flags = ["--message-bytes-max", "1000", "--push-body-bytes-max", "80000"];
    let server = Server::start_with(&flags, &[]);
    let _listener = Socket::registered(&server, "jack", "news");
    let good = push_body("jack", "news", "hello");
    let long = push_body("jack", "news", &"m".repeat(1001));
    let longer = push_body("jack", "news", &"m".repeat(80_001));
    let name = "n".repeat(5000);
    let many: Vec<(String, &str)> = (0..40).map(|at| (format!("x-{at}"), "v")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (&**name, *value)).collect();
    let too_many: Vec<(String, &str)> = (0..101).map(|at| (format!("x-{at}"), "v")).collect();
    let too_many: Vec<(&str, &str)> =
        too_many.iter().map(|(name, value)| (&**name, *value)).collect();
    let length = format!("Content-Length: {}", good.len());
    let first = |first: &str| {
        let request = push_with(&[&*length], &good);
        request.replacen("POST /push HTTP/1.1", first, 1).into_bytes()
    };
    let cases: &[(&str, Vec<u8>, u16)] = &[
        ("as it should be", post(&[], &good), 200),
        ("with a header of keep-alive", post(&[("Connection", "Keep-Alive")], &good), 200),
        ("to be closed", post(&[("connection", "close")], &good), 200),
        ("with other options", post(&[("connection", "keep-alive, te")], &good), 200),
        ("for JSON", post(&[("accept", "application/json")], "{}"), 400),
        ("with many headers", post(&many, &good), 200),
        ("with too many headers", post(&too_many, &good), 431),
        ("to nobody", post(&[], push_body("jill", "news", "hello")), 200),
        ("without a body", post(&[], ""), 400),
        ("without a length", push_with(&[], "").into_bytes(), 400),
        ("no JSON", post(&[], "{"), 400),
        ("no UTF-8", post(&[], b"{\"userId\":\"\xff\"}"), 400),
        ("an empty field", post(&[], push_body("jack", "", "hello")), 400),
        ("a long name", post(&[], push_body(&name, "news", "hello")), 400),
        ("a long message", post(&[], &long), 413),
        ("a long body", post(&[], &longer), 413),
        ("from a page", post(&[("origin", "http://elsewhere.example")], &good), 403),
        ("through a proxy", post(&[("via", "1.1 proxy")], &good), 200),
        ("for another host", post(&[("host", "elsewhere.example")], &good), 200),
        ("of HTTP/1.0", first("POST /push HTTP/1.0"), 200),
        ("of HTTP/1.2", first("POST /push HTTP/1.2"), 400),
        ("by another method", first("PUT /push HTTP/1.1"), 405),
        ("in lower case", first("post /push HTTP/1.1"), 405),
        ("with a query", first("POST /push?a=b HTTP/1.1"), 200),
        ("with a whole address", first("POST http://localhost/push HTTP/1.1"), 200),
        ("to another path", first("POST /push/ HTTP/1.1"), 404),
        ("in chunks", push_with(&["Transfer-Encoding: chunked"], &chunked(&good)).into(), 200),
        ("with two lengths", push_with(&[&*length, &*length], &good).into(), 400),
        ("with a signed length", push_with(&["Content-Length: +5"], "12345").into(), 400),
        (
            "with a length and chunks",
            { push_with(&[&*length, "Transfer-Encoding: chunked"], &good).into() },
            400,
        ),
        ("with a zero byte", push_with(&[&*length, "X: a\0b"], &good).into(), 400),
        ("with bytes beyond ASCII", post(&[("x", "\u{e9}")], &good), 200),
        ("with an empty header", post(&[("x", "")], &good), 200),
    ];
    for (name, request, status) in cases {
        eprintln!("{name}");
        let whole = answer_of(&server, request, 0);
        assert!(whole.0.starts_with(&status.to_string()), "{whole:?}");
        for parts_at in [1, request.len() / 2, request.len() - 1] {
            assert_eq!(answer_of(&server, request, parts_at), whole, "parted at {parts_at}");
        }
        // A head that is like the last one is not read again.
        let goes_on = *status == 200 && whole.1;
        for before in [Some(&post(&[], &good)), goes_on.then_some(request)].into_iter().flatten() {
            let mut raw = Raw::connect(&server);
            raw.send(before);
            assert_eq!(raw.answer().status, 200);
            assert_eq!(answer_on(&mut raw, &server, request, 0), whole, "after another");
        }
    }
}

/// The next push has the same head but for its length, and every way to get that wrong.
#[test]
fn a_head_that_comes_again_ends_where_its_own_length_says() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let push = |lines: &[&str], message: &str| {
        let body = push_body("jack", "news", message);
        let length = format!("Content-Length: {}", body.len());
        push_with(&[&[&*length], lines].concat(), &body)
    };
    let mut raw = Raw::connect(&server);
    for bytes in [1, 1, 2, 100, 1, 1000, 60_000, 7] {
        let message = "m".repeat(bytes);
        raw.send(push(&[], &message));
        assert_eq!(raw.answer().status, 200);
        assert_eq!(listener.next(), Frame::new(Opcode::Text, &message));
    }
    let good = push(&[], "hello");
    let length = format!("Content-Length: {}", push_body("jack", "news", "hello").len());
    for (name, request, status) in [
        ("an empty length", good.replacen(&length, "Content-Length: ", 1), 400),
        ("a sign", good.replacen(&length, &length.replace(": ", ": +"), 1), 400),
        ("a second length", good.replacen(&length, &format!("{length}\r\n{length}"), 1), 400),
        ("a list", good.replacen(&length, &format!("{length}, 1"), 1), 400),
        (
            "more than a number holds",
            good.replacen(&length, &format!("{length}{:0>40}", 1), 1),
            400,
        ),
        ("more than a body may have", good.replacen(&length, &format!("{length}000000"), 1), 413),
        (
            "chunks",
            good.replacen(&length, &format!("{length}\r\nTransfer-Encoding: chunked"), 1),
            400,
        ),
        ("a header more", push(&["Origin: https://evil.example"], "hello"), 403),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(&good);
        assert_eq!(
            (raw.answer().status, listener.next()),
            (200, Frame::new(Opcode::Text, "hello")),
            "{name}"
        );
        raw.send(&request);
        assert_eq!(raw.answer().status, status, "{name}");
    }
    // Two in one piece are hyper's, and both are served.
    let mut raw = Raw::connect(&server);
    for requests in [&*good, &*format!("{good}{good}"), &*good] {
        raw.send(requests);
        for _ in requests.matches("POST ") {
            assert_eq!(raw.answer().body, "message sent to 1 clients");
            assert_eq!(listener.next(), Frame::new(Opcode::Text, "hello"));
        }
    }
}

#[test]
fn ambiguous_bodies_are_refused_and_the_connection_closed() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let body = push_body("jack", "news", "first");
    let length = format!("Content-Length: {}", body.len());
    let shorter = format!("Content-Length: {}", body.len() - 1);
    let (length, shorter) = (length.as_str(), shorter.as_str());
    let te = "Transfer-Encoding: chunked";
    let cases: &[(&str, &[&str], String)] = &[
        ("length, then chunked", &[length, te], chunked(&body)),
        ("chunked, then length", &[te, length], chunked(&body)),
        ("length, then chunked, read by length", &[length, te], body.clone()),
        (
            "length, far away, and chunked",
            &["content-length:0", "A: b", "TRANSFER-ENCODING: CHUNKED"],
            chunked(&body),
        ),
        ("two lengths", &[length, shorter], body.clone()),
        ("two lengths, the other way", &[shorter, length], body.clone()),
        ("the same length twice", &[length, length], body.clone()),
        ("a list of lengths", &["Content-Length: 5, 5"], body.clone()),
        ("a signed length", &["Content-Length: +5"], body.clone()),
        ("a negative length", &["Content-Length: -5"], body.clone()),
        ("a length in hexadecimal", &["Content-Length: 0x5"], body.clone()),
        ("an empty length", &["Content-Length:"], body.clone()),
        ("a length beyond 64 bits", &["Content-Length: 18446744073709551621"], body.clone()),
        ("a space before the colon", &["Content-Length : 5"], body.clone()),
        ("a space before the colon of chunked", &["Transfer-Encoding : chunked"], chunked(&body)),
        ("chunked, then identity", &["Transfer-Encoding: chunked, identity"], chunked(&body)),
        ("identity, then chunked", &["Transfer-Encoding: identity, chunked"], chunked(&body)),
        ("gzip, then chunked", &["Transfer-Encoding: gzip, chunked"], chunked(&body)),
        ("chunked twice", &["Transfer-Encoding: chunked, chunked"], chunked(&body)),
        ("chunked on two lines", &[te, te], chunked(&body)),
        ("identity and chunked on two lines", &["Transfer-Encoding: identity", te], chunked(&body)),
        ("chunked and identity on two lines", &[te, "Transfer-Encoding: identity"], chunked(&body)),
        ("xchunked", &["Transfer-Encoding: xchunked"], chunked(&body)),
        ("chunkedx", &["Transfer-Encoding: chunkedx"], chunked(&body)),
        ("quoted chunked", &["Transfer-Encoding: \"chunked\""], chunked(&body)),
        ("a parameter of chunked", &["Transfer-Encoding: chunked;q=1"], chunked(&body)),
        ("chunked behind a vertical tab", &["Transfer-Encoding: \u{b}chunked"], chunked(&body)),
        ("an empty transfer encoding", &["Transfer-Encoding:"], chunked(&body)),
        ("a list with an empty end", &["Transfer-Encoding: chunked,"], chunked(&body)),
        ("identity alone", &["Transfer-Encoding: identity"], body.clone()),
        ("a folded header", &["X-Folded: a", " b", length], body.clone()),
        ("a folded transfer encoding", &["Transfer-Encoding:", " chunked"], chunked(&body)),
        ("a folded first header", &[" Transfer-Encoding: chunked", length], body.clone()),
        (
            "a bare carriage return in a header",
            &["X: a\rTransfer-Encoding: chunked", length],
            body.clone(),
        ),
        ("a header without a colon", &["Transfer-Encoding chunked", length], body.clone()),
        ("a zero byte in a header", &["X: a\0b", length], body.clone()),
    ];
    for (name, lines, body) in cases {
        check_refused_and_closed(&server, name, &push_with(lines, body), &[400]);
    }
    let old = push_with(&[te], &chunked(&body)).replace("HTTP/1.1", "HTTP/1.0");
    check_refused_and_closed(&server, "chunked in HTTP/1.0", &old, &[400]);
    // Whatever stood in those bodies, or behind them, was not pushed.
    assert_eq!(Raw::connect(&server).push("jack", "news", "last"), 1);
    assert_eq!(listener.next(), Frame::new(Opcode::Text, "last"));
}

#[test]
fn broken_chunks_are_refused_and_the_connection_closed() {
    let server = Server::start();
    for (name, body) in [
        ("no size", "\r\nabc\r\n0\r\n\r\n"),
        ("a size that is no number", "xyz\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("a size beyond 64 bits", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        ("more than its size", "2\r\nabc\r\n0\r\n\r\n"),
        ("a size in 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let request = push_with(&["Transfer-Encoding: chunked"], body);
        check_refused_and_closed(&server, name, &request, &[400]);
    }
}

#[test]
fn a_chunked_body_is_read_in_all_its_forms() {
    let server = Server::start();
    let body = push_body("jack", "news", "m");
    let (front, back) = body.split_at(10);
    let mut raw = Raw::connect(&server);
    for (lines, body) in [
        (&["Transfer-Encoding: chunked"][..], chunked(&body)),
        (&["transfer-encoding:Chunked"], chunked(&body)),
        (&["Transfer-Encoding: \t chunked \t"], chunked(&body)),
        (
            &["Transfer-Encoding: chunked"],
            format!(
                "a;name=value\r\n{front}\r\n{:X}\r\n{back}\r\n000\r\nTrailer: t\r\n\r\n",
                back.len()
            ),
        ),
    ] {
        raw.send(push_with(lines, &body));
        let answer = raw.answer();
        assert_eq!((answer.status, &*answer.body), (200, SENT_TO_NONE), "{lines:?}");
    }
}

#[test]
fn a_connection_serves_push_after_push() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    for number in 0..50 {
        assert_eq!(raw.push("jack", "news", &number.to_string()), 1);
        assert_eq!(listener.next(), Frame::new(Opcode::Text, number.to_string()));
    }
}

#[test]
fn pipelined_pushes_are_answered_in_order() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    let requests: Vec<u8> = (0..100)
        .flat_map(|number| match number % 4 {
            0 => push_request("jack", "news", &number.to_string()),
            1 => push_request("nobody", "news", "m"),
            2 => post(&[], "no json"),
            _ => b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        })
        .collect();
    raw.send(&requests);
    for number in 0..100 {
        let expected = match number % 4 {
            0 => (200, "message sent to 1 clients"),
            1 => (200, SENT_TO_NONE),
            2 => (400, "request data illegal"),
            _ => (404, "not found: no such path"),
        };
        let answer = raw.answer();
        assert_eq!((answer.status, &*answer.body), expected, "{number}");
    }
    for number in (0..100).step_by(4) {
        assert_eq!(listener.next(), Frame::new(Opcode::Text, number.to_string()));
    }
}

/// A body that nobody reads must not be taken for the next request.
#[test]
fn an_unread_body_is_not_the_next_request() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let smuggled = String::from_utf8(push_request("jack", "news", "smuggled")).unwrap();
    for (first, status) in [
        ("POST /nothing HTTP/1.1", 404),
        ("PUT /push HTTP/1.1", 405),
        ("GET / HTTP/1.1", 200),
        ("GET /ws HTTP/1.1", 400),
    ] {
        let length = format!("Content-Length: {}", smuggled.len());
        let mut raw = Raw::connect(&server);
        raw.send(request(first, &["Host: localhost", &length], &smuggled));
        raw.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(raw.answer().status, status, "{first}");
        // It goes on with what stands behind the body, or it ends.
        if let Ok(answer) = raw.try_answer("GET") {
            assert_eq!(answer.status, 404, "{first}");
        }
    }
    assert_eq!(Raw::connect(&server).push("jack", "news", "last"), 1);
    assert_eq!(listener.next(), Frame::new(Opcode::Text, "last"));
}

#[test]
fn other_methods_and_paths_are_refused() {
    let server = Server::start();
    for (first, status, allow) in [
        ("GET /push", 405, Some("POST")),
        ("HEAD /push", 405, Some("POST")),
        ("PUT /push", 405, Some("POST")),
        ("DELETE /push", 405, Some("POST")),
        ("PATCH /push", 405, Some("POST")),
        ("OPTIONS /push", 405, Some("POST")),
        ("BREW /push", 405, Some("POST")),
        ("POST /", 405, Some("GET, HEAD")),
        ("GET /nothing", 404, None),
        ("POST /nothing", 404, None),
        ("POST /push/", 404, None),
        ("POST //push", 404, None),
        ("POST /Push", 404, None),
        ("POST /%70ush", 404, None),
        ("POST /ws/../push", 404, None),
        ("GET /ws/", 404, None),
        ("OPTIONS *", 404, None),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(request(
            &format!("{first} HTTP/1.1"),
            &["Host: localhost", "Content-Length: 0"],
            "",
        ));
        let (method, _) = first.split_once(' ').unwrap();
        let answer = raw.try_answer(method).unwrap();
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{first}");
    }
}

/// warp panics over these, which would end the connection without a word.
#[test]
fn a_target_without_a_path_is_answered() {
    let server = Server::start();
    for first in ["CONNECT localhost:443", "GET localhost:443", "GET localhost", "POST push"] {
        let mut raw = Raw::connect(&server);
        raw.send(request(&format!("{first} HTTP/1.1"), &["Host: localhost"], ""));
        assert_eq!(raw.answer().status, 404, "{first}");
    }
}

/// RFC 9112, section 3.2.
#[test]
fn a_request_has_one_host() {
    let server = Server::start_private(&[]);
    for (first, hosts, status) in [
        ("GET /livez HTTP/1.1", &[][..], 400),
        ("GET /livez HTTP/1.1", &["a", "a"], 400),
        ("GET /livez HTTP/1.1", &["a b"], 400),
        ("GET /livez HTTP/1.1", &["user@a"], 400),
        ("GET /livez HTTP/1.1", &["a:b"], 400),
        ("GET http://localhost/livez HTTP/1.1", &[], 400),
        ("GET /livez HTTP/1.1", &["push_server:80"], 200),
        ("GET /livez HTTP/1.1", &["[::1]:80"], 200),
        ("GET /livez HTTP/1.0", &[], 200),
        ("GET /livez HTTP/1.0", &["a", "a"], 400),
        ("GET http://localhost/livez HTTP/1.1", &["localhost"], 200),
        ("GET http://localhost/metrics HTTP/1.1", &["localhost"], 200),
        // The target goes before the header, so this did not come from this machine.
        ("GET http://push.example.com/metrics HTTP/1.1", &["localhost"], 403),
        ("POST http://push.example.com/push HTTP/1.1", &["localhost"], 403),
        ("POST /push HTTP/1.1", &[], 400),
        ("POST /push HTTP/1.1", &["localhost", "localhost"], 400),
        ("POST /push HTTP/1.1", &["local host"], 400),
        // Neither is this machine, whatever it begins with.
        ("POST /push HTTP/1.1", &["[::1].evil.example"], 400),
        ("POST /push HTTP/1.1", &["localhost:80@evil.example"], 400),
    ] {
        let hosts: Vec<String> = hosts.iter().map(|host| format!("Host: {host}")).collect();
        let mut lines: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let body = push_body("jack", "news", "m");
        let length = format!("Content-Length: {}", body.len());
        let is_push = first.starts_with("POST");
        if is_push {
            lines.push(&length);
        }
        let mut raw = Raw::connect(&server);
        raw.send(request(first, &lines, if is_push { &body } else { "" }));
        let answer = raw.answer();
        assert_eq!(answer.status, status, "{first} {hosts:?} {answer:?}");
        if status == 400 {
            assert!(answer.error().contains("Host"), "{first} {hosts:?} {answer:?}");
        }
    }
}

/// Who begins with HTTP/2 is told in HTTP/2 what is spoken: GOAWAY, HTTP_1_1_REQUIRED.
#[test]
fn http_2_by_prior_knowledge_is_told_what_is_spoken() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut answer = Vec::new();
    raw.stream.read_to_end(&mut answer).expect("an end in order");
    let (settings, goaway) = answer.split_at(9);
    assert_eq!(settings, b"\0\0\0\x04\0\0\0\0\0");
    let (head, payload) = goaway.split_at(9);
    assert_eq!(head, [0, 0, u8::try_from(payload.len()).unwrap(), 7, 0, 0, 0, 0, 0]);
    assert_eq!(payload[..8], [0, 0, 0, 0, 0, 0, 0, 0x0d]);
    assert_eq!(&payload[8..], b"this port speaks HTTP/1.1 alone");
}

#[test]
fn a_compressed_body_is_refused_by_the_name_of_its_coding() {
    let server = Server::start();
    let body = push_body("jack", "news", "m");
    for target in ["/push", "/v2/push", "/v2/presence"] {
        for (coding, told) in [("gzip", "gzip"), ("gzip, br", "gzip, br"), ("\u{e9}", "\\xc3\\xa9")]
        {
            let mut raw = Raw::connect(&server);
            let headers = [("content-encoding", coding)];
            raw.send(crate::raw::request("POST", target, &headers, &body));
            let answer = raw.answer();
            assert_eq!(answer.status, 415, "{target} {answer:?}");
            assert!(
                answer.error().contains(&format!("has Content-Encoding {told};")),
                "{target} {answer:?}"
            );
            assert!(answer.body.contains("has Content-Encoding"), "{target} {answer:?}");
        }
    }
    let mut raw = Raw::connect(&server);
    raw.send(post(&[("content-encoding", "identity")], &body));
    assert_eq!(raw.answer().status, 200);
}

/// Where one socket listens for both families.
#[test]
fn an_ipv4_client_is_shown_as_one() {
    let mut server = Server::start_at("[::]:0", &["--allow-open-push", "--log", "debug"], &[]);
    let mut log = server.follow_log();
    let mut raw = Raw::connect_at(([127, 0, 0, 1], server.address.port()).into());
    raw.send("GET /push HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(raw.answer().status, 405);
    let line = log.until("push refused");
    assert!(line.contains("\"127.0.0.1:") && !line.contains("ffff"), "{line}");
}

#[test]
fn what_is_not_http_1_is_refused() {
    let server = Server::start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"SSH-2.0-client\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(bytes);
        if let Ok(answer) = raw.try_answer("GET") {
            assert_eq!(answer.status, 400, "{bytes:?}");
        }
        raw.end();
    }
}

#[test]
fn huge_heads_are_refused() {
    let server = Server::start();
    let long = "a".repeat(100 * 1024);
    let many: String = (0..101).map(|number| format!("H{number}: v\r\n")).collect();
    for (name, request, statuses) in [
        (
            "one huge header",
            format!("POST /push HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
            &[431][..],
        ),
        (
            "a head without end",
            format!("POST /push HTTP/1.1\r\nHost: localhost\r\nX: {long}"),
            &[431],
        ),
        ("101 headers", format!("POST /push HTTP/1.1\r\n{many}\r\n"), &[431]),
        ("a huge target", format!("POST /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), &[414, 431]),
        (
            "a huge query",
            format!("POST /push?{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            &[414, 431],
        ),
        ("a huge method", format!("{long} / HTTP/1.1\r\nHost: localhost\r\n\r\n"), &[400, 431]),
    ] {
        check_refused_and_closed(&server, name, &request, statuses);
    }
}
