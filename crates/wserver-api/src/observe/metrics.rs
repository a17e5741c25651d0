//! `GET /metrics`: gauges and counters in Prometheus' text format.
//!
//! The code that counts holds the numbers; this file names them. No client chooses a label.
//! docs/operations.md explains each metric.

#[cfg(feature = "cluster")]
mod cluster;
mod process;
mod replay;
pub(crate) mod page;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use wserver_node::Wire;

use self::page::Page;
use crate::api::Api;
use crate::reply::Reply;
use crate::reply::refused::Refused;

/// The text format that every version of Prometheus reads.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a scrape.
pub(crate) async fn scrape<W: Wire>(api: &Arc<Api<W>>) -> Result<Reply, Refused> {
    // Not on a worker: older kernels list every descriptor of the process to count them.
    let api_of_page = Arc::clone(api);
    let page = api.node.tasks().run_blocking(move || page(&api_of_page)).await;
    let mut reply = Response::new(Bytes::from(page.ok_or(Refused::Failed)?));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

impl<W: Wire> Api<W> {
    /// All metrics of the server, in Prometheus' text format. It reads a few files of `/proc`, so
    /// it blocks for a moment.
    #[must_use]
    pub fn metrics(&self) -> String {
        page(self)
    }
}

fn page<W: Wire>(api: &Api<W>) -> String {
    let node = api.node.counters();
    let counts = api.node.counts();
    let mut page = Page::default();

    page.gauge("wserver_build_info", "The running version; always 1.");
    page.sample("wserver_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let draining = u8::from(api.stop.is_cancelled());
    page.one_gauge("wserver_draining", "Whether the server is shutting down.", draining);

    let open = api.node.connections_open();
    page.one_gauge(
        "wserver_connections",
        "Open WebSocket connections, including handshakes under way.",
        open,
    );
    let max = api.limits.connections_max;
    page.one_gauge(
        "wserver_connections_max",
        "The setting connections_max, lowered if the limit of open files requires it.",
        max,
    );
    let opened = node.connections_opened_total.value();
    page.one_counter("wserver_connections_opened_total", "WebSocket connections opened.", opened);
    api.carrier.write_metrics(&mut page);
    page.one_counter(
        "wserver_panics_total",
        "Panics inside the server; each closes its connection, or all connections of one user.",
        node.panics_total.value(),
    );

    page.one_gauge("wserver_users", "Users with at least one registration.", counts.users);
    page.one_gauge(
        "wserver_registered_connections",
        "WebSocket connections with at least one registration.",
        counts.connections,
    );
    page.one_gauge("wserver_registrations", "Current registrations.", counts.registrations);
    page.one_counter(
        "wserver_registrations_bound_total",
        "Registrations accepted, including renewals.",
        node.registrations_bound_total.value(),
    );

    page.one_counter("wserver_pushes_total", "Pushes accepted.", node.pushes_total.value());
    page.labelled(
        "wserver_pushes_refused_total",
        "Pushes refused; each item of a batch counts as one.",
        "reason",
        api.pushes.refused_total.values(),
    );
    page.one_counter(
        "wserver_pushes_waited_total",
        "Pushes that waited because walk_bytes_max of messages were already on their way to the same user.",
        node.pushes_waited_total.value(),
    );
    page.one_counter(
        "wserver_idempotency_replayed_total",
        "Requests with an Idempotency-Key that got the earlier answer and were not carried out again.",
        api.pushes.idempotency.replayed_total.value(),
    );
    page.one_counter(
        "wserver_idempotency_evicted_total",
        "Answers to requests with an Idempotency-Key that were forgotten before ten minutes had passed.",
        api.pushes.idempotency.evicted_total.value(),
    );
    page.one_gauge(
        "wserver_waits",
        "Push requests that wait for acknowledgements.",
        api.node.waits(),
    );
    page.one_counter(
        "wserver_waits_refused_total",
        "Push requests that could not wait for acknowledgements, because waits_max others did.",
        node.waits_refused_total.value(),
    );
    page.one_counter(
        "wserver_acks_total",
        "Acknowledgements that a push waited for; others are not counted.",
        node.acks_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_total",
        "Messages that a connection's socket or queue took: the sum of all N.",
        node.deliveries_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_dropped_total",
        "Messages that N does not include, because their connection was closed as too slow or was ending.",
        node.deliveries_dropped_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_expired_total",
        "Messages that N includes but that were not sent within their ttl_seconds.",
        node.deliveries_expired_total.value(),
    );
    page.one_counter(
        "wserver_deliveries_lost_total",
        "Messages that N includes but that were not delivered, because their connection was ending.",
        node.deliveries_lost_total.value(),
    );
    page.counter(
        "wserver_slow_evictions_total",
        "Connections closed because they read too slowly, by the limit that they reached.",
    );
    for (bound, counter) in [
        ("outbox_bytes_max", &node.slow_evictions_total),
        ("outboxes_bytes_max", &node.outboxes_full_evictions_total),
        ("stall_timeout", &node.stalled_evictions_total),
    ] {
        page.sample("wserver_slow_evictions_total", &[("bound", bound)], counter.value());
    }
    let queued = api.node.outboxes_bytes();
    page.one_gauge("wserver_queued_bytes", "Bytes that wait in the queues of connections.", queued);
    let max = api.limits.outboxes_bytes_max;
    page.one_gauge("wserver_queued_bytes_max", "The setting outboxes_bytes_max.", max);
    replay::write(&mut page, &api.node, &api.limits);
    page.one_counter(
        "wserver_pongs_skipped_total",
        "Pongs not sent because another was already waiting.",
        node.pongs_skipped_total.value(),
    );
    page.histogram(
        "wserver_push_delivery_seconds",
        "Time from the acceptance of a push until the socket or queue of its last connection took it.",
        &node.push_delivery,
    );
    let (entries, bytes) = api.node.journal_size();
    page.one_gauge("wserver_journal_entries", "Entries of the journal.", entries);
    page.one_gauge("wserver_journal_bytes", "Bytes of the journal's entries.", bytes);
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &api.cluster {
        cluster::write(&mut page, cluster);
    }
    process::write(&mut page);
    page.into_text()
}
