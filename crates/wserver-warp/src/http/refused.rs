//! Refusals of handshakes, and of requests that are wrong before they are routed: one table of what
//! the client is told.

use hyper::HeaderMap;
use hyper::header::{HeaderValue, ORIGIN};
use wserver_api::{Format, HttpLimitSettings, ProblemDetails, ProblemKind as Kind, Reply};
use wserver_core::{LimitSettings, setting_name};

/// Why a request was not served. [`Refused::details`] is its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Method {
        allow: &'static str,
    },
    /// The end of the body is ambiguous (RFC 9112, section 6.1).
    AmbiguousLength,
    /// The host is missing or invalid.
    Host {
        why: &'static str,
    },
    Busy {
        why: &'static str,
        setting: Option<&'static str>,
    },
    /// The origin of the page is not allowed.
    Origin {
        /// The origin, escaped and cut.
        origin: String,
    },
    Upgrade {
        why: &'static str,
    },
    UpgradeVersion,
    /// The token of the handshake is too long.
    TokenTooLong {
        bytes: usize,
        bytes_max: usize,
    },
    Full {
        max: usize,
    },
    AddressFull {
        max: usize,
    },
    /// The address makes too many handshakes.
    HandshakeRate {
        per_second: u32,
        /// The number of seconds until the next is allowed, at least 1.
        seconds: u64,
    },
    Draining,
    /// The other nodes rely on this node having no connections.
    CutOff,
}

/// How much of an `Origin` the refusal and the log repeat.
const ORIGIN_SHOWN_BYTES_MAX: usize = 64;

impl Refused {
    /// The page of this request may not connect. Its origin is shown as printable ASCII of limited
    /// length.
    pub(crate) fn of_origin(headers: &HeaderMap) -> Self {
        let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes).unwrap_or_default();
        let origin = match origin.get(..ORIGIN_SHOWN_BYTES_MAX) {
            Some(start) => format!("{}...", start.escape_ascii()),
            None => origin.escape_ascii().to_string(),
        };
        Self::Origin { origin }
    }

    /// The answer in the format of version 1.
    pub(crate) fn reply(&self) -> Reply {
        self.details().reply(Format::Text)
    }

    /// What the client is told.
    pub(crate) fn details(&self) -> ProblemDetails {
        match self {
            Self::Method { allow } => ProblemDetails::new(
                Kind::MethodNotAllowed,
                "method not allowed",
                "this path does not accept the method; the Allow header lists those it accepts",
            )
            .allow(allow),
            Self::AmbiguousLength => ProblemDetails::new(
                Kind::LengthAmbiguous,
                "bad request",
                "a request can have one content-length or one transfer-encoding: chunked, but not both",
            )
            .closing(),
            Self::Host { why } => {
                ProblemDetails::new(Kind::HostInvalid, "bad request", *why).closing()
            }
            Self::Busy { why, setting } => {
                let details = ProblemDetails::new(Kind::Busy, "busy", *why);
                match setting {
                    Some(setting) => details.setting(setting),
                    None => details,
                }
                .retry(1)
                .closing()
            }
            Self::Origin { origin } => ProblemDetails::new(
                Kind::OriginNotAllowed,
                "origin not allowed",
                format!(
                    "the Origin \"{origin}\" is not one that the setting origin allows"
                ),
            )
            .setting("origin")
            .closing(),
            Self::Upgrade { why } => {
                ProblemDetails::new(Kind::NotAHandshake, "not a WebSocket handshake", *why)
                    .closing()
            }
            Self::UpgradeVersion => ProblemDetails::new(
                Kind::WebsocketVersion,
                "WebSocket version not supported",
                "Sec-WebSocket-Version must be 13",
            ),
            Self::TokenTooLong { bytes, bytes_max } => ProblemDetails::new(
                Kind::TokenTooLong,
                "token too long",
                format!("the token is {bytes} bytes long, the limit name_bytes_max is {bytes_max}"),
            )
            .limit(setting_name!(LimitSettings, name_bytes_max), *bytes_max)
            .closing(),
            Self::Full { max } => ProblemDetails::new(
                Kind::ConnectionsFull,
                "too many connections",
                format!("the server has reached connections_max, which is {max}"),
            )
            .limit(setting_name!(LimitSettings, connections_max), *max)
            .retry(5)
            .closing(),
            Self::AddressFull { max } => ProblemDetails::new(
                Kind::AddressFull,
                "too many connections from this address",
                format!("this address has reached connections_per_address_max, which is {max}"),
            )
            .limit(setting_name!(HttpLimitSettings, connections_per_address_max), *max)
            .retry(5)
            .closing(),
            Self::HandshakeRate { per_second, seconds } => ProblemDetails::new(
                Kind::HandshakeRate,
                "too many handshakes from this address",
                format!("this address has reached handshakes_per_address_per_second, which is {per_second}"),
            )
            .limit(
                setting_name!(HttpLimitSettings, handshakes_per_address_per_second),
                *per_second as usize,
            )
            .retry(*seconds)
            .closing(),
            Self::Draining => {
                ProblemDetails::new(Kind::Draining, "shutting down", "the server is shutting down")
                    .retry(1)
                    .closing()
            }
            Self::CutOff => ProblemDetails::new(
                Kind::CutOff,
                "cut off from the cluster",
                "the server has been cut off from its cluster for longer than cluster_cut_off_max, and accepts no connections until it is back",
            )
            .retry(5)
            .closing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The guide describes each problem of a handshake or a push by its name and status.
    #[test]
    fn problems_are_described() {
        let guide = include_str!("../../../../docs/http-api.md");
        for refused in [
            Refused::Method { allow: "GET" },
            Refused::Busy { why: "", setting: None },
            Refused::Draining,
            Refused::CutOff,
        ] {
            let problem = refused.details().problem();
            let line = guide.lines().find(|line| {
                line.starts_with(&format!("| {} |", problem.status))
                    && line.contains(&format!("`{}`", problem.name()))
            });
            assert!(line.is_some(), "{} {} is not in the guide", problem.status, problem.name());
        }
    }
}
