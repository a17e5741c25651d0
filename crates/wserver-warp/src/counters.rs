//! What the carrier counts beside its node: by labels from closed lists, the names of problems.

use std::sync::atomic::AtomicUsize;

use wserver_api::{Labelled, ProblemKind, RegistrationRefusal};
use wserver_auth::{Identity, Refusal};
use wserver_core::words;
use wserver_node::Counter;

/// Everything that the carrier of one server has counted since it started.
#[derive(Debug)]
pub(crate) struct CarrierCounters {
    /// Bytes of clients' messages that are half read. Written by connections when they have read;
    /// bounded by `inbound_bytes_max`, and what each connection may have beyond it.
    pub(crate) inbound_bytes: AtomicUsize,
    /// Connections that came when their listener, or their address, had its most.
    pub(crate) http_connections_refused_total: Labelled<HttpBound>,
    /// Connections that waited for a request and went for a new one.
    pub(crate) http_connections_evicted_total: Counter,
    /// Connections that ended before they were secure.
    pub(crate) tls_handshakes_failed_total: Counter,
    /// Addresses whose rate of handshakes was forgotten early because there were too many of them.
    pub(crate) handshake_addresses_evicted_total: Counter,
    /// WebSocket handshakes that were not accepted.
    pub(crate) handshakes_refused_total: Labelled<ProblemKind>,
    /// Tokens that were checked.
    pub(crate) authentications_total: Labelled<Authentication>,
    /// Messages that were no register message.
    pub(crate) registrations_malformed_total: Counter,
    /// Registrations that were not bound, for whatever reason.
    pub(crate) registrations_refused_total: Labelled<RegistrationRefusal>,
}

words! {
    /// What a listener, or an address at it, has its most of: the setting that says how many.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum HttpBound {
        Listener = "http_connections_max",
        Address = "http_connections_per_address_max",
    }
}

words! {
    /// What an authenticator answered.
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
