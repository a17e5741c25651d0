//! RFC 6455, sections 5 to 8: what is refused with which code, what is answered, and what must not matter.
//!
//! Each refusal is seen from the client: the Close with its code, then the end of the stream and no reset.

use std::iter;

use wserver_protocol::frame::{Fin, Opcode};

use crate::harness::{Server, eventually};
use crate::raw::{
    Frame, MASK, Raw, Socket, fragment, handshake, masked, masked_close, push, register,
};

const PROTOCOL: u16 = 1002;
const NOT_UTF8: u16 = 1007;
const TOO_BIG: u16 = 1009;

const KIB: usize = 1024;

/// A frame head with a length of any form, and a mask.
fn head(first: u8, length: &[u8]) -> Vec<u8> {
    let mut head = vec![first, 0x80 | length[0]];
    head.extend_from_slice(&length[1..]);
    head.extend_from_slice(&MASK);
    head
}

/// A head that announces this many bytes in eight bytes of length.
fn announce(first: u8, bytes: u64) -> Vec<u8> {
    head(first, &[&[127], &bytes.to_be_bytes()[..]].concat())
}

/// Sends `bytes` on a fresh WebSocket and checks the code it is closed with.
fn check_refused(server: &Server, name: &str, bytes: &[u8], code: u16) {
    let mut socket = Socket::open(server);
    socket.send(bytes);
    assert_eq!(socket.closed().code, code, "{name}");
}

fn refused() -> Vec<(String, Vec<u8>, u16)> {
    let text = |payload: &[u8]| fragment(Fin::More, Opcode::Text, payload);
    let more = |payload: &[u8]| fragment(Fin::More, Opcode::Continuation, payload);
    let last = |payload: &[u8]| fragment(Fin::Last, Opcode::Continuation, payload);
    let mut cases: Vec<(String, Vec<u8>, u16)> = [
        ("unmasked text", b"\x81\x02hi".to_vec(), PROTOCOL),
        ("unmasked ping", b"\x89\x00".to_vec(), PROTOCOL),
        ("unmasked close", b"\x88\x02\x03\xe8".to_vec(), PROTOCOL),
        ("RSV1", head(0xc1, &[0]), PROTOCOL),
        ("RSV2", head(0xa1, &[0]), PROTOCOL),
        ("RSV3", head(0x91, &[0]), PROTOCOL),
        ("RSV1 on a ping", head(0xc9, &[0]), PROTOCOL),
        ("fragmented ping", fragment(Fin::More, Opcode::Ping, "p"), PROTOCOL),
        ("fragmented pong", fragment(Fin::More, Opcode::Pong, "p"), PROTOCOL),
        ("fragmented close", fragment(Fin::More, Opcode::Close, ""), PROTOCOL),
        ("ping of 126 bytes", masked(Opcode::Ping, [b'p'; 126]), PROTOCOL),
        ("pong of 64 KiB", masked(Opcode::Pong, vec![b'p'; 64 * KIB]), PROTOCOL),
        ("close of 126 bytes", masked_close(1000, &[b'p'; 124]), PROTOCOL),
        ("lone continuation", last(b"x"), PROTOCOL),
        ("lone unfinished continuation", more(b"x"), PROTOCOL),
        (
            "continuation behind a whole message",
            [masked(Opcode::Text, "x"), last(b"x")].concat(),
            PROTOCOL,
        ),
        ("text inside fragments", [text(b"a"), masked(Opcode::Text, "b")].concat(), PROTOCOL),
        ("binary inside fragments", [text(b"a"), masked(Opcode::Binary, "b")].concat(), PROTOCOL),
        ("fragments inside fragments", [text(b"a"), text(b"b")].concat(), PROTOCOL),
        ("125 bytes in two bytes of length", head(0x81, &[126, 0, 125]), PROTOCOL),
        ("none in two bytes of length", head(0x81, &[126, 0, 0]), PROTOCOL),
        ("65535 bytes in eight bytes of length", announce(0x81, 0xffff), PROTOCOL),
        ("none in eight bytes of length", announce(0x82, 0), PROTOCOL),
        ("a length of 2^63", announce(0x82, 1 << 63), TOO_BIG),
        ("the largest length", announce(0x81, u64::MAX), TOO_BIG),
        ("a length of 2^63 - 1", announce(0x81, (1 << 63) - 1), TOO_BIG),
        ("a binary frame over the limit, announced", announce(0x82, 64 * 1024 + 1), TOO_BIG),
        ("a text frame over the limit, announced", announce(0x81, 64 * 1024 + 1), TOO_BIG),
        (
            "fragments over the limit together",
            [text(&[b'x'; 40 * KIB]), more(&[b'x'; 20 * KIB]), last(&[b'x'; 4 * KIB + 1])].concat(),
            TOO_BIG,
        ),
        (
            "a last fragment over the limit, announced",
            [text(&[b'x'; 60 * KIB]), announce(0x80, 1 << 40)].concat(),
            TOO_BIG,
        ),
        (
            "257 fragments",
            iter::once(text(b"x")).chain(iter::repeat_n(more(b"x"), 256)).flatten().collect(),
            TOO_BIG,
        ),
        (
            "endless empty fragments",
            iter::once(text(b"")).chain(iter::repeat_n(more(b""), 5000)).flatten().collect(),
            TOO_BIG,
        ),
        ("a close payload of one byte", masked(Opcode::Close, [3]), PROTOCOL),
        ("a close reason that is not UTF-8", masked_close(1000, b"\xff"), NOT_UTF8),
        ("a close reason cut inside a character", masked_close(1000, b"\xe2\x98"), NOT_UTF8),
        ("text that is not UTF-8", masked(Opcode::Text, b"a\xff"), NOT_UTF8),
        ("text with a surrogate", masked(Opcode::Text, b"\xed\xa0\x80"), NOT_UTF8),
        ("text in an overlong form", masked(Opcode::Text, b"\xc0\xaf"), NOT_UTF8),
        ("text beyond Unicode", masked(Opcode::Text, b"\xf4\x90\x80\x80"), NOT_UTF8),
        ("text cut inside a character", masked(Opcode::Text, b"\xe2\x98"), NOT_UTF8),
        (
            "text cut inside a character, in fragments",
            [text(b"\xe2"), last(b"\x98")].concat(),
            NOT_UTF8,
        ),
        ("text broken across fragments", [text(b"\xe2\x98"), last(b"A")].concat(), NOT_UTF8),
        ("text broken in a fragment that goes on", text(b"\xe2\x41"), NOT_UTF8),
        (
            "text broken in a frame that goes on",
            [head(0x81, &[100]), mask(b"\xff")].concat(),
            NOT_UTF8,
        ),
    ]
    .map(|(name, bytes, code)| (name.to_owned(), bytes, code))
    .into();
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        cases.push((format!("opcode {opcode:x}"), head(0x80 | opcode, &[0]), PROTOCOL));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push((format!("close code {code}"), masked_close(code, b""), PROTOCOL));
    }
    cases
}

