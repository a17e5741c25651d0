//! The result of a run: figures, latencies, and whether everything the server said was true.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// The outcome of one run; `Display` is the table.
#[derive(Debug, Default)]
pub struct Report {
    scenario: String,
    target: String,
    settings: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
    latencies: Vec<(&'static str, Summary)>,
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: f64,
}

/// Microseconds at some quantiles.
#[derive(Debug)]
struct Summary {
    count: u64,
    mean: f64,
    quantiles: [(&'static str, u64); 6],
}

#[derive(Debug)]
struct Check {
    name: &'static str,
    found: u64,
    expected: u64,
    is_true: bool,
}

impl Report {
    pub(crate) fn new(scenario: &str, target: String) -> Self {
        Self { scenario: scenario.to_owned(), target, ..Self::default() }
    }

    pub(crate) fn setting(&mut self, name: &'static str, value: impl fmt::Display) {
        self.settings.push((name, format!("{value}")));
    }

    pub(crate) fn figure(&mut self, name: &'static str, value: f64) {
        self.figures.push(Figure { name, value });
    }

    pub(crate) fn count(&mut self, name: &'static str, value: u64) {
        #[expect(clippy::cast_precision_loss, reason = "no count comes near 2⁵²")]
        self.figure(name, value as f64);
    }

    pub(crate) fn latency(&mut self, name: &'static str, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        let quantiles = [
            ("p50", at(0.5)),
            ("p90", at(0.9)),
            ("p99", at(0.99)),
            ("p999", at(0.999)),
            ("p9999", at(0.9999)),
            ("max", histogram.max()),
        ];
        let summary = Summary { count: histogram.len(), mean: histogram.mean(), quantiles };
        self.latencies.push((name, summary));
    }

    /// Records a value that must equal `expected`.
    pub(crate) fn check(&mut self, name: &'static str, found: u64, expected: u64) {
        self.checks.push(Check { name, found, expected, is_true: found == expected });
    }

    /// Records a value that must be at least `least`.
    pub(crate) fn check_at_least(&mut self, name: &'static str, found: u64, least: u64) {
        self.checks.push(Check { name, found, expected: least, is_true: found >= least });
    }

    /// Whether every check passed.
    #[must_use]
    pub fn is_true(&self) -> bool {
        self.checks.iter().all(|check| check.is_true)
    }

    /// The report for machines.
    #[must_use]
    pub fn into_json(self) -> Value {
        let is_true = self.is_true();
        let settings: Map<String, Value> = self
            .settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let figures: Map<String, Value> =
            self.figures.iter().map(|it| (it.name.to_owned(), it.value.into())).collect();
        let latencies: Map<String, Value> = self
            .latencies
            .iter()
            .map(|(name, summary)| {
                let mut values = Map::new();
                values.insert("count".to_owned(), summary.count.into());
                values.insert("mean".to_owned(), summary.mean.into());
                for (quantile, micros) in summary.quantiles {
                    values.insert(quantile.to_owned(), micros.into());
                }
                ((*name).to_owned(), values.into())
            })
            .collect();
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|it| json!({ "name": it.name, "found": it.found, "expected": it.expected, "is_true": it.is_true }))
            .collect();
        json!({
            "scenario": self.scenario,
            "target": self.target,
            "settings": settings,
            "figures": figures,
            "latencies_us": latencies,
            "checks": checks,
            "is_true": is_true,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.scenario, self.target)?;
        for (name, value) in &self.settings {
            write!(f, ", {name} {value}")?;
        }
        writeln!(f)?;
        for Figure { name, value } in &self.figures {
            writeln!(f, "  {name:<38} {:>16}", grouped(*value))?;
        }
        if !self.latencies.is_empty() {
            let [p50, p90, p99, p999, p9999, max] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
            writeln!(
                f,
                "  {:<22} {:>10} {p50:>9} {p90:>9} {p99:>9} {p999:>9} {p9999:>9} {max:>9}",
                "microseconds", "count"
            )?;
        }
        for (name, summary) in &self.latencies {
            write!(f, "  {name:<22} {:>10}", summary.count)?;
            for (_, micros) in summary.quantiles {
                write!(f, " {micros:>9}")?;
            }
            writeln!(f)?;
        }
        for Check { name, found, expected, is_true } in &self.checks {
            let mark = if *is_true { "ok    " } else { "UNTRUE" };
            writeln!(f, "  {mark} {name}: {found} of {expected}")?;
        }
        Ok(())
    }
}

/// A figure for people: three digits if it is small, with separated thousands if it is large.
fn grouped(value: f64) -> String {
    let digits = match value.abs() {
        it if it >= 1000.0 || it.fract() == 0.0 => 0,
        it if it >= 10.0 => 1,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), ""), |(whole, _)| (whole, &text[whole.len()..]));
    let mut out = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (12.34, "12.3"),
            (999.0, "999"),
            (1234.5, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn one_false_check_is_enough() {
        let mut report = Report::new("idle", "wserver".to_owned());
        report.check("lost", 0, 0);
        assert!(report.is_true());
        report.check("duplicated", 1, 0);
        assert!(!report.is_true());
        assert!(report.to_string().contains("UNTRUE duplicated: 1 of 0"));
        assert_eq!(report.into_json()["is_true"], false);
    }
}
