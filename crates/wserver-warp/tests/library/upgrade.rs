//! Handshakes: what is accepted and with which answer, what is refused and why.

use tokio::time::timeout;
use wserver_protocol::frame::Opcode;
use wserver_warp::{
    HttpLimitSettings, LimitSettings, OriginPolicy, Server, ServerBuilder, TokenSource,
};

use crate::raw::{End, Raw, SAMPLE_ACCEPT, SAMPLE_KEY, handshake, masked};
use crate::{PATIENCE, Running, counted, eventually, serve, serve_default};

#[tokio::test]
async fn a_handshake_agrees_on_a_version_and_nothing_else() {
    let running = serve_default();
    for (lines, protocol) in [
        (&[][..], None),
        (&["sec-websocket-protocol: wserver.v2"], Some("wserver.v2")),
        (&["sec-websocket-protocol: wserver.v1"], Some("wserver.v1")),
        (&["sec-websocket-protocol: wserver.v1, wserver.v2"], Some("wserver.v2")),
        (
            &["sec-websocket-protocol: soap", "sec-websocket-protocol: wserver.v2"],
            Some("wserver.v2"),
        ),
        (&["sec-websocket-protocol: soap"], None),
        (&["sec-websocket-protocol: WSERVER.V2"], None),
        (&["sec-websocket-extensions: permessage-deflate"], None),
        // hyper would repeat the `close`, which some clients then believe.
        (&["connection: close"], None),
        (&["origin: https://anywhere.example"], None),
    ] {
        let mut raw = Raw::connect(&running).await;
        let answer = raw.ask(handshake(lines)).await;
        assert_eq!(answer.status, 101, "{lines:?}");
        for (name, value) in [
            ("connection", Some("upgrade")),
            ("upgrade", Some("websocket")),
            ("sec-websocket-accept", Some(SAMPLE_ACCEPT)),
            ("sec-websocket-protocol", protocol),
            ("sec-websocket-extensions", None),
            ("content-length", None),
        ] {
            assert_eq!(answer.header(name), value, "{lines:?} {name}");
        }
        raw.send(masked(Opcode::Ping, "p")).await;
        assert_eq!(raw.frame().await, (Opcode::Pong as u8, b"p".to_vec()), "{lines:?}");
    }
}

/// Asks for a WebSocket, with this text in the place of that one.
async fn ask(running: &Running, old: &str, new: &str) -> (u16, String, Raw) {
    let request = handshake(&[]);
    assert!(request.contains(old), "{old}");
    let mut raw = Raw::connect(running).await;
    let answer = raw.ask(request.replacen(old, new, 1)).await;
    let told = answer.header("wserver-error").unwrap_or_default().to_owned();
    (answer.status, told, raw)
}

fn refused_total(running: &Running, reason: &str) -> u64 {
    counted(running, &format!("wserver_handshakes_refused_total{{reason=\"{reason}\"}}"))
}

/// Each row is wrong in one place, and is refused by its status, words and counter.
#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let running = serve_default();
    let key = format!("sec-websocket-key: {SAMPLE_KEY}");
    let with = |more: &str| format!("{key}\r\n{more}");
    let two_keys = with(&key);
    let (length, chunks) = (with("content-length: 5"), with("transfer-encoding: chunked"));
    let rows: &[(&str, &str, u16, &str, &str)] = &[
        ("upgrade: websocket", "upgrade: h2c", 400, "Upgrade header", "not_a_handshake"),
        (
            "connection: upgrade",
            "connection: keep-alive",
            400,
            "Connection header",
            "not_a_handshake",
        ),
        (&key, &two_keys, 400, "Sec-WebSocket-Key", "not_a_handshake"),
        (&key, "x: y", 400, "Sec-WebSocket-Key", "not_a_handshake"),
        (SAMPLE_KEY, "dGhlIHNhbXBsZSBub25jZQ", 400, "Sec-WebSocket-Key", "not_a_handshake"),
        (SAMPLE_KEY, "dGhlIHNhbXBsZSBub25j!Q==", 400, "Sec-WebSocket-Key", "not_a_handshake"),
        (SAMPLE_KEY, "dGhlIHNhbXBsZSBub25jZWU=", 400, "Sec-WebSocket-Key", "not_a_handshake"),
        (&key, &length, 400, "no body", "not_a_handshake"),
        (&key, &chunks, 400, "no body", "not_a_handshake"),
        ("version: 13", "version: 8", 426, "must be 13", "websocket_version"),
        (
            "version: 13",
            "version: 13\r\nsec-websocket-version: 13",
            426,
            "must be 13",
            "websocket_version",
        ),
        ("GET /ws", "POST /ws", 405, "method", "method_not_allowed"),
    ];
    for (number, (old, new, status, told, reason)) in rows.iter().enumerate() {
        let before = refused_total(&running, reason);
        let (answered, words, mut raw) = ask(&running, old, new).await;
        assert_eq!(answered, *status, "{number}: {new} {words}");
        assert!(words.contains(told), "{number}: {new} {words}");
        assert_eq!(refused_total(&running, reason), before + 1, "{number}: {new}");
        if *status == 400 {
            raw.send("0").await;
            assert_eq!(raw.end().await, End::Eof, "{number}: {new}");
        }
    }
    assert_eq!(running.handle.counters().connections_opened_total.value(), 0);
}

