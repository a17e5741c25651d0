//! Why does nothing arrive? Each situation is staged, and its explanation is read as an operator would.

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::api::{
    ask, gone, good, jwt, only_connection, overflow, push_v1, push_v2, start_with_jwt,
    start_with_small_queues,
};
use crate::harness::{Server, eventually};
use crate::judge::{SECRET, claims, hs256};
use crate::raw::{Raw, Socket, masked, masked_close};
use crate::secure::publisher;
use crate::settings::file;

pub(crate) fn explain(server: &Server, user: &str, event: &str) -> Value {
    good(server, "GET", &format!("/v2/explain?user={user}&event={event}"), &Value::Null)
}

pub(crate) fn sentences(explanation: &Value) -> Vec<&str> {
    explanation["sentences"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect()
}

/// The explanation of `news` to `jack`: to how many it would go, the first sentence, and words that
/// some other one has.
fn check(server: &Server, would_deliver_to: usize, first: &str, more: &[&str]) -> Value {
    let explanation = explain(server, "jack", "news");
    assert_eq!(explanation["now"]["would_deliver_to"], would_deliver_to, "{explanation}");
    let told = sentences(&explanation);
    assert_eq!(told[0], first, "{explanation}");
    for words in more {
        assert!(told[1..].iter().any(|it| it.contains(words)), "{words:?} in {told:#?}");
    }
    explanation
}

/// The newest entry, by what it is and why.
fn last(explanation: &Value) -> (&str, &str) {
    let entry = explanation["recent"].as_array().unwrap().last().expect("an entry");
    (entry["what"].as_str().unwrap(), entry["reason"].as_str().unwrap_or_default())
}

const OFFLINE: &str = "user jack has no connection, so a push of news goes to nobody";

#[test]
fn all_is_well() {
    let server = Server::start();
    let _one = Socket::registered(&server, "jack", "news");
    let explanation = check(
        &server,
        1,
        "a push of news to user jack would go to 1 connection, all there are",
        &[],
    );
    assert_eq!(explanation["now"]["connections"][0]["registrations"]["jack"], json!(["news"]));
    assert_eq!(explanation["recent"], json!([]));
    let _other = Socket::registered(&server, "jack", "chat");
    check(&server, 1, "a push of news to user jack would go to 1 of the user's 2 connections", &[]);
}

#[test]
fn nobody_was_ever_seen() {
    let server = Server::start();
    check(&server, 0, OFFLINE, &["the journal has no entry of user jack: nobody has registered"]);
}

#[test]
fn the_client_left() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.send(masked_close(1000, b""));
    socket.closed();
    gone(&server, "jack");
    let explanation = check(&server, 0, OFFLINE, &["was closed: the client closed it"]);
    assert_eq!(last(&explanation), ("closed", "peer_closed"));
}

#[test]
fn the_client_is_gone_without_a_word() {
    let server = Server::start();
    let mut socket = Socket::open_on(Raw::connect_to_reset(&server));
    socket.register("jack", "news");
    drop(socket);
    gone(&server, "jack");
    let explanation = check(&server, 0, OFFLINE, &["its socket ended without a Close"]);
    assert_eq!(last(&explanation), ("closed", "peer_gone"));
}

#[test]
fn no_pong_came() {
    let server = Server::start_with(&["--ping-interval=100ms", "--pong-timeout=100ms"], &[]);
    let mut socket = Socket::registered(&server, "jack", "news");
    assert_eq!(socket.closed().reason, "no pong in time");
    let explanation = check(&server, 0, OFFLINE, &["no pong arrived in time"]);
    assert_eq!(last(&explanation), ("closed", "silent"));
}

#[test]
fn another_event_is_registered() {
    let server = Server::start();
    let _socket = Socket::registered(&server, "jack", "chat");
    let first = "user jack has 1 connection, none registered for news, but for: chat";
    check(&server, 0, first, &[]);
}

