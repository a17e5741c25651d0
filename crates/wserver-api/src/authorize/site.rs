//! Which site a request comes from, and whether a host is this machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::HOST;

/// Whether `origin` is the host and port that the request was sent to.
#[must_use]
pub fn is_same_origin(origin: &str, headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    authority.eq_ignore_ascii_case(host)
}

/// Whether `host` is a loopback address or `localhost`, perhaps with a port, and nothing more.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // The last colon of an address in brackets does not begin a port.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return false;
    }
    // The most common hosts are recognised without parsing an address for each push.
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

    #[test]
    fn the_port_of_a_scheme_need_not_be_written() {
        for (origin, host, is_same) in [
            ("https://a.example", "a.example:443", true),
            ("HTTPS://A.example", "a.example:443", true),
            ("http://a.example", "a.example:80", true),
            ("http://a.example:8080", "a.example:8080", true),
            ("https://a.example", "a.example:80", false),
            ("http://a.example", "a.example:443", false),
            ("http://a.example:8080", "a.example", false),
            ("a.example", "a.example", false),
        ] {
            let headers = [(HOST, host.parse().unwrap())].into_iter().collect();
            assert_eq!(is_same_origin(origin, &headers), is_same, "{origin} {host}");
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
}
