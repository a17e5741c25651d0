//! The servers that a URL names.

use std::fmt;

use async_nats::ServerAddr;
use wserver_cluster::BrokerError;

/// The default port of NATS.
const PORT: u16 = 4222;

/// One server; `Display` shows host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    name: String,
    address: ServerAddr,
}

impl Server {
    pub(crate) const fn address(&self) -> &ServerAddr {
        &self.address
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Parses `nats://a:4222,b:4222`; each server may repeat the same scheme. The result has at least
/// one server.
pub(crate) fn parse(url: &str) -> Result<Vec<Server>, BrokerError> {
    if url.contains('@') {
        return Err(BrokerError::refused(
            "the NATS URL contains a user or a password: set cluster_username and \
             cluster_password_file instead",
        ));
    }
    let Some((scheme @ ("nats" | "tls"), rest)) = url.split_once("://") else {
        let message = format!("NATS URL {url:?} must begin with nats:// or tls://");
        return Err(BrokerError::refused(message));
    };
    let prefix = format!("{scheme}://");
    let servers = rest.split(',').map(|server| {
        let server = server.trim();
        let authority = server.strip_prefix(&prefix).unwrap_or(server);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        parse_server(scheme, authority)
            .map_err(|why| BrokerError::refused(format!("NATS URL {url:?}: {why}")))
    });
    servers.collect()
}

fn parse_server(scheme: &str, authority: &str) -> Result<Server, String> {
    // A colon within brackets belongs to an IPv6 address.
    let host_end = authority.find(']').unwrap_or(0);
    let (host, port) = match authority[host_end..].split_once(':') {
        Some((_, port)) => (&authority[..authority.len() - port.len() - 1], Some(port)),
        None => (authority, None),
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let port = match port {
        None => PORT,
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("{text:?} is not a port")),
        },
    };
    let name = format!("{host}:{port}");
    let parsed = format!("{scheme}://{name}").parse::<ServerAddr>().ok();
    match parsed {
        // A path, a query or an odd character would lead to another host than the one written.
        Some(address) if is_host(host) && !address.host().is_empty() => {
            Ok(Server { name, address })
        }
        _ => Err(format!("{host:?} is not a host name")),
    }
}

fn is_host(host: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '.' | '_');
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(is_plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, told) in [
            ("nats://a", "a:4222"),
            ("tls://nats-1.example:4333,10.0.0.1", "nats-1.example:4333 10.0.0.1:4222"),
            ("nats://a:1, nats://b:2/", "a:1 b:2"),
            ("nats://[::1]:7,[fe80::1]", "[::1]:7 [fe80::1]:4222"),
        ] {
            let names: Vec<String> = parse(url).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(names.join(" "), told, "{url}");
        }
        let tls = parse("tls://a,b").unwrap();
        assert!(tls.iter().all(|server| server.address().tls_required()));
    }

    #[test]
    fn wrong_urls() {
        const SCHEME: &str = "must begin with nats:// or tls://";
        for (url, told) in [
            ("", format!("NATS URL \"\" {SCHEME}")),
            ("a:4222", format!("NATS URL \"a:4222\" {SCHEME}")),
            ("redis://a", format!("NATS URL \"redis://a\" {SCHEME}")),
            ("nats://", "NATS URL \"nats://\": the host is missing".to_owned()),
            ("nats://:4222", "NATS URL \"nats://:4222\": the host is missing".to_owned()),
            ("nats://a,", "NATS URL \"nats://a,\": the host is missing".to_owned()),
            ("nats://a:x", "NATS URL \"nats://a:x\": \"x\" is not a port".to_owned()),
            ("nats://a:0", "NATS URL \"nats://a:0\": \"0\" is not a port".to_owned()),
            ("nats://a:70000", "NATS URL \"nats://a:70000\": \"70000\" is not a port".to_owned()),
            ("nats://a:", "NATS URL \"nats://a:\": \"\" is not a port".to_owned()),
            ("nats://a/b", "NATS URL \"nats://a/b\": \"a/b\" is not a host name".to_owned()),
            ("nats://a,tls://b", "NATS URL \"nats://a,tls://b\": \"//b\" is not a port".to_owned()),
            ("nats://[::1", "NATS URL \"nats://[::1\": \":1\" is not a port".to_owned()),
            ("nats://a]:1", "NATS URL \"nats://a]:1\": \"a]\" is not a host name".to_owned()),
        ] {
            assert_eq!(parse(url).unwrap_err().to_string(), told, "{url}");
        }
        let told = parse("nats://me:s3cret@a").unwrap_err().to_string();
        assert!(told.contains("cluster_password_file") && !told.contains("s3cret"), "{told}");
    }
}
