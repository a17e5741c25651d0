//! The `Host` of a request (RFC 9112, section 3.2): exactly one valid host, for which that of the
//! target takes precedence.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Uri, Version};

/// Refuses a request whose `Host` is missing, repeated or invalid, and says why. A host in the
/// target replaces it.
pub(crate) fn settle(
    version: Version,
    uri: &Uri,
    headers: &mut HeaderMap,
) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => {}
        (None, _) if version < Version::HTTP_11 => {}
        (None, _) => return Err("an HTTP/1.1 request needs a Host header"),
        (Some(_), None) => return Err("Host must be a host, or a host and a port"),
        (Some(_), Some(_)) => return Err("a request can have only one Host header"),
    }
    if let Some(authority) = uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host)
            .map_err(|_error| "the host in the request's target cannot be read")?;
        headers.insert(HOST, host);
    }
    Ok(())
}

/// `uri-host [ ":" port ]`, which may be empty.
pub(crate) fn is_host(host: &[u8]) -> bool {
    if host.is_empty() {
        return true;
    }
    let Ok(authority) = Authority::try_from(host) else { return false };
    let Some(port) = authority.as_str().strip_prefix(authority.host()) else { return false };
    let is_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty()
                || digits.bytes().all(|it| it.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        None => port.is_empty(),
    };
    let address = authority.host().strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    is_port && address.is_none_or(|it| it.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in [
            "localhost",
            "localhost:12345",
            "push.example.com",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "push_server:1",
            "a:",
            "",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b",
            "a, b",
            "user@a",
            "a:b",
            "a:1:2",
            "a:99999",
            "a/b",
            "http://a",
            "[::1",
            "::1",
            "[a]",
            "a?b",
            "b\u{fc}cher",
            "[::1]x",
            "a\\b",
            ":80:",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn the_target_goes_before_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let uri = Uri::from_static("http://evil.example:81/push");
        settle(Version::HTTP_11, &uri, &mut headers).unwrap();
        assert_eq!(headers[HOST], "evil.example:81");
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert!(settle(Version::HTTP_10, &uri, &mut headers).is_err());
        headers.clear();
        assert!(settle(Version::HTTP_11, &uri, &mut headers).is_err());
        settle(Version::HTTP_10, &Uri::from_static("/"), &mut headers).unwrap();
        assert!(headers.is_empty());
    }
}
