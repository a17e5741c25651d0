//! Why a connection ends: one closed list, in the domain's words.
//!
//! Which close code each reason becomes on the wire is the edge's business.

use crate::words;

words! {
    /// Why a connection ended, or is about to.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum CloseReason {
        /// The peer asked for it with a Close of its own.
        PeerClosed = "peer_closed",
        /// The peer's socket ended or failed without a Close.
        PeerGone = "peer_gone",
        /// No pong came back in time.
        Silent = "silent",
        /// Nothing was registered before the register deadline.
        NotRegistered = "not_registered",
        /// The peer sent more messages than its allowance.
        Flood = "flood",
        /// The peer broke the WebSocket protocol.
        ProtocolError = "protocol_error",
        /// The peer sent text that is not UTF-8.
        InvalidPayload = "invalid_payload",
        /// The peer sent a message that is none of the protocol it speaks.
        Malformed = "malformed",
        /// The peer sent a message beyond the inbound limit.
        TooBig = "too_big",
        /// The peer sent the beginning of a message when there was no room left for any.
        InboundFull = "inbound_full",
        /// The peer read more slowly than it was sent to, beyond its bound.
        Slow = "slow",
        /// The operator or the embedding program disconnected it.
        Disconnected = "disconnected",
        /// The identity it registered with has expired.
        Expired = "expired",
        /// Its user has the most connections already.
        UserFull = "user_full",
        /// A newer connection of its user, who had the most already, took its place.
        Replaced = "replaced",
        /// The server is shutting down.
        Shutdown = "shutdown",
        /// The server is cut off from the rest of its cluster.
        CutOff = "cut_off",
        /// The server failed in handling this connection.
        Internal = "internal",
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
                "malformed",
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
