//! Authenticators that take their time, and what they grant.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use wserver_warp::auth::{
    EventScope, Identity, Publisher, Refusal, authenticate_with, authorize_with,
};
use wserver_warp::{
    CloseReason, Flow, LimitSettings, OriginPolicy, Server, ServerBuilder, TokenSource,
};

use crate::{Held, Log, PATIENCE, Running, closed, eventually, heard, serve};

/// An authenticator that answers only when the test lets it.
#[derive(Clone)]
struct Gate {
    permits: Arc<Semaphore>,
    asked: Log<String>,
    dropped: Log<String>,
}

impl Gate {
    fn new() -> Self {
        let permits = Arc::new(Semaphore::new(0));
        Self { permits, asked: Log::default(), dropped: Log::default() }
    }

    fn builder(&self) -> ServerBuilder {
        let gate = self.clone();
        Server::builder().authenticator(authenticate_with(move |credentials| {
            let gate = gate.clone();
            async move {
                let event = credentials.event.unwrap_or_default();
                gate.asked.add(event.clone());
                let _held = Held(gate.dropped.clone(), event);
                gate.permits.acquire().await.map_err(Refusal::unavailable)?.forget();
                Ok(Identity::new(credentials.token))
            }
        }))
    }

    fn open(&self, answers: usize) {
        self.permits.add_permits(answers);
    }
}

#[tokio::test]
async fn registrations_wait_behind_the_one_that_is_checked() {
    let gate = Gate::new();
    let running = serve(gate.builder());
    let mut connection = running.open().await;
    for event in ["one", "two", "three"] {
        connection.register("jack", event).await.unwrap();
    }
    for (answered, event) in ["one", "two", "three"].into_iter().enumerate() {
        eventually("asked", || gate.asked.len() > answered).await;
        assert_eq!(gate.asked.all()[answered], event, "in order");
        assert_eq!(gate.asked.len(), answered + 1, "one at a time");
        assert_eq!(running.handle.counts().registrations, answered, "nothing is bound unanswered");
        gate.open(1);
        eventually("bound", || running.handle.counts().registrations == answered + 1).await;
        assert_eq!(running.handle.push("jack", event, event).await, Ok(1));
        assert_eq!(heard(&mut connection).await, event);
    }
}

/// A server that lets two registrations wait, and the messages it has read.
fn serve_counting(gate: &Gate) -> (Running, Log<()>) {
    let seen = Log::default();
    let messages = seen.clone();
    let limits = LimitSettings { registrations_pending_max: 2, ..LimitSettings::default() };
    let running = serve(gate.builder().limits(limits).on_message(move |_, _| {
        messages.add(());
        Flow::Continue
    }));
    (running, seen)
}

/// A client that registers faster than it is checked is read no further, and loses nothing.
#[tokio::test]
async fn reading_pauses_and_resumes() {
    const EVENTS: usize = 40;
    let gate = Gate::new();
    let (running, seen) = serve_counting(&gate);
    let mut connection = running.open().await;
    for event in 0..EVENTS {
        connection.register("jack", &event.to_string()).await.unwrap();
    }
    let mut other = running.open().await;
    eventually("asked", || gate.asked.len() == 1).await;
    for answered in 1..10 {
        // One is checked and two wait; one more may have been read with them.
        assert!(seen.len() <= answered + 3, "{} were read", seen.len());
        gate.open(1);
        eventually("answered", || gate.asked.len() == answered + 1).await;
    }
    gate.open(EVENTS);
    eventually("bound", || running.handle.counts().registrations == EVENTS).await;
    let expected: Vec<String> = (0..EVENTS).map(|event| event.to_string()).collect();
    assert_eq!(gate.asked.all(), expected, "in order");
    for event in expected {
        assert_eq!(running.handle.push("jack", &event, &event).await, Ok(1));
        assert_eq!(heard(&mut connection).await, event);
    }
    running.register(&mut other, "jack", "after all that").await;
}

/// One read may hold one message only, and then nothing is left over that would make it pause.
#[tokio::test]
async fn registrations_that_come_one_by_one_pause_reading_too() {
    const EVENTS: usize = 12;
    let gate = Gate::new();
    let (running, seen) = serve_counting(&gate);
    let mut connection = running.open().await;
    for event in 0..EVENTS {
        connection.register("jack", &event.to_string()).await.unwrap();
        // One is checked and two wait.
        eventually("read", || seen.len() == (event + 1).min(3)).await;
        let _barrier = running.open().await;
    }
    assert_eq!(seen.len(), 3);
    gate.open(EVENTS);
    eventually("bound", || running.handle.counts().registrations == EVENTS).await;
}

