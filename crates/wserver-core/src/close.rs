//! Why a connection ends: one closed list.
//!
//! The edge chooses the close code on the wire for each reason.

use crate::words;

words! {
    /// Why a connection ended, or is about to.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum CloseReason {
        /// The peer sent a Close first.
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
        /// The peer sent a message that its protocol does not have.
        Malformed = "malformed",
        /// The peer sent a message larger than the inbound limit.
        TooBig = "too_big",
        /// The peer began a message when there was no room for it.
        InboundFull = "inbound_full",
        /// The peer read too slowly, beyond its limit.
        Slow = "slow",
        /// The operator or the embedding program disconnected it.
        Disconnected = "disconnected",
        /// The identity it registered with has expired.
        Expired = "expired",
        /// Its user had reached the limit of connections.
        UserFull = "user_full",
        /// A newer connection of its user replaced it, because the user had reached the limit.
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

    /// The labels in counters, logs and answers, in this order.
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
