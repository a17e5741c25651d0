//! The budget: what must be met, what is hoped for, and what a run found.

use std::fmt::Write as _;

use super::binder::{self, Binder};
use super::measure::Measure;
use super::runs::{Runs, Series, figure};
use super::subject::Subject;

/// The limit that a figure is compared with.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {}", figure(bound)),
            Self::AtLeast(bound) => format!("≥ {}", figure(bound)),
        }
    }
}

/// The source of a figure.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Runs of the load generator, and the path in its report.
    Load(Measure, &'static str),
    /// The binder's own benchmark.
    Binder(&'static str),
}

/// One line of the budget.
struct Line {
    what: &'static str,
    /// Whose figure it is.
    of: Subject,
    source: Source,
    /// The figure is compared with this subject's figure, or taken as it is.
    against: Option<Subject>,
    must: Bound,
    aim: Option<Bound>,
}

const CPU_PER_DELIVERY: &str = "/figures/cpu_us_per_delivery";
const DELIVERIES: &str = "/figures/deliveries_per_second";
const DELIVERY_P99: &str = "/latencies_us/delivery/p99";

const LINES: &[Line] = &[
    Line {
        what: "resident bytes per idle registered connection, after two heartbeats",
        of: Subject::Ours,
        source: Source::Load(Measure::Idle, "/figures/bytes_per_connection"),
        against: None,
        must: Bound::AtMost(1300.0),
        aim: Some(Bound::AtMost(830.0)),
    },
    Line {
        what: "paced fan-out, CPU per delivery",
        of: Subject::Ours,
        source: Source::Load(Measure::Paced, CPU_PER_DELIVERY),
        against: Some(Subject::Floor),
        must: Bound::AtMost(1.15),
        aim: Some(Bound::AtMost(1.0)),
    },
    Line {
        what: "paced fan-out, CPU per delivery",
        of: Subject::Ours,
        source: Source::Load(Measure::Paced, CPU_PER_DELIVERY),
        against: Some(Subject::Bun),
        must: Bound::AtMost(1.0),
        aim: None,
    },
    Line {
        what: "saturated fan-out, 64 pushers, deliveries per second",
        of: Subject::Ours,
        source: Source::Load(Measure::Saturated(64), DELIVERIES),
        against: Some(Subject::Bun),
        must: Bound::AtLeast(3.0),
        aim: Some(Bound::AtLeast(5.0)),
    },
    Line {
        what: "saturated fan-out, 64 pushers, CPU per delivery",
        of: Subject::Ours,
        source: Source::Load(Measure::Saturated(64), CPU_PER_DELIVERY),
        against: Some(Subject::Bun),
        must: Bound::AtMost(0.5),
        aim: None,
    },
    Line {
        what: "saturated fan-out, 16 pushers, deliveries per second",
        of: Subject::Ours,
        source: Source::Load(Measure::Saturated(16), DELIVERIES),
        against: Some(Subject::Bun),
        must: Bound::AtLeast(3.0),
        aim: Some(Bound::AtLeast(6.0)),
    },
    Line {
        what: "saturated fan-out, 1 pusher, deliveries per second",
        of: Subject::Ours,
        source: Source::Load(Measure::Saturated(1), DELIVERIES),
        against: Some(Subject::Bun),
        must: Bound::AtLeast(5.0),
        aim: Some(Bound::AtLeast(30.0)),
    },
    Line {
        what: "delivery p99 at 1,000 pushes a second to 1,000",
        of: Subject::Ours,
        source: Source::Load(Measure::Even, DELIVERY_P99),
        against: Some(Subject::Bun),
        must: Bound::AtMost(1.2),
        aim: Some(Bound::AtMost(1.0)),
    },
    Line {
        what: "unicast, pushes per second",
        of: Subject::Ours,
        source: Source::Load(Measure::Unicast, "/figures/pushes_per_second"),
        against: Some(Subject::Bun),
        must: Bound::AtLeast(1.25),
        aim: None,
    },
    Line {
        what: "unicast, CPU per push",
        of: Subject::Ours,
        source: Source::Load(Measure::Unicast, "/figures/cpu_us_per_push"),
        against: Some(Subject::Floor),
        must: Bound::AtMost(1.3),
        aim: Some(Bound::AtMost(1.15)),
    },
    Line {
        what: "unicast p99 at half the saturated rate",
        of: Subject::Ours,
        source: Source::Load(Measure::UnicastHalf, DELIVERY_P99),
        against: Some(Subject::Bun),
        must: Bound::AtMost(1.0),
        aim: Some(Bound::AtMost(0.5)),
    },
    Line {
        what: "version 2: resident bytes per idle registered connection, after two heartbeats",
        of: Subject::V2,
        source: Source::Load(Measure::Idle, "/figures/bytes_per_connection"),
        against: None,
        must: Bound::AtMost(1000.0),
        aim: None,
    },
    Line {
        what: "version 2: paced fan-out, CPU per delivery",
        of: Subject::V2,
        source: Source::Load(Measure::Paced, CPU_PER_DELIVERY),
        against: Some(Subject::Ours),
        must: Bound::AtMost(1.03),
        aim: None,
    },
    Line {
        what: "version 2: unicast, CPU per push",
        of: Subject::V2,
        source: Source::Load(Measure::Unicast, "/figures/cpu_us_per_push"),
        against: Some(Subject::Ours),
        must: Bound::AtMost(1.03),
        aim: None,
    },
    Line {
        what: "version 2: saturated fan-out, 64 pushers, deliveries per second",
        of: Subject::V2,
        source: Source::Load(Measure::Saturated(64), DELIVERIES),
        against: Some(Subject::Ours),
        must: Bound::AtLeast(0.9),
        aim: None,
    },
    Line {
        what: "replay: unicast, CPU per push that is kept",
        of: Subject::Replay,
        source: Source::Load(Measure::Unicast, "/figures/cpu_us_per_push"),
        against: Some(Subject::V2),
        must: Bound::AtMost(1.1),
        aim: None,
    },
    Line {
        what: "binder of 1 M users: bind one and unbind it by its name, ns",
        of: Subject::Ours,
        source: Source::Binder(binder::BIND),
        against: None,
        must: Bound::AtMost(1000.0),
        aim: None,
    },
    Line {
        what: "binder of 1 M users: bind one and unbind its connection, as every disconnect does, ns",
        of: Subject::Ours,
        source: Source::Binder(binder::BIND_CONNECTION),
        against: None,
        must: Bound::AtMost(1000.0),
        aim: None,
    },
    Line {
        what: "binder of 1 M users: look up a user's one connection, which is lent, hot, ns",
        of: Subject::Ours,
        source: Source::Binder(binder::LOOKUP_HOT),
        against: None,
        must: Bound::AtMost(100.0),
        aim: None,
    },
    Line {
        what: "binder of 1 M users: the same of a random user, ns",
        of: Subject::Ours,
        source: Source::Binder(binder::LOOKUP_RANDOM),
        against: None,
        must: Bound::AtMost(700.0),
        aim: None,
    },
    Line {
        what: "binder of 1 M users: bytes per binding, of users with 36 bytes of name",
        of: Subject::Ours,
        source: Source::Binder(binder::BYTES),
        against: None,
        must: Bound::AtMost(200.0),
        aim: None,
    },
    Line {
        what: "longest of 100 k unbinds of one user's connections, which no lock outlasts: the least disturbed of three passes, one thread, the binder alone, µs",
        of: Subject::Ours,
        source: Source::Binder(binder::SLOWEST),
        against: None,
        must: Bound::AtMost(1000.0),
        aim: None,
    },
];

/// The verdict on a line. It considers the whole interval, so that luck meets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Aim,
    Must,
    /// The requirement is met, but not the aim.
    AimMissed,
    /// The median meets the requirement, but the interval is wider than the margin.
    Unresolved,
    Short,
    Unmeasured,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Aim => "aim met",
            Self::Must => "must met",
            Self::AimMissed => "must met, aim missed",
            Self::Unresolved => "**unresolved**: the spread exceeds the margin",
            Self::Short => "**falls short**",
            Self::Unmeasured => "not measured",
        }
    }
}

