//! Version 2 of the protocol: what a client asks for and is told, and why its connection ends.
//! `docs/protocol-v2.md` says what is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use wserver_client::Connection;
use wserver_protocol::Protocol;
use wserver_protocol::frame::Opcode;
use wserver_warp::auth::{EventScope, Identity, Refusal, authenticate_with};
use wserver_warp::{LimitSettings, Server, ServerBuilder, TokenSource};

use crate::raw::Raw;
use crate::{Running, closed, counted, eventually, heard, serve, serve_default};

/// The time of day, which stands still.
const NOW: Duration = Duration::from_secs(2_000_000_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

/// Tokens are `user`, `user events`, or `user events seconds`: whose they are, what they permit, and
/// how long. Each is checked only after others had their turn.
fn builder() -> ServerBuilder {
    let authenticator = authenticate_with(|credentials| async move {
        tokio::task::yield_now().await;
        let mut parts = credentials.token.split(' ');
        let identity = match parts.next() {
            Some("early") => return Err(Refusal::NotYetValid),
            Some("late") => return Err(Refusal::Expired),
            Some("down") => return Err(Refusal::unavailable("no answer")),
            Some(user) if user.len() < 10 && user != "nobody" => Identity::new(user),
            _ => return Err(Refusal::Unknown),
        };
        let identity = match parts.next() {
            Some(events) => identity.with_events(EventScope::only(events.split(','))),
            None => identity,
        };
        Ok(match parts.next().and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => identity.with_expires_at(now() + Duration::from_secs(seconds)),
            None => identity,
        })
    });
    Server::builder().authenticator(authenticator).wall_clock(now)
}

async fn open(running: &Running) -> Connection {
    let connection = running.client().open_newest().await.unwrap();
    assert_eq!(connection.protocol(), Protocol::V2);
    connection
}

/// The next message without its details, whose words may change; each must be there.
async fn told(connection: &mut Connection) -> Value {
    let mut told: Value = serde_json::from_str(&heard(connection).await).unwrap();
    if let Some(error) = told.get_mut("error") {
        without_detail(error);
    }
    if let Some(refused) = told.pointer_mut("/ok/refused") {
        refused.as_array_mut().unwrap().iter_mut().for_each(without_detail);
    }
    told
}

fn without_detail(refused: &mut Value) {
    let detail = refused.as_object_mut().unwrap().remove("detail").unwrap();
    let detail = detail.as_str().unwrap();
    assert!(!detail.is_empty() && !detail.contains("no answer"), "{detail}");
}

async fn ask(connection: &mut Connection, request: &Value) -> Value {
    connection.send_text(request.to_string()).await.unwrap();
    told(connection).await
}

/// What `user` is registered for, by the name of the events.
fn registered(running: &Running, user: &str) -> Vec<String> {
    let connections = running.handle.user_connections(user, 10).unwrap();
    let registrations = connections.iter().flat_map(|it| &it.registrations);
    let mut events: Vec<_> = registrations.map(|(_, event)| event.as_str().to_owned()).collect();
    events.sort_unstable();
    events
}

#[tokio::test]
async fn replies_come_in_the_order_of_the_requests() {
    let running = serve(builder());
    let mut connection = open(&running).await;
    let requests_and_replies = [
        (
            json!({"id": 1, "register": ["order", "chat"], "token": "ann"}),
            json!({"re": 1, "ok": {"registered": ["order", "chat"]}}),
        ),
        (json!({"id": 2, "ping": {}}), json!({"re": 2, "ok": {}})),
        (json!({"id": 3, "dance": {}}), json!({"re": 3, "error": {"code": "unknown_request"}})),
        (json!({"ping": {}}), json!({"re": null, "error": {"code": "malformed"}})),
        (
            json!({"id": 4, "unregister": ["chat", "nothing"]}),
            json!({"re": 4, "ok": {"unregistered": ["chat"]}}),
        ),
        (
            json!({"id": 5, "register": ["more"]}),
            json!({"re": 5, "error": {"code": "token_missing"}}),
        ),
        (
            json!({"id": 6, "register": ["mail"], "token": "ann"}),
            json!({"re": 6, "ok": {"registered": ["mail"]}}),
        ),
    ];
    for (request, _) in &requests_and_replies {
        connection.send_text(request.to_string()).await.unwrap();
    }
    for (number, (_, mut reply)) in requests_and_replies.into_iter().enumerate() {
        let told = told(&mut connection).await;
        if number == 0 {
            let id = running.handle.user_connections("ann", 1).unwrap()[0].id.to_string();
            reply["hello"] = json!({"connection": id, "heartbeat": 25, "features": []});
        }
        assert_eq!(told, reply);
    }
    assert_eq!(registered(&running, "ann"), ["mail", "order"]);
    assert_eq!(counted(&running, "wserver_registrations_malformed_total"), 2);
}

