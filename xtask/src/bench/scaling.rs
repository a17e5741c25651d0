//! How the cost of our server grows: with connections, users, events, the size of a group and of a
//! message.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::iter;

use serde_json::Value;

use super::failures::Failures;
use super::load::{self, Load};
use super::machine;
use super::measure::DEFAULT_PING_INTERVAL;
use super::plot::{self, Dot, Panel};
use super::runs::{Series, figure, untrue_checks};
use super::server::Server;
use super::setup::{Effort, Place};
use super::subject::Subject;

/// Maximum number of connections in one process, below the usual hard limit of descriptors.
const PROCESS_CONNECTIONS_MAX: u32 = 15_000;
/// Memory of a connection with both ends on this machine, in the kernel and the processes; this
/// much must be free for each. Measured with 960,000 connections: 7,700.
const LOOPBACK_BYTES: u64 = 8 * 1024;
/// A load with more connections than this takes minutes, so it is run only in the first round.
const EVERY_ROUND_MAX: u32 = 120_000;
/// Generators that open connections at the same time.
const OPENING_MAX: usize = 4;
/// Pushes a second while the number of connections grows.
const STEADY_RATE: u32 = 10_000;
/// If a smaller part of these pushes is sent, no more connections are opened.
const IN_TIME: f64 = 0.95;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Connections,
    Users,
    Events,
    Group,
    MessageBytes,
}

/// A figure of the load generator.
#[derive(Debug, Clone, Copy)]
struct Column {
    title: &'static str,
    path: &'static str,
    /// Whether its axis is logarithmic.
    is_log: bool,
    /// Whether several processes share it; otherwise each has its own, and the page shows the mean.
    is_shared: bool,
}

impl Column {
    const fn own(title: &'static str, path: &'static str, is_log: bool) -> Self {
        Self { title, path, is_log, is_shared: false }
    }

    const fn shared(title: &'static str, path: &'static str, is_log: bool) -> Self {
        Self { title, path, is_log, is_shared: true }
    }
}

const CPU_PER_DELIVERY: Column =
    Column::own("CPU µs per delivery", "/figures/cpu_us_per_delivery", true);
const DELIVERIES: Column = Column::shared("deliveries/s", "/figures/deliveries_per_second", true);
const CPU_PER_PUSH: Column = Column::own("CPU µs per push", "/figures/cpu_us_per_push", false);
const PUSHES: Column = Column::shared("pushes/s", "/figures/pushes_per_second", false);
const IDLE_BYTES: Column =
    Column::own("bytes per idle connection", "/figures/bytes_per_connection", false);
const CORES: Column = Column::shared("server CPU, cores", "/figures/server_cpu_cores", false);
const RESIDENT: Column = Column::shared("resident bytes", "/figures/resident_bytes_max", true);

/// One load for each process.
#[derive(Debug)]
struct Step {
    /// The arguments of `wserver-load`.
    words: String,
    ping_interval: &'static str,
    /// Whether to run it only in the first round.
    is_once: bool,
}

impl Step {
    fn of(words: String) -> Self {
        Self { words, ping_interval: DEFAULT_PING_INTERVAL, is_once: false }
    }
}

impl Axis {
    pub(super) const ALL: [Self; 5] =
        [Self::Connections, Self::Users, Self::Events, Self::Group, Self::MessageBytes];

