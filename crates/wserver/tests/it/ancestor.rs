//! The ancestor's defects, each as the test that its design would fail.

use std::thread;

use wserver_protocol::frame::Opcode;

use crate::harness::{Server, command};
use crate::raw::{
    Closed, End, Frame, Raw, Socket, handshake, masked, masked_close, post, push, push_body,
};

/// It kept one event for each connection and dropped the next without a word.
#[test]
fn a_second_event_on_one_connection_is_delivered() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.register("jack", "chat");
    for event in ["news", "chat", "news"] {
        assert_eq!(push(&server, "jack", event, event), 1);
        assert_eq!(socket.next(), Frame::new(Opcode::Text, event));
    }
}

/// It stranded the first user of a connection when a second registered on it.
#[test]
fn a_second_user_on_one_connection_is_bound_and_both_are_unbound() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.register("rose", "news");
    for user in ["jack", "rose"] {
        assert_eq!(push(&server, user, "news", user), 1);
        assert_eq!(socket.next(), Frame::new(Opcode::Text, user));
    }
    socket.send(masked_close(1000, b""));
    assert_eq!(socket.closed().code, 1000);
    for user in ["jack", "rose"] {
        assert_eq!(push(&server, user, "news", "gone"), 0);
    }
}

/// It unbound nobody whose socket failed, so dead connections gathered and were counted.
#[test]
fn ends_without_a_close_unbind() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    for (name, end) in [("end of file", End::Eof), ("reset", End::Reset)] {
        let mut socket = match end {
            End::Eof => Socket::open(&server),
            End::Reset => Socket::open_on(Raw::connect_to_reset(&server)),
        };
        socket.register("jack", "news");
        assert_eq!(raw.push("jack", "news", "there"), 1, "{name}");
        drop(socket);
        // The kernel tells the server in its own time; from then on the count is right.
        while raw.push("jack", "news", "gone") > 0 {}
    }
    let mut broken = Socket::registered(&server, "jack", "news");
    broken.send(b"\xff\xff\xff\xff");
    assert_eq!(broken.closed().code, 1002);
    assert_eq!(raw.push("jack", "news", "gone"), 0, "a read error");
}

/// It wrote to every socket within the push, without a deadline: one that does not read held up all.
#[test]
fn a_stalled_reader_holds_up_neither_the_publisher_nor_other_readers() {
    let server = Server::start_with(&["--ping-interval", "1h"], &[]);
    let _stalled = {
        let mut stalled = Socket::open_on(Raw::connect_small(&server));
        stalled.register("jack", "news");
        stalled
    };
    let mut reader = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    let message = "x".repeat(512 * 1024);
    // Far more than sockets and queue of the stalled one hold.
    for _ in 0..40 {
        assert!(raw.push("jack", "news", &message) >= 1);
        assert!(reader.next() == Frame::new(Opcode::Text, &message));
    }
    assert_eq!(raw.push("jack", "news", "last"), 1, "the stalled one was let go");
}

/// Its pushes wrote to one socket from several goroutines at once, which corrupts frames or panics.
#[test]
fn concurrent_publishers_never_corrupt_frames() {
    const PUSHERS: usize = 16;
    const EACH: usize = 60;
    // All of it fits into the queue, so that a slow machine makes no slow reader of this one.
    let flags = ["--ping-interval", "1h", "--outbox-bytes-max", "64MiB"];
    let server = Server::start_with(&flags, &[]);
    let mut socket = Socket::registered(&server, "jack", "news");
    let mut seen = [0; PUSHERS];
    thread::scope(|scope| {
        for pusher in 0..PUSHERS {
            let server = &server;
            scope.spawn(move || {
                let mut raw = Raw::connect(server);
                for turn in 0..EACH {
                    // Of all three forms of a frame's length.
                    let filling = "x".repeat([10, 1000, 70_000][turn % 3]);
                    let message = format!("{pusher} {turn} {filling}");
                    assert_eq!(raw.push("jack", "news", &message), 1);
                }
            });
        }
        for _ in 0..PUSHERS * EACH {
            let frame = socket.next();
            assert_eq!(frame.opcode, Opcode::Text as u8);
            let text = String::from_utf8(frame.payload).unwrap();
            let parts: Vec<&str> = text.split(' ').collect();
            let [pusher, turn, filling] = parts[..] else { panic!("torn: {text:.40}") };
            let (pusher, turn): (usize, usize) = (pusher.parse().unwrap(), turn.parse().unwrap());
            assert_eq!(turn, seen[pusher], "each pusher's messages come in order, none is lost");
            assert_eq!(filling.len(), [10, 1000, 70_000][turn % 3]);
            seen[pusher] += 1;
        }
    });
    socket.sync();
}

