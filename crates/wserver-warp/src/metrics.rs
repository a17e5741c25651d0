//! The carrier's counters on the page of metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wserver_api::{Carrier, Page};
use wserver_core::CloseReason;
use wserver_node::Node;
use wserver_protocol::CloseCode;

use crate::connection::close;
use crate::connection::wire::Socket;
use crate::counters::CarrierCounters;

/// The counters to write.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) node: Node<Socket>,
    pub(crate) counters: Arc<CarrierCounters>,
    pub(crate) goodbye_code: CloseCode,
}

impl Carrier for Metrics {
    fn write_metrics(&self, page: &mut Page) {
        let counters = &self.counters;
        page.counter(
            "wserver_connections_closed_total",
            "WebSocket connections ended, by reason and by the close code that the server chose.",
        );
        for reason in CloseReason::ALL {
            let code = match reason {
                CloseReason::Shutdown | CloseReason::CutOff => Some(self.goodbye_code),
                _ => close::close_code(reason).map(|(code, _)| code),
            };
            let code = code.map(|code| code.to_string()).unwrap_or_default();
            let count = self.node.counters().connections_closed_total(reason).value();
            let labels = [("reason", reason.as_str()), ("code", code.as_str())];
            page.sample("wserver_connections_closed_total", &labels, count);
        }
        page.labelled(
            "wserver_http_connections_refused_total",
            "HTTP connections refused because their listener or their address had reached its limit.",
            "reason",
            counters.http_connections_refused_total.values(),
        );
        page.one_counter(
            "wserver_http_connections_evicted_total",
            "Idle HTTP connections closed to make room for new ones.",
            counters.http_connections_evicted_total.value(),
        );
        page.one_counter(
            "wserver_tls_handshakes_failed_total",
            "Connections that ended before their TLS handshake was complete.",
            counters.tls_handshakes_failed_total.value(),
        );
        page.one_counter(
            "wserver_handshake_addresses_evicted_total",
            "Addresses whose handshake rate was forgotten early because too many addresses made handshakes.",
            counters.handshake_addresses_evicted_total.value(),
        );
        page.labelled(
            "wserver_handshakes_refused_total",
            "WebSocket handshakes refused.",
            "reason",
            counters.handshakes_refused_total.values(),
        );
        page.one_counter(
            "wserver_registrations_malformed_total",
            "Messages from clients that were not register messages.",
            counters.registrations_malformed_total.value(),
        );
        page.labelled(
            "wserver_registrations_refused_total",
            "Registrations refused.",
            "reason",
            counters.registrations_refused_total.values(),
        );
        page.labelled(
            "wserver_authentications_total",
            "Tokens checked, by result.",
            "result",
            counters.authentications_total.values(),
        );

        let held = counters.inbound_bytes.load(Ordering::Relaxed);
        page.one_gauge(
            "wserver_inbound_bytes",
            "Bytes of clients' messages that are incomplete or wait behind a token check.",
            held,
        );
    }
}