/// One line, and what was found.
pub(super) struct Row {
    line: &'static Line,
    ours: Option<Series>,
    theirs: Option<Series>,
    /// The value that the bounds are compared with.
    found: Option<Series>,
    verdict: Verdict,
}

/// Compares the runs with the budget.
pub(super) fn rows(runs: &Runs, binder: &Binder) -> Vec<Row> {
    let row = |line: &'static Line| {
        let (ours, theirs, found) = match (line.source, line.against) {
            (Source::Binder(name), _) => (binder.series(name), None, binder.series(name)),
            (Source::Load(measure, path), None) => {
                let ours = runs.series(measure, line.of, path);
                (ours, None, ours)
            }
            (Source::Load(measure, path), Some(other)) => (
                runs.series(measure, line.of, path),
                runs.series(measure, other, path),
                runs.ratio_of(measure, line.of, other, path),
            ),
        };
        Row { line, ours, theirs, found, verdict: verdict(line, found) }
    };
    LINES.iter().map(row).collect()
}

/// The budget's measures for two builds: before, ours, and the ratio.
pub(super) fn of_builds(runs: &Runs) -> String {
    let mut out = "| measure | before | after | after by before |\n|---|---|---|---|\n".to_owned();
    let mut told = Vec::new();
    for line in LINES {
        let Source::Load(measure, path) = line.source else { continue };
        if line.of != Subject::Ours {
            continue;
        }
        let Some(ratio) = runs.ratio(measure, Subject::Before, path) else { continue };
        // A figure can be compared with several.
        if told.contains(&(measure, path)) {
            continue;
        }
        told.push((measure, path));
        let of = |subject| or_dash(runs.series(measure, subject, path));
        let (before, after) = (of(Subject::Before), of(Subject::Ours));
        let _ = writeln!(out, "| {} | {before} | {after} | {ratio} |", line.what);
    }
    out
}

