//! The alternative design: a subscription at the broker for each user of each node.
//!
//! This module speaks as much of the brokers' own protocols as that takes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

use super::super::setup::Place;
use super::broker::Broker;
use super::metrics;

/// Nodes that subscribe, each for its own users.
const NODES: u32 = 2;
/// Subscriptions in one write.
pub(super) const BATCH: u32 = 100;
/// How long to wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The cost of each subscription to the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Subscribed {
    pub(super) subscriptions: u32,
    /// Resident memory.
    pub(super) bytes: f64,
    pub(super) cpu_us: f64,
}

/// Subscribes for this many users of each node.
pub(super) fn run(place: &Place, broker: Broker, users: u32) -> anyhow::Result<Subscribed> {
    let mut server = broker.start(place)?;
    let (address, id) = (server.address(), server.id());
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        nodes.push(stream);
    }
    let before = (metrics::resident(&id)?, metrics::cpu_us(&id)?);
    if broker == Broker::Nats {
        for node in &mut nodes {
            say(node, "CONNECT {\"verbose\":false}\r\n", broker)?;
        }
    }
    for from in (0..users).step_by(BATCH as usize) {
        for (stream, node) in nodes.iter_mut().zip(0..) {
            let batch = from..(from + BATCH).min(users);
            let commands: String = batch.map(|user| command(broker, node * users + user)).collect();
            say(stream, &commands, broker)?;
        }
    }
    let after = (metrics::resident(&id)?, metrics::cpu_us(&id)?);
    drop(nodes);
    server.stop()?;
    let subscriptions = NODES * users;
    let each = |grown: f64| grown / f64::from(subscriptions);
    Ok(Subscribed {
        subscriptions,
        bytes: each(after.0.saturating_sub(before.0) as f64),
        cpu_us: each(after.1 - before.1),
    })
}

/// The command that subscribes for a user; the name is as long as those of all other runs.
fn command(broker: Broker, user: u32) -> String {
    let channel = format!("wserver.user-{user:031}");
    match broker {
        Broker::Redis => {
            format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{channel}\r\n", channel.len())
        }
        Broker::Nats => format!("SUB {channel} {user}\r\n"),
    }
}

/// Sends the commands, and waits until the broker has carried them out, that is, until it answers a
/// ping that follows.
fn say(stream: &mut TcpStream, commands: &str, broker: Broker) -> anyhow::Result<()> {
    let (ping, pong) = match broker {
        Broker::Redis => ("*1\r\n$4\r\nPING\r\n", "$4\r\npong\r\n$0\r\n\r\n"),
        Broker::Nats => ("PING\r\n", "PONG\r\n"),
    };
    stream.write_all(format!("{commands}{ping}").as_bytes())?;
    let mut answers = Vec::new();
    let mut buffer = [0; 64 * 1024];
    while !answers.ends_with(pong.as_bytes()) {
        let count = stream.read(&mut buffer).context("no answer of the broker")?;
        anyhow::ensure!(count > 0, "the broker hung up: {}", String::from_utf8_lossy(&answers));
        answers.extend_from_slice(&buffer[..count]);
    }
    let is_refused = answers.windows(4).any(|it| it == b"-ERR");
    anyhow::ensure!(!is_refused, "refused: {}", String::from_utf8_lossy(&answers));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_written_in_the_words_of_each_broker() {
        let channel = "wserver.user-0000000000000000000000000000007";
        assert_eq!(
            command(Broker::Redis, 7),
            format!("*2\r\n$9\r\nSUBSCRIBE\r\n$44\r\n{channel}\r\n")
        );
        assert_eq!(command(Broker::Nats, 7), format!("SUB {channel} 7\r\n"));
    }
}
