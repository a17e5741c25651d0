//! What the embedding program is told: every message, every end; and what it can do then.

use std::time::Duration;

use wserver_client::CloseCode;
use wserver_warp::{CloseReason, Connection, ConnectionId, Flow, LimitSettings, Received, Server};

use crate::{Log, closed, eventually, heard, serve};

fn echo(connection: &Connection, message: Received<'_>) -> Flow {
    match message {
        Received::Text(text) if text.starts_with("echo ") => {
            assert!(connection.send(text));
            Flow::Handled
        }
        _ => Flow::Continue,
    }
}

#[tokio::test]
async fn a_hook_may_answer_and_the_rest_is_read_on() {
    let running = serve(Server::builder().on_message(echo));
    let mut connection = running.open().await;
    connection.send_text("echo one").await.unwrap();
    running.register(&mut connection, "jack", "news").await;
    connection.send_text("echo two").await.unwrap();
    assert_eq!(heard(&mut connection).await, "echo one");
    assert_eq!(heard(&mut connection).await, "echo two");
    assert_eq!(running.handle.push("jack", "news", "m").await, Ok(1));
    assert_eq!(heard(&mut connection).await, "m");
}

/// Whoever the hook has dealt with is no stranger any more.
#[tokio::test]
async fn a_message_that_is_handled_counts_as_registered() {
    let limits =
        LimitSettings { register_timeout: Duration::from_millis(300), ..LimitSettings::default() };
    let running = serve(Server::builder().on_message(echo).limits(limits));
    let mut handled = running.open().await;
    handled.send_text("echo one").await.unwrap();
    assert_eq!(heard(&mut handled).await, "echo one");
    let mut ignored = running.open().await;
    ignored.send_text("hello").await.unwrap();
    assert_eq!(closed(&mut ignored).await, (1008, "nothing registered in time".to_owned()));
    handled.send_text("echo two").await.unwrap();
    assert_eq!(heard(&mut handled).await, "echo two");
}

#[tokio::test]
async fn every_end_is_told_once_with_its_reason() {
    let ends: Log<(ConnectionId, CloseReason)> = Log::default();
    let log = ends.clone();
    let running = serve(Server::builder().before_close(move |connection, reason| {
        log.add((connection.id(), reason));
    }));
    let reasons = || ends.all().into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();

    let asking = running.listen("jack", "news").await;
    asking.close(CloseCode::NORMAL, "").await.unwrap();
    eventually("told", || ends.len() == 1).await;
    drop(running.listen("jack", "news").await);
    eventually("told", || ends.len() == 2).await;
    let mut connection = running.listen("jack", "news").await;
    assert_eq!(running.handle.disconnect(wserver_warp::Target::User("jack")), Ok(1));
    assert_eq!(closed(&mut connection).await.0, 1000);
    drop(connection);
    eventually("told", || ends.len() == 3).await;
    let mut connection = running.open().await;
    running.handle.shutdown();
    assert_eq!(closed(&mut connection).await.0, 1001);
    drop(connection);
    let drained = running.shut_down().await;
    assert_eq!((drained.closed, drained.cut_off), (1, 0));
    assert_eq!(
        reasons(),
        [
            CloseReason::PeerClosed,
            CloseReason::PeerGone,
            CloseReason::Disconnected,
            CloseReason::Shutdown
        ]
    );
    let mut ids: Vec<_> = ends.all().into_iter().map(|(id, _)| id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each once");
}

#[tokio::test]
async fn a_panic_in_a_hook_costs_one_connection() {
    let running = serve(Server::builder().on_message(|_, message| {
        if message.as_bytes() == b"panic" {
            std::panic::resume_unwind(Box::new("the hook fails"));
        }
        Flow::Continue
    }));
    let mut other = running.listen("jack", "news").await;
    for panics in 1..4 {
        let mut connection = running.listen("jack", "news").await;
        connection.send_text("panic").await.unwrap();
        assert_eq!(closed(&mut connection).await, (1011, "internal error".to_owned()));
        eventually("counted", || running.handle.counters().panics_total.value() == panics).await;
        assert_eq!(running.handle.push("jack", "news", "m").await, Ok(1));
        assert_eq!(heard(&mut other).await, "m");
    }
    let internal = running.handle.counters().connections_closed_total(CloseReason::Internal);
    assert_eq!(internal.value(), 3);
    running.register(&mut other, "jack", "chat").await;
}

#[tokio::test]
async fn a_panic_at_the_end_leaves_nothing_bound() {
    let running = serve(Server::builder().before_close(|_, _| {
        std::panic::resume_unwind(Box::new("the hook fails"));
    }));
    drop(running.listen("jack", "news").await);
    eventually("counted", || running.handle.counters().panics_total.value() == 1).await;
    eventually("gone", || running.handle.connections_open() == 0).await;
    assert_eq!(running.handle.counts().registrations, 0);
    let mut connection = running.listen("jack", "news").await;
    assert_eq!(running.handle.push("jack", "news", "m").await, Ok(1));
    assert_eq!(heard(&mut connection).await, "m");
}

#[tokio::test]
async fn a_connection_that_is_kept_speaks_until_the_end() {
    let kept: Log<Connection> = Log::default();
    let log = kept.clone();
    let running = serve(Server::builder().on_message(move |connection, _| {
        log.add(connection.clone());
        Flow::Continue
    }));
    let mut client = running.listen("jack", "news").await;
    let connection = kept.all().remove(0);
    assert!(connection.peer_addr().ip().is_loopback());
    assert!(connection.send("from the program"));
    assert_eq!(heard(&mut client).await, "from the program");
    assert!(connection.close());
    assert!(!connection.close(), "it was ending already");
    assert!(!connection.send("too late") && !connection.send_binary(b"too late"));
    assert_eq!(closed(&mut client).await, (1000, "disconnected by the server".to_owned()));
    drop(client);
    eventually("gone", || running.handle.connections_open() == 0).await;
    assert!(!connection.send("far too late") && !connection.close());
}

/// The kernel still has a socket of the server's in this state as long as it is not closed.
const CLOSE_WAIT: &str = "08";

fn close_waiting(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|fields| fields[1].ends_with(&local) && fields[3] == CLOSE_WAIT).count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_connection_that_is_kept_does_not_hold_the_socket_open() {
    let kept: Log<Connection> = Log::default();
    let (log, ended) = (kept.clone(), kept.clone());
    let running = serve(
        Server::builder()
            .on_message(move |connection, _| {
                log.add(connection.clone());
                Flow::Continue
            })
            .before_close(move |connection, _| ended.add(connection.clone())),
    );
    drop(running.listen("jack", "news").await);
    eventually("told of its end", || kept.len() == 2).await;
    eventually("closed", || close_waiting(running.address.port()) == 0).await;
    assert!(!kept.all().iter().any(|connection| connection.send("nobody")));
}
