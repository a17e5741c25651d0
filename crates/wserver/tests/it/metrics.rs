//! What the server says to monitoring: who may ask, in what form, and that the numbers are true.

use std::collections::BTreeMap;

use crate::harness::{Server, eventually};
use crate::raw::{Answer, Raw, Socket, handshake, post, push, push_body};
use crate::settings::file;

/// All samples of one scrape, by name and labels as they are written.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// One sample, which must be there.
    pub(crate) fn of(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no {series} in {self:#?}"))
    }
}

pub(crate) fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += "host: localhost\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let mut raw = Raw::connect(server);
    raw.send(request + "\r\n");
    raw.answer()
}

/// Scrapes as a program on this machine.
pub(crate) fn scrape(server: &Server) -> Metrics {
    let answer = get(server, "/metrics", &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        (series.to_owned(), value.parse().expect("a value is a number"))
    });
    Metrics(samples.collect())
}

/// Every family is introduced once, before its samples, and every name says what it is.
#[test]
fn the_page_is_what_prometheus_reads() {
    let server = Server::start();
    let answer = get(&server, "/metrics", &[]);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.ends_with('\n'));
    let mut families = BTreeMap::new();
    let mut current = "";
    for line in answer.body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("help is not empty");
            assert!(help.ends_with('.'), "{line}");
            current = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert!(families.insert(name, kind).is_none(), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(name.starts_with("wserver_") || name.starts_with("process_"), "{line}");
        } else {
            assert!(line.starts_with(current), "{line} under {current}");
        }
    }
    assert!(families.len() > 30, "{families:?}");
    assert_eq!(families["wserver_push_delivery_seconds"], "histogram");
}

