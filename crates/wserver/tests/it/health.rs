//! Whether the server lives and whether it should be sent anybody, as balancers ask.

use crate::harness::Server;
use crate::metrics::{get, scrape};
use crate::raw::{Socket, push};

fn check(server: &Server, path: &str, expected: (u16, &str)) {
    let answer = get(server, path, &[]);
    assert_eq!((answer.status, answer.body.as_str()), expected, "{path} {answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// Whoever asks, from wherever: nothing is said but whether.
#[test]
fn everybody_may_ask() {
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", "0123456789-0123456789")]);
    for path in ["/livez", "/readyz"] {
        check(&server, path, (200, "ok"));
        let foreign = [("host", "push.example.com"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(get(&server, path, &foreign).body, "ok");
    }
}

/// The message that the server sends itself is nobody's business.
#[test]
fn asking_shows_in_no_number() {
    let server = Server::start();
    let before = scrape(&server);
    check(&server, "/readyz", (200, "ok"));
    let after = scrape(&server);
    for series in [
        "wserver_users",
        "wserver_connections",
        "wserver_registered_connections",
        "wserver_registrations",
        "wserver_connections_opened_total",
        "wserver_registrations_bound_total",
        "wserver_pushes_total",
        "wserver_deliveries_total",
        "wserver_push_delivery_seconds_count",
    ] {
        assert_eq!((before.of(series), after.of(series)), (0.0, 0.0), "{series}");
    }
}

/// Room for nobody else is no reason to send nobody a push.
#[test]
fn a_full_server_is_ready() {
    let server = Server::start_with(&["--connections-max", "1"], &[]);
    let mut only = Socket::registered(&server, "jack", "news");
    check(&server, "/readyz", (200, "ok"));
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    assert_eq!(only.next().payload, b"m");
}
