//! The figures of all runs, and their statistics.

use std::fmt;

use serde_json::{Value, json};

use super::measure::Measure;
use super::subject::Subject;

/// The report of `wserver-load` on one run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) round: u32,
    /// Number of the turn within the round.
    pub(super) turn: u32,
    pub(super) measure: Measure,
    pub(super) subject: Subject,
    /// The generator was too late to say anything about the server: the run counts for correctness,
    /// but not for figures.
    pub(super) is_void: bool,
    pub(super) json: Value,
}

impl Run {
    fn is_of_turn(&self, other: &Self) -> bool {
        (self.round, self.turn) == (other.round, other.turn)
    }
}

/// All runs so far.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<Run>);

/// A median and its confidence interval.
///
/// `low` and `high` are the two sorted values between which the true median lies in at least 95 of
/// 100 such series, for any distribution of the values. With fewer than nine values they are the
/// lowest and the highest; fewer than six are not enough for this confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Series {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Series {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        let outside = outside(values.len());
        Some(Self { median, low: values[outside], high: values[last - outside] })
    }
}

/// How many of `count` values to leave out at each end, so that the rest contains the median with a
/// probability of at least 0.95: each value lies above the median as a fair coin falls.
fn outside(count: usize) -> usize {
    let mut ways = 1.0;
    let mut below = 0.0;
    let mut outside = 0;
    let all = 2_f64.powf(count as f64);
    for at in 0..count / 2 {
        below += ways / all;
        if 2.0 * below > 0.05 {
            break;
        }
        outside = at;
        ways *= (count - at) as f64 / (at + 1) as f64;
    }
    outside
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, low, high] = [self.median, self.low, self.high].map(figure);
        if low == high { f.write_str(&median) } else { write!(f, "{median} ({low}–{high})") }
    }
}

/// A figure with three significant digits.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        it if it >= 1e6 => format!("{:.2} M", value / 1e6),
        it if it >= 9_999.5 => format!("{:.1} k", value / 1e3),
        it if it >= 100.0 => format!("{value:.0}"),
        it if it >= 10.0 => format!("{value:.1}"),
        it if it >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Runs {
    pub(super) fn push(&mut self, run: Run) {
        self.0.push(run);
    }

    fn of(&self, measure: Measure, subject: Subject) -> impl Iterator<Item = &Run> {
        self.tries_of(measure, subject).filter(|run| !run.is_void)
    }

    /// All tries, including void runs.
    fn tries_of(&self, measure: Measure, subject: Subject) -> impl Iterator<Item = &Run> {
        self.0.iter().filter(move |run| run.measure == measure && run.subject == subject)
    }

    /// The values at `path` in the figures of each run.
    pub(super) fn series(&self, measure: Measure, subject: Subject, path: &str) -> Option<Series> {
        Series::of(self.of(measure, subject).filter_map(|run| value(run, path)).collect())
    }

    /// The first run of each turn, however late the generator was.
    fn firsts_of(&self, measure: Measure, subject: Subject) -> Vec<&Run> {
        let mut firsts: Vec<&Run> = Vec::new();
        for run in self.tries_of(measure, subject) {
            if !firsts.iter().any(|it| it.is_of_turn(run)) {
                firsts.push(run);
            }
        }
        firsts
    }

    /// The ratio of our server to `other`, of runs of the same turn.
    pub(super) fn ratio(&self, measure: Measure, other: Subject, path: &str) -> Option<Series> {
        self.ratio_of(measure, Subject::Ours, other, path)
    }

    /// The ratio of two subjects, of runs of the same turn.
    pub(super) fn ratio_of(
        &self,
        measure: Measure,
        one: Subject,
        other: Subject,
        path: &str,
    ) -> Option<Series> {
        let others: Vec<&Run> = self.of(measure, other).collect();
        paired(self.of(measure, one), &others, path)
    }

    /// The ratio if the first run of each turn counts, void or not: it shows the effect of leaving
    /// out void runs.
    pub(super) fn ratio_of_firsts(
        &self,
        measure: Measure,
        other: Subject,
        path: &str,
    ) -> Option<Series> {
        let ours = self.firsts_of(measure, Subject::Ours).into_iter();
        paired(ours, &self.firsts_of(measure, other), path)
    }

    /// The unicast rate of the slower of our server and the subject that it is compared with, each
    /// by its median of this round.
    pub(super) fn slower_unicast(&self, round: u32) -> Option<f64> {
        let median = |subject| {
            let runs = self.of(Measure::Unicast, subject).filter(|run| run.round == round);
            let rates = runs.filter_map(|run| value(run, "/figures/pushes_per_second"));
            Some(Series::of(rates.collect())?.median)
        };
        let subjects = [Subject::Ours, Subject::Bun, Subject::Before];
        subjects.into_iter().filter_map(median).min_by(f64::total_cmp)
    }

    /// Untrue answers of a subject.
    pub(super) fn untrue(&self, subject: Subject) -> Vec<String> {
        let of = |run: &Run| -> Vec<String> {
            let (name, round) = (run.measure.name(), run.round + 1);
            let untrue = untrue_checks(&run.json).into_iter();
            untrue.map(|it| format!("{name}, round {round}: {it}")).collect()
        };
        self.0.iter().filter(|run| run.subject == subject).flat_map(of).collect()
    }

    /// How many runs of the measure have no figure because the generator was late, and of how many.
    pub(super) fn voids(&self, measure: Measure, subject: Subject) -> (usize, usize) {
        let voids = self.tries_of(measure, subject).filter(|run| run.is_void);
        (voids.count(), self.tries_of(measure, subject).count())
    }

    /// The report of the load generator on each run.
    pub(super) fn jsons(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|run| &run.json)
    }

    pub(super) fn to_json(&self) -> String {
        let runs: Vec<Value> = self
            .0
            .iter()
            .map(|run| json!({ "round": run.round, "turn": run.turn, "measure": run.measure.name(), "subject": run.subject.name(), "is_void": run.is_void, "report": run.json }))
            .collect();
        Value::from(runs).to_string()
    }
}