/// Whoever claims to be somebody must not write into what is told of that somebody.
#[test]
fn the_token_was_refused() {
    let tokens = file("explain-tokens", "canary-good jack\n");
    let server = Server::start_with(&["--tokens-file", tokens.path()], &[]);
    let mut socket = Socket::open(&server);
    socket.register("canary-bad", "news");
    let words = "was refused a registration for news: its token is unknown; its user was never \
                 authenticated, so it may be this user's";
    let explanation = check(&server, 0, OFFLINE, &[words]);
    assert_eq!(explanation["recent"], json!([]));
    let stranger = &explanation["strangers"][0];
    assert_eq!(
        (&stranger["what"], &stranger["reason"]),
        (&json!("registration_refused"), &json!("unknown"))
    );
    assert_eq!(stranger["user"], Value::Null);
    assert!(stranger["connection"].is_string(), "{stranger}");
    assert!(!explanation.to_string().contains("canary"), "{explanation}");
    // Once the user is there, strangers are nobody's concern.
    socket.register("canary-good", "news");
    let explanation = check(
        &server,
        1,
        "a push of news to user jack would go to 1 connection, all there are",
        &[],
    );
    assert_eq!(explanation.get("strangers"), None);
}

#[test]
fn the_identity_expired() {
    let (server, _secret) = start_with_jwt();
    let mut socket = Socket::registered(&server, &jwt("jack", 2), "news");
    assert_eq!(socket.closed().reason, "token expired");
    let explanation =
        check(&server, 0, OFFLINE, &["the token that it registered with has expired"]);
    assert_eq!(last(&explanation), ("closed", "expired"));
}

#[test]
fn the_reader_was_too_slow() {
    let server = start_with_small_queues();
    let (_stalled, _) = overflow(&server, "jack");
    check(&server, 0, OFFLINE, &["it read too slowly, so its queue reached outbox_bytes_max"]);
}

#[test]
fn the_reader_is_slow() {
    let server = Server::start_with(&["--ping-interval=1h"], &[]);
    let mut stalled = Socket::open_on(Raw::connect_small(&server));
    stalled.register("jack", "news");
    let message = "x".repeat(1024 * 1024);
    while push_v1(&server, "jack", "news", &message)["queued"] != 1 {}
    let first = "a push of news to user jack would go to 1 connection, all there are";
    check(&server, 1, first, &["bytes waiting: it reads more slowly than it is sent to"]);
}

#[test]
fn an_operator_disconnected_it() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    good(&server, "POST", "/v2/disconnect", &json!({"user": "jack"}));
    socket.closed();
    let words = "an operator, or the program that the server runs in, disconnected it";
    let explanation = check(&server, 0, OFFLINE, &[words]);
    assert_eq!(last(&explanation), ("closed", "disconnected"));
}

#[test]
fn the_connection_has_its_registrations() {
    let server = Server::start_with(&["--bindings-per-connection-max", "1"], &[]);
    let mut socket = Socket::registered(&server, "jack", "chat");
    socket.register("jack", "news");
    let first = "user jack has 1 connection, none registered for news, but for: chat";
    let words = "was refused a registration for news: the connection has \
                 bindings_per_connection_max registrations already";
    let explanation = check(&server, 0, first, &[words]);
    assert_eq!(last(&explanation), ("registration_refused", "too_many_registrations"));
}

#[test]
fn the_user_has_its_connections() {
    let server = Server::start_with(&["--connections-per-user-max", "1"], &[]);
    let _first = Socket::registered(&server, "jack", "chat");
    let mut second = Socket::open(&server);
    second.send(crate::raw::register("jack", "news"));
    assert_eq!(second.closed().reason, "too many connections of this user");
    let first = "user jack has 1 connection, none registered for news, but for: chat";
    let words = "was refused a registration for news: the user had connections_per_user_max";
    check(&server, 0, first, &[words]);
}