/// Closing one of its connections twice panicked.
#[test]
fn closing_twice_is_harmless() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    let close = masked_close(1000, b"bye");
    socket.send([&close[..], &close, &close].concat());
    assert_eq!(socket.closed(), Closed { code: 1000, reason: String::new() });
    drop(socket);
    // The client's Close and the server's cross.
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.send(masked_close(1000, b""));
    server.signal("TERM");
    let code = socket.closed().code;
    assert!([1000, 1001].contains(&code), "{code}");
    drop(socket);
    let (status, log) = server.wait();
    assert!(status.success(), "{log}");
}

/// It never asked whether a peer is still there.
#[test]
fn a_ping_is_sent_and_its_answer_awaited() {
    let server = Server::start_with(&["--ping-interval", "200ms", "--pong-timeout", "1s"], &[]);
    let mut socket = Socket::registered(&server, "jack", "news");
    for _ in 0..3 {
        assert_eq!(socket.next(), Frame::new(Opcode::Ping, ""));
        socket.send(masked(Opcode::Pong, ""));
    }
    assert_eq!(socket.next(), Frame::new(Opcode::Ping, ""));
    let closed = socket.closed();
    assert_eq!((closed.code, closed.reason.as_str()), (1008, "no pong in time"));
    assert_eq!(push(&server, "jack", "news", "gone"), 0);
}

/// It read messages of any length.
#[test]
fn what_is_read_is_bounded() {
    let server = Server::start();
    let mut socket = Socket::open(&server);
    socket.send(masked(Opcode::Text, "x".repeat(64 * 1024 + 1)));
    assert_eq!(socket.closed().code, 1009);
}

/// It kept connections for ever that never registered.
#[test]
fn who_never_registers_is_closed() {
    let server = Server::start_with(&["--register-timeout", "300ms"], &[]);
    let mut silent = Socket::open(&server);
    let closed = silent.closed();
    assert_eq!((closed.code, closed.reason.as_str()), (1008, "nothing registered in time"));
}

/// Everybody who reached it could push, and so could every web page that its operator's browser showed.
#[test]
fn pushes_are_guarded_by_default() {
    let server = Server::start_private(&[]);
    let body = push_body("jack", "news", "m");
    for foreign in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("x-forwarded-for", "192.0.2.1"),
        ("host", "rebound.example"),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(post(&[foreign], &body));
        assert_eq!(raw.answer().status, 403, "{foreign:?}");
    }
    let beyond = ["--address", "127.0.0.1:0", "--private-address", "0.0.0.0:0"];
    let beyond = command().args(beyond).output().unwrap();
    assert_eq!(beyond.status.code(), Some(64));
    let told = String::from_utf8_lossy(&beyond.stderr);
    assert!(told.contains("push_authorizer") && told.contains("allow_open_push"), "{told}");
}

/// Its check of the paths was written and never called.
#[test]
fn paths_are_checked() {
    for (flags, told) in [
        (["--ws-path", "ws", "--push-path", "/push"], "ws_path \"ws\" must start with /"),
        (["--ws-path", "/ws", "--push-path", "push"], "push_path \"push\" must start with /"),
        (["--ws-path", "/same", "--push-path", "/same"], "must differ"),
    ] {
        let output = command().args(["--address", "127.0.0.1:0"]).args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{flags:?}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(told), "{flags:?}: {log}");
    }
}

/// It asked only for a path, and upgraded whatever came.
#[test]
fn a_plain_get_is_no_websocket() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send("GET /ws HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(raw.answer().status, 400);
    let mut raw = Raw::connect(&server);
    raw.send(handshake(&[]));
    assert_eq!(raw.answer().status, 101);
}