    /// The file name of its picture.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Users => "users",
            Self::Events => "events",
            Self::Group => "group",
            Self::MessageBytes => "message-bytes",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections, each of a user of its own",
            Self::Users => "users with one connection each",
            Self::Events => "events registered on each connection",
            Self::Group => "connections of the user who is pushed to",
            Self::MessageBytes => "bytes of a message",
        }
    }

    /// A value for people.
    fn text(self, value: u32) -> String {
        match (self, value) {
            (Self::MessageBytes, _) if value >= 1 << 20 => format!("{} MiB", value >> 20),
            (Self::MessageBytes, _) if value >= 1 << 10 => format!("{} KiB", value >> 10),
            (_, 10_000..) => format!("{} k", value / 1000),
            _ => value.to_string(),
        }
    }

    /// The description for the page.
    fn what(self) -> &'static str {
        match self {
            Self::Connections => {
                "10,000 pushes per second in all, to each user in turn, for 25 s, during which every connection also has one heartbeat: at 240,000 connections that is as much work again. One server process holds up to 15,000 connections; more connections take more processes, which share the one core, as their generators share the other. A generator sleeps until a push is due, so with one process up to ten pushes go out at once, and with sixteen hardly two. Memory is that of all servers. The connections double until they cannot be opened, pushes fall behind, or memory is too short for twice as many (both ends are on this machine): when clearly fewer than 10,000 pushes per second get through, the core is full. Points beyond 120,000 connections are measured in one round only."
            }
            Self::Users => {
                "64 pushers (16 for 16 users) push to each user in turn, in a closed loop."
            }
            Self::Events => {
                "Saturated fan-out to 1,000 connections of one user, by 16 pushers that use the events in turn; memory of 4,000 connections after one heartbeat."
            }
            Self::Group => "Saturated fan-out to one user by 16 pushers.",
            Self::MessageBytes => "Saturated fan-out to 100 connections of one user by 4 pushers.",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Self::Connections => &[CORES, PUSHES, RESIDENT],
            Self::Users => &[CPU_PER_PUSH, PUSHES],
            Self::Events => &[CPU_PER_DELIVERY, DELIVERIES, IDLE_BYTES],
            Self::Group | Self::MessageBytes => &[CPU_PER_DELIVERY, DELIVERIES],
        }
    }

    /// The values of this axis; of connections, as many as `memory` bytes have room for.
    fn values(self, is_quick: bool, memory: u64) -> Vec<u32> {
        let values: &[u32] = match (self, is_quick) {
            (Self::Connections, true) => &[1000, 2000],
            (Self::Connections, false) => {
                let doubled =
                    iter::successors(Some(PROCESS_CONNECTIONS_MAX), |it| it.checked_mul(2));
                let is_held = |it: &u32| u64::from(*it) * LOOPBACK_BYTES <= memory;
                return [1000, 5000].into_iter().chain(doubled.take_while(is_held)).collect();
            }
            (Self::Users, true) => &[16, 1024],
            (Self::Users, false) => &[16, 64, 256, 1024, 4096, 15_000],
            (Self::Events, true) => &[1, 16],
            (Self::Events, false) => &[1, 4, 16, 64],
            (Self::Group, true) => &[1, 64],
            (Self::Group, false) => &[1, 4, 16, 32, 64, 256, 1024, 4096],
            (Self::MessageBytes, true) => &[16, 1 << 20],
            (Self::MessageBytes, false) => &[16, 128, 1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20],
        };
        values.to_vec()
    }

    /// The number of servers that share the load.
    fn processes(self, value: u32) -> u32 {
        match self {
            Self::Connections => value.div_ceil(PROCESS_CONNECTIONS_MAX),
            Self::Users | Self::Events | Self::Group | Self::MessageBytes => 1,
        }
    }

    /// The loads on each process, one after the other.
    fn steps(self, value: u32, seconds: u32, is_quick: bool) -> Vec<Step> {
        let window = format!("--warmup 500ms --duration {seconds}s");
        match self {
            Self::Connections => {
                let processes = self.processes(value);
                let (each, rate) = (value / processes, STEADY_RATE / processes);
                // A port of an address is taken, whatever it is connected to.
                let sources = 16 * processes;
                // Each connection has one heartbeat in that time.
                let duration = if is_quick { "1s" } else { DEFAULT_PING_INTERVAL };
                let words = format!(
                    "unicast --connections {each} --rate {rate} --no-spin --pushers 16 --sources {sources} --warmup 1s --duration {duration}"
                );
                vec![Step { is_once: value > EVERY_ROUND_MAX, ..Step::of(words) }]
            }
            Self::Users => {
                let pushers = value.min(64);
                vec![Step::of(format!(
                    "unicast --connections {value} --pushers {pushers} --sources 16 {window}"
                ))]
            }
            Self::Events => {
                let idle =
                    format!("idle --connections 4000 --events {value} --heartbeats 1 --sources 16");
                vec![
                    Step::of(format!("fanout --saturated --pushers 16 --events {value} {window}")),
                    // The load waits for a heartbeat.
                    Step { words: idle, ping_interval: "3s", is_once: true },
                ]
            }
            Self::Group => vec![Step::of(format!(
                "fanout --saturated --pushers 16 --connections {value} {window}"
            ))],
            Self::MessageBytes => vec![Step::of(format!(
                "fanout --saturated --pushers 4 --connections 100 --message-bytes {value} {window}"
            ))],
        }
    }
}