#[test]
fn a_newer_connection_took_its_place() {
    let flags = ["--connections-per-user-max=1", "--connections-per-user-policy=close_oldest"];
    let server = Server::start_with(&flags, &[]);
    let mut old = Socket::registered(&server, "jack", "news");
    let _new = Socket::registered(&server, "jack", "chat");
    assert_eq!(old.closed().code, 1008);
    let first = "user jack has 1 connection, none registered for news, but for: chat";
    let explanation = check(&server, 0, first, &["a newer connection of the user replaced it"]);
    assert_eq!(last(&explanation), ("closed", "replaced"));
}

#[test]
fn a_flood_ended_it() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.send(masked(Opcode::Text, "junk").repeat(10_000));
    assert_eq!(socket.closed().reason, "too many messages");
    check(&server, 0, OFFLINE, &["it sent more messages than inbound_messages_per_second allows"]);
}

#[test]
fn it_broke_the_protocol() {
    let server = Server::start();
    let mut socket = Socket::registered(&server, "jack", "news");
    socket.send([0x81, 0x00]);
    assert_eq!(socket.closed().code, 1002);
    let rule = "broke the WebSocket protocol: a frame is not masked";
    check(&server, 0, OFFLINE, &["it broke the WebSocket protocol", rule]);
}

/// A client that does not get as far as to register is nobody's, and may be anybody's.
#[test]
fn a_stranger_broke_the_protocol() {
    let server = Server::start();
    for (frame, told) in [
        (&[0xc1, 0x80, 0, 0, 0, 0][..], "a reserved bit is set, for example by compression"),
        (&[0x83, 0x80, 0, 0, 0, 0], "an opcode is reserved"),
        (&[0x88, 0x81, 0, 0, 0, 0, 3], "a Close has half a code"),
    ] {
        let mut socket = Socket::open(&server);
        socket.send(frame);
        socket.closed();
        let explanation = check(&server, 0, OFFLINE, &[told, "it may be this user's"]);
        assert_eq!(explanation["recent"], json!([]));
    }
}

