//! What the edge counts beside its node: by labels from closed lists, the names of problems.

use wserver_auth::{Identity, Refusal};
use wserver_node::Counter;

/// What stands for everything that is in no list.
const OTHER: &str = "other";

/// Counters of one family, told apart by a label.
///
/// Looking the label up is for what is rare; what happens all the time has a counter of its own.
#[derive(Debug)]
pub(crate) struct Labelled(Box<[(&'static str, Counter)]>);

impl Labelled {
    /// One counter for each label, and one for all others.
    fn new(labels: &[&'static str]) -> Self {
        Self(labels.iter().chain([&OTHER]).map(|label| (*label, Counter::default())).collect())
    }

    pub(crate) fn increment(&self, label: &str) {
        let of_label = self.0.iter().find(|(it, _)| *it == label);
        debug_assert!(of_label.is_some(), "{label} is in no list");
        if let Some((_, counter)) = of_label.or_else(|| self.0.last()) {
            counter.increment();
        }
    }

    /// Each label with its count.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(label, counter)| (*label, counter.value()))
    }
}

/// Everything that the edge of one server has counted since it started.
#[derive(Debug)]
pub(crate) struct EdgeCounters {
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
    /// Pushes that were not accepted.
    pub(crate) pushes_refused_total: Labelled,
}

/// How an authenticator refuses: `Refusal::as_str`.
const REFUSALS: [&str; 5] = ["unknown", "expired", "not_yet_valid", "forbidden", "unavailable"];

impl Default for EdgeCounters {
    fn default() -> Self {
        Self {
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
            pushes_refused_total: Labelled::new(&[
                "method_not_allowed",
                "push_needs_key",
                "unauthorized",
                "content_coding",
                "authorizer_unavailable",
                "push_rate",
                "out_of_scope",
                "body_invalid",
                "body_too_large",
                "body_too_slow",
                "body_broken",
                "busy",
                "name_too_long",
                "message_too_large",
                "too_many_items",
                "parameter_invalid",
                "idempotency_key_in_use",
                "idempotency_key_reused",
                "internal",
            ]),
        }
    }
}

impl EdgeCounters {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_has_a_counter_of_its_own() {
        let counters = Labelled::new(&["a", "b"]);
        counters.increment("b");
        counters.increment("b");
        counters.increment(OTHER);
        assert_eq!(counters.values().collect::<Vec<_>>(), [("a", 0), ("b", 2), (OTHER, 1)]);
    }
}
