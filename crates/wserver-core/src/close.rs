//! Why a connection ends: one closed list, in the domain's words.
//!
//! Which close code each reason becomes on the wire is the edge's business.

use std::fmt;

/// Why a connection ended, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer asked for it with a Close of its own.
    PeerClosed,
    /// The peer's socket ended or failed without a Close.
    PeerGone,
    /// No pong came back in time.
    Silent,
    /// Nothing was registered before the register deadline.
    NotRegistered,
    /// The peer sent more messages than its allowance.
    Flood,
    /// The peer broke the WebSocket protocol.
    ProtocolError,
    /// The peer sent text that is not UTF-8.
    InvalidPayload,
    /// The peer sent a message beyond the inbound limit.
    TooBig,
    /// The peer sent the beginning of a message when there was no room left for any.
    InboundFull,
    /// The peer read more slowly than it was sent to, beyond its bound.
    Slow,
    /// The operator or the embedding program disconnected it.
    Disconnected,
    /// The identity it registered with has expired.
    Expired,
    /// Its user has the most connections already.
    UserFull,
    /// A newer connection of its user, who had the most already, took its place.
    Replaced,
    /// The server is shutting down.
    Shutdown,
    /// The server is cut off from the rest of its cluster.
    CutOff,
    /// The server failed in handling this connection.
    Internal,
}

impl CloseReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 17] = [
        Self::PeerClosed,
        Self::PeerGone,
        Self::Silent,
        Self::NotRegistered,
        Self::Flood,
        Self::ProtocolError,
        Self::InvalidPayload,
        Self::TooBig,
        Self::InboundFull,
        Self::Slow,
        Self::Disconnected,
        Self::Expired,
        Self::UserFull,
        Self::Replaced,
        Self::Shutdown,
        Self::CutOff,
        Self::Internal,
    ];

    /// A fixed `snake_case` label for logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer_closed",
            Self::PeerGone => "peer_gone",
            Self::Silent => "silent",
            Self::NotRegistered => "not_registered",
            Self::Flood => "flood",
            Self::ProtocolError => "protocol_error",
            Self::InvalidPayload => "invalid_payload",
            Self::TooBig => "too_big",
            Self::InboundFull => "inbound_full",
            Self::Slow => "slow",
            Self::Disconnected => "disconnected",
            Self::Expired => "expired",
            Self::UserFull => "user_full",
            Self::Replaced => "replaced",
            Self::Shutdown => "shutdown",
            Self::CutOff => "cut_off",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters, logs and answers know a reason by its label, in this order.
    #[test]
    fn each_reason_has_its_label() {
        assert_eq!(
            CloseReason::ALL.map(|reason| reason.to_string()),
            [
                "peer_closed",
                "peer_gone",
                "silent",
                "not_registered",
                "flood",
                "protocol_error",
                "invalid_payload",
                "too_big",
                "inbound_full",
                "slow",
                "disconnected",
                "expired",
                "user_full",
                "replaced",
                "shutdown",
                "cut_off",
                "internal",
            ]
        );
    }
}
