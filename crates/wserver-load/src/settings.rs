//! The command line: which server, and what load.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wserver_protocol::Protocol;

pub use crate::target::Target;

/// Puts load on a push server and reports what the server did.
///
/// The report accounts for every frame: it shows lost, duplicated and disordered messages, and
/// whether the counts in the server's answers are true. Exit codes: 0 if everything was true, 1 if
/// something was not or the run failed, 64 for bad settings.
#[derive(Debug, Clone, Parser)]
#[command(version, max_term_width = 100)]
pub struct Settings {
    /// The settings of every scenario.
    #[command(flatten)]
    pub common: Common,

    /// Also write the figures as JSON to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// The scenario to run.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The versions of the protocol that connections speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Versions {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
    /// Each in turn.
    Mixed,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl Versions {
    /// The version of the connection with this number.
    pub(crate) fn of(self, number: usize) -> Protocol {
        match self {
            Self::V1 => Protocol::V1,
            Self::V2 => Protocol::V2,
            Self::Mixed if number.is_multiple_of(2) => Protocol::V1,
            Self::Mixed => Protocol::V2,
        }
    }
}

/// The settings of every scenario.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Address of the server
    #[arg(long, global = true, default_value = "127.0.0.1:12345", value_name = "HOST:PORT")]
    pub address: SocketAddr,

    /// Addresses to which clients connect, in turn; --address if not given. With TLS they take the host of --address
    #[arg(long = "listener-address", global = true, value_name = "HOST:PORT")]
    pub listener_addresses: Vec<SocketAddr>,

    /// Addresses to which pushers connect, in turn; --address if not given. A wserver without a push key takes pushes at the port plus 10000 (127.0.0.1:22345), unless it has --allow-open-push
    #[arg(long = "pusher-address", global = true, value_name = "HOST:PORT")]
    pub pusher_addresses: Vec<SocketAddr>,

    /// Kind of the server
    #[arg(long, global = true, value_enum, default_value_t = Target::Wserver)]
    pub target: Target,

    /// Version of the protocol that connections speak; mixed takes them in turn
    #[arg(long, global = true, value_enum, default_value_t = Versions::V1)]
    pub protocol: Versions,

    /// Use TLS, and trust only the certificate authorities in this PEM file
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// File of a key that pushes carry, as `Authorization: Bearer`
    #[arg(long, global = true, value_name = "FILE")]
    pub push_key_file: Option<PathBuf>,

    /// File of clients' tokens, with one TOKEN USER per line; the token of a user that is not in it is the user's name
    #[arg(long, global = true, value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,

    /// Process ids of the server, to measure its cost; the costs of several, and of their children, are added up
    #[arg(long = "pid", global = true, value_name = "PID")]
    pub pids: Vec<u32>,

    /// Process ids of a cluster's broker, whose cost is reported separately
    #[arg(long = "broker-pid", global = true, value_name = "PID")]
    pub broker_pids: Vec<u32>,

    /// Connect from this many addresses, 127.0.1.1 and on, so that ports do not run out. The kernel finds the first 14,000 ports of each address fast, and further ones slowly; 0 lets the system choose
    #[arg(long, global = true, default_value_t = 0)]
    pub sources: u16,

    /// Length of each message
    #[arg(long, global = true, default_value_t = 128, value_parser = message_bytes)]
    pub message_bytes: usize,

    /// Handshakes under way at once
    #[arg(long, global = true, default_value_t = 64)]
    pub opening_max: usize,

    /// Print `open` when all connections are open, and go on when standard input has a line, so that several generators can start together
    #[arg(long, global = true)]
    pub hold: bool,

    /// How long to wait at the end while frames are missing and none arrives
    #[arg(long, global = true, default_value = "5s", value_parser = humantime::parse_duration)]
    pub patience: Duration,
}

/// The load on the server.
#[derive(Debug, Clone, Subcommand)]
pub enum Scenario {
    /// Memory of idle connections, each with users of its own
    Idle(Idle),
    /// Pushes to all connections of one user
    Fanout(Fanout),
    /// Pushes to users with few connections each, in turn
    Unicast(Unicast),
    /// Connections that come and go as fast as the server allows, next to a group that gets pushes
    Churn(Churn),
    /// All connections of a server leave at once, next to new connections and a group that gets pushes
    MassDisconnect(MassDisconnect),
    /// A fan-out in which some connections do not read
    SlowReaders(SlowReaders),
    /// All connections leave, miss messages, and come back at once behind their positions; the server keeps event-00 for replay
    Resume(Resume),
    /// Memory of messages that are kept for users who are away; the server keeps event-00 for replay
    Kept(Kept),
    /// Pushes that wait until all connections of one user have acknowledged them
    Waits(Waits),
}