/// Its pongs are not read meanwhile, which is none of its doing.
#[tokio::test]
async fn a_pause_in_reading_is_not_silence() {
    const EVENTS: usize = 6;
    let gate = Gate::new();
    let limits = LimitSettings {
        registrations_pending_max: 1,
        ping_interval: Duration::from_millis(100),
        pong_timeout: Duration::from_millis(100),
        close_timeout: Duration::from_millis(100),
        authenticate_timeout: PATIENCE,
        ..LimitSettings::default()
    };
    let running = serve(gate.builder().limits(limits));
    let mut paused = running.open().await;
    for event in 0..EVENTS {
        paused.register("jack", &event.to_string()).await.unwrap();
    }
    let mut answering = JoinSet::new();
    answering.spawn(async move { paused.next_text(PATIENCE).await });
    // As long as it takes to find out those who are silent indeed, one after the other.
    for silent in 1..=3 {
        let _unread = running.open().await;
        let closed = running.handle.counters().connections_closed_total(CloseReason::Silent);
        eventually("found silent", || closed.value() == silent).await;
    }
    gate.open(EVENTS);
    eventually("bound", || running.handle.counts().registrations == EVENTS).await;
    assert_eq!(running.handle.push("jack", "0", "m").await, Ok(1));
    assert_eq!(answering.join_all().await.remove(0).unwrap(), "m");
}

#[tokio::test]
async fn the_end_of_a_connection_cancels_its_registration() {
    let gate = Gate::new();
    let running = serve(gate.builder());
    for end in ["dropped", "closed", "disconnected"] {
        let mut connection = running.open().await;
        connection.register("jack", end).await.unwrap();
        connection.register("jack", "behind").await.unwrap();
        eventually("asked", || gate.asked.all().last().is_some_and(|last| last == end)).await;
        match end {
            "dropped" => drop(connection),
            "closed" => {
                connection.close(wserver_client::CloseCode::NORMAL, "").await.unwrap();
            }
            _ => {
                // Not bound yet, so only its id can name it; the end of the server is one for all.
                running.handle.shutdown();
                assert_eq!(closed(&mut connection).await.0, 1001);
                drop(connection);
            }
        }
        eventually("cancelled", || gate.dropped.all().last().is_some_and(|last| last == end)).await;
        eventually("gone", || running.handle.connections_open() == 0).await;
        gate.open(2);
        assert_eq!(running.handle.counts().registrations, 0, "{end}");
        gate.permits.forget_permits(2);
    }
    assert!(!gate.asked.all().contains(&"behind".to_owned()), "what waited was never asked");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_refusal_after_its_time() {
    let authenticator = authenticate_with(|credentials| async move {
        if credentials.token == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(Identity::new(credentials.token))
    });
    // Nothing else wakes the connection.
    let limits = LimitSettings {
        authenticate_timeout: Duration::from_millis(100),
        register_timeout: Duration::ZERO,
        ping_interval: Duration::from_secs(3600),
        ..LimitSettings::default()
    };
    let running = serve(Server::builder().authenticator(authenticator).limits(limits));
    let mut connection = running.open().await;
    connection.register("slow", "news").await.unwrap();
    connection.register("jack", "news").await.unwrap();
    eventually("bound", || running.handle.counts().registrations == 1).await;
    assert_eq!(running.handle.push("slow", "news", "m").await, Ok(0));
    assert_eq!(running.handle.push("jack", "news", "m").await, Ok(1));
}

#[tokio::test]
async fn an_identity_ends_its_connection_when_it_expires() {
    let authenticator = authenticate_with(|credentials| async move {
        let now = SystemTime::now();
        let identity = Identity::new("jack");
        Ok(match credentials.token.as_str() {
            "old" => identity.with_expires_at(now - Duration::from_secs(1)),
            "short" => identity.with_expires_at(now + Duration::from_millis(300)),
            _ => identity.with_expires_at(now + Duration::from_secs(3600)),
        })
    });
    // The shortest of all times decides how often deadlines are looked at.
    let limits =
        LimitSettings { close_timeout: Duration::from_millis(200), ..LimitSettings::default() };
    let running = serve(Server::builder().authenticator(authenticator).limits(limits));
    let mut short = running.listen("short", "news").await;
    let mut long = running.listen("long", "news").await;
    let mut old = running.open().await;
    old.register("old", "news").await.unwrap();
    assert_eq!(closed(&mut short).await, (1008, "token expired".to_owned()));
    assert_eq!(running.handle.push("jack", "news", "m").await, Ok(1));
    assert_eq!(heard(&mut long).await, "m");
}

#[tokio::test]
async fn events_beyond_the_scope_are_refused() {
    let authenticator = authenticate_with(|credentials| async move {
        Ok(Identity::new(credentials.token).with_events(EventScope::only(["chat", "order.*"])))
    });
    let running = serve(Server::builder().authenticator(authenticator));
    let mut connection = running.open().await;
    connection.register("jack", "news").await.unwrap();
    connection.register("jack", "chat.admin").await.unwrap();
    running.register(&mut connection, "jack", "order.paid").await;
    for (event, count) in [("news", 0), ("chat.admin", 0), ("chat", 0), ("order.paid", 1)] {
        assert_eq!(running.handle.push("jack", event, event).await, Ok(count), "{event}");
    }
    assert_eq!(heard(&mut connection).await, "order.paid");
}

#[tokio::test]
async fn the_headers_that_are_asked_for_are_kept_and_no_others() {
    let seen: Log<HashMap<String, String>> = Log::default();
    let log = seen.clone();
    let authenticator = authenticate_with(move |credentials| {
        let headers = credentials.headers.iter();
        log.add(
            headers
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect(),
        );
        async move { Ok(Identity::new(credentials.token)) }
    })
    .reading(["cookie".parse().unwrap()]);
    let builder = Server::builder().origin(OriginPolicy::same_origin());
    let running = serve(builder.authenticator(authenticator));
    let client = running
        .client()
        .with_header("cookie".parse().unwrap(), "session=abc".parse().unwrap())
        .with_header("x-other".parse().unwrap(), "not kept".parse().unwrap());
    let mut connection = client.open().await.unwrap();
    running.register(&mut connection, "jack", "one").await;
    running.register(&mut connection, "jack", "two").await;
    let mut plain = running.open().await;
    running.register(&mut plain, "jack", "one").await;
    let cookie = HashMap::from([("cookie".to_owned(), "session=abc".to_owned())]);
    assert_eq!(seen.all(), [cookie.clone(), cookie, HashMap::new()]);
}

/// The address that authenticators, authorisers and hooks see is the client's.
#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_seen() {
    let seen: Log<String> = Log::default();
    let (listeners, publishers, hooks) = (seen.clone(), seen.clone(), seen.clone());
    let builder = Server::builder()
        .trusted_proxies(["127.0.0.0/8"])
        .authenticator(authenticate_with(move |credentials| {
            listeners.add(format!("listener {}", credentials.peer));
            async move { Ok(Identity::new(credentials.token)) }
        }))
        .push_authorizer(authorize_with(move |request| {
            publishers.add(format!("publisher {}", request.peer.ip()));
            async move { Ok(Publisher::new()) }
        }))
        .on_message(move |connection, _| {
            hooks.add(format!("hook {}", connection.peer_addr()));
            Flow::Continue
        });
    let running = serve(builder);
    let client = running.client().with_header(
        "x-forwarded-for".parse().unwrap(),
        "203.0.113.1, 192.0.2.1:4711".parse().unwrap(),
    );
    let mut connection = client.open().await.unwrap();
    running.register(&mut connection, "jack", "news").await;
    assert_eq!(running.pusher().push("jack", "news", "m").await.unwrap(), 1);
    assert_eq!(
        seen.all(),
        ["hook 192.0.2.1:4711", "listener 192.0.2.1:4711", "publisher 127.0.0.1"]
    );
}