/// The ratio of each of `ones` to the one of `others` of the same turn.
fn paired<'r>(ones: impl Iterator<Item = &'r Run>, others: &[&Run], path: &str) -> Option<Series> {
    let ratios = ones.filter_map(|one| {
        let other = others.iter().find(|it| it.is_of_turn(one))?;
        Some(value(one, path)? / value(other, path).filter(|it| *it > 0.0)?)
    });
    Series::of(ratios.collect())
}

/// The checks of one run that failed.
pub(super) fn untrue_checks(json: &Value) -> Vec<String> {
    let checks = json["checks"].as_array().into_iter().flatten();
    checks
        .filter(|check| check["is_true"] != true)
        .map(|check| format!("{}: {} of {}", check["name"], check["found"], check["expected"]))
        .collect()
}

fn value(run: &Run, path: &str) -> Option<f64> {
    run.json.pointer(path)?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(round: u32, subject: Subject, rate: f64) -> Run {
        let json = json!({ "figures": { "rate": rate }, "checks": [{ "name": "lost", "found": 1, "expected": 0, "is_true": rate > 0.0 }] });
        Run { round, turn: 0, measure: Measure::Unicast, subject, is_void: false, json }
    }

    #[test]
    fn the_interval_leaves_out_what_it_may() {
        // Values from the table of the sign test.
        for (count, expected) in [(1, 0), (2, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3)]
        {
            assert_eq!(outside(count), expected, "{count}");
        }
        let series = Series::of((1..=9).map(f64::from).collect()).unwrap();
        assert_eq!(series, Series { median: 5.0, low: 2.0, high: 8.0 });
        assert!(Series::of(Vec::new()).is_none());
        assert_eq!(Series::of(vec![4.0]).unwrap().to_string(), "4.00");
    }

    #[test]
    fn a_void_run_is_left_out_and_what_that_does_is_told() {
        let mut runs = Runs::default();
        runs.push(run(0, Subject::Ours, 10.0));
        runs.push(Run { is_void: true, ..run(0, Subject::Bun, 2.0) });
        runs.push(run(0, Subject::Bun, 5.0));
        let path = "/figures/rate";
        let ratio = runs.ratio(Measure::Unicast, Subject::Bun, path).unwrap();
        let firsts = runs.ratio_of_firsts(Measure::Unicast, Subject::Bun, path).unwrap();
        assert_eq!((ratio.median, firsts.median), (2.0, 5.0));
    }

    #[test]
    fn half_the_rate_is_of_the_slower_by_its_median() {
        let mut runs = Runs::default();
        assert_eq!(runs.slower_unicast(0), None);
        for (round, subject, rate) in [
            (0, Subject::Ours, 1.0),
            (0, Subject::Ours, 9.0),
            (0, Subject::Ours, 8.0),
            (0, Subject::Bun, 6.0),
            (0, Subject::Bun, 7.0),
            (0, Subject::Bun, 5.0),
            (0, Subject::Floor, 2.0),
            (1, Subject::Bun, 3.0),
        ] {
            let json = json!({ "figures": { "pushes_per_second": rate } });
            runs.push(Run { json, ..run(round, subject, rate) });
        }
        assert_eq!(runs.slower_unicast(0), Some(6.0));
    }

    #[test]
    fn ratios_are_of_one_round() {
        let mut runs = Runs::default();
        for (round, ours, theirs) in [(0, 10.0, 5.0), (1, 30.0, 10.0), (2, 8.0, 1.0)] {
            runs.push(run(round, Subject::Ours, ours));
            runs.push(run(round, Subject::Bun, theirs));
        }
        let ratio = runs.ratio(Measure::Unicast, Subject::Bun, "/figures/rate").unwrap();
        assert_eq!(ratio, Series { median: 3.0, low: 2.0, high: 8.0 });
        let ours = runs.series(Measure::Unicast, Subject::Ours, "/figures/rate").unwrap();
        assert_eq!(ours.to_string(), "10.0 (8.00–30.0)");
        runs.push(Run { is_void: true, ..run(2, Subject::Bun, 7.0) });
        runs.push(Run { is_void: true, ..run(2, Subject::Ours, 7.0) });
        assert_eq!(runs.series(Measure::Unicast, Subject::Ours, "/figures/rate").unwrap(), ours);
        assert_eq!(runs.ratio(Measure::Unicast, Subject::Bun, "/figures/rate").unwrap(), ratio);
        assert_eq!(runs.voids(Measure::Unicast, Subject::Bun), (1, 4));
        assert_eq!((runs.voids(Measure::Paced, Subject::Bun), runs.jsons().count()), ((0, 0), 8));
        assert!(runs.ratio(Measure::Unicast, Subject::Floor, "/figures/rate").is_none());
        assert!(runs.untrue(Subject::Ours).is_empty());
        runs.push(run(3, Subject::Ours, 0.0));
        assert_eq!(runs.untrue(Subject::Ours), ["unicast, round 4: \"lost\": 1 of 0"]);
    }
}
