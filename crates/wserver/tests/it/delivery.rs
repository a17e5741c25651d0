//! Who gets what, in which order, counted how: many connections, many pushers, readers of all speeds.

use std::collections::HashMap;
use std::thread;

use futures::future::join_all;
use wserver_client::{Client, Connection, Pusher};
use wserver_protocol::frame::Opcode;

use crate::harness::{PATIENCE, Server};
use crate::raw::{Closed, End, Frame, Raw, Socket, push};

const MIB: usize = 1024 * 1024;

/// The default of `outbox_bytes_max`.
const OUTBOX_BYTES_MAX: usize = 4 * MIB;

/// The defaults, but no pings: on a slow machine one would come between the messages.
fn start() -> Server {
    Server::start_with(&["--ping-interval", "1h"], &[])
}

fn text(message: impl AsRef<[u8]>) -> Frame {
    Frame::new(Opcode::Text, message)
}

#[test]
fn a_thousand_connections_of_one_user_are_served_and_counted() {
    const CONNECTIONS: usize = 1000;
    const PUSHES: usize = 20;
    let server = start();
    let mut sockets: Vec<Socket> =
        (0..CONNECTIONS).map(|_| Socket::registered(&server, "jack", "news")).collect();
    let mut raw = Raw::connect(&server);
    for number in 0..PUSHES {
        assert_eq!(raw.push("jack", "news", &number.to_string()), CONNECTIONS);
    }
    for socket in &mut sockets {
        for number in 0..PUSHES {
            assert_eq!(socket.next(), text(number.to_string()));
        }
        // Nothing is left over.
        socket.sync();
    }
    drop(sockets.split_off(CONNECTIONS / 2));
    // The kernel tells the server in its own time.
    let mut count = raw.push("jack", "news", "fewer");
    while count > CONNECTIONS / 2 {
        count = raw.push("jack", "news", "fewer");
    }
    assert_eq!(count, CONNECTIONS / 2);
}

#[test]
fn a_thousand_pushes_arrive_in_order() {
    let server = start();
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.register("jack", "chat");
    let mut raw = Raw::connect(&server);
    for number in 0..1000 {
        let event = ["news", "chat"][number % 2];
        assert_eq!(raw.push("jack", event, &number.to_string()), 1);
    }
    for number in 0..1000 {
        assert_eq!(socket.next(), text(number.to_string()));
    }
}

async fn listen(server: &Server, count: usize, token: &str, event: &str) -> Vec<Connection> {
    let client = Client::new(&format!("ws://{}/ws", server.address)).unwrap();
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = client.open().await.unwrap();
        connection.register(token, event).await.unwrap();
        connections.push(connection);
    }
    connections
}

fn pusher(server: &Server) -> Pusher {
    Pusher::new(&format!("http://{}/push", server.address)).unwrap().with_timeout(PATIENCE)
}

/// Sixteen at once, at one connection and at a group that a walker serves: all see one order.
#[tokio::test]
async fn concurrent_pushers_are_heard_by_all_in_one_order() {
    const PUSHERS: usize = 16;
    const EACH: usize = 50;
    let server = start();
    for group in [1, 60] {
        let user = format!("user of {group}");
        let mut connections = listen(&server, group, &user, "news").await;
        let ready = pusher(&server);
        while ready.push(&user, "news", "probe").await.unwrap() < group as u64 {}
        let pushing = (0..PUSHERS).map(|number| {
            let (pusher, user) = (pusher(&server), &user);
            async move {
                for turn in 0..EACH {
                    let message = format!("{number} {turn}");
                    assert_eq!(pusher.push(user, "news", &message).await.unwrap(), group as u64);
                }
            }
        });
        let reading = connections.iter_mut().map(|connection| async move {
            let mut heard = Vec::with_capacity(PUSHERS * EACH);
            while heard.len() < PUSHERS * EACH {
                let message = connection.next_text(PATIENCE).await.unwrap();
                if message != "probe" {
                    heard.push(message);
                }
            }
            heard
        });
        let (_, heard) = tokio::join!(join_all(pushing), join_all(reading));
        for other in &heard[1..] {
            assert_eq!(*other, heard[0], "two connections of {group} disagree");
        }
        let mut turns: HashMap<&str, usize> = HashMap::new();
        for message in &heard[0] {
            let (number, turn) = message.split_once(' ').unwrap();
            let next = turns.entry(number).or_default();
            assert_eq!(turn.parse(), Ok(*next), "pusher {number} in order, nothing lost or twice");
            *next += 1;
        }
        assert_eq!(turns.len(), PUSHERS);
    }
}

