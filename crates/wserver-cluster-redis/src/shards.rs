//! Finds which master carries which lanes: the only one, the one that a Sentinel knows, or those of
//! a Cluster.

use std::collections::BTreeMap;

use wserver_cluster::{BrokerError, Channel, To};

use crate::Site;
use crate::address::{Address, Topology};
use crate::connection::{Connection, Greeting};
use crate::failure;
use crate::resp::Reply;

/// A master, and the lanes that go through it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) master: Address,
    pub(crate) lanes: Vec<u16>,
}

/// The result of the search.
pub(crate) struct Found {
    pub(crate) shards: Vec<Shard>,
    /// The Sentinel that named the master, and will report when another one takes over.
    pub(crate) sentinel: Option<Connection>,
}

/// Slots of a Redis Cluster, a power of two.
const SLOTS: u16 = 16384;

/// Asks the server at `seed`.
pub(crate) async fn find(site: &Site, seed: &Address, lanes: u16) -> Result<Found, BrokerError> {
    let all = |master| vec![Shard { master, lanes: (0..lanes).collect() }];
    let (ask, name) = match &site.deployment.topology {
        Topology::Standalone => {
            return Ok(Found { shards: all(seed.clone()), sentinel: None });
        }
        Topology::Sentinel { master } => {
            let words = [b"SENTINEL".as_slice(), b"get-master-addr-by-name", master.as_bytes()];
            (words.to_vec(), "SENTINEL")
        }
        Topology::Cluster => (vec![b"CLUSTER".as_slice(), b"SLOTS"], "CLUSTER SLOTS"),
    };
    let (mut connection, greeting) = Connection::open(site, seed).await?;
    match &site.deployment.topology {
        Topology::Sentinel { .. } if greeting.mode != "sentinel" => {
            let message = format!("{seed} is not a Sentinel: write the addresses of the Sentinels");
            return Err(BrokerError::refused(message));
        }
        Topology::Sentinel { .. } => {}
        Topology::Standalone | Topology::Cluster => check_mode(site, seed, &greeting)?,
    }
    let reply = connection.ask(&ask).await?;
    if let Reply::Error(answer) = &reply {
        return Err(failure::answered(site, seed, name, answer));
    }
    match &site.deployment.topology {
        Topology::Sentinel { master } => {
            let master = master_of(&reply).ok_or_else(|| {
                let message = format!("the Sentinel {seed} knows no master named {master}");
                BrokerError::unreachable(message)
            })?;
            Ok(Found { shards: all(master), sentinel: Some(connection) })
        }
        Topology::Standalone | Topology::Cluster => {
            let ranges = Range::read(&reply, seed);
            let ranges = ranges.ok_or_else(|| failure::no_redis(seed))?;
            let shards = group(&ranges, &site.cluster, seed, lanes)?;
            Ok(Found { shards, sentinel: None })
        }
    }
}

/// Checks that a server is a master of the kind in the URL; the error says what the URL should be.
pub(crate) fn check_master(
    site: &Site,
    at: &Address,
    greeting: &Greeting,
) -> Result<(), BrokerError> {
    check_mode(site, at, greeting)?;
    if greeting.role != "master" {
        // A message that is published at a replica does not reach the subscribers at its master.
        return Err(BrokerError::unreachable(format!("{at} is a replica now, not the master")));
    }
    Ok(())
}

fn check_mode(site: &Site, at: &Address, greeting: &Greeting) -> Result<(), BrokerError> {
    let is_cluster = site.deployment.topology == Topology::Cluster;
    let (what, topology) = match greeting.mode.as_str() {
        "cluster" if !is_cluster => ("is part of a Redis Cluster", Topology::Cluster),
        "sentinel" => ("is a Sentinel", Topology::Sentinel { master: "mastername".to_owned() }),
        "standalone" if is_cluster => ("is not part of a Redis Cluster", Topology::Standalone),
        _ => return Ok(()),
    };
    let url = site.deployment.with_topology(&topology, at);
    Err(BrokerError::refused(format!("{at} {what}: write {url}")))
}

fn master_of(reply: &Reply) -> Option<Address> {
    let Reply::Array(fields) = reply else { return None };
    let [host, port] = fields.as_slice() else { return None };
    Some(Address { host: host.to_string(), port: port.to_string().parse().ok()? })
}

/// Slots that one master serves.
#[derive(Debug)]
struct Range {
    first: i64,
    last: i64,
    master: Address,
}

impl Range {
    fn read(reply: &Reply, seed: &Address) -> Option<Vec<Self>> {
        let Reply::Array(ranges) = reply else { return None };
        ranges.iter().map(|range| Self::read_one(range, seed)).collect()
    }

    /// First slot, last slot, the master, its replicas.
    fn read_one(range: &Reply, seed: &Address) -> Option<Self> {
        let Reply::Array(range) = range else { return None };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(master), ..] =
            range.as_slice()
        else {
            return None;
        };
        let [host, Reply::Integer(port), ..] = master.as_slice() else { return None };
        let port = u16::try_from(*port).ok()?;
        // Without a host, it is that of the server that was asked.
        let host = match host {
            Reply::Bulk(host) if !host.is_empty() => String::from_utf8_lossy(host).into_owned(),
            _ => seed.host.clone(),
        };
        Some(Self { first: *first, last: *last, master: Address { host, port } })
    }
}

fn group(
    ranges: &[Range],
    cluster: &str,
    seed: &Address,
    lanes: u16,
) -> Result<Vec<Shard>, BrokerError> {
    let mut shards = BTreeMap::<&Address, Vec<u16>>::new();
    for lane in 0..lanes {
        let slot = i64::from(slot(Channel { lane, to: To::All }.name(cluster).as_bytes()));
        let range = ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
        let range = range.ok_or_else(|| {
            BrokerError::unreachable(format!("{seed} knows no server of slot {slot}"))
        })?;
        shards.entry(&range.master).or_default().push(lane);
    }
    let shards = shards.into_iter();
    Ok(shards.map(|(master, lanes)| Shard { master: master.clone(), lanes }).collect())
}

/// The slot of a channel: the CRC-16 (XMODEM) of the text in its first braces.
fn slot(channel: &[u8]) -> u16 {
    let open = channel.iter().position(|&byte| byte == b'{').map(|at| &channel[at + 1..]);
    let tag = open.and_then(|open| {
        let length = open.iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &open[..length])
    });
    let crc = tag.unwrap_or(channel).iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{}{bar}"), 8363, "empty braces are none");
        assert_eq!(slot(b"shop.{0}.all"), slot(b"0"));
    }

    #[test]
    fn lanes_go_where_their_slots_are() {
        let at = |port| Address { host: "h".to_owned(), port };
        let range = |first, last, port| Range { first, last, master: at(port) };
        let ranges = [range(0, 8191, 1), range(8192, 16383, 2)];
        let shards = group(&ranges, "shop", &at(1), 4).unwrap();
        let slots = [0_u16, 1, 2, 3].map(|lane| slot(lane.to_string().as_bytes()));
        assert_eq!(slots, [13907, 9842, 5649, 1584]);
        assert_eq!(
            shards,
            [
                Shard { master: at(1), lanes: vec![2, 3] },
                Shard { master: at(2), lanes: vec![0, 1] }
            ]
        );
        let error = group(&ranges[..1], "shop", &at(1), 4).unwrap_err();
        assert_eq!(error.to_string(), "h:1 knows no server of slot 13907");
    }
}
