//! The carrier's own counters, with labels from closed lists: the names of problems.

use std::sync::atomic::AtomicUsize;

use wserver_api::{Labelled, ProblemKind, RegistrationRefusal};
use wserver_auth::{Identity, Refusal};
use wserver_core::words;
use wserver_node::Counter;

/// All counters of the carrier of one server since it started.
#[derive(Debug)]
pub(crate) struct CarrierCounters {
    /// Bytes of clients' messages that are incomplete or wait. Connections write it after a read;
    /// limited by `inbound_bytes_max`, plus what each connection may always have.
    pub(crate) inbound_bytes: AtomicUsize,
    /// HTTP connections refused because their listener or their address had reached its limit.
    pub(crate) http_connections_refused_total: Labelled<HttpBound>,
    /// Idle HTTP connections closed to make room for new ones.
    pub(crate) http_connections_evicted_total: Counter,
    /// Connections that ended before their TLS handshake was complete.
    pub(crate) tls_handshakes_failed_total: Counter,
    /// Addresses whose handshake rate was forgotten early because too many addresses made
    /// handshakes.
    pub(crate) handshake_addresses_evicted_total: Counter,
    /// WebSocket handshakes refused.
    pub(crate) handshakes_refused_total: Labelled<ProblemKind>,
    /// Tokens checked, by result.
    pub(crate) authentications_total: Labelled<Authentication>,
    /// Messages from clients that were not register messages.
    pub(crate) registrations_malformed_total: Counter,
    /// Registrations refused, for any reason.
    pub(crate) registrations_refused_total: Labelled<RegistrationRefusal>,
}

words! {
    /// The limit that a listener or an address has reached, by its setting.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum HttpBound {
        Listener = "http_connections_max",
        Address = "http_connections_per_address_max",
    }
}

words! {
    /// The answer of an authenticator.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Authentication {
        Accepted = "accepted",
        Unknown = "unknown",
        Expired = "expired",
        NotYetValid = "not_yet_valid",
        Forbidden = "forbidden",
        Unavailable = "unavailable",
    }
}

impl From<&Result<Identity, Refusal>> for Authentication {
    fn from(answer: &Result<Identity, Refusal>) -> Self {
        match answer {
            Ok(_) => Self::Accepted,
            Err(Refusal::Unknown | Refusal::Faulty { .. }) => Self::Unknown,
            Err(Refusal::Expired) => Self::Expired,
            Err(Refusal::NotYetValid) => Self::NotYetValid,
            Err(Refusal::Forbidden) => Self::Forbidden,
            Err(Refusal::Unavailable { .. }) => Self::Unavailable,
        }
    }
}

impl Default for CarrierCounters {
    fn default() -> Self {
        Self {
            inbound_bytes: AtomicUsize::new(0),
            http_connections_refused_total: Labelled::new(HttpBound::ALL),
            http_connections_evicted_total: Counter::default(),
            tls_handshakes_failed_total: Counter::default(),
            handshake_addresses_evicted_total: Counter::default(),
            handshakes_refused_total: Labelled::new(ProblemKind::of_handshakes()),
            authentications_total: Labelled::new(Authentication::ALL),
            registrations_malformed_total: Counter::default(),
            registrations_refused_total: Labelled::new(RegistrationRefusal::ALL),
        }
    }
}
