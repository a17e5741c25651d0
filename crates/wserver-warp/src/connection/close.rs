//! What a client of a WebSocket is told when its connection ends: close codes and their words.

use bytes::Bytes;
use wserver_core::CloseReason;
use wserver_protocol::{CloseCode, frame, reconnect_reason};

/// The longest time after which a client is asked to come back when the server shuts down, in
/// seconds; the shortest is 1. Together with the time over which clients are told it is what keeps
/// them from coming back at once.
const RECONNECT_SECONDS_MAX: u32 = 5;

/// The Close frames of a shutdown, of which each client gets one.
pub(crate) fn goodbyes(code: CloseCode) -> Vec<Bytes> {
    reconnecting(code, GOODBYE)
}

/// The same of a server that its cluster does not reach.
pub(crate) fn goodbyes_of_cut_off(code: CloseCode) -> Vec<Bytes> {
    reconnecting(code, CUT_OFF)
}

fn reconnecting(code: CloseCode, why: &str) -> Vec<Bytes> {
    (1..=RECONNECT_SECONDS_MAX)
        .map(|seconds| frame::close(code, &reconnect_reason(why, seconds)))
        .collect()
}

const GOODBYE: &str = "server is shutting down";
const CUT_OFF: &str = "server is cut off from its cluster";

/// The Close frame that tells a peer `reason`, if there is anything to tell.
pub(crate) fn close_frame(reason: CloseReason) -> Option<Bytes> {
    close_code(reason).map(|(code, text)| frame::close(code, text))
}

/// The code and the words that the server chooses for `reason`, if it is the one who chooses.
pub(crate) fn close_code(reason: CloseReason) -> Option<(CloseCode, &'static str)> {
    Some(match reason {
        // The answer to a Close carries its own code; who is gone gets none.
        CloseReason::PeerClosed | CloseReason::PeerGone => return None,
        CloseReason::Silent => (CloseCode::POLICY, "no pong in time"),
        CloseReason::NotRegistered => (CloseCode::POLICY, "nothing registered in time"),
        CloseReason::Flood => (CloseCode::POLICY, "too many messages"),
        CloseReason::ProtocolError => (CloseCode::PROTOCOL, "protocol error"),
        CloseReason::InvalidPayload => (CloseCode::INVALID_PAYLOAD, "text is not UTF-8"),
        CloseReason::TooBig => (CloseCode::TOO_BIG, "message too big"),
        CloseReason::InboundFull => (CloseCode::TRY_AGAIN_LATER, "too many messages are half read"),
        CloseReason::Slow => (CloseCode::TRY_AGAIN_LATER, "reading too slowly"),
        CloseReason::Disconnected => (CloseCode::NORMAL, "disconnected by the server"),
        CloseReason::Expired => (CloseCode::POLICY, "token expired"),
        CloseReason::UserFull => (CloseCode::POLICY, "too many connections of this user"),
        CloseReason::Replaced => (CloseCode::POLICY, "replaced by a newer connection of this user"),
        CloseReason::Shutdown => (CloseCode::GOING_AWAY, GOODBYE),
        CloseReason::CutOff => (CloseCode::GOING_AWAY, CUT_OFF),
        CloseReason::Internal => (CloseCode::INTERNAL, "internal error"),
    })
}