/// What a reader that stopped had been sent: whole frames in order, then the Close or a reset.
fn check_stalled(stalled: &mut Socket, message: &str, counted: usize) {
    let mut frames = 0;
    loop {
        match stalled.try_next() {
            Ok(frame) if frame.opcode == Opcode::Text as u8 => {
                assert!(frame == text(message), "frame {frames} is torn");
                frames += 1;
            }
            Ok(frame) => {
                let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                assert_eq!((frame.opcode, code), (Opcode::Close as u8, Some(1013)));
                break;
            }
            Err(end) => {
                assert_eq!(end, End::Reset, "no orderly end without a Close");
                break;
            }
        }
    }
    assert!(frames <= counted, "{frames} frames, {counted} counted");
}

fn check_stall(readers: usize) {
    let server = start();
    let mut stalled = Socket::open_on(Raw::connect_small(&server));
    stalled.register("jack", "news");
    let mut sockets: Vec<Socket> =
        (0..readers).map(|_| Socket::registered(&server, "jack", "news")).collect();
    let mut raw = Raw::connect(&server);
    let message = "x".repeat(256 * 1024);
    let mut counted = 0;
    loop {
        let count = raw.push("jack", "news", &message);
        for socket in &mut sockets {
            assert!(socket.next() == text(&message), "nobody else is held up");
        }
        if count == readers {
            break;
        }
        assert_eq!(count, readers + 1);
        counted += 1;
        assert!(counted * message.len() < 64 * MIB, "the stalled reader is dropped at last");
    }
    assert!(counted * message.len() > OUTBOX_BYTES_MAX - message.len(), "not before its bound");
    for _ in 0..3 {
        assert_eq!(raw.push("jack", "news", "next"), readers, "nor is it counted from then on");
    }
    for socket in &mut sockets {
        for _ in 0..3 {
            assert_eq!(socket.next(), text("next"));
        }
        socket.sync();
    }
    check_stalled(&mut stalled, &message, counted);
}

#[test]
fn a_stalled_reader_alone_is_dropped_at_its_bound() {
    check_stall(0);
}

#[test]
fn a_stalled_reader_in_a_small_group_is_dropped_at_its_bound() {
    check_stall(3);
}

#[test]
fn a_stalled_reader_in_a_large_group_is_dropped_at_its_bound() {
    check_stall(40);
}

/// A reader that comes back in time has lost nothing.
#[test]
fn a_reader_that_pauses_loses_nothing() {
    let server = start();
    let mut socket = Socket::open_on(Raw::connect_small(&server));
    socket.register("jack", "news");
    let mut raw = Raw::connect(&server);
    let message = "x".repeat(100 * 1024);
    for round in 0..5 {
        for number in 0..30 {
            assert_eq!(raw.push("jack", "news", &format!("{round} {number} {message}")), 1);
        }
        for number in 0..30 {
            assert!(socket.next() == text(format!("{round} {number} {message}")));
        }
    }
}

#[test]
fn many_users_each_get_their_own() {
    const USERS: usize = 300;
    let server = start();
    let mut sockets: Vec<Socket> = (0..USERS)
        .map(|user| Socket::registered(&server, &format!("user {user}"), "news"))
        .collect();
    thread::scope(|scope| {
        for pusher in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut raw = Raw::connect(server);
                for user in (pusher..USERS).step_by(4) {
                    for turn in 0..3 {
                        let message = format!("{turn} for {user}");
                        assert_eq!(raw.push(&format!("user {user}"), "news", &message), 1);
                    }
                }
            });
        }
    });
    for (user, socket) in sockets.iter_mut().enumerate() {
        for turn in 0..3 {
            assert_eq!(socket.next(), text(format!("{turn} for {user}")));
        }
        socket.sync();
    }
}

/// The end of one user's connections is nothing to another user of the same connections' events.
#[test]
fn users_and_events_are_apart() {
    let server = start();
    let mut jack = Socket::registered(&server, "jack", "news");
    let mut rose = Socket::registered(&server, "rose", "news");
    let mut chat = Socket::registered(&server, "jack", "chat");
    for (user, event, count) in
        [("jack", "news", 1), ("jack", "chat", 1), ("rose", "news", 1), ("rose", "chat", 0)]
    {
        assert_eq!(push(&server, user, event, &format!("{user} {event}")), count);
    }
    assert_eq!(jack.next(), text("jack news"));
    assert_eq!(chat.next(), text("jack chat"));
    assert_eq!(rose.next(), text("rose news"));
    jack.send(crate::raw::masked_close(1000, b""));
    assert_eq!(jack.closed(), Closed { code: 1000, reason: String::new() });
    assert_eq!(push(&server, "jack", "news", "gone"), 0);
    assert_eq!(push(&server, "jack", "chat", "there"), 1);
    assert_eq!(chat.next(), text("there"));
    rose.sync();
}
