//! `docs/benchmarks.md`, written from the runs.

use std::fmt::Write as _;

use super::budget::{self, Row};
use super::measure::Measure;
use super::outcome::Outcome;
use super::rounds::TRIES_MAX;
use super::runs::{Runs, figure};
use super::secured;
use super::setup::{Effort, Place};
use super::subject::Subject;

/// The page with a placeholder `{a name}` for each figure.
const TEMPLATE: &str = include_str!("page.md");

/// Titles, and the paths of their figures.
type Columns = &'static [(&'static str, &'static str)];

/// The tables of all subjects.
const TABLES: &[(&str, Measure, Columns)] = &[
    (
        "Memory of idle registered connections",
        Measure::Idle,
        &[
            ("bytes each, just opened", "/figures/bytes_per_connection_opened"),
            ("bytes each, after heartbeats", "/figures/bytes_per_connection"),
            ("kernel's bytes each, both ends", "/figures/kernel_bytes_per_connection"),
            ("bytes without any", "/figures/resident_bytes_before"),
        ],
    ),
    (
        "Paced fan-out: 20 pushes a second to 1,000 connections",
        Measure::Paced,
        &[
            ("CPU µs per delivery", "/figures/cpu_us_per_delivery"),
            ("delivery p50, µs", "/latencies_us/delivery/p50"),
            ("p99, µs", "/latencies_us/delivery/p99"),
        ],
    ),
    ("Saturated fan-out to 1,000 connections, 64 pushers", Measure::Saturated(64), SATURATED),
    ("Saturated fan-out to 1,000 connections, 16 pushers", Measure::Saturated(16), SATURATED),
    ("Saturated fan-out to 1,000 connections, 1 pusher", Measure::Saturated(1), SATURATED),
    (
        "1,000 pushes a second to 1,000 connections",
        Measure::Even,
        &[
            ("deliveries/s", "/figures/deliveries_per_second"),
            ("CPU µs per delivery", "/figures/cpu_us_per_delivery"),
            ("delivery p50, µs", "/latencies_us/delivery/p50"),
            ("p99, µs", "/latencies_us/delivery/p99"),
            ("due and not sent", "/figures/pushes_unsent"),
        ],
    ),
    (
        "Unicast to 1,000 users, 64 pushers in a closed loop",
        Measure::Unicast,
        &[
            ("pushes/s", "/figures/pushes_per_second"),
            ("CPU µs per push", "/figures/cpu_us_per_push"),
            ("delivery p50, µs", "/latencies_us/delivery/p50"),
            ("p99, µs", "/latencies_us/delivery/p99"),
        ],
    ),
    (
        "Unicast at half the rate of the slower of both, by its median of the round",
        Measure::UnicastHalf,
        &[
            ("pushes/s", "/figures/pushes_per_second"),
            ("delivery p50, µs", "/latencies_us/delivery/p50"),
            ("p99, µs", "/latencies_us/delivery/p99"),
            ("answer p99, µs", "/latencies_us/push round trip/p99"),
        ],
    ),
    (
        "Saturated fan-out of 16 KiB messages to 200 connections, 20 of which do not read",
        Measure::SlowReaders,
        &[
            ("deliveries/s", "/figures/deliveries_per_second"),
            ("disconnected", "/figures/stalled_evicted"),
            ("resident bytes before", "/figures/resident_bytes_before"),
            ("at most", "/figures/resident_bytes_max"),
        ],
    ),
    (
        "Connections that come and go, 64 at a time, while 100 others get pushes",
        Measure::Churn,
        &[
            ("lives/s", "/figures/lives_per_second"),
            ("opening p99, µs", "/latencies_us/opening/p99"),
            ("delivery p99, µs", "/latencies_us/delivery/p99"),
            ("resident bytes before", "/figures/resident_bytes_before"),
            ("after", "/figures/resident_bytes_after"),
        ],
    ),
    (
        "All clients leave at once while 200 per second arrive, then and afterwards (the *slowest unbind* below shows how long a lock is held)",
        Measure::MassDisconnect,
        &[
            ("leaving took, ms", "/figures/leaving_ms"),
            ("all sockets gone after, ms", "/figures/all_descriptors_gone_ms"),
            ("newcomers started before that", "/figures/newcomers_before_gone"),
            ("newcomers in all", "/figures/newcomers"),
            ("opening p99 before, µs", "/latencies_us/opening before/p99"),
            ("all newcomers' opening p99, µs", "/latencies_us/opening of newcomers/p99"),
            ("longest, µs", "/latencies_us/opening of newcomers/max"),
            ("delivery p99 to those who stay, µs", "/latencies_us/delivery/p99"),
        ],
    ),
    (
        "All clients leave, miss 2 messages each, and come back at once, 512 handshakes at a time",
        Measure::Resume,
        &[
            ("all have everything after, ms", "/figures/all_resumed_ms"),
            ("clients/s", "/figures/resumed_per_second"),
            ("CPU µs per client", "/figures/cpu_us_per_connection"),
            ("opening p99 before, µs", "/latencies_us/opening before/p99"),
            ("after, µs", "/latencies_us/opening after/p99"),
        ],
    ),
    (
        "Memory of users who are away, with 2 kept messages of 300 bytes each",
        Measure::Kept,
        &[
            ("bytes per user", "/figures/bytes_per_user"),
            ("of which the log alone", "/figures/bytes_per_log"),
            ("bytes per message", "/figures/bytes_per_message"),
        ],
    ),
    (
        "A push that waits until 1,000 connections have acknowledged it, 10 times a second",
        Measure::Waits,
        &[
            ("answer p50, µs", "/latencies_us/push that waits/p50"),
            ("p99, µs", "/latencies_us/push that waits/p99"),
            ("CPU µs per acknowledgement", "/figures/cpu_us_per_acknowledgement"),
            ("generator's", "/figures/generator_cpu_us_per_acknowledgement"),
        ],
    ),
];

