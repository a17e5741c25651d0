//! A rolling stop: many connections, constant pushes, and a server that goes away in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use wserver_client::{Client, Connection, NextTextError, Pusher};

use super::is_left_out;
use crate::harness::{PATIENCE, Server};

/// Users who share the connections, so that each push is a fan-out of its own.
const USERS: usize = 100;
const PUSHERS: usize = 4;

/// What one listener saw until it was told to go.
#[derive(Debug, Clone, Copy)]
struct Life {
    messages: u64,
    /// Pushes that had been answered when its Close came: the test's clock.
    closed_at: u64,
    /// When it was asked to come back.
    reconnect_in: Duration,
}

async fn live(mut connection: Connection, pushes: Arc<AtomicU64>) -> Life {
    let mut messages = 0;
    loop {
        match connection.next_text(PATIENCE).await {
            Ok(_) => messages += 1,
            Err(NextTextError::Closed { frame: Some(frame) }) => {
                assert_eq!(frame.code, Some(1001), "{frame}");
                let reconnect_in = wserver_protocol::reconnect_in(&frame.reason);
                return Life {
                    messages,
                    closed_at: pushes.load(Ordering::Relaxed),
                    reconnect_in: reconnect_in.unwrap_or_else(|| panic!("{frame}")),
                };
            }
            Err(error) => panic!("{error} after {messages} messages"),
        }
    }
}

/// Pushes until nobody answers any more; the sum of what was answered.
async fn push(pusher: Pusher, first: usize, pushes: Arc<AtomicU64>) -> u64 {
    let mut sum = 0;
    for number in first.. {
        match pusher.push(&format!("user{}", number % USERS), "news", "m").await {
            Ok(count) => {
                sum += count;
                pushes.fetch_add(1, Ordering::Relaxed);
            }
            Err(_gone) => break,
        }
    }
    sum
}

#[test]
fn a_stop_under_load_loses_nothing_and_tells_clients_over_a_while() {
    if is_left_out("drain::rolling_stop") {
        return;
    }
    let most = if std::env::var_os("CI").is_some() { 5_000 } else { 10_000 };
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    // Other tests of this program have descriptors as well.
    let connections = most.min(usize::try_from(descriptors).unwrap_or(usize::MAX) / 3);
    if connections < most {
        println!("ONLY {connections} CONNECTIONS: {descriptors} descriptors allow no more");
    }
    let flags = ["--drain-spread", "4s", "--drain-timeout", "60s", "--ping-interval", "1h"];
    let server = Server::start_with(&flags, &[]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (lives, answered) = runtime.block_on(async {
        let client = Client::new(&format!("ws://{}/ws", server.address)).unwrap();
        let client = client.with_connect_timeout(PATIENCE);
        let url = format!("http://{}/push", server.address);
        let pusher = Pusher::new(&url).unwrap().with_timeout(PATIENCE);
        let mut opening = JoinSet::new();
        for user in 0..USERS {
            let client = client.clone();
            opening.spawn(async move {
                let mut opened = Vec::new();
                for _ in 0..connections / USERS {
                    let mut connection = client.open().await.unwrap();
                    connection.register(&format!("user{user}"), "news").await.unwrap();
                    opened.push(connection);
                }
                opened
            });
        }
        let opened: Vec<Connection> = opening.join_all().await.into_iter().flatten().collect();
        let pushes = Arc::new(AtomicU64::new(0));
        let mut living = JoinSet::new();
        for connection in opened {
            living.spawn(live(connection, Arc::clone(&pushes)));
        }
        let mut pushing = JoinSet::new();
        for number in 0..PUSHERS {
            let first = number * USERS / PUSHERS;
            pushing.spawn(push(pusher.clone(), first, Arc::clone(&pushes)));
        }
        while pushes.load(Ordering::Relaxed) < 200 {
            tokio::task::yield_now().await;
        }
        server.signal("TERM");
        (living.join_all().await, pushing.join_all().await.into_iter().sum::<u64>())
    });
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let stopped: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    println!("{stopped}");

    let received: u64 = lives.iter().map(|life| life.messages).sum();
    assert_eq!(received, answered, "each message that was counted has come");
    assert_eq!(stopped["deliveries"], received, "and each push was answered");
    assert_eq!(stopped["closed"], lives.len());
    assert_eq!((&stopped["cut_off"], &stopped["bytes_lost"]), (&0.into(), &0.into()));
    assert!(stopped["pushes_while_draining"].as_u64() > Some(0), "pushes were taken meanwhile");

    // By the clock of the pushes that went on: not all at once, and no great part of them.
    let mut closes: BTreeMap<u64, usize> = BTreeMap::new();
    for life in &lives {
        *closes.entry(life.closed_at).or_default() += 1;
    }
    let at_once = closes.values().max().unwrap();
    println!("{} closes at {} moments, at most {at_once} at one", lives.len(), closes.len());
    assert!(closes.len() >= 20, "{closes:?}");
    assert!(*at_once < lives.len() / 5, "{closes:?}");

    let mut hints: BTreeMap<Duration, usize> = BTreeMap::new();
    for life in &lives {
        *hints.entry(life.reconnect_in).or_default() += 1;
    }
    let seconds: Vec<u64> = hints.keys().map(Duration::as_secs).collect();
    assert_eq!(seconds, [1, 2, 3, 4, 5]);
    // A fifth each.
    assert!(hints.values().all(|count| *count > lives.len() / 10), "{hints:?}");
}
