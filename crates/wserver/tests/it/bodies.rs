//! Bodies and connections in size and time: what is too long, too slow, or broken off, and that others are served meanwhile.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use wserver_protocol::frame::Opcode;

use crate::harness::{PATIENCE, Server, eventually};
use crate::http::push_with;
use crate::raw::{End, Frame, Raw, Socket, post, push_body, push_request};

const MIB: usize = 1024 * 1024;

#[test]
fn a_body_too_long_by_its_length_is_refused_at_once() {
    let server = Server::start();
    for length in [8 * MIB as u64 + 1, 10_000_000_000, u64::MAX - 2] {
        let mut raw = Raw::connect(&server);
        // Nothing of the body is sent, so nothing of it was waited for.
        raw.send(push_with(&[&format!("Content-Length: {length}")], ""));
        let answer = raw.answer();
        assert_eq!(answer.status, 413, "{length}");
        assert!(answer.error().contains("push_body_bytes_max"), "{answer:?}");
        assert_eq!(raw.end(), End::Eof, "{length}");
    }
}

/// What was sent and not read would turn the end into a reset, which eats the answer on its way to many a client.
#[test]
fn a_refusal_is_not_lost_behind_an_unread_body() {
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", "right-0123456789")]);
    for (key, bytes, status) in [
        ("right-0123456789", 16 * MIB, 413),
        ("wrong-0123456789", 16 * MIB, 401),
        ("wrong-0123456789", 200_000, 401),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(post(&[("x-api-key", key)], vec![b' '; bytes]));
        assert_eq!(raw.answer().status, status, "{bytes}");
        assert_eq!(raw.end(), End::Eof, "{status} {bytes}");
    }
}

/// Sends pieces until the server takes no more.
fn send_until_refused(raw: &mut Raw, piece: &[u8], bytes_max: usize) {
    for _ in 0..bytes_max / piece.len() {
        match raw.stream.write_all(piece) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_endless_chunked_body_is_refused_in_bounded_memory() {
    let server = Server::start();
    let before = server.resident_bytes();
    let mut chunk = format!("{MIB:x}\r\n").into_bytes();
    chunk.extend_from_slice(&vec![b' '; MIB]);
    chunk.extend_from_slice(b"\r\n");
    let mut raw = Raw::connect(&server);
    raw.send(push_with(&["Transfer-Encoding: chunked"], ""));
    send_until_refused(&mut raw, &chunk, 64 * MIB);
    let answer = raw.answer();
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("push_body_bytes_max"), "{answer:?}");
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < 64 * MIB as u64, "grew by {growth}");
}

/// One byte in each chunk: what it costs on the wire must not be what it costs here.
#[test]
fn an_endless_chunk_extension_is_refused() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send(push_with(&["Transfer-Encoding: chunked"], "1;"));
    send_until_refused(&mut raw, &[b'e'; 4096], 64 * MIB);
    assert_eq!(raw.answer().status, 400);
    let mut raw = Raw::connect(&server);
    raw.send(push_with(&["Transfer-Encoding: chunked"], "1\r\n \r\n0\r\n"));
    send_until_refused(&mut raw, b"trailer: t\r\n", 64 * MIB);
    assert_eq!(raw.answer().status, 400);
}