/// The reports of one load at one place of an axis, one from each process.
#[derive(Debug)]
struct Told {
    axis: Axis,
    value: u32,
    jsons: Vec<Value>,
}

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Scaling {
    told: Vec<Told>,
    /// How many connections did not open, and why.
    refused: Option<String>,
}

/// Measures every axis.
pub(super) fn run(
    place: &Place,
    effort: Effort,
    is_quick: bool,
    failures: &mut Failures,
) -> Scaling {
    let memory = machine::available_bytes();
    let mut scaling = Scaling::default();
    for round in 0..effort.scaling_rounds {
        for axis in Axis::ALL {
            for value in axis.values(is_quick, memory) {
                let steps = axis.steps(value, effort.scaling_seconds, is_quick);
                for step in steps.into_iter().filter(|it| round == 0 || !it.is_once) {
                    let what = format!("scaling, {} {}", axis.name(), axis.text(value));
                    println!("round {} of {}: {what}", round + 1, effort.scaling_rounds);
                    let opened = open(place, axis.processes(value), &step);
                    if let Err(err) = &opened
                        && axis == Axis::Connections
                        && value > EVERY_ROUND_MAX
                    {
                        // The measure looks for this machine's limit.
                        let refused = format!("{} did not open: {err:#}", axis.text(value));
                        scaling.refused = Some(refused);
                        continue;
                    }
                    if let Some(jsons) =
                        failures.take(Subject::Ours, &what, opened.and_then(measure))
                    {
                        scaling.told.push(Told { axis, value, jsons });
                    }
                }
                if axis == Axis::Connections && !scaling.is_in_time(value) {
                    println!(
                        "no more connections: so many do not open, or their pushes do not keep up"
                    );
                    break;
                }
            }
        }
    }
    scaling
}

/// A load and its server. The load is dropped first, because a server without connections ends
/// sooner.
type Held = (Load, Server);

/// Starts this many servers of ours with the same load on each, which is held when all connections
/// are open.
fn open(place: &Place, processes: u32, step: &Step) -> anyhow::Result<Vec<Held>> {
    let words = format!("--hold {}", step.words);
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let start = |at: usize| -> anyhow::Result<Held> {
        let log = place.home.join(format!("scaling-{at}.log"));
        let server =
            Server::start(&log, |address| Ok(Subject::ours(place, address, step.ping_interval)))?;
        let name = format!("scaling-{at}.json");
        let load = load::start(place, Subject::Ours, &server, &words, &name)?;
        Ok((load, server))
    };
    let processes = usize::try_from(processes)?;
    let mut runs = Vec::new();
    for at in 0..processes + OPENING_MAX - 1 {
        if at < processes {
            runs.push(start(at)?);
        }
        let Some(before) = (at + 1).checked_sub(OPENING_MAX) else { continue };
        let (load, server) = &mut runs[before];
        load.wait_until_open(server)?;
        // While others open, an earlier load can lose its connections.
        for (load, server) in &mut runs[..before] {
            load.ensure_held(server)?;
        }
    }
    Ok(runs)
}

