//! How our cost grows: with connections, users, events, the size of a group and of a message.

use std::fmt::Write as _;

use serde_json::Value;

use super::measure::DEFAULT_PING_INTERVAL;
use super::plot::{self, Dot, Panel};
use super::runs::{Series, figure, untrue_checks};
use super::server::Server;
use super::subject::Subject;
use super::{Effort, Outcome, Place, load};

/// So many connections in one process: below the hard limit of descriptors that is usual.
const PROCESS_CONNECTIONS_MAX: u32 = 15_000;
/// Pushes a second while connections are what grows.
const STEADY_RATE: u32 = 10_000;

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Connections,
    Users,
    Events,
    Group,
    MessageBytes,
}

/// A figure of the load generator: title, place, whether its axis is logarithmic.
type Column = (&'static str, &'static str, bool);

const CPU_PER_DELIVERY: Column = ("CPU µs per delivery", "/figures/cpu_us_per_delivery", true);
const DELIVERIES: Column = ("deliveries/s", "/figures/deliveries_per_second", true);
const CPU_PER_PUSH: Column = ("CPU µs per push", "/figures/cpu_us_per_push", false);
const PUSHES: Column = ("pushes/s", "/figures/pushes_per_second", false);
const BYTES: Column = ("bytes per idle connection", "/figures/bytes_per_connection", false);

impl Axis {
    pub(super) const ALL: [Self; 5] =
        [Self::Connections, Self::Users, Self::Events, Self::Group, Self::MessageBytes];

    /// The name of its picture.
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

    /// A value as people write it.
    fn text(self, value: u32) -> String {
        match (self, value) {
            (Self::MessageBytes, _) if value >= 1 << 20 => format!("{} MiB", value >> 20),
            (Self::MessageBytes, _) if value >= 1 << 10 => format!("{} KiB", value >> 10),
            (_, 10_000..) => format!("{} k", value / 1000),
            _ => value.to_string(),
        }
    }

    /// What was done, for the page.
    fn what(self) -> &'static str {
        match self {
            Self::Connections => {
                "10,000 pushes a second in all, to each user in turn; memory after a heartbeat. Up to 15,000 connections are in one process, and more in as many as that takes, which share the one core."
            }
            Self::Users => {
                "Pushes to each user in turn, from 64 pushers (16 for 16 users) in a closed loop."
            }
            Self::Events => {
                "Saturated fan-out to 1,000 connections of one user by 16 pushers, whose pushes take the events in turn; memory of 4,000 connections after a heartbeat."
            }
            Self::Group => "Saturated fan-out to one user by 16 pushers.",
            Self::MessageBytes => "Saturated fan-out to 100 connections of one user by 4 pushers.",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Self::Connections => &[CPU_PER_PUSH, BYTES],
            Self::Users => &[CPU_PER_PUSH, PUSHES],
            Self::Events => &[CPU_PER_DELIVERY, DELIVERIES, BYTES],
            Self::Group | Self::MessageBytes => &[CPU_PER_DELIVERY, DELIVERIES],
        }
    }

    fn values(self, is_quick: bool) -> &'static [u32] {
        match (self, is_quick) {
            (Self::Connections, true) => &[1000, 2000],
            (Self::Connections, false) => {
                &[1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000]
            }
            (Self::Users, true) => &[16, 1024],
            (Self::Users, false) => &[16, 64, 256, 1024, 4096, 15_000],
            (Self::Events, true) => &[1, 16],
            (Self::Events, false) => &[1, 4, 16, 64],
            (Self::Group, true) => &[1, 64],
            (Self::Group, false) => &[1, 4, 16, 32, 64, 256, 1024, 4096],
            (Self::MessageBytes, true) => &[16, 1 << 20],
            (Self::MessageBytes, false) => &[16, 128, 1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20],
        }
    }

    /// Servers that share the load.
    fn processes(self, value: u32) -> u32 {
        match self {
            Self::Connections => value.div_ceil(PROCESS_CONNECTIONS_MAX),
            Self::Users | Self::Events | Self::Group | Self::MessageBytes => 1,
        }
    }

    /// The words of `wserver-load` for each process; what is measured once stands behind.
    fn loads(self, value: u32, seconds: u32) -> (Vec<String>, Vec<String>) {
        let window = format!("--warmup 500ms --duration {seconds}s");
        match self {
            Self::Connections => {
                let processes = self.processes(value);
                let (each, rate) = (value / processes, STEADY_RATE / processes);
                // Several generators do not open at the same pace; all are to be open by then.
                let warmup = if processes > 1 { 4 * processes } else { 1 };
                (
                    vec![format!(
                        "unicast --connections {each} --rate {rate} --sources 16 --warmup {warmup}s --duration {seconds}s"
                    )],
                    vec![format!("idle --connections {each} --heartbeats 1 --sources 16")],
                )
            }
            Self::Users => {
                let pushers = value.min(64);
                (
                    vec![format!(
                        "unicast --connections {value} --pushers {pushers} --sources 16 {window}"
                    )],
                    Vec::new(),
                )
            }
            Self::Events => (
                vec![format!("fanout --saturated --pushers 16 --events {value} {window}")],
                vec![format!(
                    "idle --connections 4000 --events {value} --heartbeats 1 --sources 16"
                )],
            ),
            Self::Group => (
                vec![format!("fanout --saturated --pushers 16 --connections {value} {window}")],
                Vec::new(),
            ),
            Self::MessageBytes => (
                vec![format!(
                    "fanout --saturated --pushers 4 --connections 100 --message-bytes {value} {window}"
                )],
                Vec::new(),
            ),
        }
    }
}

