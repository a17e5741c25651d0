//! How a connection ends: which Close comes, what is still sent before it, and when the socket ends.

use std::time::Duration;

use futures::future::join;
use wserver_protocol::frame::Opcode;
use wserver_warp::{Connection, Flow, LimitSettings, PushOptions, Server, ServerBuilder, Target};

use crate::raw::{End, Raw, close, masked, register};
use crate::{Log, Running, eventually, serve};

/// So long that no test waits for it.
const NEVER: Duration = Duration::from_secs(3600);

/// Only the client's own Close, or its end, ends a connection.
fn patient() -> ServerBuilder {
    Server::builder().limits(LimitSettings { close_timeout: NEVER, ..LimitSettings::default() })
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let running = serve(patient());
    for (sent, code) in [
        (close(1000), 1000),
        (close(1001), 1001),
        (close(4321), 4321),
        (masked(Opcode::Close, ""), 1000),
    ] {
        for mut raw in [Raw::open(&running, &[]).await, Raw::open_v2(&running).await] {
            raw.send([&sent[..], &masked(Opcode::Ping, "ignored")].concat()).await;
            assert_eq!(raw.closed().await, (code, String::new()));
            assert_eq!(raw.end().await, End::Eof);
        }
    }
}

/// A client may say more after its Close, and be slow to end its side: no reset destroys what it has
/// not read yet.
#[tokio::test]
async fn a_socket_ends_when_its_client_has_ended_too() {
    let running = serve(patient());
    let mut raw = Raw::open(&running, &[]).await;
    raw.send(close(1000)).await;
    raw.closed().await;
    assert_eq!(raw.end().await, End::Eof);
    for _ in 0..3 {
        raw.send(masked(Opcode::Ping, "")).await;
        // Whatever this would bring about has happened when another connection is served.
        drop(running.open().await);
    }
    drop(raw);
    eventually("gone", || running.handle.connections_open() == 0).await;
}

/// The client's Close is seen wherever it stands: behind the offence in the same read, or behind
/// what waits for its turn.
#[tokio::test]
async fn a_close_that_has_come_is_not_waited_for() {
    // Nobody is ever authenticated, and nothing is read beyond two registrations.
    let authenticator = wserver_warp::auth::authenticate_with(|_| std::future::pending());
    let kept: Log<Connection> = Log::default();
    let seen = kept.clone();
    let limits = LimitSettings {
        registrations_pending_max: 1,
        authenticate_timeout: NEVER,
        close_timeout: NEVER,
        ..LimitSettings::default()
    };
    let builder = Server::builder().authenticator(authenticator).limits(limits);
    let running = serve(builder.on_message(move |connection, _| {
        seen.add(connection.clone());
        Flow::Continue
    }));
    let mut raw = Raw::open(&running, &[]).await;
    raw.send([register("jack", "a"), register("jack", "b"), close(1000)].concat()).await;
    eventually("two are taken", || kept.len() == 2).await;
    let _barrier = running.open().await;
    let id = kept.all()[0].id();
    assert_eq!(running.handle.disconnect(Target::Connection(id)), Ok(1));
    assert_eq!(raw.closed().await.0, 1000);
    assert_eq!(raw.end().await, End::Eof);

    let mut raw = Raw::open_v2(&running).await;
    raw.send([masked(Opcode::Text, "no object"), close(1000)].concat()).await;
    assert_eq!(raw.closed().await.0, 4500);
    assert_eq!(raw.end().await, End::Eof);
}

/// A connection whose client reads nothing, and for which something is queued.
async fn stuck(running: &Running) -> Raw {
    let raw = Raw::connect_by(running.address, |socket| socket.set_recv_buffer_size(1)).await;
    let mut raw = raw.upgraded(&[]).await;
    raw.send(register("jack", "news")).await;
    eventually("registered", || running.handle.counts().registrations == 1).await;
    let message = "x".repeat(1 << 20);
    for _ in 0..3 {
        let options = PushOptions::default();
        let receipt = running.handle.push_with("jack", "news", &message, &options).await.unwrap();
        assert_eq!(receipt.delivered(), 1);
    }
    let told = running.handle.user_connections("jack", 1).unwrap();
    assert!(told[0].queued_bytes > 1 << 20, "{told:?}");
    raw
}

/// Nothing but `close_timeout` ends a connection, and that soon.
fn soon() -> ServerBuilder {
    Server::builder().limits(LimitSettings {
        close_timeout: Duration::from_millis(100),
        register_timeout: Duration::ZERO,
        ping_interval: NEVER,
        ..LimitSettings::default()
    })
}

/// A client that reads nothing until its time is over sees the end at once, and not only when it
/// has read what the kernel holds.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let running = serve(soon());
    let mut raw = stuck(&running).await;
    assert_eq!(running.handle.disconnect(Target::User("jack")), Ok(1));
    eventually("gone", || running.handle.connections_open() == 0).await;
    assert_eq!(raw.end_at_last().await, End::Reset);
}

/// A shutdown has a time of its own for what was accepted before.
#[tokio::test]
async fn a_shutdown_waits_for_what_is_queued() {
    let running = serve(soon());
    let mut raw = stuck(&running).await;
    // One that does not answer its Close is not waited for beyond that time.
    let mut silent = Raw::open(&running, &[]).await;
    running.handle.shutdown();
    assert_eq!(silent.closed().await.0, 1001);
    assert_eq!(silent.end().await, End::Eof);
    eventually("gone", || running.handle.connections_open() == 1).await;
    let reading = async {
        for _ in 0..3 {
            let (opcode, payload) = raw.frame().await;
            assert_eq!((opcode, payload.len()), (Opcode::Text as u8, 1 << 20));
        }
        assert_eq!(raw.closed().await.0, 1001);
        drop(raw);
    };
    let (drained, ()) = join(running.shut_down(), reading).await;
    assert_eq!((drained.closed, drained.cut_off), (2, 0));
}

/// A hook that has just panicked is not called again for the connection that this ends.
#[tokio::test]
async fn a_panic_is_not_told_to_the_hook_of_the_end() {
    let ends: Log<()> = Log::default();
    let log = ends.clone();
    let builder = Server::builder()
        .on_message(|_, _| std::panic::resume_unwind(Box::new("the hook fails")))
        .before_close(move |_, _| log.add(()));
    let running = serve(builder);
    let mut connection = running.open().await;
    connection.send_text("panic").await.unwrap();
    assert_eq!(crate::closed(&mut connection).await, (1011, "internal error".to_owned()));
    eventually("gone", || running.handle.connections_open() == 0).await;
    assert_eq!(ends.len(), 0);
    drop(running.open().await);
    eventually("told", || ends.len() == 1).await;
}