/// Releases all loads at the same time, and returns their reports.
fn measure(mut runs: Vec<Held>) -> anyhow::Result<Vec<Value>> {
    for (load, _) in &mut runs {
        load.let_go()?;
    }
    runs.into_iter()
        .map(|(load, mut server)| {
            let json = load.finish(&server)?;
            server.stop()?;
            Ok(json)
        })
        .collect()
}

impl Scaling {
    /// All reports, one from each server.
    pub(super) fn jsons(&self) -> impl Iterator<Item = &Value> {
        self.told.iter().flat_map(|told| &told.jsons)
    }

    /// Untrue answers of the server.
    pub(super) fn untrue(&self) -> Vec<String> {
        let of = |told: &Told| -> Vec<String> {
            let checks = told.jsons.iter().flat_map(untrue_checks);
            checks.map(|it| format!("scaling, {} {}: {it}", told.axis.name(), told.value)).collect()
        };
        self.told.iter().flat_map(of).collect()
    }

    /// Whether this many connections were held, and got as many pushes as intended.
    fn is_in_time(&self, connections: u32) -> bool {
        let dots = self.panel(Axis::Connections, PUSHES).dots;
        let found = dots.iter().find(|it| it.x == f64::from(connections));
        found.is_some_and(|it| it.y.median >= IN_TIME * f64::from(STEADY_RATE))
    }

    /// The measured values of an axis, in order.
    fn values(&self, axis: Axis) -> BTreeSet<u32> {
        self.told.iter().filter(|it| it.axis == axis).map(|it| it.value).collect()
    }

    /// A figure over an axis.
    fn panel(&self, axis: Axis, column: Column) -> Panel {
        let mut dots = Vec::new();
        for value in self.values(axis) {
            let of_round = |told: &Told| -> Option<f64> {
                let figures: Option<Vec<f64>> =
                    told.jsons.iter().map(|json| json.pointer(column.path)?.as_f64()).collect();
                let figures = figures?;
                let sum: f64 = figures.iter().sum();
                Some(if column.is_shared { sum } else { sum / figures.len() as f64 })
            };
            let found = self.told.iter().filter(|it| it.axis == axis && it.value == value);
            if let Some(series) = Series::of(found.filter_map(of_round).collect()) {
                dots.push(Dot { x: f64::from(value), label: axis.text(value), y: series });
            }
        }
        Panel { title: column.title, is_log: column.is_log, dots }
    }

    /// The pictures, by file name.
    pub(super) fn pictures(&self) -> Vec<(String, String)> {
        let picture = |axis: Axis| {
            let panels: Vec<Panel> =
                axis.columns().iter().map(|it| self.panel(axis, *it)).collect();
            (format!("{}.svg", axis.name()), plot::svg(axis.label(), &panels))
        };
        Axis::ALL.into_iter().map(picture).collect()
    }

    /// A section of the page: for each axis the description, a sentence, the picture and the
    /// figures.
    pub(super) fn section(&self) -> String {
        if self.told.is_empty() {
            return "Not measured in this run.\n".to_owned();
        }
        let mut out = String::new();
        for axis in Axis::ALL {
            let panels: Vec<Panel> =
                axis.columns().iter().map(|it| self.panel(axis, *it)).collect();
            let (label, name) = (axis.label(), axis.name());
            let _ = writeln!(out, "### {label}\n\n{}", axis.what());
            let _ = writeln!(out, "{}\n", sentence(&panels));
            let _ = writeln!(out, "![{label}](benchmarks/{name}.svg)\n");
            let titles: Vec<&str> = panels.iter().map(|it| it.title).collect();
            let rule = "|---".repeat(panels.len() + 1);
            let _ = writeln!(out, "| {label} | {} |\n{rule}|", titles.join(" | "));
            for value in self.values(axis).into_iter().map(|it| axis.text(it)) {
                let cells: Vec<String> = panels
                    .iter()
                    .filter_map(|panel| panel.dots.iter().find(|dot| dot.label == value))
                    .map(|dot| dot.y.to_string())
                    .collect();
                if !cells.is_empty() {
                    let _ = writeln!(out, "| {value} | {} |", cells.join(" | "));
                }
            }
            out.push('\n');
            if axis == Axis::Connections
                && let Some(refused) = &self.refused
            {
                // The output of a program can have several lines; a sentence has one.
                let _ = writeln!(out, "{}.\n", refused.replace('\n', " "));
            }
        }
        out
    }
}

