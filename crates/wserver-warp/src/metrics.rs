//! `GET /metrics`: what is and what was counted, as Prometheus reads it.
//!
//! The numbers stand where they are counted; here they get their names. No label is a stranger's
//! choice. docs/operations.md says what each is for.

mod cluster;
mod process;

use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response};
use tracing::debug;
use wserver_core::CloseReason;
use wserver_node::Histogram;

use crate::authorize;
use crate::edge::Edge;
use crate::listen::Side;
use crate::open_push;
use crate::reply::{self, Refused, Reply};
use crate::routes::Arrival;

/// The text format that every version of Prometheus reads.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a scrape.
pub(crate) async fn scrape(edge: Arc<Edge>, side: Side, method: Method, arrival: Arrival) -> Reply {
    if method != Method::GET && method != Method::HEAD {
        return reply::reply(&Refused::Method { allow: "GET, HEAD" });
    }
    let client = edge.proxies.client(arrival.peer, &arrival.headers);
    if let Err(refused) = admit(&edge, side, arrival, client).await {
        debug!(peer = %client, ?refused, "scrape refused");
        return reply::reply(&refused);
    }
    // Beside the workers: older kernels have every descriptor of the process named to count them.
    let edge_of_page = Arc::clone(&edge);
    let page = edge.node.tasks().run_blocking(move || page(&edge_of_page)).await;
    let Some(page) = page else { return reply::reply(&Refused::Failed) };
    let mut reply = Response::new(Bytes::from(page));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// A listener for backends is for their monitoring too. Where strangers come as well, it takes who
/// may administer.
async fn admit(
    edge: &Edge,
    side: Side,
    arrival: Arrival,
    client: SocketAddr,
) -> Result<(), Refused> {
    match (side, edge.open_push) {
        (Side::Private, None) => Ok(()),
        (Side::Private, Some(scope)) => {
            open_push::check(scope, &arrival.headers).map_err(|why| Refused::OpenAdmin { why })
        }
        _ => authorize::admin(edge, arrival, client).await.map(drop),
    }
}

/// All metrics of a server.
pub(crate) fn page(edge: &Edge) -> String {
    let (node, counters) = (edge.node.counters(), &edge.counters);
    let counts = edge.node.counts();
    let mut page = Page(String::with_capacity(16 * 1024));

    page.gauge("wserver_build_info", "The version that runs; always 1.");
    page.sample("wserver_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let draining = u8::from(edge.stop.is_cancelled());
    page.one_gauge("wserver_draining", "Whether the server is shutting down.", draining);

    let open = edge.node.connections_open();
    page.one_gauge("wserver_connections", "Open WebSocket connections, registered or not.", open);
    let max = edge.limits.connections_max;
    page.one_gauge("wserver_connections_max", "The setting connections_max, as it holds.", max);
    let opened = node.connections_opened_total.value();
    page.one_counter(
        "wserver_connections_opened_total",
        "WebSocket connections that were opened.",
        opened,
    );
    page.counter(
        "wserver_connections_closed_total",
        "WebSocket connections that ended, by reason and by the close code that the server chose.",
    );
    for reason in CloseReason::ALL {
        let code = match reason {
            CloseReason::Shutdown | CloseReason::CutOff => Some(edge.goodbye_code),
            _ => reply::close_code(reason).map(|(code, _)| code),
        };
        let code = code.map(|code| code.to_string()).unwrap_or_default();
        let count = node.connections_closed_total(reason).value();
        let labels = [("reason", reason.as_str()), ("code", code.as_str())];
        page.sample("wserver_connections_closed_total", &labels, count);
    }
    page.labelled(
        "wserver_http_connections_refused_total",
        "Connections that came when their listener, or their address, had its most.",
        "reason",
        counters.http_connections_refused_total.values(),
    );
    page.one_counter(
        "wserver_http_connections_evicted_total",
        "Connections that waited for a request and were ended for a new one.",
        counters.http_connections_evicted_total.value(),
    );
    page.one_counter(
        "wserver_tls_handshakes_failed_total",
        "Connections that ended before they were secure.",
        counters.tls_handshakes_failed_total.value(),
    );
    page.labelled(
        "wserver_handshakes_refused_total",
        "WebSocket handshakes that were not accepted.",
        "reason",
        counters.handshakes_refused_total.values(),
    );
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
    page.one_counter(
        "wserver_registrations_malformed_total",
        "Messages of clients that were no register message.",
        counters.registrations_malformed_total.value(),
    );
    page.labelled(
        "wserver_registrations_refused_total",
        "Registrations that were not bound.",
        "reason",
        counters.registrations_refused_total.values(),
    );
    page.labelled(
        "wserver_authentications_total",
        "Tokens that were checked, by what came of it.",
        "result",
        counters.authentications(),
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
        edge.idempotency.replayed_total.value(),
    );
    page.one_counter(
        "wserver_idempotency_evicted_total",
        "Answers under an Idempotency-Key that were forgotten before their ten minutes.",
        edge.idempotency.evicted_total.value(),
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
    let held = edge.inbound_bytes.load(Ordering::Relaxed);
    page.one_gauge(
        "wserver_inbound_bytes",
        "Bytes of messages of clients that are half read.",
        held,
    );
    let queued = edge.node.outboxes_bytes();
    page.one_gauge("wserver_queued_bytes", "Bytes that wait in queues of connections.", queued);
    let max = edge.limits.outboxes_bytes_max;
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
    let (entries, bytes) = edge.node.journal_size();
    page.one_gauge("wserver_journal_entries", "Entries of the journal.", entries);
    page.one_gauge("wserver_journal_bytes", "Bytes of the journal's entries.", bytes);
    if let Some(cluster) = &edge.cluster {
        cluster::write(&mut page, cluster);
    }
    process::write(&mut page);
    page.0
}

/// The text, family by family.
struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    fn one_gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    fn one_counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.counter(name, help);
        self.sample(name, &[], value);
    }

    fn labelled<'a>(
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

    /// Labels are words of ours, without anything that would have to be escaped.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
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
