//! `GET /metrics`: what is and what was counted, as Prometheus reads it.
//!
//! The numbers stand where they are counted; here they get their names. No label is a stranger's
//! choice. docs/operations.md says what each is for.

mod cluster;
mod process;

use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use tracing::debug;
use wserver_node::{Histogram, Wire};

use crate::api::Api;
use crate::authorize;
use crate::authorize::open_push;
use crate::reply::refused::Refused;
use crate::reply::{Format, Reply};
use crate::request::{Request, Side};

/// The text format that every version of Prometheus reads.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a scrape.
pub(crate) async fn scrape<W: Wire>(api: &Arc<Api<W>>, request: Request) -> Reply {
    let method = &request.method;
    if method != Method::GET && method != Method::HEAD {
        return Refused::Method { allow: "GET, HEAD" }.told().reply(Format::Text);
    }
    let client = request.client;
    if let Err(refused) = admit(api, request).await {
        debug!(peer = %client, ?refused, "scrape refused");
        return refused.told().reply(Format::Text);
    }
    // Beside the workers: older kernels have every descriptor of the process named to count them.
    let api_of_page = Arc::clone(api);
    let page = api.node.tasks().run_blocking(move || page(&api_of_page)).await;
    let Some(page) = page else { return Refused::Failed.told().reply(Format::Text) };
    let mut reply = Response::new(Bytes::from(page));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A listener for backends is for their monitoring too. Where strangers come as well, it takes who
/// may administer.
async fn admit<W: Wire>(api: &Api<W>, request: Request) -> Result<(), Refused> {
    match (request.side, api.open_push) {
        (Side::Private, None) => Ok(()),
        (Side::Private, Some(scope)) => {
            open_push::check(scope, &request.headers).map_err(|why| Refused::OpenAdmin { why })
        }
        _ => authorize::admin(api, request).await.map(drop),
    }
}

/// All metrics of a server.
pub(crate) fn page<W: Wire>(api: &Api<W>) -> String {
    let (node, counters) = (api.node.counters(), &api.counters);
    let counts = api.node.counts();
    let mut page = Page(String::with_capacity(16 * 1024));

    page.gauge("wserver_build_info", "The version that runs; always 1.");
    page.sample("wserver_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let draining = u8::from(api.stop.is_cancelled());
    page.one_gauge("wserver_draining", "Whether the server is shutting down.", draining);

    let open = api.node.connections_open();
    page.one_gauge("wserver_connections", "Open WebSocket connections, registered or not.", open);
    let max = api.limits.connections_max;
    page.one_gauge("wserver_connections_max", "The setting connections_max, as it holds.", max);
    let opened = node.connections_opened_total.value();
    page.one_counter(
        "wserver_connections_opened_total",
        "WebSocket connections that were opened.",
        opened,
    );
    api.carrier.write_metrics(&mut page);
    page.one_counter(
        "wserver_panics_total",
        "Connections whose task panicked.",
        node.panics_total.value(),
    );

    page.one_gauge("wserver_users", "Users with a registered connection.", counts.users);
    page.one_gauge(
        "wserver_registered_connections",
        "WebSocket connections with a registration.",
        counts.connections,
    );
    page.one_gauge("wserver_registrations", "Registrations that are bound.", counts.bindings);
    page.one_counter(
        "wserver_registrations_bound_total",
        "Registrations that were bound, renewals included.",
        node.registrations_bound_total.value(),
    );

    page.one_counter("wserver_pushes_total", "Pushes accepted.", node.pushes_total.value());
    page.labelled(
        "wserver_pushes_refused_total",
        "Pushes that were not accepted.",
        "reason",
        counters.pushes_refused_total.values(),
    );
    page.one_counter(
        "wserver_pushes_waited_total",
        "Pushes that had to wait because walk_bytes_max was under way to their user.",
        node.pushes_waited_total.value(),
    );
    page.one_counter(
        "wserver_idempotency_replayed_total",
        "Requests with an Idempotency-Key that were answered again and not carried out.",
        api.idempotency.replayed_total.value(),
    );
    page.one_counter(
        "wserver_idempotency_evicted_total",
        "Answers under an Idempotency-Key that were forgotten before their ten minutes.",
        api.idempotency.evicted_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_total",
        "Messages taken by a connection's socket or queue: the sum of all N.",
        node.deliveries_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_dropped_total",
        "Messages not taken, because their connection was cut off as too slow or found ending.",
        node.deliveries_dropped_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_expired_total",
        "Messages that were counted in an N and not sent, because their time was over first.",
        node.deliveries_expired_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_lost_total",
        "Messages that were counted in an N and then found their connection ending.",
        node.deliveries_lost_total.value(),
    );
    page.counter(
        "wserver_slow_evictions_total",
        "Connections closed because they read too slowly, by the bound that they met.",
    );
    for (bound, counter) in [
        ("outbox_bytes_max", &node.slow_evictions_total),
        ("outboxes_bytes_max", &node.outboxes_full_evictions_total),
        ("stall_timeout", &node.stalled_evictions_total),
    ] {
        page.sample("wserver_slow_evictions_total", &[("bound", bound)], counter.value());
    }
    let queued = api.node.outboxes_bytes();
    page.one_gauge("wserver_queued_bytes", "Bytes that wait in queues of connections.", queued);
    let max = api.limits.outboxes_bytes_max;
    page.one_gauge("wserver_queued_bytes_max", "The setting outboxes_bytes_max.", max);
    page.one_counter(
        "wserver_pongs_skipped_total",
        "Pongs not sent because one was waiting already.",
        node.pongs_skipped_total.value(),
    );
    page.histogram(
        "wserver_push_delivery_seconds",
        "From the acceptance of a push until its last connection's socket or queue has it.",
        &node.push_delivery,
    );
    let (entries, bytes) = api.node.journal_size();
    page.one_gauge("wserver_journal_entries", "Entries of the journal.", entries);
    page.one_gauge("wserver_journal_bytes", "Bytes of the journal's entries.", bytes);
    if let Some(cluster) = &api.cluster {
        cluster::write(&mut page, cluster);
    }
    process::write(&mut page);
    page.0
}

/// The page, family by family: a head with its help, and then its samples.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    /// Begins a family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    /// Begins a family of counters.
    pub fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    /// A family that is one gauge.
    pub fn one_gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    /// A family that is one counter.
    pub fn one_counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.counter(name, help);
        self.sample(name, &[], value);
    }

    /// A family of counters, told apart by one label.
    pub fn labelled<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) {
        self.counter(name, help);
        for (value, count) in values {
            self.sample(name, &[(label, value)], count);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let bounds = Histogram::BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string());
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(histogram.counts()) {
            below += count;
            self.sample(&bucket, &[("le", bound.as_str())], below);
        }
        self.sample(&format!("{name}_sum"), &[], histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), &[], below);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample of the family that was begun last.
    ///
    /// Labels are words of ours, without anything that would have to be escaped.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{value}\"");
        }
        self.line(format_args!("{} {value}", if labels.is_empty() { "" } else { "}" }));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut page = Page(String::new());
        page.one_gauge("a", "What a is.", 1);
        page.counter("b_total", "What b is.");
        page.sample("b_total", &[("reason", "x"), ("code", "1000")], 2);
        assert_eq!(
            page.0,
            "# HELP a What a is.\n# TYPE a gauge\na 1\n\
             # HELP b_total What b is.\n# TYPE b_total counter\nb_total{reason=\"x\",code=\"1000\"} 2\n"
        );
    }

    #[test]
    fn buckets_hold_what_smaller_ones_hold() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(20), 2);
        histogram.observe(Duration::from_secs(9), 1);
        let mut page = Page(String::new());
        page.histogram("h_seconds", "Help.", &histogram);
        for line in [
            "h_seconds_bucket{le=\"0.00001\"} 0",
            "h_seconds_bucket{le=\"0.000025\"} 2",
            "h_seconds_bucket{le=\"2.5\"} 2",
            "h_seconds_bucket{le=\"+Inf\"} 3",
            "h_seconds_sum 9.00004",
            "h_seconds_count 3",
        ] {
            assert!(page.0.lines().any(|it| it == line), "{line} in {}", page.0);
        }
    }
}