const SATURATED: Columns = &[
    ("deliveries/s", "/figures/deliveries_per_second"),
    ("CPU µs per delivery", "/figures/cpu_us_per_delivery"),
    ("delivery p50, µs", "/latencies_us/delivery/p50"),
    ("p99, µs", "/latencies_us/delivery/p99"),
    ("generator, cores", "/figures/generator_cpu_cores"),
];

/// All figures, one table for each measure.
pub(super) fn figures(runs: &Runs) -> String {
    let mut out = String::new();
    for (title, measure, columns) in TABLES {
        let mut lines = String::new();
        for subject in Subject::ALL {
            let cells: Vec<_> =
                columns.iter().map(|(_, path)| runs.series(*measure, subject, path)).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(lines, "| {} |", subject.name());
            for cell in cells {
                let cell = cell.map_or_else(|| "–".to_owned(), |it| it.to_string());
                let _ = write!(lines, " {cell} |");
            }
            lines.push('\n');
        }
        if lines.is_empty() {
            continue;
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let rule = "|---".repeat(columns.len() + 1);
        let _ =
            write!(out, "### {title}\n\n| subject | {} |\n{rule}|\n{lines}\n", names.join(" | "));
    }
    out
}

/// The complete page.
pub(super) fn write(
    facts: &[(String, String)],
    effort: Effort,
    place: &Place,
    outcome: &Outcome,
    rows: &[Row],
) -> String {
    let Outcome { runs, scaling, binder, memory, .. } = outcome;
    let pinning = match place.is_pinned {
        true => {
            "`taskset` pins every server, including ours, to core 0 and the generator to core 1; so every server has one core, however many threads it starts"
        }
        false => "Nothing is pinned: there is one core, or no `taskset`",
    };
    let jsons = || runs.jsons().chain(scaling.jsons());
    let checks: usize = jsons().map(|it| it["checks"].as_array().map_or(0, Vec::len)).sum();
    let idle = runs.series(Measure::Idle, Subject::Ours, "/figures/bytes_per_connection");
    let clusters = match outcome.has_cluster_page {
        true => "from the same run",
        false => "from a separate run, whose commit and date are on that page",
    };
    let lines = Subject::ALL.into_iter().filter_map(Subject::source).map(|it| it.lines().count());
    let (least, most) =
        lines.fold((usize::MAX, 0), |(least, most), it| (least.min(it), most.max(it)));
    let mut page = TEMPLATE.to_owned();
    for (name, text) in [
        ("budget", budget::table(rows)),
        ("subjects", subjects()),
        ("figures", figures(runs)),
        ("secured", secured::table(runs)),
        ("binder", binder.table()),
        ("memory", memory.table(idle)),
        ("capacity", capacity(runs)),
        ("scaling", scaling.section()),
        ("untrue", untrue(outcome)),
        ("runs", jsons().count().to_string()),
        ("checks", checks.to_string()),
        ("rounds", effort.rounds.to_string()),
        ("binder rounds", effort.binder_rounds.to_string()),
        ("lateness", figure(Measure::UnicastHalf.lateness_max())),
        ("turns", Measure::Unicast.turns().to_string()),
        ("tries", TRIES_MAX.to_string()),
        ("voids", voids(runs)),
        ("bare", bare(runs)),
        ("clusters", clusters.to_owned()),
        ("lines", format!("{least} to {most} lines")),
        ("seconds", effort.seconds.to_string()),
        ("paced seconds", effort.paced_seconds.to_string()),
        ("scaling rounds", effort.scaling_rounds.to_string()),
        ("scaling seconds", effort.scaling_seconds.to_string()),
        ("pinning", pinning.to_owned()),
        ("machine", facts_table(facts)),
    ] {
        page = page.replace(&format!("{{{name}}}"), text.trim_end());
    }
    page
}

/// The cost of our server compared with the leanest floor, which the budget does not use.
fn bare(runs: &Runs) -> String {
    let ratio = runs.ratio(Measure::Unicast, Subject::BareFloor, "/figures/cpu_us_per_push");
    format!(
        "compared with it, a push to one connection costs ours {} times the CPU.",
        budget::or_dash(ratio)
    )
}

/// How many runs were void, of which subjects, and how the figure changes without them.
fn voids(runs: &Runs) -> String {
    let measure = Measure::UnicastHalf;
    let (ours, ours_all) = runs.voids(measure, Subject::Ours);
    let (theirs, theirs_all) = runs.voids(measure, Subject::Bun);
    if ours_all + theirs_all == 0 {
        return "It was not measured in this run.".to_owned();
    }
    let path = "/latencies_us/delivery/p99";
    let ratio = budget::or_dash(runs.ratio(measure, Subject::Bun, path));
    let firsts = budget::or_dash(runs.ratio_of_firsts(measure, Subject::Bun, path));
    format!(
        "Void runs: {} of {}, namely {ours} of {ours_all} of ours and {theirs} of {theirs_all} of Bun's. If we count the first run of each turn, however late it was, the ratio of p99 is {firsts} instead of {ratio}.",
        ours + theirs,
        ours_all + theirs_all
    )
}

fn subjects() -> String {
    let mut out = "| subject | what it is |\n|---|---|\n".to_owned();
    for subject in Subject::ALL {
        let _ = writeln!(out, "| {} | {} |", subject.name(), subject.what());
    }
    out
}

pub(super) fn facts_table(facts: &[(String, String)]) -> String {
    let mut out = "| | |\n|---|---|\n".to_owned();
    for (name, value) in facts {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    out
}

fn untrue(outcome: &Outcome) -> String {
    let of = |subject: Subject| {
        let lines = outcome.runs.untrue(subject).into_iter();
        lines.map(move |line| format!("- {}: {line}\n", subject.name()))
    };
    let mut out: String = Subject::ALL.into_iter().flat_map(of).collect();
    for line in outcome.scaling.untrue() {
        let _ = writeln!(out, "- wserver: {line}");
    }
    for (subject, line) in &outcome.failures.0 {
        // What a program said may have lines; an item of a list has one.
        let _ = writeln!(out, "- {}: {}", subject.name(), line.replace('\n', " "));
    }
    if out.is_empty() { "All of them held, for every subject.".to_owned() } else { out }
}

/// What a machine would carry; the text says that this is arithmetic.
fn capacity(runs: &Runs) -> String {
    const MEMORY: f64 = 24.0 * 1024.0 * 1024.0 * 1024.0;
    const KEPT_FREE: f64 = 4.0 * 1024.0 * 1024.0 * 1024.0;
    let series = |measure, path| runs.series(measure, Subject::Ours, path);
    let of = |measure, path| series(measure, path).map(|it| it.median);
    let Some(ours) = of(Measure::Idle, "/figures/bytes_per_connection") else {
        return "Not measured in this run.".to_owned();
    };
    // Both ends of a loopback connection are on this machine; only one would be on the machine in
    // question.
    let kernel = series(Measure::Idle, "/figures/kernel_bytes_per_connection");
    let kernel = kernel.map_or(4100.0, |it| it.high / 2.0);
    let connections = (MEMORY - KEPT_FREE) / (ours + kernel);
    let mut out = format!(
        "(24 GiB − 4 GiB kept for the system and for queues) ÷ ({} B of ours + {} B of the kernel) = **{} idle connections**.",
        figure(ours),
        figure(kernel),
        figure(connections)
    );
    if let (Some(fanout), Some(unicast)) = (
        of(Measure::Paced, "/figures/cpu_us_per_delivery"),
        of(Measure::Unicast, "/figures/cpu_us_per_push"),
    ) {
        let _ = write!(
            out,
            "\nA core of this machine's speed would deliver 1 s ÷ {} µs = {} messages per second to groups at an even pace, or take 1 s ÷ {} µs = {} pushes per second to one connection each.",
            figure(fanout),
            figure(1e6 / fanout),
            figure(unicast),
            figure(1e6 / unicast)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::runs::Run;
    use super::*;

    #[test]
    fn what_is_void_is_told_of_both() {
        let mut runs = Runs::default();
        assert!(voids(&runs).contains("not measured"));
        for (subject, is_void, p99) in [
            (Subject::Ours, false, 100.0),
            (Subject::Bun, true, 50.0),
            (Subject::Bun, false, 200.0),
        ] {
            let json = json!({ "latencies_us": { "delivery": { "p99": p99 } } });
            let measure = Measure::UnicastHalf;
            runs.push(Run { round: 0, turn: 0, measure, subject, is_void, json });
        }
        assert_eq!(
            voids(&runs),
            "Void runs: 1 of 3, namely 0 of 1 of ours and 1 of 2 of Bun's. If we count the first run of each turn, however late it was, the ratio of p99 is 2.00 instead of 0.500."
        );
    }

    #[test]
    fn every_place_of_the_page_is_filled_in() {
        let (outcome, place) = (Outcome::default(), Place::default());
        let effort = Effort::new(true);
        let facts = [("date".to_owned(), "today".to_owned())];
        let rows = budget::rows(&outcome.runs, &outcome.binder);
        let page = write(&facts, effort, &place, &outcome, &rows);
        assert!(!page.contains('{'), "{page}");
        assert!(page.contains("| date | today |") && page.contains("| not measured |"), "{page}");
    }
}
