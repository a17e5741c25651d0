//! What the carrier counts beside its node: by labels from closed lists, the names of problems.

use std::sync::atomic::AtomicUsize;

use wserver_api::Labelled;
use wserver_auth::{Identity, Refusal};
use wserver_node::Counter;

/// Everything that the carrier of one server has counted since it started.
#[derive(Debug)]
pub(crate) struct CarrierCounters {
    /// Bytes of clients' messages that are half read. Written by connections when they have read;
    /// bounded by `inbound_bytes_max`, and what each connection may have beyond it.
    pub(crate) inbound_bytes: AtomicUsize,
    /// Connections that came when their listener, or their address, had its most.
    pub(crate) http_connections_refused_total: Labelled,
    /// Connections that waited for a request and went for a new one.
    pub(crate) http_connections_evicted_total: Counter,
    /// Connections that ended before they were secure.
    pub(crate) tls_handshakes_failed_total: Counter,
    /// WebSocket handshakes that were not accepted.
    pub(crate) handshakes_refused_total: Labelled,
    /// Tokens that the authenticator knew.
    authentications_accepted_total: Counter,
    /// Tokens that it refused.
    authentications_refused_total: Labelled,
    /// Messages that were no register message.
    pub(crate) registrations_malformed_total: Counter,
    /// Registrations that were not bound, for whatever reason.
    pub(crate) registrations_refused_total: Labelled,
}

/// How an authenticator refuses: `Refusal::as_str`.
const REFUSALS: [&str; 5] = ["unknown", "expired", "not_yet_valid", "forbidden", "unavailable"];

impl Default for CarrierCounters {
    fn default() -> Self {
        Self {
            inbound_bytes: AtomicUsize::new(0),
            http_connections_refused_total: Labelled::new(&[
                "http_connections_max",
                "http_connections_per_address_max",
            ]),
            http_connections_evicted_total: Counter::default(),
            tls_handshakes_failed_total: Counter::default(),
            handshakes_refused_total: Labelled::new(&[
                "method_not_allowed",
                "not_a_handshake",
                "websocket_version",
                "origin_not_allowed",
                "token_too_long",
                "connections_full",
                "address_full",
                "handshake_rate",
                "draining",
                "cut_off",
            ]),
            authentications_accepted_total: Counter::default(),
            authentications_refused_total: Labelled::new(&REFUSALS),
            registrations_malformed_total: Counter::default(),
            registrations_refused_total: Labelled::new(
                &[
                    &REFUSALS[..],
                    &["user_id", "too_many_registrations", "user_full", "connection_ending"],
                    &["names_too_long", "names_full"],
                ]
                .concat(),
            ),
        }
    }
}

impl CarrierCounters {
    /// Counts an answer of the authenticator.
    pub(crate) fn count_authentication(&self, answer: &Result<Identity, Refusal>) {
        match answer {
            Ok(_) => self.authentications_accepted_total.increment(),
            Err(refusal) => self.authentications_refused_total.increment(refusal.as_str()),
        }
    }

    /// How many answers of the authenticator there were, by what they said.
    pub(crate) fn authentications(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let accepted = self.authentications_accepted_total.value();
        [("accepted", accepted)].into_iter().chain(self.authentications_refused_total.values())
    }
}
