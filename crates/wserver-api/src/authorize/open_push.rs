//! The guard of a push endpoint without a key: only programs on this machine may use it.
//!
//! Any web page can make a browser post to a loopback port (the content type is not checked, and
//! names can be rebound to 127.0.0.1), and so can a proxy on the same host. Both leave marks.

use http::HeaderMap;
use http::header::{FORWARDED, HOST, HeaderName, ORIGIN, VIA};

use super::site::{is_loopback_host, is_same_origin};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers that proxies add. They are parsed names and not texts, because texts would be parsed
/// again for each push.
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
pub enum OpenPushScope {
    /// To programs on this machine.
    Loopback,
    /// To every client that reaches it, except web pages of other sites: `allow_open_push` is set.
    Anyone,
}

/// Refuses a push from another site's page, through a proxy, or under a foreign host name, and says
/// why.
pub(crate) fn check(scope: OpenPushScope, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut is_local = false;
    // One pass over the headers, because each look-up would hash a name, for every push. If a
    // header comes twice, every line must be valid.
    for (name, value) in headers {
        let text = || value.to_str().unwrap_or_default();
        if name == SEC_FETCH_SITE {
            if !["same-origin", "none"].contains(&text()) {
                return Err("Sec-Fetch-Site says that a page of another site sent the request");
            }
        } else if name == ORIGIN {
            if !is_same_origin(text(), headers) {
                return Err("the Origin is not this server");
            }
        } else if scope == OpenPushScope::Loopback {
            if FORWARDING.contains(name) {
                return Err("the request came through a proxy");
            }
            if name == HOST {
                if !is_loopback_host(text()) {
                    return Err("the Host is not a loopback address");
                }
                is_local = true;
            }
        }
    }
    if is_local || scope == OpenPushScope::Anyone {
        Ok(())
    } else {
        Err("there is no Host, which must be a loopback address")
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
