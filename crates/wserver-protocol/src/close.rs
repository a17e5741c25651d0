//! Close codes: the numbers with which a connection ends (RFC 6455, section 7.4).
//!
//! Why a connection ends is the domain's business; here is only what may be said about it on the
//! wire.

use std::fmt;
use std::time::Duration;

/// What stands between why a server goes away and when to come back.
const RECONNECT_IN: &str = "; reconnect in ";

/// The reason of a Close that asks its peer to come back so many seconds later; see [`reconnect_in`].
#[must_use]
pub fn reconnect_reason(why: &str, seconds: u32) -> String {
    format!("{why}{RECONNECT_IN}{seconds}s")
}

/// When the reason of a Close asks to come back, if it does.
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

/// A close code that may stand in a Close frame.
///
/// Invariant: never one that RFC 6455 reserves or keeps off the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose is fulfilled; ours: the operator disconnected it.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away; ours: the server is shutting down.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// The peer sent a kind of data that is not accepted.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The peer sent text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A policy was broken; ours: flood, register deadline, expiry.
    pub const POLICY: Self = Self(1008);
    /// The peer sent a message that is too big.
    pub const TOO_BIG: Self = Self(1009);
    /// The server failed.
    pub const INTERNAL: Self = Self(1011);
    /// The endpoint restarts; ours: as 1001, where `drain_close_code` says so.
    pub const RESTART: Self = Self(1012);
    /// Try again later; ours: the peer read too slowly.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code, if it may be sent: 1000–1003, 1007–1014, 3000–4999.
    ///
    /// 1004 has no meaning, 1005, 1006 and 1015 must never be sent, 1016–2999 wait for a later
    /// version of the protocol, and nothing else is a code.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number that goes on the wire.
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
