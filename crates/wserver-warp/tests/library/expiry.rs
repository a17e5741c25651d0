//! Identities that expire, on live connections and while the next one is being checked.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Semaphore;
use wserver_client::Connection;
use wserver_warp::auth::{Authenticator, Identity, Refusal, authenticate_with};
use wserver_warp::{CloseReason, LimitSettings, Server, Target};

use crate::{Log, Running, closed, eventually, heard, serve};

/// Tokens say whose they are and for how long: `jack 300` for 300 ms, `jack` for ever. With
/// `later` in front the answer waits until it is let through.
fn timed(gate: Arc<Semaphore>, asked: Log<String>) -> impl Authenticator {
    authenticate_with(move |credentials| {
        let (gate, asked) = (gate.clone(), asked.clone());
        async move {
            asked.add(credentials.token.clone());
            let token = match credentials.token.strip_prefix("later ") {
                Some(token) => {
                    gate.acquire().await.map_err(Refusal::unavailable)?.forget();
                    token
                }
                None => &credentials.token,
            };
            let (user, millis) = token.split_once(' ').unwrap_or((token, ""));
            let identity = Identity::new(user);
            Ok(match millis.parse().map(Duration::from_millis) {
                Ok(left) => identity.with_expires_at(SystemTime::now() + left),
                Err(_) => identity,
            })
        }
    })
}

struct Timed {
    running: Running,
    gate: Arc<Semaphore>,
    asked: Log<String>,
}

/// The shortest of all times decides how often deadlines are looked at.
fn attentive() -> LimitSettings {
    LimitSettings { close_timeout: Duration::from_millis(200), ..LimitSettings::default() }
}

impl Timed {
    fn serve() -> Self {
        let (gate, asked) = (Arc::new(Semaphore::new(0)), Log::default());
        let authenticator = timed(gate.clone(), asked.clone());
        let builder = Server::builder().authenticator(authenticator).limits(attentive());
        Self { running: serve(builder), gate, asked }
    }

    /// Registers and waits until that was bound, for the first time or again.
    async fn register(&self, connection: &mut Connection, token: &str, event: &str) {
        let bound = &self.running.handle.counters().registrations_bound_total;
        let before = bound.value();
        connection.register(token, event).await.unwrap();
        eventually("bound", || bound.value() > before).await;
    }

    async fn push(&self, user: &str, event: &str) -> usize {
        self.running.handle.push(user, event, event).await.unwrap()
    }
}

fn expired() -> (u16, String) {
    (1008, "token expired".to_owned())
}

/// Nobody is left with a part of what was registered.
#[tokio::test]
async fn the_first_registration_that_expires_ends_the_connection() {
    let timed = Timed::serve();
    let mut connection = timed.running.open().await;
    timed.register(&mut connection, "jack", "news").await;
    timed.register(&mut connection, "rose 3600000", "news").await;
    timed.register(&mut connection, "rose 300", "chat").await;
    assert_eq!(closed(&mut connection).await, expired());
    for (user, event) in [("jack", "news"), ("rose", "news"), ("rose", "chat")] {
        assert_eq!(timed.push(user, event).await, 0, "{user} {event}");
    }
    drop(connection);
    let counters = timed.running.handle.counters();
    eventually("counted", || counters.connections_closed_total(CloseReason::Expired).value() == 1)
        .await;
}

/// A token is refreshed by registering the same event again.
#[tokio::test]
async fn who_renews_every_registration_in_time_lives_on() {
    // Long enough on most machines; a busy one gets more time.
    for millis in [500_u64, 2_000, 8_000, 32_000] {
        let timed = Timed::serve();
        let (mut renews, mut partly, mut does_not) =
            (timed.running.open().await, timed.running.open().await, timed.running.open().await);
        let began = Instant::now();
        let short = format!("jack {millis}");
        for connection in [&mut renews, &mut partly, &mut does_not] {
            timed.register(connection, &short, "news").await;
            timed.register(connection, &short, "chat").await;
        }
        timed.register(&mut partly, "jack 3600000", "chat").await;
        timed.register(&mut renews, "jack 3600000", "news").await;
        timed.register(&mut renews, "jack", "chat").await;
        if began.elapsed() >= Duration::from_millis(millis) {
            continue;
        }
        assert_eq!(closed(&mut does_not).await, expired());
        assert_eq!(closed(&mut partly).await, expired());
        // It is looked at again now, and there is nothing to find.
        timed.register(&mut renews, "jack", "more").await;
        assert_eq!(timed.push("jack", "news").await, 1);
        assert_eq!(heard(&mut renews).await, "news");
        return;
    }
    panic!("nothing was renewed in time");
}