/// What the client is not told, the operator is.
#[test]
fn what_is_wrong_with_a_token_is_told_apart() {
    let secret = file("explain-faults-secret", SECRET);
    let content = format!(
        "[jwt]\nsecret_file = {:?}\naudience = \"listeners\"\nissuer = \"https://id.example\"\n",
        secret.path()
    );
    let config = file("explain-faults.toml", content);
    let server = Server::start_with(&["--config", config.path()], &[]);
    let signed = |changes: Value| {
        let mut changes = changes;
        if changes.get("iss").is_none() {
            changes["iss"] = json!("https://id.example");
        }
        hs256(SECRET.as_bytes(), &claims(&changes))
    };
    let forged = hs256(&[b'x'; 32], &claims(&json!({"iss": "https://id.example"})));
    let mut socket = Socket::open(&server);
    for (token, told, reason) in [
        (forged, "its token has a wrong signature", "jwt_signature"),
        (signed(json!({"aud": "else"})), "the audience of its token", "jwt_audience"),
        (signed(json!({"aud": null})), "the audience of its token", "jwt_audience"),
        (signed(json!({"iss": "else"})), "the issuer of its token", "jwt_issuer"),
        (signed(json!({"exp": null})), "has no exp", "jwt_exp_missing"),
        (signed(json!({"sub": null})), "lacks a claim", "jwt_claim_missing"),
        ("canary".to_owned(), "is not a JSON Web Token", "jwt_malformed"),
    ] {
        socket.register(&token, "news");
        socket.sync();
        let explanation = check(&server, 0, OFFLINE, &[told]);
        let strangers = explanation["strangers"].as_array().unwrap();
        assert_eq!(strangers.last().unwrap()["reason"], reason, "{explanation}");
    }
    // One label among counters, as before.
    let metrics = crate::metrics::get(&server, "/metrics", &[]).body;
    assert!(
        metrics.contains(r#"wserver_registrations_refused_total{reason="unknown"} 7"#),
        "{metrics}"
    );
}

/// What was left out by one push gets the next.
#[test]
fn the_connection_was_left_out() {
    let server = Server::start();
    let _socket = Socket::registered(&server, "jack", "news");
    let id = only_connection(&server, "jack");
    assert_eq!(
        push_v2(&server, json!({"user": "jack", "exclude_connection": id}))["reason"],
        "excluded"
    );
    check(&server, 1, "a push of news to user jack would go to 1 connection, all there are", &[]);
}

#[test]
fn the_push_was_refused() {
    let server = Server::start_with(&["--message-bytes-max", "1KiB"], &[]);
    let _socket = Socket::registered(&server, "jack", "news");
    let body = json!({"userId": "jack", "event": "news", "message": "x".repeat(2000)});
    let json = [("accept", "application/json")];
    assert_eq!(ask(&server, "POST", "/push", &json, body.to_string()).0.status, 413);
    let first = "a push of news to user jack would go to 1 connection, all there are";
    let words = "a push for news was refused: its message was longer than message_bytes_max";
    let explanation = check(&server, 1, first, &[words]);
    assert_eq!(last(&explanation), ("push_refused", "message_too_large"));
}

#[test]
fn the_push_key_was_wrong() {
    let key = "canary-key-0123456789";
    let scope = "admin = true\nusers = ['j*']\n";
    let config = file("explain.toml", publisher("ops", key) + scope);
    let server = Server::start_with(&["--config", config.path()], &[]);
    let body = json!({"userId": "jack", "event": "news", "message": "m"}).to_string();
    let json = ("accept", "application/json");
    let (answer, _) = ask(&server, "POST", "/push", &[json, ("x-api-key", "canary-wrong")], &body);
    assert_eq!(answer.status, 401);
    let other = body.replace("jack", "rose");
    let (answer, _) = ask(&server, "POST", "/push", &[json, ("x-api-key", key)], other);
    assert_eq!(answer.status, 403);
    for user in ["jack", "rose"] {
        let target = format!("/v2/explain?user={user}&event=news");
        let (_, explanation) = ask(&server, "GET", &target, &[("x-api-key", key)], "");
        let told = sentences(&explanation).join("\n");
        for words in [
            "its key is missing, wrong or expired; the user is not known",
            "it is not within the scope of its key",
        ] {
            assert!(told.contains(words), "{words} in {told}");
        }
        assert_eq!(explanation["recent"], json!([]), "{user}");
        assert!(!explanation.to_string().contains("canary"), "{explanation}");
    }
}

/// What strangers do in whatever number pushes out nothing of what is remembered of users.
#[test]
fn a_flood_of_strangers_makes_nobody_forgotten() {
    let tokens = file("explain-tokens", "good jack\n");
    let flags = [
        "--tokens-file",
        tokens.path(),
        "--journal-bytes-max=1MiB",
        "--inbound-messages-burst=100000",
    ];
    let server = Server::start_with(&flags, &[]);
    let mut jack = Socket::registered(&server, "good", "news");
    jack.send(masked_close(1000, b""));
    jack.closed();
    eventually("jack is gone", || last_is_closed(&server));
    let mut stranger = Socket::open(&server);
    stranger.send(crate::raw::register("bad", "news").repeat(2000));
    stranger.sync();
    let explanation = check(&server, 0, OFFLINE, &["the client closed it", "its token is unknown"]);
    assert_eq!(explanation["strangers"].as_array().unwrap().len(), 50);
    // One sentence is enough to read.
    let told = sentences(&explanation);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[2].contains("49 times before"), "{told:#?}");
}

fn last_is_closed(server: &Server) -> bool {
    explain(server, "jack", "news")["recent"].as_array().is_some_and(|recent| !recent.is_empty())
}