/// Each row is one request, its reply, and what is registered afterwards.
#[tokio::test]
async fn each_request_is_answered_for_itself() {
    let limits = LimitSettings { bindings_per_connection_max: 3, ..LimitSettings::default() };
    let running = serve(builder().limits(limits));
    let mut connection = open(&running).await;
    ask(&mut connection, &json!({"id": 0, "register": ["order"], "token": "ann"})).await;
    let register = |events: &[&str], token: &str| json!({"register": events, "token": token});
    let refresh = |token: &str| json!({"refresh": token});
    let error = |code: &str| json!({"error": {"code": code}});
    let (longest, too_long) = ("x".repeat(4096), "x".repeat(4097));
    let shown = "x".repeat(64);
    let rows: &[(Value, Value, &[&str])] = &[
        // The token is refused, and nothing changes.
        (register(&["a"], "nobody"), error("token_refused"), &["order"]),
        (register(&["a"], "early"), error("token_refused"), &["order"]),
        (register(&["a"], "late"), error("token_expired"), &["order"]),
        (register(&["a"], "ann * 0"), error("token_expired"), &["order"]),
        (register(&["a"], "rose"), error("other_user"), &["order"]),
        (refresh("nobody"), error("token_refused"), &["order"]),
        (refresh("rose"), error("other_user"), &["order"]),
        (
            register(&["a"], "down"),
            json!({"error": {"code": "busy", "retry_after": 5}}),
            &["order"],
        ),
        (register(&["a"], &longest), error("token_refused"), &["order"]),
        (register(&["a"], &too_long), error("name_too_long"), &["order"]),
        (refresh(&too_long), error("name_too_long"), &["order"]),
        // Each event is decided by itself.
        (
            register(&["a", "secret", &too_long, "a"], "ann a 3600"),
            json!({"ok": {"registered": ["a"], "expires_in": 3600, "refused": [
                {"event": shown, "code": "name_too_long"},
                {"event": "secret", "code": "not_permitted"},
            ]}}),
            &["a", "order"],
        ),
        (
            register(&["b", "c"], "ann * 7200"),
            json!({"ok": {"registered": ["b"], "expires_in": 3600, "refused": [
                {"event": "c", "code": "too_many_events"},
            ]}}),
            &["a", "b", "order"],
        ),
        // Only a refresh ends what its token does not permit.
        (
            register(&["order"], "ann a"),
            json!({"ok": {"registered": [], "expires_in": 3600, "refused": [
                {"event": "order", "code": "not_permitted"},
            ]}}),
            &["a", "b", "order"],
        ),
        (
            refresh("ann b,order 60"),
            json!({"ok": {"registered": ["b", "order"], "expires_in": 60, "refused": [
                {"event": "a", "code": "not_permitted"},
            ]}}),
            &["b", "order"],
        ),
        // An expiry ends with its registration.
        (
            json!({"unregister": ["b", "order"]}),
            json!({"ok": {"unregistered": ["b", "order"]}}),
            &[],
        ),
        (refresh("ann"), error("malformed"), &[]),
        (register(&["free"], "ann"), json!({"ok": {"registered": ["free"]}}), &["free"]),
    ];
    for (number, (request, reply, events)) in rows.iter().enumerate() {
        let (mut request, mut reply) = (request.clone(), reply.clone());
        (request["id"], reply["re"]) = (json!(number), json!(number));
        let mut told = ask(&mut connection, &request).await;
        if let Some(names) = told.pointer_mut("/ok/unregistered") {
            names.as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        assert_eq!(told, reply, "{request}");
        assert_eq!(registered(&running, "ann"), *events, "{request}");
    }
    for (reason, count) in [
        ("unknown", 3),
        ("not_yet_valid", 1),
        ("expired", 2),
        ("unavailable", 1),
        ("other_user", 2),
        ("forbidden", 3),
        ("too_many_registrations", 1),
    ] {
        let name = format!("wserver_registrations_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(counted(&running, &name), count, "{reason}");
    }
    for (result, count) in [("accepted", 13), ("unknown", 3), ("expired", 1), ("unavailable", 1)] {
        let name = format!("wserver_authentications_total{{result=\"{result}\"}}");
        assert_eq!(counted(&running, &name), count, "{result}");
    }
}

#[tokio::test]
async fn the_token_of_the_handshake_stands_in() {
    let running = serve(builder().token_source(TokenSource::Authorization));
    let client = running.client();
    let client =
        client.with_header("authorization".parse().unwrap(), "Bearer ann".parse().unwrap());
    let mut connection = client.open_newest().await.unwrap();
    let reply = ask(&mut connection, &json!({"id": 1, "register": ["order"]})).await;
    assert_eq!(reply["ok"], json!({"registered": ["order"]}));
    assert_eq!(registered(&running, "ann"), ["order"]);
}

#[tokio::test]
async fn what_is_no_object_ends_the_connection() {
    for message in ["paid", "[]", "{", "7"] {
        let running = serve_default();
        let mut connection = open(&running).await;
        connection.send_text(message).await.unwrap();
        let expected = (4500, "a message must be a JSON object".to_owned());
        assert_eq!(closed(&mut connection).await, expected, "{message}");
        assert_eq!(counted(&running, "wserver_registrations_malformed_total"), 1, "{message}");
    }
}

/// A beat comes with each Ping, and says when the next one comes at the latest.
#[tokio::test]
async fn a_page_sees_that_the_server_lives() {
    let limits =
        LimitSettings { ping_interval: Duration::from_millis(300), ..LimitSettings::default() };
    let running = serve(Server::builder().limits(limits));
    let (mut old, mut new) = (Raw::open(&running, &[]).await, Raw::open_v2(&running).await);
    new.send_text(r#"{"id":1,"ping":{}}"#).await;
    let ping = (Opcode::Ping as u8, Vec::new());
    let (mut heartbeat, mut beats) = (None, 0);
    while heartbeat.is_none() || beats == 0 {
        let frame = new.frame().await;
        if frame == ping {
            assert_eq!(new.text().await, r#"{"beat":1}"#);
            beats += 1;
        } else {
            let reply: Value = serde_json::from_slice(&frame.1).unwrap();
            heartbeat = reply["hello"]["heartbeat"].as_u64();
        }
    }
    assert_eq!(heartbeat, Some(1));
    // Version 1 has no beats.
    assert_eq!(old.frame().await, ping);
    running.handle.shutdown();
    while old.peek_opcode().await == Opcode::Ping as u8 {
        old.frame().await;
    }
    assert_eq!(old.closed().await.0, 1001);
}

/// The warning comes 30 s before; in version 1 there is none.
#[tokio::test]
async fn an_expiry_is_announced() {
    let passed = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&passed);
    let running = serve(
        builder().wall_clock(move || now() + Duration::from_secs(clock.load(Ordering::Relaxed))),
    );
    let (mut old, mut new) = (running.open().await, open(&running).await);
    running.register(&mut old, "ann * 60", "order").await;
    ask(&mut new, &json!({"id": 0, "register": ["order"], "token": "ann * 60"})).await;
    let reply = |id: u64| json!({"re": id, "ok": {}});
    for (seconds, notice) in [(29, None), (30, Some(json!({"expiring": {"in_seconds": 30}})))] {
        // A message makes the server look at the time.
        passed.store(seconds, Ordering::Relaxed);
        old.send_text("{}").await.unwrap();
        assert_eq!(ask(&mut new, &json!({"id": seconds, "ping": {}})).await, reply(seconds));
        if let Some(notice) = notice {
            assert_eq!(told(&mut new).await, notice);
        }
    }
    // Once is enough.
    assert_eq!(ask(&mut new, &json!({"id": 31, "ping": {}})).await, reply(31));
    assert_eq!(ask(&mut new, &json!({"id": 32, "ping": {}})).await, reply(32));
    passed.store(60, Ordering::Relaxed);
    old.send_text("{}").await.unwrap();
    assert_eq!(ask(&mut new, &json!({"id": 60, "ping": {}})).await, reply(60));
    assert_eq!(closed(&mut new).await, (4003, "token expired".to_owned()));
    assert_eq!(closed(&mut old).await, (1008, "token expired".to_owned()));
}

/// Each version learns in its own way when to come back, between one and five seconds later.
#[tokio::test]
async fn a_shutdown_says_when_to_come_back() {
    for code in [1001, 1012] {
        let running = serve(Server::builder().drain_close_code(code));
        let (mut old, mut new) = (running.open().await, open(&running).await);
        running.handle.shutdown();
        let told: Value = serde_json::from_str(&heard(&mut new).await).unwrap();
        let seconds = told["leaving"]["in_seconds"].as_u64().unwrap();
        assert!((1..=5).contains(&seconds), "{told}");
        assert_eq!(told, json!({"leaving": {"reason": "shutdown", "in_seconds": seconds}}));
        let reason = |seconds| format!("server is shutting down; reconnect in {seconds}s");
        assert_eq!(closed(&mut new).await, (4000, reason(seconds)));
        let (told, words) = closed(&mut old).await;
        assert_eq!(told, code);
        assert!((1..=5).any(|seconds| words == reason(seconds)), "{words}");
        drop((old, new));
        eventually("gone", || running.handle.connections_open() == 0).await;
        let labels = format!("{{reason=\"shutdown\",code=\"{code}\"}}");
        assert_eq!(counted(&running, &format!("wserver_connections_closed_total{labels}")), 2);
    }
}