/// The words of a refusal name the origin, but repeat only so much of it.
#[tokio::test]
async fn an_origin_is_held_to_the_policy() {
    let list = OriginPolicy::list(["https://app.example.com"]);
    let long = format!("https://{}.example", "x".repeat(100));
    let start = format!("\"{}...\"", &long[..64]);
    for (policy, origins, told) in [
        (list.clone(), &["https://app.example.com"][..], None),
        (list.clone(), &[], None),
        (list.clone(), &["https://evil.example"], Some("\"https://evil.example\"")),
        (list.clone(), &["https://app.example.com", "https://evil.example"], Some("app.example")),
        (list, &[&long], Some(&*start)),
        (OriginPolicy::same_origin(), &["http://localhost"], None),
        (OriginPolicy::same_origin(), &["http://evil.example"], Some("\"http://evil.example\"")),
        (OriginPolicy::any(), &["http://evil.example"], None),
    ] {
        let running = serve(Server::builder().origin(policy));
        let lines: Vec<String> = origins.iter().map(|it| format!("origin: {it}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut raw = Raw::connect(&running).await;
        let answer = raw.ask(handshake(&lines)).await;
        assert_eq!(answer.status, if told.is_some() { 403 } else { 101 }, "{origins:?}");
        let count = refused_total(&running, "origin_not_allowed");
        assert_eq!(count, u64::from(told.is_some()), "{origins:?}");
        let words = answer.header("wserver-error").unwrap_or_default();
        assert!(told.is_none_or(|told| words.contains(told)), "{origins:?} {words}");
    }
}

#[tokio::test]
async fn a_token_of_the_handshake_has_the_bound_of_a_name() {
    let source = TokenSource::Query("token".to_owned());
    let running = serve(Server::builder().token_source(source));
    for (bytes, status) in [(4096, 101), (4097, 400)] {
        let target = format!("/ws?token={}", "t".repeat(bytes));
        let (answered, told, _raw) = ask(&running, "/ws", &target).await;
        assert_eq!((answered, told.contains("4096")), (status, status == 400), "{told}");
    }
    assert_eq!(refused_total(&running, "token_too_long"), 1);
}

/// Each limit has its answer, and says after how many seconds to come back.
#[tokio::test]
async fn limits_of_handshakes_say_when_to_come_back() {
    let limits = |limits: LimitSettings| Server::builder().limits(limits);
    let http = |limits: HttpLimitSettings| Server::builder().http_limits(limits);
    let rows: [(ServerBuilder, u16, &str, &str); 3] = [
        (
            limits(LimitSettings { connections_max: 1, ..LimitSettings::default() }),
            503,
            "5",
            "connections_full",
        ),
        (
            http(HttpLimitSettings { connections_per_address_max: 1, ..Default::default() }),
            429,
            "5",
            "address_full",
        ),
        (
            http(HttpLimitSettings {
                handshakes_per_address_per_second: 1,
                handshakes_per_address_burst: 1,
                ..Default::default()
            }),
            429,
            "1",
            "handshake_rate",
        ),
    ];
    for (builder, status, seconds, reason) in rows {
        let running = serve(builder);
        let first = Raw::open(&running, &[]).await;
        eventually("open", || running.handle.connections_open() == 1).await;
        let refused = async {
            loop {
                let mut raw = Raw::connect(&running).await;
                let answer = raw.ask(handshake(&[])).await;
                // On a machine that stands still the next handshake may come late enough to pass.
                if reason != "handshake_rate" || answer.status != 101 {
                    break (raw, answer);
                }
            }
        };
        let (mut raw, answer) = timeout(PATIENCE, refused).await.expect("the rate is kept");
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (status, Some(seconds)),
            "{reason}"
        );
        assert_eq!(answer.header("connection"), Some("close"), "{reason}");
        assert_eq!(refused_total(&running, reason), 1);
        assert_eq!(raw.end().await, End::Eof, "{reason}");
        if reason != "handshake_rate" {
            // The place is given back.
            drop(first);
            eventually("gone", || running.handle.connections_open() == 0).await;
            let _again = Raw::open(&running, &[]).await;
        }
    }
}
