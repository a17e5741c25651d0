//! Finds the address of the client behind trusted proxies, which are given by their networks.
//!
//! Only `X-Forwarded-For` is read, and of it only what a trusted proxy wrote. `Forwarded` (RFC
//! 7239) and `X-Real-IP` are ignored: a proxy that sets one of the three passes the others on as
//! the client sent them, so a server that reads several believes the client. The PROXY protocol is
//! not supported.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use ipnet::{IpNet, Ipv4Net};
use tracing::debug;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The prefix length of IPv4 addresses mapped into IPv6.
const MAPPED_PREFIX: u8 = 96;

/// The networks of trusted proxies. By default there are none.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads networks such as `10.0.0.0/8`, or single addresses.
    ///
    /// # Errors
    /// The problem of each invalid one.
    pub(crate) fn parse(networks: &[String]) -> Result<Self, Vec<ProxyProblem>> {
        let mut problems = Vec::new();
        let mut parsed = Vec::new();
        for network in networks {
            match parse_network(network) {
                Ok(network) => parsed.push(network),
                Err(fault) => {
                    let network = network.clone();
                    problems.push(ProxyProblem { network, fault });
                }
            }
        }
        if problems.is_empty() { Ok(Self(parsed)) } else { Err(problems) }
    }

    /// The client of a request from `peer`: `peer` itself, or the address that a trusted proxy
    /// gives.
    ///
    /// Read from the right, each entry was written by the proxy before it. So the first address
    /// that is not a trusted proxy is the client, and the client itself wrote the entries to its
    /// left. If all are trusted, the leftmost is the client. Its port is 0 unless the proxy gives
    /// it. If an entry cannot be read, the proxy counts as the client.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let entries = lines
            .flat_map(|line: &HeaderValue| line.as_bytes().rsplit(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|entry| !entry.is_empty());
        let mut client = peer;
        for entry in entries {
            let Some(address) = parse_entry(entry) else {
                debug!(%peer, "X-Forwarded-For cannot be read, so the proxy counts as the client");
                return peer;
            };
            client = address;
            if !self.trusts(address.ip()) {
                break;
            }
        }
        client
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An invalid network of trusted proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trusted_proxies {network:?} {fault}")]
#[non_exhaustive]
pub struct ProxyProblem {
    /// The network.
    pub network: String,
    /// What is wrong with it.
    pub fault: ProxyFault,
}

/// What is wrong with a network of trusted proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyFault {
    /// It is neither an address nor a network.
    #[error("is neither an address nor a network such as 10.0.0.0/8")]
    NotANetwork,
    /// It includes every address.
    #[error("would believe everybody's X-Forwarded-For: name the networks of your proxies")]
    Everybody,
    /// It is an address with the prefix length of its network.
    #[error("is within a network: write {network} for all of it, or {address} for the one address")]
    WithinNetwork {
        /// The network.
        network: String,
        /// The address.
        address: IpAddr,
    },
}

fn parse_network(text: &str) -> Result<IpNet, ProxyFault> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().map_err(|_neither| ProxyFault::NotANetwork)?,
    };
    if network.prefix_len() == 0 {
        return Err(ProxyFault::Everybody);
    }
    if network.addr() != network.network() {
        return Err(ProxyFault::WithinNetwork {
            network: network.trunc().to_string(),
            address: network.addr(),
        });
    }
    Ok(canonical(network))
}

/// Converts a network of mapped IPv4 addresses to IPv4.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(prefix) = mapped.prefix_len().checked_sub(MAPPED_PREFIX)
        && let Ok(network) = Ipv4Net::new(address, prefix)
    {
        return IpNet::V4(network);
    }
    network
}

