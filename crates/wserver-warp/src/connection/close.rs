//! The close codes and reasons that a WebSocket client gets.

use bytes::Bytes;
use wserver_core::CloseReason;
use wserver_node::Goodbyes;
use wserver_protocol::connection::Notice;
use wserver_protocol::{CloseCode, Protocol, events, frame, reconnect_reason};

/// The longest delay after which a client is asked to come back when the server shuts down, in
/// seconds; the shortest is 1. Together with the time over which connections are closed, it keeps
/// clients from coming back all at once.
const RECONNECT_SECONDS_MAX: u32 = 5;

/// The last frames for connections whose clients are to come back, each with another delay. Version
/// 1 uses `code`.
pub(crate) fn goodbyes(reason: CloseReason, code: CloseCode) -> Goodbyes {
    let why = close_code(reason).map_or("", |(_, why)| why);
    let close = |code, seconds| frame::close(code, &reconnect_reason(why, seconds));
    let leaving = |seconds: u32| {
        let in_seconds = seconds.into();
        let notice = Notice::Leaving { reason: reason.as_str().to_owned(), in_seconds };
        let notice = frame::text(&notice.encode());
        [&notice[..], &close(CloseCode::LEAVING, seconds)[..]].concat().into()
    };
    let ending = |seconds: u32| {
        let in_seconds = seconds.into();
        let notice = Notice::Leaving { reason: reason.as_str().to_owned(), in_seconds };
        let retry = events::retry(u64::from(seconds) * 1000);
        [&retry[..], &events::own(&notice.encode())[..]].concat().into()
    };
    Goodbyes {
        v1: (1..=RECONNECT_SECONDS_MAX).map(|seconds| close(code, seconds)).collect(),
        v2: (1..=RECONNECT_SECONDS_MAX).map(leaving).collect(),
        sse: (1..=RECONNECT_SECONDS_MAX).map(ending).collect(),
    }
}

/// The Close frame for `reason`, if the server sends one.
pub(crate) fn close_frame(reason: CloseReason, protocol: Protocol) -> Option<Bytes> {
    let (code, text) = close_code(reason)?;
    let code = match protocol {
        Protocol::V1 => code,
        Protocol::V2 => v2_code(reason).unwrap_or(code),
        Protocol::Sse => return Some(last_event(v2_code(reason).unwrap_or(code), text)),
    };
    Some(frame::close(code, text))
}

/// How long an `EventSource` stays away that must not come back; it knows no end.
const AWAY_MILLISECONDS: u64 = 60 * 60 * 1000;
/// How soon one comes back that may.
const BACK_MILLISECONDS: u64 = 2000;

/// The end of a stream of events, with the close code of version 2.
fn last_event(code: CloseCode, text: &str) -> Bytes {
    let is_final = code.as_u16() >= 4500;
    let retry = events::retry(if is_final { AWAY_MILLISECONDS } else { BACK_MILLISECONDS });
    let closed = format!("{{\"closed\":{{\"code\":{},\"reason\":\"{text}\"}}}}", code.as_u16());
    [&retry[..], &events::own(&closed)[..]].concat().into()
}

/// The code that tells a client of version 2 what to do, if RFC 6455 has none for it.
const fn v2_code(reason: CloseReason) -> Option<CloseCode> {
    Some(match reason {
        CloseReason::PeerClosed
        | CloseReason::PeerGone
        | CloseReason::ProtocolError
        | CloseReason::InvalidPayload
        | CloseReason::TooBig => return None,
        CloseReason::Silent => CloseCode::SILENT,
        CloseReason::NotRegistered => CloseCode::NOT_REGISTERED,
        CloseReason::Flood => CloseCode::FLOOD,
        CloseReason::Malformed => CloseCode::MALFORMED,
        CloseReason::InboundFull => CloseCode::BUSY,
        CloseReason::Slow => CloseCode::TOO_SLOW,
        CloseReason::Disconnected => CloseCode::DISCONNECTED,
        CloseReason::Expired => CloseCode::EXPIRED,
        CloseReason::UserFull => CloseCode::USER_FULL,
        CloseReason::Replaced => CloseCode::REPLACED,
        CloseReason::Shutdown | CloseReason::CutOff => CloseCode::LEAVING,
        CloseReason::Internal => CloseCode::FAILED,
    })
}