#[tokio::test]
async fn an_expiry_does_not_wait_for_the_registration_in_flight() {
    let timed = Timed::serve();
    let mut connection = timed.running.open().await;
    timed.register(&mut connection, "jack 300", "news").await;
    connection.register("later jack", "news").await.unwrap();
    connection.register("jack", "behind").await.unwrap();
    assert_eq!(closed(&mut connection).await, expired());
    drop(connection);
    eventually("gone", || timed.running.handle.connections_open() == 0).await;
    timed.gate.add_permits(1);
    assert_eq!(timed.running.handle.counts().registrations, 0);
    assert_eq!(timed.push("jack", "news").await, 0);
    assert!(!timed.asked.all().contains(&"jack".to_owned()), "what waited was never asked");
}

/// The operator's disconnect undoes what is in flight, whatever it is selected by.
#[tokio::test]
async fn a_disconnect_undoes_the_registration_in_flight() {
    let ids = Log::default();
    let seen = ids.clone();
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Log::default());
    let builder = Server::builder().authenticator(timed(gate.clone(), asked.clone())).on_message(
        move |connection, _| {
            seen.add(connection.id());
            wserver_warp::Flow::Continue
        },
    );
    let running = serve(builder);
    let timed = Timed { running, gate, asked };
    let handle = &timed.running.handle;
    for by in ["user", "event", "token", "id"] {
        let mut connection = timed.running.open().await;
        timed.register(&mut connection, "jack", "bound").await;
        let asked_before = timed.asked.len();
        connection.register("later jack", "news").await.unwrap();
        eventually("asked", || timed.asked.len() > asked_before).await;
        let id = *ids.all().last().unwrap();
        let target = match by {
            "user" => Target::User("jack"),
            "event" => Target::UserEvent { user: "jack", event: "bound" },
            "token" => Target::Token("jack"),
            _ => Target::Connection(id),
        };
        assert_eq!(handle.disconnect(target), Ok(1), "{by}");
        assert_eq!(closed(&mut connection).await.0, 1000, "{by}");
        drop(connection);
        eventually("gone", || handle.connections_open() == 0).await;
        timed.gate.add_permits(1);
        assert_eq!(handle.counts().registrations, 0, "{by}");
        assert_eq!(timed.push("jack", "news").await, 0, "{by}");
        timed.gate.forget_permits(1);
    }
}

/// A clock that tests set: the system's, and so many seconds more.
fn clock_with(offset: &Arc<AtomicI64>) -> impl Fn() -> SystemTime + Send + Sync + use<> {
    let offset = Arc::clone(offset);
    move || {
        let seconds = offset.load(Ordering::Relaxed);
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }
}

/// Pings are often, so that the next one comes soon.
fn serve_by(offset: &Arc<AtomicI64>) -> Timed {
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Log::default());
    let limits =
        LimitSettings { ping_interval: Duration::from_millis(200), ..LimitSettings::default() };
    let builder = Server::builder()
        .authenticator(timed(gate.clone(), asked.clone()))
        .wall_clock(clock_with(offset))
        .limits(limits);
    Timed { running: serve(builder), gate, asked }
}

/// As on a machine without a battery-backed clock, which learns the time after it has started.
#[tokio::test]
async fn a_clock_put_right_after_the_registration_closes_what_has_expired() {
    let offset = Arc::new(AtomicI64::new(-3 * 24 * 3600));
    let timed = serve_by(&offset);
    let mut expires = timed.running.open().await;
    timed.register(&mut expires, "jack 3600000", "news").await;
    let mut lives = timed.running.open().await;
    timed.register(&mut lives, "rose 14400000", "news").await;
    // Two hours over: past the one's end, not past the other's.
    offset.store(2 * 3600, Ordering::Relaxed);
    assert_eq!(closed(&mut expires).await, expired());
    assert_eq!(timed.push("jack", "news").await, 0);
    assert_eq!(timed.push("rose", "news").await, 1);
    assert_eq!(heard(&mut lives).await, "news");
}

#[tokio::test]
async fn a_clock_set_back_closes_nobody_early() {
    // Long enough on most machines; a busy one gets more time.
    for millis in [500_u64, 2_000, 8_000, 32_000] {
        let offset = Arc::new(AtomicI64::new(3600));
        let timed = serve_by(&offset);
        let mut connection = timed.running.open().await;
        let began = Instant::now();
        // By the clock that is an hour ahead there is little left, by the right one an hour more.
        timed.register(&mut connection, &format!("jack {}", 3_600_000 + millis), "news").await;
        offset.store(0, Ordering::Relaxed);
        if began.elapsed() >= Duration::from_millis(millis) {
            continue;
        }
        // When this one ends, the other one's end by the wrong clock has passed.
        let mut other = timed.running.open().await;
        timed.register(&mut other, &format!("rose {millis}"), "news").await;
        assert_eq!(closed(&mut other).await, expired());
        assert_eq!(timed.push("jack", "news").await, 1);
        assert_eq!(heard(&mut connection).await, "news");
        return;
    }
    panic!("the clock was not set back in time");
}
