//! Fan-out at length: churn under constant pushes, ten thousand connections, large messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures::future::join_all;
use tokio::task::JoinSet;
use wserver_client::{Client, CloseCode, Connection, Pusher};
use wserver_protocol::frame::Opcode;

use super::is_left_out;
use crate::harness::{PATIENCE, Server, eventually};
use crate::raw::{Frame, Raw, Socket};

const MIB: usize = 1024 * 1024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn client(server: &Server) -> Client {
    Client::new(&format!("ws://{}/ws", server.address)).unwrap().with_connect_timeout(PATIENCE)
}

fn pusher(server: &Server) -> Pusher {
    Pusher::new(&format!("http://{}/push", server.address)).unwrap().with_timeout(PATIENCE)
}

async fn listen(client: &Client, event: &str) -> Connection {
    let mut connection = client.open().await.unwrap();
    connection.register("jack", event).await.unwrap();
    connection
}

/// Comes and goes until it is told to stop, in every way there is.
async fn churn(client: Client, number: usize, is_over: Arc<AtomicBool>) -> usize {
    let mut lives = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut connection = listen(&client, "news").await;
        if (number + lives).is_multiple_of(3) {
            connection.register("jack", "chat").await.unwrap();
            connection.register("rose", "news").await.unwrap();
        }
        let mut last = None;
        for _ in 0..(number + lives) % 7 {
            let text = connection.next_text(PATIENCE).await.unwrap();
            let next: usize = text.parse().unwrap();
            assert!(last.is_none_or(|last| last < next), "in order, and once");
            last = Some(next);
        }
        match (number + lives) % 4 {
            0 => {
                connection.close(CloseCode::NORMAL, "").await.unwrap();
            }
            // With messages unread: a reset.
            _ => drop(connection),
        }
        lives += 1;
    }
    lives
}

#[test]
fn churn_leaves_nothing_behind_and_costs_survivors_nothing() {
    const CHURNERS: usize = 300;
    const SURVIVORS: u64 = 50;
    const PUSHES: usize = 1500;
    if is_left_out("fanout::churn") {
        return;
    }
    let server = Server::start();
    let runtime = runtime();
    let (client, pusher) = (client(&server), pusher(&server));
    let run = |pushes: usize| {
        runtime.block_on(async {
            let mut survivors = Vec::new();
            for _ in 0..SURVIVORS {
                survivors.push(listen(&client, "news").await);
            }
            while pusher.push("jack", "news", "ready").await.unwrap() < SURVIVORS {}
            let is_over = Arc::new(AtomicBool::new(false));
            let mut churners = JoinSet::new();
            for number in 0..CHURNERS {
                churners.spawn(churn(client.clone(), number, Arc::clone(&is_over)));
            }
            let pushing = async {
                for number in 0..pushes {
                    let count = pusher.push("jack", "news", &number.to_string()).await.unwrap();
                    assert!(count >= SURVIVORS, "{count} is less than those who stay");
                }
                is_over.store(true, Ordering::Relaxed);
                // Those who still wait for a message get one.
                let mut number = pushes;
                while !churners.is_empty() {
                    while let Some(lives) = churners.try_join_next() {
                        assert!(lives.unwrap() > 0, "everybody came");
                    }
                    pusher.push("jack", "news", &number.to_string()).await.unwrap();
                    number += 1;
                }
                number
            };
            let reading = join_all(survivors.iter_mut().map(|survivor| async move {
                let mut next = 0;
                while next < pushes {
                    let text = survivor.next_text(PATIENCE).await.unwrap();
                    if text != "ready" {
                        assert_eq!(text, next.to_string(), "a survivor misses nothing");
                        next += 1;
                    }
                }
            }));
            tokio::join!(pushing, reading);
        });
        // Only the pusher's own connections are left.
        eventually("everybody is unbound", || {
            runtime.block_on(pusher.push("jack", "news", "gone")).unwrap() == 0
        });
        (server.resident_bytes(), server.descriptors())
    };
    // The first run fills pools and the allocator's arenas; the second must need no more.
    let (resident, descriptors) = run(PUSHES / 4);
    let (resident_after, _) = run(PUSHES);
    eventually("descriptors are back", || server.descriptors() <= descriptors);
    let growth = resident_after.saturating_sub(resident);
    println!("resident {resident}, then {resident_after}; descriptors {descriptors}");
    assert!(growth < 16 * MIB as u64, "grew by {growth} from {resident}");
}