/// Masks the beginning of a payload.
fn mask(payload: &[u8]) -> Vec<u8> {
    payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

#[test]
fn what_breaks_the_protocol_is_closed_with_its_code_and_no_reset() {
    let server = Server::start();
    for (name, bytes, code) in refused() {
        check_refused(&server, &name, &bytes, code);
    }
}

/// What comes behind the offence is read and dropped, so that it does not turn the end into a reset.
#[test]
fn what_follows_an_offence_does_not_reset_the_connection() {
    let server = Server::start();
    let flood = masked(Opcode::Binary, vec![0; 60 * KIB]).repeat(4);
    for (name, bytes, code) in refused() {
        check_refused(&server, &name, &[bytes, flood.clone()].concat(), code);
    }
}

/// More than the server reads of a request at a time; a client need not wait for the handshake's answer.
#[test]
fn nothing_is_lost_of_what_comes_in_one_piece_with_the_handshake() {
    let server = Server::start();
    let nonsense = masked(Opcode::Text, [b'n'; 3000]).repeat(10);
    let mut raw = Raw::connect(&server);
    raw.send([handshake(&[]).into_bytes(), nonsense, register("jack", "news")].concat());
    assert_eq!(raw.answer().status, 101);
    let mut socket = Socket { raw };
    socket.send(masked(Opcode::Ping, "last"));
    while socket.next().payload != b"last" {}
    assert_eq!(push(&server, "jack", "news", "m"), 1);
}

#[test]
fn offences_are_seen_however_the_bytes_are_cut() {
    let server = Server::start();
    let mut http = Raw::connect(&server);
    for (name, bytes, code) in refused().into_iter().filter(|(_, bytes, _)| bytes.len() <= 20) {
        let mut socket = Socket::open(&server);
        for byte in &bytes {
            // The verdict may have fallen already; what is sent then is dropped.
            socket.send([*byte]);
            http.tick();
        }
        assert_eq!(socket.closed().code, code, "{name}");
    }
}

/// An offence ends the registrations of its connection at once, before the socket has gone.
#[test]
fn an_offender_is_unbound_before_its_close_arrives() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
    socket.send(head(0x83, &[0]));
    let close = socket.next();
    assert_eq!(close.opcode, Opcode::Close as u8);
    assert_eq!(push(&server, "jack", "news", "m"), 0);
}