/// The token of the handshake stands in where a message has none, for each registration.
#[tokio::test]
async fn a_token_of_the_handshake_stands_in() {
    let seen: Log<String> = Log::default();
    for (source, name, value) in [
        (TokenSource::Authorization, "authorization", "Bearer of-handshake"),
        (TokenSource::Cookie("session".to_owned()), "cookie", "a=b; session=of-handshake"),
    ] {
        let log = seen.clone();
        let builder = Server::builder()
            .origin(OriginPolicy::same_origin())
            .token_source(source.clone())
            .authenticator(authenticate_with(move |credentials| {
                log.add(credentials.token.clone());
                async move { Ok(Identity::new(credentials.token)) }
            }));
        let running = serve(builder);
        let client = running.client().with_header(name.parse().unwrap(), value.parse().unwrap());
        let mut connection = client.open().await.unwrap();
        let registrations = || running.handle.counts().registrations;
        connection.send_text(r#"{"event":"one"}"#).await.unwrap();
        eventually("bound", || registrations() == 1).await;
        running.register(&mut connection, "of-message", "one").await;
        connection.send_text(r#"{"token":"","event":"two"}"#).await.unwrap();
        eventually("bound", || registrations() == 3).await;
        assert_eq!(seen.all(), ["of-handshake", "of-message", "of-handshake"], "{source}");
        for (user, event, count) in
            [("of-handshake", "one", 1), ("of-handshake", "two", 1), ("of-message", "one", 1)]
        {
            assert_eq!(running.handle.push(user, event, event).await, Ok(count), "{source}");
        }
        // It can be logged out as any other.
        let target = wserver_warp::Target::Token("of-handshake");
        assert_eq!(running.handle.disconnect(target), Ok(1));
        seen.clear();

        // Without one in the handshake a message without one is ignored, as ever.
        let mut bare = running.open().await;
        bare.send_text(r#"{"event":"one"}"#).await.unwrap();
        running.register(&mut bare, "of-message", "two").await;
        assert_eq!(seen.all(), ["of-message"], "{source}");
        seen.clear();
    }
}
