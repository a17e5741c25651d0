//! What clients send: what breaks a rule or a limit, and what is kept of what has not come whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use wserver_protocol::frame::Opcode;
use wserver_warp::auth::{Identity, Refusal, authenticate_with};
use wserver_warp::{CloseReason, LimitSettings, Server, What};

use crate::raw::{Raw, masked, register};
use crate::{counted, eventually, serve, serve_default};

/// The bytes that are kept of messages that have not come whole, or that wait.
const HELD: &str = "wserver_inbound_bytes";

/// Each offence has a code of its own, in both versions, and is noted by the rule that it broke.
#[tokio::test]
async fn what_breaks_a_rule_is_closed_and_noted() {
    let long = masked(Opcode::Text, "x".repeat(64 * 1024 + 1));
    for (bytes, code, reason) in [
        (&[0x81, 0x00][..], 1002, CloseReason::ProtocolError),
        (&masked(Opcode::Text, [0xff]), 1007, CloseReason::InvalidPayload),
        (&long[..14], 1009, CloseReason::TooBig),
    ] {
        let running = serve_default();
        for mut raw in [Raw::open(&running, &[]).await, Raw::open_v2(&running).await] {
            raw.send(bytes).await;
            assert_eq!(raw.closed().await.0, code);
        }
        let closed = running.handle.counters().connections_closed_total(reason);
        eventually("counted", || closed.value() == 2).await;
        let noted = running.handle.recent_strangers(10);
        let broken = noted.iter().filter(|it| matches!(it.what, What::ProtocolBroken { .. }));
        assert_eq!(broken.count(), 2, "{reason}: {noted:?}");
    }
}

#[tokio::test]
async fn messages_and_pings_share_one_allowance() {
    let limits = LimitSettings {
        inbound_messages_per_second: 1,
        inbound_messages_burst: 4,
        ..LimitSettings::default()
    };
    let running = serve(Server::builder().limits(limits));
    for (mut raw, code) in
        [(Raw::open(&running, &[]).await, 1008), (Raw::open_v2(&running).await, 4502)]
    {
        raw.send(masked(Opcode::Ping, "").repeat(20)).await;
        while raw.peek_opcode().await == Opcode::Pong as u8 {
            raw.frame().await;
        }
        assert_eq!(raw.closed().await, (code, "too many messages".to_owned()));
    }
}

/// However much comes at once, reading goes on until nothing is left.
#[tokio::test]
async fn what_is_more_than_one_turn_reads_is_read_in_the_next() {
    let limits = LimitSettings {
        inbound_message_bytes_max: 8 << 20,
        ping_interval: Duration::from_secs(3600),
        register_timeout: Duration::ZERO,
        ..LimitSettings::default()
    };
    let running = serve(Server::builder().limits(limits));
    let mut raw = Raw::open(&running, &[]).await;
    raw.send([masked(Opcode::Binary, vec![b' '; 4 << 20]), masked(Opcode::Ping, "p")].concat())
        .await;
    assert_eq!(raw.frame().await, (Opcode::Pong as u8, b"p".to_vec()));
}

/// What has not come whole is counted, limited over all connections, and given back.
#[tokio::test]
async fn half_messages_have_a_bound() {
    let limits = LimitSettings {
        name_bytes_max: 1000,
        inbound_message_bytes_max: 10_000,
        inbound_bytes_max: 20_000,
        ..LimitSettings::default()
    };
    let running = serve(Server::builder().limits(limits));
    let held = || counted(&running, HELD);
    let message = masked(Opcode::Text, "x".repeat(10_000));
    let (half, other_half) = message.split_at(message.len() - 1_000);
    let mut whole = Raw::open(&running, &[]).await;
    whole.send(half).await;
    eventually("held", || held() >= 9_000).await;
    let mut second = Raw::open(&running, &[]).await;
    second.send(half).await;
    eventually("held", || held() >= 18_000).await;
    assert!(held() <= 20_000, "{}", held());
    for (mut raw, code) in
        [(Raw::open(&running, &[]).await, 1013), (Raw::open_v2(&running).await, 4005)]
    {
        raw.send(half).await;
        assert_eq!(raw.closed().await, (code, "too many messages are half read".to_owned()));
    }
    // Small parts are kept although there is no room.
    let padded = format!(r#"{{"token":"jack","event":"news","x":"{}"}}"#, "x".repeat(1_500));
    let padded = masked(Opcode::Text, padded);
    let (first, rest) = padded.split_at(1_400);
    let mut small = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::open(&running, &[]).await;
        let before = held();
        raw.send(first).await;
        eventually("held", || held() > before).await;
        small.push(raw);
    }
    assert!(held() > 20_000, "{}", held());
    for raw in &mut small {
        raw.send(rest).await;
    }
    eventually("registered", || running.handle.counts().registrations == 3).await;

    drop(second);
    eventually("given back by an end", || held() < 10_000).await;
    whole.send(other_half).await;
    eventually("given back by the rest", || held() == 0).await;
}

/// A message that waits behind a token check takes memory like one that has not come whole.
#[tokio::test]
async fn what_waits_is_counted_too() {
    let gate = Arc::new(Semaphore::new(0));
    let of_server = Arc::clone(&gate);
    let running = serve(Server::builder().authenticator(authenticate_with(move |credentials| {
        let gate = Arc::clone(&of_server);
        async move {
            gate.acquire().await.map_err(Refusal::unavailable)?.forget();
            Ok(Identity::new(credentials.event.unwrap_or_default()))
        }
    })));
    let token = "t".repeat(3_000);
    let held = || counted(&running, HELD);
    let mut old = Raw::open(&running, &[]).await;
    for event in ["one", "two", "three"] {
        old.send(register(&token, event)).await;
    }
    // The first is being checked, the others wait.
    eventually("held", || held() >= 6_000).await;
    let of_old = held();
    let mut new = Raw::open_v2(&running).await;
    let events = ["a".repeat(1_000), "b".repeat(1_000), "c".repeat(1_000)];
    new.send_text(serde_json::json!({"id": 1, "register": events, "token": token}).to_string())
        .await;
    eventually("held", || held() >= of_old + 5_000).await;
    gate.add_permits(6);
    eventually("registered", || running.handle.counts().registrations == 4).await;
    eventually("given back", || held() == 0).await;
}

/// A client that renews too late has been without a valid registration for a while, whether the
/// server had noticed it or not.
#[tokio::test]
async fn no_renewal_comes_too_late() {
    let passed = Arc::new(AtomicI64::new(0));
    let now = move |passed: &AtomicI64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(passed.load(Ordering::Relaxed).unsigned_abs())
    };
    let (clock, of_server) = (Arc::clone(&passed), Arc::clone(&passed));
    let authenticator = authenticate_with(move |_| {
        let expires_at = now(&of_server) + Duration::from_secs(60);
        async move { Ok(Identity::new("jack").with_expires_at(expires_at)) }
    });
    let running =
        serve(Server::builder().authenticator(authenticator).wall_clock(move || now(&clock)));
    let mut connection = running.listen("t", "news").await;
    passed.store(61, Ordering::Relaxed);
    connection.register("t", "news").await.unwrap();
    assert_eq!(crate::closed(&mut connection).await, (1008, "token expired".to_owned()));
}