#[test]
fn ten_thousand_connections_are_served_exactly_and_in_order() {
    const CONNECTIONS: u64 = 10_000;
    const PUSHERS: usize = 4;
    const EACH: usize = 10;
    if is_left_out("fanout::ten_thousand") {
        return;
    }
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    // Each end of a connection is a descriptor, here and there.
    let connections = CONNECTIONS.min(descriptors / 2);
    if connections < CONNECTIONS {
        println!("ONLY {connections} CONNECTIONS: {descriptors} descriptors allow no more");
    }
    let server = Server::start();
    runtime().block_on(async {
        let (client, pusher) = (client(&server), pusher(&server));
        let mut listeners = JoinSet::new();
        for _ in 0..100 {
            let client = client.clone();
            listeners.spawn(async move {
                let mut opened = Vec::new();
                for _ in 0..connections / 100 {
                    opened.push(listen(&client, "news").await);
                }
                opened
            });
        }
        let mut connections: Vec<_> = listeners.join_all().await.into_iter().flatten().collect();
        let all = connections.len() as u64;
        while pusher.push("jack", "news", "ready").await.unwrap() < all {}
        println!("{all} connections, {} KiB each", server.resident_bytes() / 1024 / all);
        let pushing = join_all((0..PUSHERS).map(|number| {
            let pusher = &pusher;
            async move {
                for turn in 0..EACH {
                    let message = format!("{number} {turn}");
                    assert_eq!(pusher.push("jack", "news", &message).await.unwrap(), all);
                }
            }
        }));
        let reading = join_all(connections.iter_mut().map(|connection| async move {
            let mut heard = Vec::with_capacity(PUSHERS * EACH);
            while heard.len() < PUSHERS * EACH {
                let text = connection.next_text(PATIENCE).await.unwrap();
                if text != "ready" {
                    heard.push(text);
                }
            }
            heard
        }));
        let (_, heard) = tokio::join!(pushing, reading);
        for other in &heard {
            assert_eq!(*other, heard[0], "all hear one order");
        }
        let mut turns: HashMap<&str, usize> = HashMap::new();
        for message in &heard[0] {
            let (number, turn) = message.split_once(' ').unwrap();
            let next = turns.entry(number).or_default();
            assert_eq!(turn.parse(), Ok(*next));
            *next += 1;
        }
    });
}

/// Readers that keep up get everything; those that do not are let go, and cost bounded memory.
#[test]
fn large_messages_reach_every_reader_that_keeps_up() {
    const READERS: usize = 60;
    const STALLED: usize = 10;
    const MESSAGES: usize = 12;
    if is_left_out("fanout::large") {
        return;
    }
    // A ping would come between the messages.
    let server = Server::start_with(&["--ping-interval", "1h"], &[]);
    let before = server.resident_bytes();
    let mut stalled: Vec<Socket> = (0..STALLED)
        .map(|_| {
            let mut socket = Socket::open_on(Raw::connect_small(&server));
            socket.register("jack", "news");
            socket
        })
        .collect();
    let mut readers: Vec<Socket> =
        (0..READERS).map(|_| Socket::registered(&server, "jack", "news")).collect();
    let message = |number: usize| format!("{number:016}").repeat(MIB / 16);
    let mut raw = Raw::connect(&server);
    let mut counts = Vec::new();
    for number in 0..MESSAGES {
        counts.push(raw.push("jack", "news", &message(number)));
        thread::scope(|scope| {
            // Half of them read at once, the others only when those are done.
            for half in readers.chunks_mut(READERS / 2) {
                let expected = Frame::new(Opcode::Text, message(number));
                let reading = scope.spawn(move || {
                    for socket in half {
                        assert!(socket.next() == expected, "message {number}");
                    }
                });
                reading.join().unwrap();
            }
        });
    }
    assert!(counts.is_sorted_by(|one, next| one >= next), "{counts:?}");
    assert_eq!((counts[0], counts[MESSAGES - 1]), (READERS + STALLED, READERS), "{counts:?}");
    let growth = server.resident_bytes().saturating_sub(before);
    // What is queued is shared: the bound is that of some messages, not of messages times readers.
    assert!(growth < 64 * MIB as u64, "grew by {growth}");
    for socket in &mut stalled {
        let mut number = 0;
        while let Ok(frame) = socket.try_next() {
            if frame.opcode == Opcode::Text as u8 {
                assert!(frame == Frame::new(Opcode::Text, message(number)), "torn at {number}");
                number += 1;
            } else {
                let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                assert_eq!(code, Some(1013));
            }
        }
        assert!(number < MESSAGES);
    }
}