#[test]
fn a_close_is_answered_with_its_code() {
    let server = Server::start();
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ] {
        let mut socket = Socket::open(&server);
        socket.send(masked_close(code, "said ☃".as_bytes()));
        assert_eq!(socket.closed().code, code);
    }
    for reason_bytes in [0, 1, 123] {
        let mut socket = Socket::open(&server);
        socket.send(masked_close(1000, &vec![b'r'; reason_bytes]));
        assert_eq!(socket.closed().code, 1000, "{reason_bytes}");
    }
    let mut socket = Socket::open(&server);
    socket.send(masked(Opcode::Close, ""));
    let code = socket.closed().code;
    assert!([1000, 1005].contains(&code), "{code}");
}

#[test]
fn what_follows_a_close_is_ignored() {
    let server = Server::start();
    for behind in [
        register("jack", "news"),
        masked(Opcode::Ping, "p"),
        masked_close(1002, b""),
        b"\xff\xff\xff\xff".to_vec(),
        vec![0; 300 * KIB],
    ] {
        let mut socket = Socket::open(&server);
        socket.send([masked_close(1001, b""), behind].concat());
        let first = socket.next();
        assert_eq!(first, Frame::new(Opcode::Close, 1001_u16.to_be_bytes()));
        assert!(socket.try_next().is_err());
        assert_eq!(push(&server, "jack", "news", "m"), 0);
    }
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let server = Server::start();
    let mut socket = Socket::open(&server);
    for payload in [&b""[..], b"p", b"\x00\xff\xfe not text", &[7; 125]] {
        socket.send(masked(Opcode::Ping, payload));
        assert_eq!(socket.next(), Frame::new(Opcode::Pong, payload));
    }
    // A pong nobody asked for is no offence, and no question.
    socket.send(masked(Opcode::Pong, "unasked"));
    socket.sync();
}