#[test]
fn a_message_at_its_limit_passes_and_one_byte_more_does_not() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    let full = "m".repeat(MIB);
    assert_eq!(raw.push("jack", "news", &full), 1);
    assert_eq!(listener.next(), Frame::new(Opcode::Text, &full));
    // JSON may write each byte as six, and the limit is of what is delivered.
    let escaped = r"\u006d".repeat(MIB);
    raw.send(post(&[], format!(r#"{{"userId":"jack","event":"news","message":"{escaped}"}}"#)));
    assert_eq!(raw.answer().body, "message sent to 1 clients");
    assert_eq!(listener.next(), Frame::new(Opcode::Text, &full));
    raw.send(push_request("jack", "news", &(full + "m")));
    let answer = raw.answer();
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("message_bytes_max"), "{answer:?}");
    // The connection is still good.
    assert_eq!(raw.push("jack", "news", "last"), 1);
    assert_eq!(listener.next(), Frame::new(Opcode::Text, "last"));
}

#[test]
fn a_stalled_body_is_refused_in_its_time() {
    let server = Server::start_with(&["--push-body-timeout", "200ms"], &[]);
    for (name, request) in [
        ("none of it", push_with(&["Content-Length: 100"], "")),
        ("half of it", push_with(&["Content-Length: 100"], "{\"userId\":")),
        ("no chunk", push_with(&["Transfer-Encoding: chunked"], "")),
        ("half a chunk", push_with(&["Transfer-Encoding: chunked"], "ff\r\n{\"userId\":")),
        ("no last chunk", push_with(&["Transfer-Encoding: chunked"], "3\r\nabc\r\n")),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(request);
        let answer = raw.answer();
        assert_eq!(answer.status, 408, "{name}");
        assert!(answer.error().contains("push_body_timeout"), "{answer:?}");
        assert_eq!(raw.end(), End::Eof, "{name}");
    }
}

/// Sends one byte after the other for as long as nothing comes back.
fn drip(raw: &mut Raw, byte: u8) {
    raw.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    while matches!(raw.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
        if raw.stream.write_all(&[byte]).is_err() {
            break;
        }
    }
    raw.stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn a_dripping_body_is_refused_in_its_time() {
    let server = Server::start_with(&["--push-body-timeout", "300ms"], &[]);
    let mut raw = Raw::connect(&server);
    raw.send(push_with(&["Content-Length: 8000000"], ""));
    drip(&mut raw, b' ');
    assert_eq!(raw.answer().status, 408);
    assert_eq!(raw.end(), End::Eof);
}

#[test]
fn connections_that_send_no_whole_head_are_closed() {
    let flags = ["--header-timeout", "200ms", "--http-idle-timeout", "200ms"];
    let server = Server::start_with(&flags, &[]);
    for (name, bytes) in [
        ("silent", ""),
        ("half a first line", "POST /pu"),
        ("half a head", "POST /push HTTP/1.1\r\nHost: localhost\r\n"),
        ("half a second request", "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET /no"),
        ("gone quiet", "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(bytes);
        // Each whole request is answered; a 408 is a polite way to say why it ends.
        while let Ok(answer) = raw.try_answer("GET") {
            assert!([404, 408].contains(&answer.status), "{name}: {answer:?}");
        }
    }
    let mut raw = Raw::connect(&server);
    raw.send("POST /push HTTP/1.1\r\nX: ");
    drip(&mut raw, b'a');
    assert!(raw.try_answer("GET").map_or(true, |answer| answer.status == 408));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let server = Server::start();
    let body = push_body("jack", "news", "m");
    let length = format!("Content-Length: {}", body.len());
    let mut raw = Raw::connect(&server);
    raw.send(push_with(&[&length, "Expect: 100-continue"], ""));
    assert_eq!(raw.answer().status, 100);
    raw.send(&body);
    assert_eq!(raw.answer().body, "message sent to 0 clients");
    // Or is refused before it has sent anything.
    raw.send(push_with(&["Content-Length: 10000000000", "Expect: 100-continue"], ""));
    assert_eq!(raw.answer().status, 413);
}

/// What a stalled publisher has announced and not sent must not keep others out.
#[test]
fn stalled_bodies_do_not_hold_up_other_pushes() {
    let server = Server::start();
    let stalled: Vec<Raw> = (0..100)
        .map(|number| {
            let mut raw = Raw::connect(&server);
            raw.send(match number % 2 {
                0 => push_with(&["Transfer-Encoding: chunked"], "5\r\n"),
                _ => push_with(&["Content-Length: 8000000"], "{"),
            });
            raw
        })
        .collect();
    let mut http = Raw::connect(&server);
    http.tick();
    // Well within the 20 s after which the stalled ones are refused.
    http.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(http.push("jack", "news", "m"), 0);
    assert_eq!(http.push("jack", "news", &"m".repeat(MIB)), 0);
    drop(stalled);
}

/// The other end of an HTTP connection may be gone at any point.
#[test]
fn requests_that_break_off_cost_nothing() {
    let server = Server::start();
    let mut http = Raw::connect(&server);
    http.tick();
    let before = server.descriptors();
    let request = push_request("jack", "news", "m");
    for end in 0..request.len() {
        let mut raw = Raw::connect(&server);
        raw.send(&request[..end]);
        let mut raw = Raw::connect_to_reset(&server);
        raw.send(&request[..end]);
    }
    eventually("the descriptors are back", || server.descriptors() <= before);
    assert_eq!(http.push("jack", "news", "m"), 0);
}
