//! RFC 6455, section 4.2: which handshakes are accepted, and how the others are refused.

use wserver_protocol::frame::Opcode;

use crate::harness::Server;
use crate::raw::{
    Answer, End, Frame, Raw, SAMPLE_ACCEPT, SAMPLE_KEY, Socket, handshake, masked, push, register,
};

/// The lines of a correct handshake, each to be changed by name.
const LINES: [(&str, &str); 5] = [
    ("Host", "localhost"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", SAMPLE_KEY),
];

/// Names of lines, and what stands there instead.
type Changes<'a> = &'a [(&'a str, &'a [&'a str])];

/// A handshake whose lines of these names are replaced by these lines, or by none.
fn changed(changes: Changes<'_>) -> String {
    let mut head = "GET /ws HTTP/1.1\r\n".to_owned();
    for (name, value) in LINES {
        if changes.iter().all(|(changed, _)| *changed != name) {
            head += &format!("{name}: {value}\r\n");
        }
    }
    for (name, values) in changes {
        for value in *values {
            head += &format!("{name}: {value}\r\n");
        }
    }
    head + "\r\n"
}

fn ask(server: &Server, request: &str) -> (Answer, Raw) {
    let mut raw = Raw::connect(server);
    raw.send(request);
    (raw.answer(), raw)
}

/// Accepted means: 101, the right headers, nothing that was not agreed, and frames work.
fn check_accepted(server: &Server, name: &str, request: &str) {
    let (answer, raw) = ask(server, request);
    assert_eq!(answer.status, 101, "{name}: {answer:?}");
    for (header, value) in [
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-accept", Some(SAMPLE_ACCEPT)),
        ("sec-websocket-protocol", None),
        ("sec-websocket-extensions", None),
        ("content-length", None),
    ] {
        assert_eq!(answer.header(header), value, "{name}: {header}");
    }
    Socket { raw }.sync();
}

/// Refused means: this status, a reason, and the connection is closed.
fn check_refused(server: &Server, name: &str, request: &str, status: u16) -> Answer {
    let (answer, mut raw) = ask(server, request);
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    assert!(!answer.error().is_empty(), "{name}: {answer:?}");
    assert_eq!(raw.end(), End::Eof, "{name}");
    answer
}

#[test]
fn a_handshake_is_accepted_in_all_its_spellings() {
    let server = Server::start();
    let cases: &[(&str, Changes<'_>)] = &[
        ("as it stands", &[]),
        ("a list", &[("Connection", &["keep-alive, Upgrade"])]),
        ("a list without spaces", &[("Connection", &["upgrade,keep-alive"])]),
        ("a list over two lines", &[("Connection", &["keep-alive", "Upgrade"])]),
        ("empty items in a list", &[("Connection", &[", ,Upgrade,"])]),
        ("values in capitals", &[("Connection", &["UPGRADE"]), ("Upgrade", &["WebSocket"])]),
        ("several protocols offered", &[("Upgrade", &["h2c, websocket"])]),
        ("a list that says close, too", &[("Connection", &["close, Upgrade"])]),
        ("close on a line of its own", &[("Connection", &["Upgrade", "close"])]),
        ("a subprotocol offered", &[("Sec-WebSocket-Protocol", &["chat, superchat"])]),
        (
            "extensions offered",
            &[("Sec-WebSocket-Extensions", &["permessage-deflate; client_max_window_bits"])],
        ),
        ("an origin", &[("Origin", &["https://anywhere.example"])]),
        ("an opaque origin", &[("Origin", &["null"])]),
        ("cookies and the like", &[("Cookie", &["a=b"]), ("X-Forwarded-For", &["192.0.2.1"])]),
        ("a foreign host", &[("Host", &["push.example.com"])]),
    ];
    for (name, changes) in cases {
        check_accepted(&server, name, &changed(changes));
    }
    let plain = changed(&[]);
    check_accepted(
        &server,
        "names in small letters",
        &plain
            .to_lowercase()
            .replace(
                &format!("sec-websocket-key: {}", SAMPLE_KEY.to_lowercase()),
                &format!("sec-websocket-key: {SAMPLE_KEY}"),
            )
            .replace("get /ws http", "GET /ws HTTP"),
    );
    check_accepted(
        &server,
        "names in capitals",
        &plain
            .replace("Connection", "CONNECTION")
            .replace("Upgrade:", "UPGRADE:")
            .replace("Sec-WebSocket", "SEC-WEBSOCKET"),
    );
    check_accepted(&server, "a query", &plain.replace("/ws", "/ws?token=aaa"));
    check_accepted(&server, "no space behind colons", &plain.replace(": ", ":"));
    check_accepted(&server, "an absolute target", &plain.replace("/ws", "http://localhost/ws"));
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let server = Server::start();
    let key = "Sec-WebSocket-Key";
    let cases: &[(&str, Changes<'_>)] = &[
        ("no Upgrade", &[("Upgrade", &[])]),
        ("another protocol", &[("Upgrade", &["h2c"])]),
        ("nearly the protocol", &[("Upgrade", &["websockets"])]),
        ("no Connection", &[("Connection", &[])]),
        ("Connection without upgrade", &[("Connection", &["keep-alive"])]),
        ("nearly upgrade", &[("Connection", &["upgraded"])]),
        ("no key", &[(key, &[])]),
        ("an empty key", &[(key, &[""])]),
        ("two keys", &[(key, &[SAMPLE_KEY, SAMPLE_KEY])]),
        ("a key of 15 bytes", &[(key, &["dGhlIHNhbXBsZSBub25j"])]),
        ("a key of 17 bytes", &[(key, &["dGhlIHNhbXBsZSBub25jZWU="])]),
        ("a key without padding", &[(key, &["dGhlIHNhbXBsZSBub25jZQ"])]),
        ("a key that is not base64", &[(key, &["dGhlIHNhbXBsZSBub25j!!=="])]),
    ];
    for (name, changes) in cases {
        check_refused(&server, name, &changed(changes), 400);
    }
    let old = changed(&[]).replace("HTTP/1.1", "HTTP/1.0");
    check_refused(&server, "HTTP/1.0", &old, 400);
}

/// Section 4.1 of the RFC makes this one of sixteen bytes; the last of its digits has loose bits.
#[test]
fn the_key_of_the_rfcs_own_example_is_accepted() {
    let server = Server::start();
    let key = "AQIDBAUGBwgJCgsMDQ4PEC==";
    let (answer, raw) = ask(&server, &changed(&[("Sec-WebSocket-Key", &[key])]));
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some("OfS0wDaT5NoxF2gqm7Zj2YtetzM="));
    Socket { raw }.sync();
}

/// hyper would add `keep-alive` to our `close`.
#[test]
fn a_refusal_of_http_1_0_says_one_thing_about_the_connection() {
    let server = Server::start();
    for (target, headers) in
        [("/ws", "upgrade: websocket\r\n"), ("/ws", ""), ("/push", ""), ("/v2/push", "")]
    {
        let (answer, mut raw) = ask(
            &server,
            &format!("GET {target} HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n{headers}\r\n"),
        );
        assert!(answer.status >= 400, "{target} {answer:?}");
        let connection = answer.header("connection");
        assert!(matches!(connection, Some("close" | "keep-alive")), "{target} {answer:?}");
        if connection == Some("close") {
            assert_eq!(raw.end(), End::Eof, "{target}");
        }
    }
}

/// Browsers fail such a connection by themselves; only the log can say why.
#[test]
fn a_subprotocol_that_is_offered_is_told_in_the_log() {
    let mut server = Server::start_with(&["--log", "debug"], &[]);
    let mut log = server.follow_log();
    let (answer, _raw) = ask(&server, &changed(&[("Sec-WebSocket-Protocol", &["chat"])]));
    assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None));
    log.until("the client offered only subprotocols that the server does not speak");
}

#[test]
fn another_version_is_told_which_one_is_spoken() {
    let server = Server::start();
    let cases: &[&[&str]] = &[&[], &["8"], &["14"], &["13.0"], &["13, 8"], &["13", "13"], &[""]];
    for versions in cases {
        let request = changed(&[("Sec-WebSocket-Version", versions)]);
        let answer = check_refused(&server, &format!("{versions:?}"), &request, 426);
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        assert_eq!(answer.header("upgrade"), Some("websocket"));
    }
}

#[test]
fn only_get_opens_a_websocket() {
    let server = Server::start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let mut raw = Raw::connect(&server);
        raw.send(changed(&[]).replace("GET", method));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}");
    }
    let mut raw = Raw::connect(&server);
    raw.send(changed(&[]).replace("GET", "HEAD"));
    assert_eq!(raw.try_answer("HEAD").unwrap().status, 405);
}

#[test]
fn origins_are_held_to_the_policy() {
    let list = "https://app.example.com,http://localhost:3000";
    let below = "https://*.example.com";
    for (policy, origin, accepted) in [
        ("any", Some("https://evil.example"), true),
        ("any", None, true),
        ("same-origin", None, true),
        ("same-origin", Some("http://localhost"), true),
        ("same-origin", Some("http://LOCALHOST"), true),
        ("same-origin", Some("https://evil.example"), false),
        ("same-origin", Some("http://localhost:81"), false),
        ("same-origin", Some("http://localhost.evil.example"), false),
        ("same-origin", Some("null"), false),
        (list, Some("https://app.example.com"), true),
        (list, Some("http://localhost:3000"), true),
        (list, None, true),
        (list, Some("http://app.example.com"), false),
        (list, Some("https://app.example.com:444"), false),
        (list, Some("https://app.example.com.evil.example"), false),
        (list, Some("https://evil.example/https://app.example.com"), false),
        (list, Some("http://localhost"), false),
        (list, Some("null"), false),
        (list, Some(""), false),
        (below, Some("https://app.example.com"), true),
        (below, Some("https://a.b.EXAMPLE.com"), true),
        (below, None, true),
        (below, Some("https://example.com"), false),
        (below, Some("http://app.example.com"), false),
        (below, Some("https://app.example.com:444"), false),
        (below, Some("https://evilexample.com"), false),
        (below, Some("https://evil.example:1.example.com"), false),
        (below, Some("https://app.example.com.evil.example"), false),
        // Of a frame in a sandbox, and of a file, where that is meant.
        ("null,file://", Some("null"), true),
        ("null,file://", Some("file://"), true),
        ("null,file://", Some("https://app.example.com"), false),
    ] {
        let server = Server::start_with(&["--origin", policy], &[]);
        let name = format!("{policy} {origin:?}");
        let origin: Vec<&str> = origin.into_iter().collect();
        let request = changed(&[("Origin", &origin)]);
        if accepted {
            check_accepted(&server, &name, &request);
        } else {
            let answer = check_refused(&server, &name, &request, 403);
            assert!(answer.error().contains("setting origin"), "{answer:?}");
            let begins: String = origin.concat().chars().take(60).collect();
            assert!(answer.error().contains(&begins), "{answer:?}");
            assert_eq!(answer.body, format!("origin not allowed: {}", answer.error()));
        }
    }
}

/// One that comes twice is refused unless both are allowed, and what is repeated of it is bounded.
#[test]
fn a_refused_origin_is_shown_in_part() {
    let server = Server::start_with(&["--origin", "https://app.example.com"], &[]);
    let good = "https://app.example.com";
    check_accepted(&server, "twice the same", &changed(&[("Origin", &[good, good])]));
    let both: &[&str] = &[good, "https://evil.example"];
    check_refused(&server, "a good and a bad one", &changed(&[("Origin", both)]), 403);
    let long = format!("https://{}.example", "e".repeat(4000));
    let answer = check_refused(&server, "long", &changed(&[("Origin", &[&long])]), 403);
    assert!(answer.error().len() < 200 && answer.error().contains("eee..."), "{answer:?}");
    let odd = changed(&[("Origin", &["https://\u{e9}\t\"evil.example"])]);
    let answer = check_refused(&server, "not ASCII", &odd, 403);
    assert!(answer.error().contains(r#"https://\xc3\xa9\t\"evil"#), "{answer:?}");
}

#[test]
fn a_frame_right_behind_the_handshake_is_taken() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let ping = masked(Opcode::Ping, "early");
    raw.send([handshake(&[]).as_bytes(), &register("jack", "news"), &ping].concat());
    assert_eq!(raw.answer().status, 101);
    let mut socket = Socket { raw };
    assert_eq!(socket.next(), Frame::new(Opcode::Pong, "early"));
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
}

/// Half a frame, and more of them than a connection may have waiting.
#[test]
fn many_frames_right_behind_the_handshake_are_taken_in_order() {
    let server = Server::start();
    let frames: Vec<u8> = (0..100)
        .flat_map(|number| register("jack", &format!("event-{number}")))
        .chain(masked(Opcode::Ping, "early"))
        .collect();
    let bytes = [handshake(&[]).into_bytes(), frames].concat();
    let mut raw = Raw::connect(&server);
    raw.send(&bytes[..bytes.len() - 3]);
    assert_eq!(raw.answer().status, 101);
    raw.send(&bytes[bytes.len() - 3..]);
    let mut socket = Socket { raw };
    assert_eq!(socket.next(), Frame::new(Opcode::Pong, "early"));
    let mut http = Raw::connect(&server);
    for number in 0..100 {
        assert_eq!(http.push("jack", &format!("event-{number}"), "m"), 1, "{number}");
    }
}

/// A body would otherwise be read as frames by us and as a body by a proxy before us.
#[test]
fn a_handshake_with_a_body_is_refused() {
    let server = Server::start();
    let inside = register("jack", "news");
    let length = inside.len().to_string();
    for (name, value) in [("Content-Length", &*length), ("Transfer-Encoding", "chunked")] {
        let mut raw = Raw::connect(&server);
        raw.send([changed(&[(name, &[value])]).as_bytes(), &inside].concat());
        let answer = raw.answer();
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert_eq!(push(&server, "jack", "news", "m"), 0);
    }
}

#[test]
fn the_path_may_be_set() {
    let server = Server::start_with(&["--ws-path", "/live/socket", "--push-path", "/ws"], &[]);
    check_accepted(&server, "set", &changed(&[]).replace("/ws", "/live/socket"));
    let (answer, _raw) = ask(&server, &changed(&[]));
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
}