/// What one load at one place of an axis told; one of each process.
#[derive(Debug)]
struct Told {
    axis: Axis,
    value: u32,
    jsons: Vec<Value>,
}

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Scaling(Vec<Told>);

/// Measures every axis.
pub(super) fn run(place: &Place, effort: Effort, is_quick: bool, outcome: &mut Outcome) {
    for round in 0..effort.scaling_rounds {
        for axis in Axis::ALL {
            for &value in axis.values(is_quick) {
                let (often, once) = axis.loads(value, effort.scaling_seconds);
                let often = often.into_iter().map(|words| (words, DEFAULT_PING_INTERVAL));
                // These wait for a heartbeat.
                let once = once.into_iter().map(|words| (words, "3s")).filter(|_| round == 0);
                for (words, ping_interval) in often.chain(once) {
                    let what = format!("scaling, {} {}", axis.name(), axis.text(value));
                    println!("round {} of {}: {what}", round + 1, effort.scaling_rounds);
                    let jsons = together(place, axis.processes(value), &words, ping_interval);
                    if let Some(jsons) = outcome.take(Subject::Ours, &what, jsons) {
                        outcome.scaling.0.push(Told { axis, value, jsons });
                    }
                }
            }
        }
    }
}

/// Puts the same load on so many servers of ours at the same time.
fn together(
    place: &Place,
    processes: u32,
    words: &str,
    ping_interval: &str,
) -> anyhow::Result<Vec<Value>> {
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let mut runs = Vec::new();
    for at in 0..processes {
        let log = place.home.join(format!("scaling-{at}.log"));
        let server =
            Server::start(&log, |address| Ok(Subject::ours(place, address, ping_interval)))?;
        let load =
            load::start(place, Subject::Ours, &server, &words, &format!("scaling-{at}.json"))?;
        runs.push((server, load));
    }
    runs.into_iter()
        .map(|(mut server, load)| {
            let json = load.finish(&server)?;
            server.stop()?;
            Ok(json)
        })
        .collect()
}

impl Scaling {
    /// All that was told, one of each server.
    pub(super) fn jsons(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().flat_map(|told| &told.jsons)
    }

    /// What the server said that was not so.
    pub(super) fn untrue(&self) -> Vec<String> {
        let of = |told: &Told| -> Vec<String> {
            let checks = told.jsons.iter().flat_map(untrue_checks);
            checks.map(|it| format!("scaling, {} {}: {it}", told.axis.name(), told.value)).collect()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// A figure over an axis: of several processes the mean, of rates the sum.
    fn panel(&self, axis: Axis, (title, path, is_log): Column) -> Panel {
        let mut dots = Vec::new();
        for &value in axis.values(false) {
            let of_round = |told: &Told| -> Option<f64> {
                let figures: Option<Vec<f64>> =
                    told.jsons.iter().map(|json| json.pointer(path)?.as_f64()).collect();
                let figures = figures?;
                let sum: f64 = figures.iter().sum();
                Some(if title.ends_with("/s") { sum } else { sum / figures.len() as f64 })
            };
            let found = self.0.iter().filter(|it| it.axis == axis && it.value == value);
            if let Some(series) = Series::of(found.filter_map(of_round).collect()) {
                dots.push(Dot { x: f64::from(value), label: axis.text(value), y: series });
            }
        }
        Panel { title, is_log, dots }
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

    /// A section of the page: for each axis what was done, a sentence, the picture and its figures.
    pub(super) fn section(&self) -> String {
        if self.0.is_empty() {
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
            for value in axis.values(false).iter().map(|it| axis.text(*it)) {
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
        }
        out
    }
}

/// How each figure goes from the first dot to the last.
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

    #[test]
    fn processes_are_taken_together() {
        let json = |cpu: f64| json!({ "figures": { "cpu_us_per_push": cpu, "bytes_per_connection": 1000.0 } });
        let scaling = Scaling(vec![
            Told { axis: Axis::Connections, value: 1000, jsons: vec![json(20.0)] },
            Told { axis: Axis::Connections, value: 30_000, jsons: vec![json(20.0), json(30.0)] },
        ]);
        assert_eq!(Axis::Connections.processes(30_000), 2);
        let section = scaling.section();
        assert!(section.contains("CPU µs per push go from 20.0 to 25.0 (1.25 ×)"), "{section}");
        assert!(section.contains("| 30 k | 25.0 | 1000 |"), "{section}");
        assert_eq!(scaling.pictures().len(), Axis::ALL.len());
        assert!(scaling.untrue().is_empty());
    }
}
