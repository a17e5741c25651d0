//! What monitoring is answered, also during a shutdown.

use std::collections::BTreeMap;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::fixture::{self, MemoryWire, asking, join};

#[tokio::test]
async fn the_state_is_told_of_now_and_not_remembered() {
    let api = fixture::administered(|_| {});
    let asking = asking(&api);
    for (is_stopping, ready, draining) in
        [(false, (200, "ok"), 0), (true, (503, "the server is shutting down"), 1)]
    {
        if is_stopping {
            api.stop.cancel();
        }
        let live = asking.get("/livez").await;
        assert_eq!((live.status.as_u16(), &*live.body), (200, "ok"));
        let answer = asking.get("/readyz").await;
        assert_eq!((answer.status.as_u16(), &*answer.body), ready);
        let page = asking.get("/metrics").await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains(&format!("\nwserver_draining {draining}\n")), "{}", page.body);
        assert_eq!(page.headers[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        for answer in [live, answer, page] {
            assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
        }
        let node = asking.get("/v2/node").await.json();
        assert_eq!(node["is_draining"], is_stopping);
    }
}

/// What the carrier has, apart from that of the fixture.
const OF_THE_CARRIER: [&str; 9] = [
    "wserver_authentications_total",
    "wserver_connections_closed_total",
    "wserver_handshake_addresses_evicted_total",
    "wserver_handshakes_refused_total",
    "wserver_http_connections_evicted_total",
    "wserver_http_connections_refused_total",
    "wserver_registrations_malformed_total",
    "wserver_registrations_refused_total",
    "wserver_tls_handshakes_failed_total",
];

/// The metrics that the guide describes, with their labels.
fn described() -> BTreeMap<&'static str, &'static str> {
    let guide = include_str!("../../../../docs/operations.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `wserver_"));
    let cells = rows.filter_map(|row| row.trim_start_matches("| ").split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`')).filter(|it| it.starts_with("wserver_"));
    names
        .map(|name| name.split_once('{').unwrap_or((name, "")))
        .map(|(name, labels)| (name, labels.trim_end_matches('}')))
        .collect()
}

/// Every metric of the guide is on the page with its type and labels, and no other one.
pub(crate) fn check_page(page: &str, has_cluster: bool) {
    let mut expected = described();
    expected.retain(|name, _| !OF_THE_CARRIER.contains(name));
    expected.retain(|name, _| has_cluster || !name.starts_with("wserver_cluster_"));
    // A server that keeps no messages has none of these; tests of the binary have some that does.
    let has_replay = page.contains("wserver_replay_");
    expected.retain(|name, _| has_replay || !name.starts_with("wserver_replay_"));
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE wserver_"));
    let types: BTreeMap<String, &str> = types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (format!("wserver_{name}"), kind))
        .collect();
    assert!(types.keys().eq(expected.keys()), "{:?} are not {expected:?}", types.keys());
    for (name, labels) in expected {
        let is_histogram =
            matches!(name, "wserver_push_delivery_seconds" | "wserver_cluster_answer_seconds");
        let kind = match name {
            _ if is_histogram => "histogram",
            _ if name.ends_with("_total") => "counter",
            _ => "gauge",
        };
        assert_eq!(types[name], kind, "{name}");
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        let sample = match labels {
            _ if is_histogram => format!("\n{name}_bucket{{le=\""),
            "" if name == "wserver_build_info" => format!("\n{name}{{version=\""),
            "" => format!("\n{name} "),
            label => format!("\n{name}{{{label}=\""),
        };
        assert!(page.contains(&sample), "{sample} is not in {page}");
    }
    for direction in ["sent", "received"] {
        let sample = format!("wserver_cluster_messages_total{{direction=\"{direction}\"}} ");
        assert_eq!(page.contains(&sample), has_cluster, "{sample}");
    }
}

#[tokio::test]
async fn the_page_has_every_metric_of_the_guide_with_its_value() {
    let api = fixture::administered(|_| {});
    let _open = join(&api.node, MemoryWire::default(), "jack", "news");
    let _slow = join(&api.node, MemoryWire::full(), "jack", "news");
    let push = r#"{"user":"jack","event":"news","message":"m"}"#;
    assert_eq!(asking(&api).post("/v2/push", push).await.status, 200);
    assert_eq!(asking(&api).post("/v2/push", "{").await.status, 400);
    let page = asking(&api).get("/metrics").await.body;
    check_page(&page, false);
    for sample in [
        "wserver_connections 2",
        "wserver_connections_max 100000",
        "wserver_connections_opened_total 2",
        "wserver_users 1",
        "wserver_registered_connections 2",
        "wserver_registrations 2",
        "wserver_registrations_bound_total 2",
        "wserver_pushes_total 1",
        "wserver_pushes_refused_total{reason=\"body_invalid\"} 1",
        "wserver_pushes_refused_total{reason=\"out_of_scope\"} 0",
        "wserver_deliveries_total 2",
        "wserver_queued_bytes 3",
        "wserver_queued_bytes_max 2147483648",
        "wserver_inbound_bytes 7",
        "wserver_slow_evictions_total{bound=\"stall_timeout\"} 0",
        "wserver_push_delivery_seconds_count 1",
    ] {
        assert!(page.lines().any(|line| line == sample), "{sample} is not in {page}");
    }
    assert_eq!(page.contains("\nprocess_open_fds "), cfg!(target_os = "linux"));
}
