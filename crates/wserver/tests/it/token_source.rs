//! Tokens of the handshake: where they are taken from, and when they count.

use wserver_protocol::frame::Opcode;

use crate::harness::Server;
use crate::raw::{Answer, End, Frame, Raw, Socket, handshake, masked, push};

/// The page that may connect.
const PAGE: (&str, &str) = ("origin", "https://app.example.com");

fn start(source: &str) -> Server {
    let tokens = crate::settings::file("tokens", "aaa jack\nbbb rose\n");
    let flags = ["--tokens-file", tokens.path(), "--token-source", source, "--origin", PAGE.1];
    Server::start_with(&flags, &[])
}

fn attempt(server: &Server, target: &str, headers: &[(&str, &str)]) -> (Answer, Raw) {
    let mut raw = Raw::connect(server);
    raw.send(handshake(headers).replacen("/ws", target, 1));
    (raw.answer(), raw)
}

/// A connection that has sent these registrations, which were looked at.
fn registered(
    server: &Server,
    target: &str,
    headers: &[(&str, &str)],
    registrations: &[&str],
) -> Socket {
    let (answer, raw) = attempt(server, target, headers);
    assert_eq!(answer.status, 101, "{target} {headers:?} {answer:?}");
    let mut socket = Socket { raw };
    for registration in registrations {
        socket.send(masked(Opcode::Text, registration));
    }
    socket.sync();
    socket
}

const WITHOUT: &str = r#"{"event":"news"}"#;
const EMPTY: &str = r#"{"token":"","event":"news"}"#;
const NULL: &str = r#"{"token":null,"event":"news"}"#;
const OF_ROSE: &str = r#"{"token":"bbb","event":"news"}"#;
const UNKNOWN: &str = r#"{"token":"ccc","event":"news"}"#;

#[test]
fn registrations_without_a_token_are_those_of_the_handshake() {
    for (source, target, header) in [
        ("authorization", "/ws", ("authorization", "Bearer aaa")),
        ("cookie:session", "/ws", ("cookie", "theme=dark; session=aaa")),
        ("query:access", "/ws?x=y&access=%61aa", ("x-none", "none")),
    ] {
        let server = start(source);
        let mut sockets = [WITHOUT, EMPTY, NULL]
            .map(|registration| registered(&server, target, &[PAGE, header], &[registration]));
        assert_eq!(push(&server, "jack", "news", "m"), 3, "{source}");
        for socket in &mut sockets {
            assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"), "{source}");
        }
        // A token in the message goes before it, and its refusal stands.
        let _rose = registered(&server, target, &[PAGE, header], &[OF_ROSE]);
        let _nobody = registered(&server, target, &[PAGE, header], &[UNKNOWN]);
        assert_eq!(push(&server, "rose", "news", "m"), 1, "{source}");
        assert_eq!(push(&server, "jack", "news", "m"), 3, "{source}");
    }
}

/// Nothing, or two of them, or in another place: what has no token is ignored as ever.
#[test]
fn no_token_is_guessed_at() {
    type Head<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, &str, Head<'_>)] = &[
        ("message", "/ws?token=aaa", &[("authorization", "Bearer aaa"), ("cookie", "message=aaa")]),
        ("authorization", "/ws?authorization=aaa", &[("cookie", "authorization=aaa")]),
        ("authorization", "/ws", &[("authorization", "Basic aaa")]),
        (
            "authorization",
            "/ws",
            &[("authorization", "Bearer aaa"), ("authorization", "Bearer aaa")],
        ),
        ("cookie:session", "/ws?session=aaa", &[("authorization", "Bearer aaa")]),
        ("cookie:session", "/ws", &[("cookie", "session=aaa; session=bbb")]),
        ("cookie:session", "/ws", &[("cookie", "session=aaa"), ("cookie", "session=bbb")]),
        ("cookie:session", "/ws", &[("cookie", "session=")]),
        ("query:token", "/ws?token=aaa&token=aaa", &[]),
        ("query:token", "/ws?token=", &[("cookie", "token=aaa")]),
    ];
    for (source, target, headers) in cases {
        let server = start(source);
        let headers = [&[PAGE], *headers].concat();
        let _socket = registered(&server, target, &headers, &[WITHOUT, EMPTY, OF_ROSE]);
        assert_eq!(push(&server, "jack", "news", "m"), 0, "{source} {target} {headers:?}");
        assert_eq!(push(&server, "rose", "news", "m"), 1, "{source} {target} {headers:?}");
    }
}

/// The cookie of a visitor is of no use to another site's page.
#[test]
fn a_foreign_page_gets_nowhere_with_a_cookie() {
    let server = start("cookie:session");
    for origin in ["https://evil.example", "null", "http://app.example.com"] {
        let headers = [("origin", origin), ("cookie", "session=aaa")];
        let (answer, mut raw) = attempt(&server, "/ws", &headers);
        assert_eq!(answer.status, 403, "{answer:?}");
        assert_eq!(raw.end(), End::Eof);
    }
}

#[test]
fn a_token_too_long_is_refused_at_the_handshake() {
    let server = start("authorization");
    let bearer = |length: usize| format!("Bearer {}", "t".repeat(length));
    let (answer, mut raw) = attempt(&server, "/ws", &[PAGE, ("authorization", &bearer(4097))]);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.error(), "the token is 4097 bytes long, the limit name_bytes_max is 4096");
    assert_eq!(raw.end(), End::Eof);
    assert_eq!(attempt(&server, "/ws", &[PAGE, ("authorization", &bearer(4096))]).0.status, 101);
}
