//! Parses a broker's URL once. No error here quotes what may be a secret.

use std::fmt;

use rustls::pki_types::ServerName;
use wserver_cluster::BrokerError;

/// The content of a URL.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) topology: Topology,
    pub(crate) is_tls: bool,
    /// The servers to ask first. Invariant: never empty, and exactly one for
    /// [`Topology::Standalone`].
    pub(crate) seeds: Vec<Address>,
}

/// How the servers are related.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topology {
    Standalone,
    Sentinel { master: String },
    Cluster,
}

/// The address of one server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Topology {
    pub(crate) const fn scheme(&self, is_tls: bool) -> &'static str {
        match (self, is_tls) {
            (Self::Standalone, false) => "redis",
            (Self::Standalone, true) => "rediss",
            (Self::Sentinel { .. }, false) => "redis-sentinel",
            (Self::Sentinel { .. }, true) => "rediss-sentinel",
            (Self::Cluster, false) => "redis-cluster",
            (Self::Cluster, true) => "rediss-cluster",
        }
    }

    const fn default_port(&self) -> u16 {
        match self {
            Self::Sentinel { .. } => 26379,
            Self::Standalone | Self::Cluster => 6379,
        }
    }
}

impl Deployment {
    pub(crate) fn parse(url: &str) -> Result<Self, BrokerError> {
        let refused = |message: &str| Err(BrokerError::refused(message));
        let Some((scheme, rest)) = url.split_once("://") else {
            return refused("the broker's URL has no scheme: write redis://host:6379");
        };
        if rest.contains('@') {
            return refused(
                "the broker's URL contains a user or a password: set cluster_username and \
                 cluster_password_file instead",
            );
        }
        let (mut topology, is_tls) = match scheme {
            "redis" => (Topology::Standalone, false),
            "rediss" => (Topology::Standalone, true),
            "redis-sentinel" => (Topology::Sentinel { master: String::new() }, false),
            "rediss-sentinel" => (Topology::Sentinel { master: String::new() }, true),
            "redis-cluster" => (Topology::Cluster, false),
            "rediss-cluster" => (Topology::Cluster, true),
            _ => {
                return refused(
                    "the broker's URL has an unknown scheme: write redis, redis-sentinel or \
                     redis-cluster, or for TLS rediss, rediss-sentinel or rediss-cluster",
                );
            }
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains(['?', '#']) {
            return refused("the broker's URL has parameters, but none are supported");
        }
        match &mut topology {
            Topology::Sentinel { .. } if path.is_empty() => {
                return refused(
                    "the broker's URL does not name the master: write \
                     redis-sentinel://host:26379/mastername",
                );
            }
            Topology::Sentinel { master } => path.clone_into(master),
            Topology::Standalone | Topology::Cluster if path.is_empty() => {}
            Topology::Standalone | Topology::Cluster => {
                return refused(
                    "the broker's URL names a database, but channels belong to no \
                                database",
                );
            }
        }
        let seeds = hosts.split(',').map(|host| Address::parse(host, topology.default_port()));
        let seeds = seeds.collect::<Result<Vec<_>, _>>()?;
        if topology == Topology::Standalone && seeds.len() > 1 {
            return refused(
                "the broker's URL names several hosts: write redis-sentinel:// or \
                 redis-cluster://, depending on what they are",
            );
        }
        Ok(Self { topology, is_tls, seeds })
    }

    /// The address written with another scheme, for an error that suggests it.
    pub(crate) fn with_topology(&self, topology: &Topology, address: &Address) -> String {
        let url = format!("{}://{address}", topology.scheme(self.is_tls));
        match topology {
            Topology::Sentinel { master } => format!("{url}/{master}"),
            Topology::Standalone | Topology::Cluster => url,
        }
    }
}

impl Address {
    fn parse(text: &str, default_port: u16) -> Result<Self, BrokerError> {
        let (host, port) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => (host, rest.strip_prefix(':').or(Some(""))),
            Some(None) => ("", None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() {
            return Err(BrokerError::refused("the broker's URL names no host"));
        }
        let port = match port.map(str::parse) {
            None => default_port,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => {
                let message = "the broker's URL has a port that is not a number from 1 to 65535";
                return Err(BrokerError::refused(message));
            }
        };
        // A name that no certificate can have does not exist in DNS either.
        if ServerName::try_from(host).is_err() {
            return Err(BrokerError::refused(
                "the broker's URL has a host that is not a host name",
            ));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> String {
        match Deployment::parse(url) {
            Ok(Deployment { topology, is_tls, seeds }) => {
                let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
                format!("{topology:?} {is_tls} {}", seeds.join(" "))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_are_read_or_refused() {
        for (url, said) in [
            ("redis://cache", "Standalone false cache:6379"),
            ("rediss://[::1]:7000/", "Standalone true [::1]:7000"),
            ("rediss://[::1]", "Standalone true [::1]:6379"),
            ("redis-sentinel://a,b:1/m", "Sentinel { master: \"m\" } false a:26379 b:1"),
            ("rediss-sentinel://a/m", "Sentinel { master: \"m\" } true a:26379"),
            ("redis-cluster://a,10.0.0.1:7000", "Cluster false a:6379 10.0.0.1:7000"),
            ("rediss-cluster://a", "Cluster true a:6379"),
            ("cache:6379", "the broker's URL has no scheme: write redis://host:6379"),
            (
                "nats://cache",
                "the broker's URL has an unknown scheme: write redis, redis-sentinel or \
                 redis-cluster, or for TLS rediss, rediss-sentinel or rediss-cluster",
            ),
            ("redis://", "the broker's URL names no host"),
            ("redis://:6379", "the broker's URL names no host"),
            ("redis-cluster://a,,b", "the broker's URL names no host"),
            ("redis://[::1", "the broker's URL names no host"),
            ("redis://a b", "the broker's URL has a host that is not a host name"),
            (
                "redis://a/3",
                "the broker's URL names a database, but channels belong to no database",
            ),
            ("redis://a?db=3", "the broker's URL has parameters, but none are supported"),
            (
                "redis://a,b",
                "the broker's URL names several hosts: write redis-sentinel:// or \
                 redis-cluster://, depending on what they are",
            ),
            (
                "redis-sentinel://a:26379/",
                "the broker's URL does not name the master: write \
                 redis-sentinel://host:26379/mastername",
            ),
        ] {
            assert_eq!(read(url), said, "{url}");
        }
        for port in ["x", "", "0", "65536", "-1", "1:2"] {
            let said = "the broker's URL has a port that is not a number from 1 to 65535";
            assert_eq!(read(&format!("redis://a:{port}")), said);
            assert_eq!(read(&format!("redis://[::1]:{port}")), said);
        }
        for user in ["alice:secret", ":secret", "alice", "alice:se/cret"] {
            let said = "the broker's URL contains a user or a password: set cluster_username and \
                        cluster_password_file instead";
            assert_eq!(read(&format!("redis://{user}@cache:6379")), said);
        }
    }
}