fn verdict(line: &Line, found: Option<Series>) -> Verdict {
    let Some(found) = found else { return Verdict::Unmeasured };
    let is_sure = |bound: Bound| bound.holds(found.low) && bound.holds(found.high);
    if line.aim.is_some_and(is_sure) {
        Verdict::Aim
    } else if is_sure(line.must) {
        if line.aim.is_some() { Verdict::AimMissed } else { Verdict::Must }
    } else if line.must.holds(found.median) {
        Verdict::Unresolved
    } else {
        Verdict::Short
    }
}

pub(super) fn or_dash(series: Option<Series>) -> String {
    series.map_or_else(|| "–".to_owned(), |it| it.to_string())
}

/// The budget as a Markdown table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut out = "| measure | ours | against | theirs | ratio | must | aim | verdict |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for Row { line, ours, theirs, found, verdict } in rows {
        let against = line.against.map_or_else(|| "–".to_owned(), Subject::name);
        let ratio = if line.against.is_some() { or_dash(*found) } else { "–".to_owned() };
        let aim = line.aim.map_or_else(|| "–".to_owned(), Bound::text);
        let _ = writeln!(
            out,
            "| {} | {} | {against} | {} | {ratio} | {} | {aim} | {} |",
            line.what,
            or_dash(*ours),
            or_dash(*theirs),
            line.must.text(),
            verdict.text()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_looks_at_the_spread() {
        // At most 1.15, with 1.0 as the aim.
        let line = &LINES[1];
        for (median, high, expected) in [
            (0.9, 0.95, Verdict::Aim),
            (0.9, 1.1, Verdict::AimMissed),
            (1.1, 1.14, Verdict::AimMissed),
            (1.1, 1.2, Verdict::Unresolved),
            (1.2, 1.2, Verdict::Short),
        ] {
            assert_eq!(verdict(line, Some(Series { median, low: 0.8, high })), expected);
        }
        assert_eq!(verdict(line, None), Verdict::Unmeasured);
        // At most 1.0, without an aim.
        let series = Series { median: 0.9, low: 0.8, high: 0.95 };
        assert_eq!(verdict(&LINES[2], Some(series)), Verdict::Must);
        assert!(table(&rows(&Runs::default(), &Binder::default())).contains("| not measured |"));
    }
}
