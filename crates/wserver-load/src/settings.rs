//! What to do to which server: the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use crate::target::Target;

/// Puts load on a push server and tells what it did under it.
///
/// Every frame is accounted for: what was lost, came twice or out of order, and whether the
/// numbers the server answered are true. Exit codes: 0 when all was true, 1 when something was
/// not or the run failed, 64 for bad settings.
#[derive(Debug, Clone, Parser)]
#[command(version, max_term_width = 100)]
pub struct Settings {
    /// What every scenario takes.
    #[command(flatten)]
    pub common: Common,

    /// Write the figures here as JSON too
    #[arg(long, global = true, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// What is done.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// What every scenario takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Where the server listens
    #[arg(long, global = true, default_value = "127.0.0.1:12345", value_name = "HOST:PORT")]
    pub address: SocketAddr,

    /// Where listeners connect, each at the next of several in turn; at --address if left out, whose host they have if they speak TLS
    #[arg(long = "listener-address", global = true, value_name = "HOST:PORT")]
    pub listener_addresses: Vec<SocketAddr>,

    /// Where pushers connect, each at the next of several in turn; at --address if left out. A wserver without a push key takes pushes 10000 ports further (127.0.0.1:22345), unless it has --allow-open-push
    #[arg(long = "pusher-address", global = true, value_name = "HOST:PORT")]
    pub pusher_addresses: Vec<SocketAddr>,

    /// Which server it is
    #[arg(long, global = true, value_enum, default_value_t = Target::Wserver)]
    pub target: Target,

    /// Speak TLS, and trust the authorities in this PEM file and no others
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// File of a key that pushes present, as `Authorization: Bearer`
    #[arg(long, global = true, value_name = "FILE")]
    pub push_key_file: Option<PathBuf>,

    /// File of listeners' tokens, a line each: TOKEN USER; whoever is not in it has the name for a token
    #[arg(long, global = true, value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,

    /// Its process id, to tell what it costs; several are added up, and so are their children
    #[arg(long = "pid", global = true, value_name = "PID")]
    pub pids: Vec<u32>,

    /// Process id of what the servers of a cluster speak by, whose cost is told apart
    #[arg(long = "broker-pid", global = true, value_name = "PID")]
    pub broker_pids: Vec<u32>,

    /// Connect from so many addresses, 127.0.1.1 and on, so that ports do not run out: one of each is soon found for 14,000 connections, then slowly; 0 leaves it to the system
    #[arg(long, global = true, default_value_t = 0)]
    pub sources: u16,

    /// Length of each message
    #[arg(long, global = true, default_value_t = 128, value_parser = message_bytes)]
    pub message_bytes: usize,

    /// Handshakes under way at once
    #[arg(long, global = true, default_value_t = 64)]
    pub opening_max: usize,

    /// Print `open` when all connections are, and go on when standard input has a line, so that several generators begin together
    #[arg(long, global = true)]
    pub hold: bool,

    /// How long to wait at the end while frames are missing and none comes
    #[arg(long, global = true, default_value = "5s", value_parser = humantime::parse_duration)]
    pub patience: Duration,
}

/// What is done to the server.
#[derive(Debug, Clone, Subcommand)]
pub enum Scenario {
    /// Memory of connections that wait, each of users of its own
    Idle(Idle),
    /// Pushes to all connections of one user
    Fanout(Fanout),
    /// Pushes to users with few connections each, in turn
    Unicast(Unicast),
    /// Connections that come and go as fast as the server lets them, beside a group that is pushed to
    Churn(Churn),
    /// All connections of a server leave at once, beside new ones and a group that is pushed to
    MassDisconnect(MassDisconnect),
    /// A fan-out in which some do not read
    SlowReaders(SlowReaders),
}

/// Settings of `idle`.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// How many
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// Users that each registers for, which are of no other connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub users: u32,
    /// Events that each registers, for each of its users
    #[arg(long, default_value_t = 1)]
    pub events: u32,
    /// Heartbeats to wait for on each connection
    #[arg(long, default_value_t = 2)]
    pub heartbeats: u32,
    /// How long a heartbeat may take
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub heartbeat_timeout: Duration,
}

/// Settings of `fanout`.
#[derive(Debug, Clone, Args)]
pub struct Fanout {
    /// How many connections the user has
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Push so many times a second, whatever becomes of it
    #[arg(
        long,
        value_name = "PER_SECOND",
        conflicts_with = "saturated",
        required_unless_present = "saturated"
    )]
    pub paced: Option<f64>,
    /// Push again as soon as the answer is there
    #[arg(long)]
    pub saturated: bool,
    /// HTTP connections that push
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
    /// Events that each connection registers; pushes take them in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub events: u32,
    /// How long, and when it counts.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `unicast`.
#[derive(Debug, Clone, Args)]
pub struct Unicast {
    /// How many users
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// Connections that each user has; of several --listener-address, one at each in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub each: u32,
    /// Push so many times a second, whatever becomes of it; as soon as the answer is there if left out
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// HTTP connections that push
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
    /// How long, and when it counts.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `churn`.
#[derive(Debug, Clone, Args)]
pub struct Churn {
    /// Connections under way at once
    #[arg(long, default_value_t = 64)]
    pub concurrency: u32,
    /// Of a hundred, so many leave with a reset and the rest with a Close
    #[arg(long, default_value_t = 50)]
    pub resets: u32,
    /// Connections that stay, and are pushed to 100 times a second
    #[arg(long, default_value_t = 100)]
    pub steady: u32,
    /// How long, and when it counts.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `mass-disconnect`.
#[derive(Debug, Clone, Args)]
pub struct MassDisconnect {
    /// How many leave
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// Leave with a reset instead of a FIN
    #[arg(long)]
    pub reset: bool,
    /// New connections a second meanwhile
    #[arg(long, default_value_t = 200.0)]
    pub arrivals: f64,
    /// Connections that stay, and are pushed to 100 times a second
    #[arg(long, default_value_t = 10)]
    pub steady: u32,
    /// How long, and when it counts.
    #[command(flatten)]
    pub window: Window,
}

/// Settings of `slow-readers`.
#[derive(Debug, Clone, Args)]
pub struct SlowReaders {
    /// How many connections the user has
    #[arg(long, default_value_t = 1000)]
    pub connections: u32,
    /// How many of them do not read
    #[arg(long, default_value_t = 10)]
    pub stalled: u32,
    /// Push so many times a second; as soon as the answer is there if left out
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// HTTP connections that push
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub pushers: u8,
    /// How long, and when it counts.
    #[command(flatten)]
    pub window: Window,
}

/// How long a load lasts, and when it counts.
#[derive(Debug, Clone, Copy, Args)]
pub struct Window {
    /// Before figures are taken
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// While figures are taken
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Sleep until a push is due, after which one wakes some milliseconds late; for generators that share a core
    #[arg(long)]
    pub no_spin: bool,
}

fn message_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_not_a_number| "not a number".to_owned())?;
    if bytes < crate::stamp::STAMP_BYTES {
        return Err(format!(
            "a message has at least the {} bytes of its stamp",
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
