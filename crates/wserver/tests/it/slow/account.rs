//! The server's own numbers against those of the load generator, which accounts for every frame.

use clap::Parser as _;
use wserver_load::Settings;

use super::is_left_out;
use crate::harness::{Server, eventually};
use crate::metrics::{Metrics, scrape};

/// What the generator told of one run, whose checks all held.
struct Told(serde_json::Value);

impl Told {
    fn run(server: &Server, line: &str) -> Self {
        let line = format!("wserver-load --address {} {line}", server.address);
        let settings = Settings::try_parse_from(line.split_whitespace()).unwrap();
        let report = wserver_load::run(&settings).unwrap();
        assert!(report.is_true(), "{report}");
        Self(report.into_json())
    }

    /// What a check found.
    fn found(&self, check: &str) -> f64 {
        let checks = self.0["checks"].as_array().unwrap();
        let check = checks.iter().find(|it| it["name"] == check);
        check.and_then(|it| it["found"].as_f64()).unwrap_or_else(|| panic!("{:#}", self.0))
    }

    fn figure(&self, name: &str) -> f64 {
        self.0["figures"][name].as_f64().unwrap_or_else(|| panic!("no {name}: {:#}", self.0))
    }
}

/// How much a series has grown.
fn grown(before: &Metrics, after: &Metrics, series: &str) -> f64 {
    after.of(series) - before.of(series)
}

fn empty(server: &Server) -> Metrics {
    eventually("everybody is gone", || scrape(server).of("wserver_connections") == 0.0);
    scrape(server)
}

#[test]
fn after_a_million_deliveries_metrics_and_generator_agree() {
    const CONNECTIONS: u32 = 1000;
    const STALLED: u32 = 10;
    if is_left_out("account::million") {
        return;
    }
    // A ping would be one more write to a reader that stalls.
    let server = Server::start_with(&["--ping-interval", "1h"], &[]);
    let begun = empty(&server);
    let mut deliveries = 0.0;
    let mut rounds = 0;
    while deliveries < 1e6 {
        let told = Told::run(
            &server,
            &format!("fanout --connections {CONNECTIONS} --saturated --events 3 --duration 2s"),
        );
        deliveries += told.found("frames, and the sum of the numbers answered");
        rounds += 1;
    }
    let rounded = empty(&server);
    println!("{deliveries} deliveries in {rounds} rounds");
    let opened = f64::from(CONNECTIONS) * f64::from(rounds);
    for (series, expected) in [
        ("wserver_deliveries_total", deliveries),
        ("wserver_connections_opened_total", opened),
        ("wserver_registrations_bound_total", opened * 3.0),
        ("wserver_authentications_total{result=\"accepted\"}", opened * 3.0),
        ("wserver_deliveries_lost_total", 0.0),
        ("wserver_deliveries_dropped_total", 0.0),
        ("wserver_slow_evictions_total{bound=\"outbox_bytes_max\"}", 0.0),
        ("wserver_queued_bytes", 0.0),
    ] {
        assert_eq!(grown(&begun, &rounded, series), expected, "{series}");
    }
    let timed = grown(&begun, &rounded, "wserver_push_delivery_seconds_count");
    let pushes = grown(&begun, &rounded, "wserver_pushes_total");
    // The generator asks a few times whether everybody is there, and finds nobody at first.
    assert!(timed <= pushes && pushes - timed < 100.0, "{timed} of {pushes}");

    let told = Told::run(
        &server,
        &format!("slow-readers --connections 100 --stalled {STALLED} --message-bytes 65536"),
    );
    let after = empty(&server);
    let evicted = told.figure("stalled_evicted");
    assert_eq!(evicted, f64::from(STALLED));
    for (series, expected) in [
        ("wserver_deliveries_total", told.found("the sum of the numbers answered, and frames")),
        ("wserver_connections_opened_total", 100.0),
        ("wserver_connections_closed_total{reason=\"slow\",code=\"1013\"}", evicted),
        ("wserver_slow_evictions_total{bound=\"outbox_bytes_max\"}", evicted),
    ] {
        assert_eq!(grown(&rounded, &after, series), expected, "{series}");
    }
}