#[test]
fn what_happens_is_counted() {
    let server = Server::start_with(&["--bindings-per-connection-max", "2"], &[]);
    let mut gone = Socket::registered(&server, "jack", "news");
    let mut ann = Socket::registered(&server, "ann", "news");
    ann.register("ann", "chat");
    ann.register("ann", "one too many");
    ann.send(crate::raw::masked(wserver_protocol::frame::Opcode::Text, "junk"));
    ann.sync();
    assert_eq!(push(&server, "jack", "news", "one"), 1);
    assert_eq!(push(&server, "ann", "news", "two"), 1);
    assert_eq!(push(&server, "ann", "nothing", "three"), 0);
    let mut raw = Raw::connect(&server);
    raw.send(post(&[], "no JSON"));
    assert_eq!(raw.answer().status, 400);
    let mut raw = Raw::connect(&server);
    raw.send(post(&[("origin", "https://evil.example")], push_body("jack", "news", "m")));
    assert_eq!(raw.answer().status, 403);
    let mut raw = Raw::connect(&server);
    raw.send(handshake(&[("sec-websocket-version", "12")]));
    assert_eq!(raw.answer().status, 426);
    gone.send(crate::raw::masked_close(1000, b""));
    assert_eq!(gone.next().payload, b"one");
    assert_eq!(gone.closed().code, 1000);
    drop(gone);
    eventually("one is gone", || scrape(&server).of("wserver_connections") == 1.0);

    let metrics = scrape(&server);
    for (series, value) in [
        ("wserver_draining", 0.0),
        ("wserver_connections", 1.0),
        ("wserver_connections_max", metrics.of("wserver_connections_max")),
        ("wserver_connections_opened_total", 2.0),
        ("wserver_connections_closed_total{reason=\"peer_closed\",code=\"\"}", 1.0),
        ("wserver_connections_closed_total{reason=\"slow\",code=\"1013\"}", 0.0),
        ("wserver_handshakes_refused_total{reason=\"websocket_version\"}", 1.0),
        ("wserver_handshakes_refused_total{reason=\"other\"}", 0.0),
        ("wserver_users", 1.0),
        ("wserver_registered_connections", 1.0),
        ("wserver_registrations", 2.0),
        ("wserver_registrations_bound_total", 3.0),
        ("wserver_registrations_malformed_total", 1.0),
        ("wserver_registrations_refused_total{reason=\"too_many_registrations\"}", 1.0),
        ("wserver_authentications_total{result=\"accepted\"}", 4.0),
        ("wserver_authentications_total{result=\"unknown\"}", 0.0),
        ("wserver_pushes_total", 3.0),
        ("wserver_pushes_refused_total{reason=\"body_invalid\"}", 1.0),
        ("wserver_pushes_refused_total{reason=\"push_needs_key\"}", 1.0),
        ("wserver_deliveries_total", 2.0),
        ("wserver_deliveries_lost_total", 0.0),
        ("wserver_deliveries_dropped_total", 0.0),
        ("wserver_deliveries_expired_total", 0.0),
        ("wserver_queued_bytes", 0.0),
        ("wserver_push_delivery_seconds_count", 2.0),
        ("wserver_push_delivery_seconds_bucket{le=\"+Inf\"}", 2.0),
    ] {
        assert_eq!(metrics.of(series), value, "{series}");
    }
    assert_eq!(
        metrics.of(&format!("wserver_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))),
        1.0
    );
    assert!(metrics.of("wserver_push_delivery_seconds_sum") > 0.0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_told_of_as_the_kernel_knows_it() {
    let server = Server::start();
    let metrics = scrape(&server);
    // One descriptor is the scrape's own connection.
    assert!(metrics.of("process_open_fds") >= server.descriptors() as f64);
    assert!(metrics.of("process_max_fds") >= metrics.of("process_open_fds"));
    assert!(metrics.of("process_resident_memory_bytes") > 1e6);
    assert!(metrics.of("process_cpu_seconds_total") < 60.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_secs_f64() - metrics.of("process_start_time_seconds");
    assert!((-2.0..60.0).contains(&age), "{age}");
}

const ADMIN: &str = "admin-0123456789-admin";
const SHOP: &str = "shop-0123456789-shop";

#[test]
fn who_may_scrape() {
    let hash = |key| wserver_auth::PublisherKeyHash::of(key).to_string();
    let keys = file(
        "publishers.toml",
        format!(
            "[[publisher]]\nname = \"admin\"\nadmin = true\nkey_hash = \"{}\"\n\
             [[publisher]]\nname = \"shop\"\nkey_hash = \"{}\"\n",
            hash(ADMIN),
            hash(SHOP)
        ),
    );
    let open = Server::start();
    let wide_open = Server::start_with(&["--allow-open-push"], &[]);
    let keyed = Server::start_with(&["--config", keys.path()], &[]);
    let [admin, shop] = [ADMIN, SHOP].map(|key| format!("Bearer {key}"));
    for (server, headers, status) in [
        (&open, &[][..], 200),
        (&open, &[("host", "push.example.com")], 403),
        (&open, &[("origin", "https://evil.example")], 403),
        (&open, &[("x-forwarded-for", "192.0.2.1")], 403),
        (&wide_open, &[], 200),
        (&wide_open, &[("host", "push.example.com")], 403),
        (&keyed, &[], 401),
        (&keyed, &[("authorization", "Bearer something-else")], 401),
        (&keyed, &[("authorization", &shop)], 403),
        (&keyed, &[("authorization", &admin)], 200),
        (&keyed, &[("authorization", &admin), ("host", "push.example.com")], 200),
    ] {
        let answer = get(server, "/metrics", headers);
        assert_eq!(answer.status, status, "{headers:?} {answer:?}");
        assert_eq!(answer.body.contains("wserver_users"), status == 200, "{headers:?}");
    }
}

/// A scrape is no push: it is counted as none, and it takes GET alone.
#[test]
fn other_methods_are_refused() {
    let server = Server::start();
    for path in ["/metrics", "/livez", "/readyz"] {
        let mut raw = Raw::connect(&server);
        raw.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"));
        let answer = raw.answer();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{path}");
        raw.send(format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        assert_eq!(raw.try_answer("HEAD").unwrap().status, 200, "{path}");
    }
    assert_eq!(
        scrape(&server).of("wserver_pushes_refused_total{reason=\"method_not_allowed\"}"),
        0.0
    );
}