/// Settings of `idle`.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// Number of connections
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// Users that each connection registers for, different for each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub users: u32,
    /// Events that each connection registers for each of its users
    #[arg(long, default_value_t = 1)]
    pub events: u32,
    /// Heartbeats to wait for on each connection
    #[arg(long, default_value_t = 2)]
    pub heartbeats: u32,
    /// How long to wait for a heartbeat
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub heartbeat_timeout: Duration,
}

/// Settings of `fanout`.
#[derive(Debug, Clone, Args)]
pub struct Fanout {
    /// Number of connections of the user
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Push this many times a second, without waiting for answers
    #[arg(
        long,
        value_name = "PER_SECOND",
        conflicts_with = "saturated",
        required_unless_present = "saturated"
    )]
    pub paced: Option<f64>,
    /// Push again as soon as the answer arrives
    #[arg(long)]
    pub saturated: bool,
    /// Number of HTTP connections that push
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
    /// Events that each connection registers; pushes take them in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub events: u32,
    /// How long the load lasts, and when figures are taken.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `unicast`.
#[derive(Debug, Clone, Args)]
pub struct Unicast {
    /// Number of users
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Connections of each user; with several --listener-address, one at each in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub each: u32,
    /// Push this many times a second, without waiting for answers; if not given, push again as soon as the answer arrives
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Number of HTTP connections that push
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
    /// How long the load lasts, and when figures are taken.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `churn`.
#[derive(Debug, Clone, Args)]
pub struct Churn {
    /// Connections under way at once
    #[arg(long, default_value_t = 64)]
    pub concurrency: u32,
    /// Percentage of connections that leave with a reset; the rest leave with a Close
    #[arg(long, default_value_t = 50)]
    pub resets: u32,
    /// Connections that stay and get 100 pushes a second
    #[arg(long, default_value_t = 100)]
    pub steady: u32,
    /// How long the load lasts, and when figures are taken.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `mass-disconnect`.
#[derive(Debug, Clone, Args)]
pub struct MassDisconnect {
    /// Number of connections that leave
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// Leave with a reset instead of a FIN
    #[arg(long)]
    pub reset: bool,
    /// New connections a second during the run
    #[arg(long, default_value_t = 200.0)]
    pub arrivals: f64,
    /// Connections that stay and get 100 pushes a second
    #[arg(long, default_value_t = 10)]
    pub steady: u32,
    /// How long the load lasts, and when figures are taken.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `slow-readers`.
#[derive(Debug, Clone, Args)]
pub struct SlowReaders {
    /// Number of connections of the user
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Number of connections that do not read
    #[arg(long, default_value_t = 10)]
    pub stalled: u32,
    /// Push this many times a second; if not given, push again as soon as the answer arrives
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Number of HTTP connections that push
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
    /// How long the load lasts, and when figures are taken.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `resume`.
#[derive(Debug, Clone, Args)]
pub struct Resume {
    /// Number of connections, each of a user of its own
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// Messages that each of them misses
    #[arg(long, default_value_t = 2)]
    pub messages: u32,
    /// Number of HTTP connections that push
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
}

/// Settings of `kept`.
#[derive(Debug, Clone, Args)]
pub struct Kept {
    /// Number of users
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub users: u32,
    /// Messages that are kept for each of them
    #[arg(long, default_value_t = 2)]
    pub messages: u32,
    /// Of how many users a connection comes at the end, to check that all is there
    #[arg(long, default_value_t = 1000)]
    pub checked: u32,
    /// Number of HTTP connections that push
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
}

/// Settings of `waits`.
#[derive(Debug, Clone, Args)]
pub struct Waits {
    /// Number of connections of the user
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Number of pushes, one after the other
    #[arg(long, default_value_t = 50)]
    pub pushes: u32,
    /// The most of them in a second; a server may close clients that send more than 50 messages in a second
    #[arg(long, default_value_t = 10.0, value_name = "PER_SECOND")]
    pub rate: f64,
}

/// How long a load lasts, and when figures are taken.
#[derive(Debug, Clone, Copy, Args)]
pub struct Window {
    /// Time before figures are taken
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// Time during which figures are taken
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Sleep until a push is due, which can wake some milliseconds late; for generators that share a core
    #[arg(long)]
    pub no_spin: bool,
}

fn message_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_not_a_number| "not a number".to_owned())?;
    if bytes < crate::stamp::STAMP_BYTES {
        return Err(format!(
            "a message needs at least {} bytes, for its stamp",
            crate::stamp::STAMP_BYTES
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Settings::command().debug_assert();
    }

    #[test]
    fn a_fanout_has_one_pace() {
        assert!(Settings::try_parse_from(["wserver-load", "fanout"]).is_err());
        assert!(Settings::try_parse_from(["wserver-load", "fanout", "--saturated"]).is_ok());
        let both = ["wserver-load", "fanout", "--saturated", "--paced", "9"];
        assert!(Settings::try_parse_from(both).is_err());
    }
}
