//! The guard of a push endpoint without a key: only programs on this machine may use it.
//!
//! Any web page can make a browser post to a loopback port (the content type is not checked, and
//! names can be rebound to 127.0.0.1), and so can a proxy on the same host. Both leave marks.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HOST, HeaderName, ORIGIN, VIA};

use tracing::warn;

use crate::origin::is_same_origin;

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a proxy adds on the way. Names, not texts, which would be parsed for each push.
static FORWARDING: [HeaderName; 6] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];

/// How far a push endpoint without a key is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenPushScope {
    /// To programs on this machine.
    Loopback,
    /// To whoever reaches it, web pages of other sites excepted: `allow_open_push` is set.
    Anyone,
}

/// Refuses a push that came from another site's page, through a proxy, or under a foreign name, and
/// says why.
pub(crate) fn check(scope: OpenPushScope, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut is_local = false;
    // In one pass, since each look-up would hash a name, and this is asked of every push. Of a
    // header that comes twice every line must be in order.
    for (name, value) in headers {
        let text = || value.to_str().unwrap_or_default();
        if name == SEC_FETCH_SITE {
            if !["same-origin", "none"].contains(&text()) {
                return Err("Sec-Fetch-Site says that a page of another site sent it");
            }
        } else if name == ORIGIN {
            if !is_same_origin(text(), headers) {
                return Err("its Origin is not this server");
            }
        } else if scope == OpenPushScope::Loopback {
            if FORWARDING.contains(name) {
                return Err("it came through a proxy");
            }
            if name == HOST {
                if !is_loopback_host(text()) {
                    return Err("its Host is not a loopback address");
                }
                is_local = true;
            }
        }
    }
    if is_local || scope == OpenPushScope::Anyone {
        Ok(())
    } else {
        Err("it has no Host, which must be a loopback address")
    }
}

/// Notices that pages from elsewhere reach a server whose pushes are open to whoever reaches it.
#[derive(Debug, Default)]
pub(crate) struct PublicPage {
    is_told: AtomicBool,
}

impl PublicPage {
    /// Looks at the head of a WebSocket that was accepted; the log is told once.
    pub(crate) fn look(&self, headers: &HeaderMap) {
        if self.is_told.load(Ordering::Relaxed) {
            return;
        }
        let Some(origin) = headers.get(ORIGIN).and_then(|it| it.to_str().ok()) else { return };
        if is_public(origin) && !self.is_told.swap(true, Ordering::Relaxed) {
            warn!(
                origin = %origin.escape_debug().take(64).collect::<String>(),
                "a page from elsewhere has opened a WebSocket, so strangers reach this port, and whoever \
                 reaches it may push to everyone: set push_key_file, or take allow_open_push away"
            );
        }
    }
}

/// Whether a page of this origin comes from another machine.
fn is_public(origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !is_loopback_host(host))
}

/// Whether `host` is a loopback address or `localhost`, perhaps with a port, and nothing more.
fn is_loopback_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // The last colon of an address in brackets is no port's.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return false;
    }
    // The commonest is not read as an address for each push.
    if name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn pages_of_this_machine_are_not_public() {
        for (origin, expected) in [
            ("https://app.example.com", true),
            ("http://192.0.2.1:3000", true),
            ("http://localhost.evil.example", true),
            ("http://localhost:3000", false),
            ("http://127.0.0.1:22345", false),
            ("http://[::1]:8", false),
            ("null", false),
            ("file://", false),
            ("", false),
        ] {
            assert_eq!(is_public(origin), expected, "{origin}");
        }
    }

    #[test]
    fn a_loopback_host_is_one_and_nothing_more() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "[::1].evil.example",
            "[::1].evil.example:80",
            "[::1]evil",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "localhost:80@evil.example",
            "localhost:80:80",
            "localhost:",
            "localhost:x",
            "localhost:+80",
            "localhost:65536",
            "localhost@evil.example",
            "localhost.evil.example",
            "localhost/",
            "user@localhost",
            "127.0.0.1.evil.example",
            "[::ffff:192.0.2.1]",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn what_passes_and_what_does_not() {
        for (pairs, on_loopback, to_anyone) in [
            (&[("host", "127.0.0.1:12345")][..], true, true),
            (&[("host", "127.9.9.9")], true, true),
            (&[("host", "localhost:12345")], true, true),
            (&[("host", "[::1]:12345")], true, true),
            (&[("host", "localhost.evil.example")], false, true),
            (&[("host", "push.example.com")], false, true),
            (&[], false, true),
            (
                &[
                    ("host", "localhost:1"),
                    ("origin", "http://localhost:1"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
                true,
            ),
            (&[("host", "localhost:1"), ("origin", "http://localhost:2")], false, false),
            (&[("host", "localhost:1"), ("origin", "null")], false, false),
            (&[("host", "localhost:1"), ("sec-fetch-site", "cross-site")], false, false),
            (&[("host", "localhost:1"), ("sec-fetch-site", "same-site")], false, false),
            (&[("host", "localhost:1"), ("sec-fetch-site", "none")], true, true),
            (&[("host", "rebound.example:1"), ("origin", "http://rebound.example:1")], false, true),
            (&[("host", "localhost:1"), ("x-forwarded-for", "192.0.2.1")], false, true),
            (&[("host", "localhost:1"), ("forwarded", "for=192.0.2.1")], false, true),
        ] {
            let headers = headers(pairs);
            assert_eq!(check(OpenPushScope::Loopback, &headers).is_ok(), on_loopback, "{pairs:?}");
            assert_eq!(check(OpenPushScope::Anyone, &headers).is_ok(), to_anyone, "{pairs:?}");
        }
    }
}
