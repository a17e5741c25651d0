//! The v1 contract, row by row, as the ancestor's browsers and backends rely on it.
//!
//! What is refused at the borders of HTTP, JSON and frames is shown in rooms of their own.

use wserver_client::{Client, Pusher};
use wserver_protocol::frame::{Fin, Opcode};

use crate::harness::{PATIENCE, Server};
use crate::raw::{Frame, Raw, Socket, fragment, handshake, masked, post, push, push_body};
use crate::settings::file;

const MIB: usize = 1024 * 1024;
const ILLEGAL: &str = "request data illegal";

/// Who is bound is heard; nothing else is ever said to a client that registers.
fn check_bound(server: &Server, socket: &mut Socket, user: &str, event: &str, name: &str) {
    let mut raw = Raw::connect(server);
    assert_eq!(raw.push(user, event, name), 1, "{name}");
    assert_eq!(socket.next(), Frame::new(Opcode::Text, name), "{name}");
}

#[test]
fn registrations_are_read_in_every_form() {
    let server = Server::start();
    let plain = br#"{"token":"jack","event":"news"}"#;
    let (front, back) = plain.split_at(9);
    let fragments = |opcode| {
        let mut bytes = fragment(Fin::More, opcode, front);
        bytes.extend(fragment(Fin::More, Opcode::Continuation, b""));
        bytes.extend(fragment(Fin::Last, Opcode::Continuation, back));
        bytes
    };
    let text = |json: &str| masked(Opcode::Text, json);
    let cases: &[(&str, Vec<u8>)] = &[
        ("text", masked(Opcode::Text, plain)),
        ("binary", masked(Opcode::Binary, plain)),
        ("fragmented text", fragments(Opcode::Text)),
        ("fragmented binary", fragments(Opcode::Binary)),
        ("as the ancestor's Go clients", text(r#"{"Token":"jack","Event":"news"}"#)),
        ("capitals", text(r#"{"TOKEN":"jack","EVENT":"news"}"#)),
        ("mixed", text(r#"{"tOkEn":"jack","eVENT":"news"}"#)),
        ("unknown keys", text(r#"{"id":7,"token":"jack","more":{"token":"x"},"event":"news"}"#)),
        ("the last of two", text(r#"{"token":"rose","event":"x","event":"news","Token":"jack"}"#)),
        ("only the first value", text(r#"{"token":"jack","event":"news"}{"token":"rose"}"#)),
        ("nonsense behind it", text("{\"token\":\"jack\",\"event\":\"news\"}]]]")),
        ("white space", text("\r\n\t {\"token\" : \"jack\", \"event\" : \"news\"} ")),
        ("escapes", text(r#"{"token":"\u006aack","event":"n\u0065ws"}"#)),
    ];
    // None of them leaves: when the server notices who has left is its own affair.
    let mut sockets = Vec::new();
    let mut raw = Raw::connect(&server);
    for (name, bytes) in cases {
        let mut socket = Socket::open(&server);
        socket.send(bytes);
        socket.sync();
        sockets.push(socket);
        assert_eq!(raw.push("jack", "news", name), sockets.len(), "{name}");
        for socket in &mut sockets {
            assert_eq!(socket.next(), Frame::new(Opcode::Text, name), "{name}");
        }
    }
}

/// The ancestor says nothing to a client that registers, whether it is bound or not.
#[test]
fn nothing_answers_a_registration() {
    let server = Server::start();
    let mut socket = Socket::open(&server);
    for _ in 0..3 {
        socket.send(masked(Opcode::Text, r#"{"token":"jack","event":"news"}"#));
        // What comes back first is the answer to a ping behind it.
        socket.sync();
    }
    check_bound(&server, &mut socket, "jack", "news", "bound once");
}

#[test]
fn what_is_no_registration_is_ignored_and_the_socket_stays_open() {
    let tokens = file("ignored-tokens", "aaa jack\n");
    let server = Server::start_with(&["--tokens-file", tokens.path()], &[]);
    let mut socket = Socket::open(&server);
    for ignored in [
        "",
        "hello",
        "null",
        "[]",
        "7",
        "{}",
        "{",
        r#"{"token":"aaa"}"#,
        r#"{"event":"news"}"#,
        r#"{"token":"","event":"news"}"#,
        r#"{"token":"aaa","event":""}"#,
        r#"{"token":null,"event":"news"}"#,
        r#"{"token":7,"event":"news"}"#,
        r#"{"token":["aaa"],"event":"news"}"#,
        r#"{"token":"refused","event":"news"}"#,
        r#"["aaa","news"]"#,
    ] {
        socket.send(masked(Opcode::Text, ignored));
        socket.send(masked(Opcode::Binary, ignored));
        socket.sync();
        assert_eq!(push(&server, "jack", "news", "m"), 0, "{ignored}");
    }
    socket.send(masked(Opcode::Binary, b"\xff\xfe not UTF-8"));
    socket.register("aaa", "news");
    check_bound(&server, &mut socket, "jack", "news", "after all that");
}

#[test]
fn tokens_are_mapped_to_users() {
    let tokens = file("tokens", "aaa jack\nbbb jack\nccc rose\n");
    let server = Server::start_with(&["--tokens-file", tokens.path()], &[]);
    let mut phone = Socket::registered(&server, "aaa", "news");
    let mut laptop = Socket::registered(&server, "bbb", "news");
    let mut second = Socket::registered(&server, "aaa", "news");
    let mut other = Socket::registered(&server, "ccc", "news");
    let mut refused = Socket::registered(&server, "ddd", "news");
    assert_eq!(push(&server, "jack", "news", "to jack"), 3);
    assert_eq!(push(&server, "rose", "news", "to rose"), 1);
    assert_eq!(push(&server, "aaa", "news", "a token is no user"), 0);
    assert_eq!(push(&server, "ddd", "news", "nobody"), 0);
    for socket in [&mut phone, &mut laptop, &mut second] {
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "to jack"));
        socket.sync();
    }
    assert_eq!(other.next(), Frame::new(Opcode::Text, "to rose"));
    refused.sync();
}

#[test]
fn without_an_authenticator_the_token_is_the_user() {
    let server = Server::start();
    let name = "jack \u{1f600} O'Neill <j@example.com>";
    let mut socket = Socket::registered(&server, name, "news");
    check_bound(&server, &mut socket, name, "news", "verbatim");
    assert_eq!(push(&server, "Jack", "news", "case matters"), 0);
}

#[test]
fn n_is_how_many_took_it() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let mut listeners = Vec::new();
    for count in 0..4 {
        raw.send(post(&[], push_body("jack", "news", "m")));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.body), (200, format!("message sent to {count} clients")));
        listeners.push(Socket::registered(&server, "jack", "news"));
    }
    assert_eq!(raw.push("jack", "other", "m"), 0, "nobody registered that");
    assert_eq!(raw.push("nobody", "news", "m"), 0);
}

#[test]
fn pushes_are_refused_with_exact_bodies() {
    let key = "a push key of some length";
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", key)]);
    let bearer = format!("Bearer {key}");
    let good = ("authorization", bearer.as_str());
    let wrong = ("authorization", "Bearer a push key of some other");
    let body = push_body("jack", "news", "m");
    let with = |headers: &[(&str, &str)], body: &str| post(headers, body);
    let get = b"GET /push HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec();
    let too_large = push_body("jack", "news", &"x".repeat(MIB + 1));
    let cases: &[(&str, Vec<u8>, u16, &str)] = &[
        ("a good one", with(&[good], &body), 200, "message sent to 0 clients"),
        ("no JSON", with(&[good], "userId=jack"), 400, ILLEGAL),
        ("half JSON", with(&[good], &body[..20]), 400, ILLEGAL),
        ("no body", with(&[good], ""), 400, ILLEGAL),
        ("no user", with(&[good], r#"{"event":"news","message":"m"}"#), 400, ILLEGAL),
        ("empty user", with(&[good], &push_body("", "news", "m")), 400, ILLEGAL),
        ("empty event", with(&[good], &push_body("jack", "", "m")), 400, ILLEGAL),
        ("empty message", with(&[good], &push_body("jack", "news", "")), 400, ILLEGAL),
        ("a lone surrogate", with(&[good], r#"{"userId":"\ud800"}"#), 400, ILLEGAL),
    ];
    // The bodies of others are for people: they say why, as the header does.
    let others: &[(&str, Vec<u8>, u16, &str)] = &[
        ("another method", get, 405, "method not allowed"),
        ("no key", with(&[], &body), 401, "unauthorized: the push key is missing"),
        ("a wrong key", with(&[wrong], &body), 401, "unauthorized: the push key is wrong"),
        ("too large", with(&[good], &too_large), 413, "message too large"),
    ];
    for (name, request, status, words) in others {
        let mut raw = Raw::connect(&server);
        raw.send(request);
        let answer = raw.answer();
        assert_eq!(answer.status, *status, "{name}");
        assert!(answer.body.starts_with(words), "{name}: {answer:?}");
        assert!(answer.body.ends_with(answer.error()), "{name}: {answer:?}");
        let allow = (*status == 405).then_some("POST");
        assert_eq!(answer.header("allow"), allow, "{name}");
    }
    for (name, request, status, body) in cases {
        let mut raw = Raw::connect(&server);
        raw.send(request);
        let answer = raw.answer();
        assert_eq!((answer.status, answer.body.as_str()), (*status, *body), "{name}");
        assert_eq!(answer.error().is_empty(), *status == 200, "{name}: a refusal says why");
    }
}

#[test]
fn messages_arrive_verbatim_as_one_text_frame() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    for message in [
        "hello",
        " ",
        "\0",
        "a\0b",
        "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{feff}\u{202e}",
        "\\ \" / \u{8} \u{c} \n \r \t \\u0041",
        r#"{"message":"inner","list":[1,2]}"#,
        &"\u{1f600}".repeat(1000),
        &"x".repeat(125),
        &"x".repeat(126),
        &"x".repeat(65_535),
        &"x".repeat(65_536),
        &"\u{1}".repeat(MIB),
        &"x".repeat(MIB),
    ] {
        assert_eq!(raw.push("jack", "news", message), 1);
        assert!(listener.next() == Frame::new(Opcode::Text, message), "{message:.40}");
    }
}

#[test]
fn paths_may_be_set() {
    let flags = ["--ws-path", "/live", "--push-path", "/api/notify"];
    let server = Server::start_with(&flags, &[]);
    let mut raw = Raw::connect(&server);
    raw.send(handshake(&[]).replace("/ws", "/live"));
    assert_eq!(raw.answer().status, 101);
    let mut socket = Socket { raw };
    socket.register("jack", "news");
    let mut raw = Raw::connect(&server);
    let request = String::from_utf8(post(&[], push_body("jack", "news", "m"))).unwrap();
    raw.send(request.replace("/push", "/api/notify"));
    assert_eq!(raw.answer().body, "message sent to 1 clients");
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    for old in [request, handshake(&[])] {
        let mut raw = Raw::connect(&server);
        raw.send(old);
        assert_eq!(raw.answer().status, 404);
    }
}

/// The whole of it with the client that users are given.
#[tokio::test]
async fn the_client_speaks_the_contract() {
    let server = Server::start();
    let url = format!("http://{}/push", server.address);
    let pusher = Pusher::new(&url).unwrap().with_timeout(PATIENCE);
    let mut connection = Client::connect(&format!("ws://{}/ws", server.address)).await.unwrap();
    connection.register("jack", "news").await.unwrap();
    while pusher.push("jack", "news", "first").await.unwrap() == 0 {}
    assert_eq!(connection.next_text(PATIENCE).await.unwrap(), "first");
    assert_eq!(pusher.push("jack", "news", "second").await.unwrap(), 1);
    assert_eq!(connection.next_text(PATIENCE).await.unwrap(), "second");
    connection.close(wserver_client::CloseCode::NORMAL, "").await.unwrap();
    assert_eq!(pusher.push("jack", "news", "third").await.unwrap(), 0);
}