#[test]
fn control_frames_stand_between_fragments() {
    let server = Server::start();
    let mut socket = Socket::open(&server);
    socket.send(fragment(Fin::More, Opcode::Text, r#"{"token":"jack","#));
    socket.send(masked(Opcode::Ping, "between"));
    assert_eq!(socket.next(), Frame::new(Opcode::Pong, "between"));
    socket.send(masked(Opcode::Pong, ""));
    socket.send(fragment(Fin::Last, Opcode::Continuation, r#""event":"news"}"#));
    socket.sync();
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    let mut socket = Socket::open(&server);
    socket.send(fragment(Fin::More, Opcode::Text, r#"{"token":"jack","#));
    socket.send(masked_close(3001, b""));
    assert_eq!(socket.closed().code, 3001);
}

#[test]
fn a_message_at_every_limit_is_taken() {
    let server = Server::start();
    let exact = |bytes: usize| {
        let json = r#"{"token":"jack","event":"news"}"#;
        json.to_owned() + &" ".repeat(bytes - json.len())
    };
    let whole = exact(64 * KIB);
    let fragmented = iter::once(fragment(Fin::More, Opcode::Binary, &whole[..1]))
        .chain(
            whole.as_bytes()[1..255]
                .iter()
                .map(|byte| fragment(Fin::More, Opcode::Continuation, [*byte])),
        )
        .chain(iter::once(fragment(Fin::Last, Opcode::Continuation, &whole[255..])))
        .collect::<Vec<_>>();
    assert_eq!(fragmented.len(), 256);
    for (name, bytes) in [
        ("64 KiB of text", masked(Opcode::Text, &whole)),
        ("64 KiB of binary", masked(Opcode::Binary, &whole)),
        ("65535 bytes", masked(Opcode::Text, exact(65_535))),
        ("126 bytes", masked(Opcode::Text, exact(126))),
        ("125 bytes", masked(Opcode::Text, exact(125))),
        ("64 KiB in 256 fragments", fragmented.concat()),
    ] {
        let mut socket = Socket::open(&server);
        socket.send(bytes);
        socket.sync();
        assert_eq!(push(&server, "jack", "news", "m"), 1, "{name}");
        socket.send(masked_close(1000, b""));
        assert_eq!(socket.closed().code, 1000, "{name}");
        assert_eq!(push(&server, "jack", "news", "m"), 0, "{name}");
    }
}

/// A valid stream with everything in it: text in fragments cut inside characters, control frames
/// between them, and each form of length that is not long.
fn valid_stream() -> Vec<u8> {
    [
        masked(Opcode::Ping, "first"),
        fragment(Fin::More, Opcode::Text, b"{\"token\":\"j\xe2".as_slice()),
        masked(Opcode::Ping, "inside"),
        fragment(Fin::More, Opcode::Continuation, b"\x98".as_slice()),
        fragment(Fin::More, Opcode::Continuation, ""),
        fragment(Fin::Last, Opcode::Continuation, b"\x83\",\"event\":\"news\"}".as_slice()),
        masked(
            Opcode::Text,
            format!("{{\"token\":\"rose\",\"event\":\"news\"}}{}", " ".repeat(100)),
        ),
        masked(Opcode::Ping, "last"),
    ]
    .concat()
}

fn check_stream(server: &Server, name: &str, send: impl FnOnce(&mut Socket)) {
    let mut socket = Socket::open(server);
    send(&mut socket);
    for payload in ["first", "inside", "last"] {
        assert_eq!(socket.next(), Frame::new(Opcode::Pong, payload), "{name}");
    }
    for user in ["j☃", "rose"] {
        assert_eq!(push(server, user, "news", "m"), 1, "{name}");
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"), "{name}");
    }
    socket.send(masked_close(1000, b""));
    assert_eq!(socket.closed().code, 1000, "{name}");
}

#[test]
fn a_stream_that_drips_byte_by_byte_is_the_same_stream() {
    let server = Server::start();
    let mut http = Raw::connect(&server);
    check_stream(&server, "byte by byte", |socket| {
        for byte in valid_stream() {
            socket.send([byte]);
            http.tick();
        }
    });
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let server = Server::start();
    let mut http = Raw::connect(&server);
    let stream = valid_stream();
    for at in 0..=stream.len() {
        check_stream(&server, &format!("cut at {at}"), |socket| {
            socket.send(&stream[..at]);
            http.tick();
            socket.send(&stream[at..]);
        });
    }
}

/// A peer that sends pings and reads nothing: of the answers at most one waits.
#[test]
fn pongs_do_not_pile_up_for_a_peer_that_does_not_read() {
    const PINGS: u8 = 150;
    const MESSAGES: usize = 20;
    // Room for all of them, and they are more than the sockets' own buffers take, so some wait.
    let server = Server::start_with(&["--outbox-bytes-max", "64MiB"], &[]);
    let mut http = Raw::connect(&server);
    let mut socket = Socket::registered(&server, "jack", "news");
    let message = "m".repeat(1000 * KIB);
    for _ in 0..MESSAGES {
        assert_eq!(http.push("jack", "news", &message), 1);
    }
    for number in 0..PINGS {
        socket.send(masked(Opcode::Ping, [number; 125]));
    }
    // Behind the pings in the stream, so it is bound when they have been read.
    socket.send(register("jack", "later"));
    eventually("the registration is read", || http.push("jack", "later", "end") == 1);
    let (mut texts, mut pongs) = (0, Vec::new());
    loop {
        let frame = socket.next();
        match frame.opcode {
            0x1 if frame.payload == b"end" => break,
            0x1 => texts += 1,
            0xa => pongs.push(frame.payload[0]),
            other => panic!("opcode {other:x}"),
        }
    }
    assert_eq!((texts, pongs), (MESSAGES, vec![0]));
}
