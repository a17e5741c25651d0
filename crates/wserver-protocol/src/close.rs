//! Close codes: the numbers with which a connection ends (RFC 6455, section 7.4).
//!
//! The reasons for which a connection ends belong to the domain; this file knows only what the wire
//! can say about them.

use std::fmt;
use std::time::Duration;

/// The text between a server's reason for closing and the delay after which to reconnect.
const RECONNECT_IN: &str = "; reconnect in ";

/// The close reason that asks the peer to reconnect after `seconds`; [`reconnect_in`] reads it.
#[must_use]
pub fn reconnect_reason(why: &str, seconds: u32) -> String {
    format!("{why}{RECONNECT_IN}{seconds}s")
}

/// After how long a close reason asks the client to reconnect, if it does.
///
/// ```
/// use std::time::Duration;
/// use wserver_protocol::{reconnect_in, reconnect_reason};
///
/// let reason = reconnect_reason("server is shutting down", 4);
/// assert_eq!(reason, "server is shutting down; reconnect in 4s");
/// assert_eq!(reconnect_in(&reason), Some(Duration::from_secs(4)));
/// assert_eq!(reconnect_in("server is shutting down"), None);
/// ```
#[must_use]
pub fn reconnect_in(reason: &str) -> Option<Duration> {
    let (_, time) = reason.rsplit_once(RECONNECT_IN)?;
    let seconds: u32 = time.strip_suffix('s')?.parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

/// A close code that is allowed in a Close frame.
///
/// Invariant: never one that RFC 6455 reserves or keeps off the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// Normal closure. wserver sends it when the operator or the embedding program disconnects a
    /// client.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away. wserver sends it when it shuts down, or is cut off from its cluster.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// The peer sent a kind of data that the endpoint does not accept.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The peer sent text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// The peer broke a policy. wserver sends it for floods, missed deadlines, expired identities
    /// and a user with too many connections.
    pub const POLICY: Self = Self(1008);
    /// The peer sent a message that is too long, or has too many fragments.
    pub const TOO_BIG: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL: Self = Self(1011);
    /// The endpoint restarts. wserver sends it instead of 1001 if `drain_close_code` says so.
    pub const RESTART: Self = Self(1012);
    /// Try again later. wserver sends it when the peer reads too slowly, or when memory for
    /// half-read messages runs out.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Version 2: the server shuts down, or is cut off from its cluster.
    pub const LEAVING: Self = Self(4000);
    /// Version 2: the client read too slowly.
    pub const TOO_SLOW: Self = Self(4001);
    /// Version 2: no Pong came in time.
    pub const SILENT: Self = Self(4002);
    /// Version 2: a registration has expired.
    pub const EXPIRED: Self = Self(4003);
    /// Version 2: the server failed.
    pub const FAILED: Self = Self(4004);
    /// Version 2: the server has no room for half a message.
    pub const BUSY: Self = Self(4005);
    /// Version 2: a message was not a JSON object.
    pub const MALFORMED: Self = Self(4500);
    /// Version 2: nothing was registered in time.
    pub const NOT_REGISTERED: Self = Self(4501);
    /// Version 2: too many messages at once.
    pub const FLOOD: Self = Self(4502);
    /// Version 2: the operator, or the embedding program, disconnected the client.
    pub const DISCONNECTED: Self = Self(4503);
    /// Version 2: a newer connection of the user took its place.
    pub const REPLACED: Self = Self(4504);
    /// Version 2: the user has too many connections.
    pub const USER_FULL: Self = Self(4505);

    /// Whether a client of version 2 stays away after this code: from 4500 on.
    #[must_use]
    pub const fn is_final(self) -> bool {
        self.0 >= 4500
    }

    /// The code, if RFC 6455 allows sending it: 1000–1003, 1007–1014, 3000–4999.
    ///
    /// 1004 has no meaning; 1005, 1006 and 1015 must never be sent; 1016–2999 are reserved for
    /// later versions of the protocol; and all other numbers are not codes.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number as it is sent on the wire.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}