/// How each figure changes from the first dot to the last.
fn sentence(panels: &[Panel]) -> String {
    let Some([from, .., to]) = panels.first().map(|it| &it.dots[..]) else { return String::new() };
    let change = |panel: &Panel| {
        let (first, last) = (panel.dots.first()?.y.median, panel.dots.last()?.y.median);
        let [first_text, last_text, factor] = [first, last, last / first].map(figure);
        Some(format!("{} go from {first_text} to {last_text} ({factor} ×)", panel.title))
    };
    let changes: Vec<String> = panels.iter().filter_map(change).collect();
    format!("From {} to {}: {}.", from.label, to.label, changes.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(told: Vec<Told>) -> Scaling {
        Scaling { told, refused: None }
    }

    fn told(value: u32, jsons: Vec<Value>) -> Told {
        Told { axis: Axis::Connections, value, jsons }
    }

    fn json(cores: f64, pushes: f64) -> Value {
        json!({ "figures": {
            "server_cpu_cores": cores, "pushes_per_second": pushes, "resident_bytes_max": 2e7
        } })
    }

    #[test]
    fn processes_are_taken_together() {
        let scaling = all(vec![
            told(1000, vec![json(0.25, 10_000.0)]),
            told(30_000, vec![json(0.25, 5000.0), json(0.5, 5000.0)]),
        ]);
        assert_eq!(Axis::Connections.processes(30_000), 2);
        let section = scaling.section();
        assert!(section.contains("cores go from 0.250 to 0.750 (3.00 ×)"), "{section}");
        assert!(section.contains("| 30 k | 0.750 | 10.0 k | 40.00 M |"), "{section}");
        assert_eq!(scaling.pictures().len(), Axis::ALL.len());
        assert!(scaling.untrue().is_empty());
    }

    #[test]
    fn what_did_not_open_is_told() {
        let told = vec![told(1000, vec![json(0.25, 10_000.0)])];
        let scaling =
            Scaling { told, refused: Some("2 k did not open: it ended\nat once".to_owned()) };
        let section = scaling.section();
        assert!(section.contains("\n\n2 k did not open: it ended at once.\n\n###"), "{section}");
    }

    #[test]
    fn connections_double_while_there_is_memory() {
        let values = |memory| Axis::Connections.values(false, memory);
        assert_eq!(values(0), [1000, 5000]);
        assert_eq!(values(30_000 * LOOPBACK_BYTES), [1000, 5000, 15_000, 30_000]);
        assert_eq!(values(60_000 * LOOPBACK_BYTES - 1), [1000, 5000, 15_000, 30_000]);
    }

    #[test]
    fn connections_grow_until_pushes_fall_behind() {
        let scaling = all(vec![
            told(30_000, vec![json(0.25, 4990.0), json(0.25, 4990.0)]),
            told(60_000, vec![json(0.5, 4600.0), json(0.5, 4600.0)]),
        ]);
        let is_in_time = [30_000, 60_000, 120_000].map(|it| scaling.is_in_time(it));
        assert_eq!(is_in_time, [true, false, false], "of the last nothing is known");
    }
}