/// Reads one entry: an address with or without a port; IPv6 with or without brackets.
fn parse_entry(entry: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(entry).ok()?;
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address = match text.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 0),
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(address) => address,
            Err(_) => SocketAddr::new(bare()?.into(), 0),
        },
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted(networks: &[&str]) -> Result<TrustedProxies, Vec<ProxyProblem>> {
        let networks: Vec<String> = networks.iter().map(|&network| network.to_owned()).collect();
        TrustedProxies::parse(&networks)
    }

    fn forwarded(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_no_proxy() {
        let proxies = trusted(&["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48"]).unwrap();
        for (peer, lines, client) in [
            // A client that is not a trusted proxy may write anything.
            ("203.0.113.9:5", &["198.51.100.1"][..], "203.0.113.9:5"),
            ("203.0.113.9:5", &["10.0.0.1"], "203.0.113.9:5"),
            ("192.0.2.8:5", &["198.51.100.1"], "192.0.2.8:5"),
            // A proxy without the header counts as the client.
            ("10.0.0.1:5", &[], "10.0.0.1:5"),
            ("10.0.0.1:5", &["", " , ,"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["198.51.100.1"], "198.51.100.1:0"),
            ("192.0.2.7:5", &["198.51.100.1"], "198.51.100.1:0"),
            ("[::ffff:10.0.0.1]:5", &["198.51.100.1"], "198.51.100.1:0"),
            ("[2001:db8:ffff::1]:5", &["2001:db8::1"], "[2001:db8::1]:0"),
            // The entries that the client sent are to the left.
            ("10.0.0.1:5", &["127.0.0.1, 198.51.100.1"], "198.51.100.1:0"),
            ("10.0.0.1:5", &["10.9.9.9, 198.51.100.1"], "198.51.100.1:0"),
            ("10.0.0.1:5", &["junk, <script>, 198.51.100.1"], "198.51.100.1:0"),
            ("10.0.0.1:5", &["127.0.0.1", "198.51.100.1"], "198.51.100.1:0"),
            // A chain of proxies, each of which adds the address before it.
            ("10.0.0.1:5", &["6.6.6.6, 198.51.100.1, 10.0.0.3,10.0.0.2"], "198.51.100.1:0"),
            ("10.0.0.1:5", &["6.6.6.6, 198.51.100.1", "10.0.0.3", "192.0.2.7"], "198.51.100.1:0"),
            ("10.0.0.1:5", &["10.0.0.4, 10.0.0.3"], "10.0.0.4:0"),
            ("10.0.0.1:5", &["::ffff:10.0.0.3"], "10.0.0.3:0"),
            // The spellings of addresses.
            ("10.0.0.1:5", &["198.51.100.1:4711"], "198.51.100.1:4711"),
            ("10.0.0.1:5", &["[2001:db8::1]:4711"], "[2001:db8::1]:4711"),
            ("10.0.0.1:5", &["[2001:db8::1]"], "[2001:db8::1]:0"),
            ("10.0.0.1:5", &["::ffff:198.51.100.1"], "198.51.100.1:0"),
            ("10.0.0.1:5", &["\t198.51.100.1 ,"], "198.51.100.1:0"),
            // An unreadable entry where it matters.
            ("10.0.0.1:5", &["198.51.100.1, unknown"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["unknown"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["198.51.100.1 198.51.100.2"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["198.51.100.256"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["198.51.100.1:99999"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["[198.51.100.1]"], "10.0.0.1:5"),
            ("10.0.0.1:5", &["example.com"], "10.0.0.1:5"),
        ] {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let found = proxies.client(peer.parse().unwrap(), &forwarded(&lines));
            assert_eq!(found.to_string(), client, "{peer} {lines:?}");
        }
        let peer = "10.0.0.1:5".parse().unwrap();
        assert_eq!(proxies.client(peer, &forwarded(&[b"198.51.100.1\xff"])), peer);
    }

    proptest! {
        /// Entries that the proxies did not write change nothing, whatever they contain.
        #[test]
        fn what_the_client_sends_counts_for_nothing(
            invented in prop::collection::vec("[\\x20-\\x2b\\x2d-\\x7e]{0,20}", 0..4),
            client in any::<[u8; 4]>().prop_map(std::net::Ipv4Addr::from),
            chain in prop::collection::vec(any::<[u8; 3]>(), 0..4),
            port in any::<u16>(),
        ) {
            let proxies = trusted(&["10.0.0.0/8"]).unwrap();
            prop_assume!(client.octets()[0] != 10);
            let chain = chain.iter().map(|[b, c, d]| format!("10.{b}.{c}.{d}"));
            let entries: Vec<String> =
                invented.into_iter().chain([client.to_string()]).chain(chain).collect();
            let peer = SocketAddr::from(([10, 0, 0, 1], port));
            let expected = SocketAddr::from((client, 0));
            // All entries in one line, and each in a line of its own.
            let line = entries.join(",");
            prop_assert_eq!(proxies.client(peer, &forwarded(&[line.as_bytes()])), expected);
            let lines: Vec<&[u8]> = entries.iter().map(|entry| entry.as_bytes()).collect();
            prop_assert_eq!(proxies.client(peer, &forwarded(&lines)), expected);
        }

        /// For any bytes, the result is an address among them, or the proxy's own.
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let proxies = trusted(&["10.0.0.0/8"]).unwrap();
            let peer = SocketAddr::from(([10, 0, 0, 1], 5));
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, value)]);
            let found = proxies.client(peer, &headers);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let stands_there = text.split(',').any(|entry| {
                parse_entry(entry.trim().as_bytes()).is_some_and(|address| address == found)
            });
            prop_assert!(found == peer || stands_there, "{} of {:?}", found, text);
        }
    }

    #[test]
    fn other_headers_say_nothing() {
        let proxies = trusted(&["10.0.0.0/8"]).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("forwarded", "for=198.51.100.1"),
            ("x-real-ip", "198.51.100.1"),
            ("true-client-ip", "198.51.100.1"),
        ] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let peer = "10.0.0.1:5".parse().unwrap();
        assert_eq!(proxies.client(peer, &headers), peer);
    }

    #[test]
    fn nobody_is_believed_who_is_not_named() {
        let peer = "127.0.0.1:5".parse().unwrap();
        let headers = forwarded(&[b"198.51.100.1"]);
        assert_eq!(TrustedProxies::default().client(peer, &headers), peer);
    }

    #[test]
    fn networks_that_are_none_or_too_wide_are_refused() {
        for (network, told) in [
            ("nonsense", "neither an address nor a network"),
            ("", "neither an address nor a network"),
            ("10.0.0.0/33", "neither an address nor a network"),
            ("10.0.0/8", "neither an address nor a network"),
            ("10.0.0.1:80", "neither an address nor a network"),
            ("0.0.0.0/0", "everybody"),
            ("::/0", "everybody"),
            ("10.0.0.1/8", "10.0.0.0/8 for all of it, or 10.0.0.1 for the one"),
        ] {
            let problems = trusted(&["127.0.0.1", network]).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].to_string().contains(told), "{problems:?}");
        }
        let mapped = trusted(&["::ffff:10.0.0.0/104"]).unwrap();
        assert!(mapped.trusts("10.9.9.9".parse().unwrap()));
        assert!(!mapped.trusts("11.0.0.1".parse().unwrap()));
    }
}