/// The code and the words that the server chooses for `reason`, if the server chooses.
pub(crate) fn close_code(reason: CloseReason) -> Option<(CloseCode, &'static str)> {
    Some(match reason {
        // The answer to a Close repeats its code; a peer that is gone gets no Close.
        CloseReason::PeerClosed | CloseReason::PeerGone => return None,
        CloseReason::Silent => (CloseCode::POLICY, "no pong in time"),
        CloseReason::NotRegistered => (CloseCode::POLICY, "nothing registered in time"),
        CloseReason::Flood => (CloseCode::POLICY, "too many messages"),
        CloseReason::ProtocolError => (CloseCode::PROTOCOL, "protocol error"),
        CloseReason::InvalidPayload => (CloseCode::INVALID_PAYLOAD, "text is not UTF-8"),
        // In version 1, no malformed message ends a connection.
        CloseReason::Malformed => (CloseCode::MALFORMED, "a message must be a JSON object"),
        CloseReason::TooBig => (CloseCode::TOO_BIG, "message too big"),
        CloseReason::InboundFull => (CloseCode::TRY_AGAIN_LATER, "too many messages are half read"),
        CloseReason::Slow => (CloseCode::TRY_AGAIN_LATER, "reading too slowly"),
        CloseReason::Disconnected => (CloseCode::NORMAL, "disconnected by the server"),
        CloseReason::Expired => (CloseCode::POLICY, "token expired"),
        CloseReason::UserFull => (CloseCode::POLICY, "too many connections of this user"),
        CloseReason::Replaced => (CloseCode::POLICY, "replaced by a newer connection of this user"),
        CloseReason::Shutdown => (CloseCode::GOING_AWAY, "server is shutting down"),
        CloseReason::CutOff => (CloseCode::GOING_AWAY, "server is cut off from its cluster"),
        CloseReason::Internal => (CloseCode::INTERNAL, "internal error"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of `docs/protocol.md` and `docs/protocol-v2.md`.
    #[test]
    fn each_reason_has_a_code_in_each_version() {
        let codes = [
            (CloseReason::Silent, 1008, 4002),
            (CloseReason::NotRegistered, 1008, 4501),
            (CloseReason::Flood, 1008, 4502),
            (CloseReason::ProtocolError, 1002, 1002),
            (CloseReason::InvalidPayload, 1007, 1007),
            (CloseReason::TooBig, 1009, 1009),
            (CloseReason::Malformed, 4500, 4500),
            (CloseReason::InboundFull, 1013, 4005),
            (CloseReason::Slow, 1013, 4001),
            (CloseReason::Disconnected, 1000, 4503),
            (CloseReason::Expired, 1008, 4003),
            (CloseReason::UserFull, 1008, 4505),
            (CloseReason::Replaced, 1008, 4504),
            (CloseReason::Shutdown, 1001, 4000),
            (CloseReason::CutOff, 1001, 4000),
            (CloseReason::Internal, 1011, 4004),
        ];
        for (reason, v1, v2) in codes {
            for (protocol, code) in [(Protocol::V1, v1), (Protocol::V2, v2)] {
                let frame = close_frame(reason, protocol).unwrap();
                assert_eq!(u16::from_be_bytes([frame[2], frame[3]]), code, "{reason} {protocol:?}");
            }
        }
        let peers = [CloseReason::PeerClosed, CloseReason::PeerGone];
        assert!(peers.iter().all(|reason| close_frame(*reason, Protocol::V2).is_none()));
        assert_eq!(codes.len() + peers.len(), CloseReason::ALL.len());
    }

    #[test]
    fn goodbyes_spread_over_one_to_five_seconds() {
        for (reason, words) in [
            (CloseReason::Shutdown, "server is shutting down"),
            (CloseReason::CutOff, "server is cut off from its cluster"),
        ] {
            let goodbyes = goodbyes(reason, CloseCode::RESTART);
            let told = |seconds| format!("{words}; reconnect in {seconds}s");
            let v1 = (1..=5).map(|seconds| frame::close(CloseCode::RESTART, &told(seconds)));
            assert!(goodbyes.v1.iter().eq(&v1.collect::<Vec<_>>()), "{:?}", goodbyes.v1);
            let v2 = (1..=5).map(|seconds| {
                let notice = format!(
                    r#"{{"leaving":{{"reason":"{}","in_seconds":{seconds}}}}}"#,
                    reason.as_str()
                );
                [&frame::text(&notice)[..], &frame::close(CloseCode::LEAVING, &told(seconds))]
                    .concat()
            });
            assert!(goodbyes.v2.iter().eq(&v2.collect::<Vec<_>>()), "{:?}", goodbyes.v2);
        }
    }
}
