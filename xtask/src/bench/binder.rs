//! The binder alone, with a million users in memory: runs its own benchmark and reads the figures.

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::runs::Series;
use super::setup::Place;

/// Names of figures, as the benchmark prints them.
pub(super) const BIND: &str = "bind + unbind, one more user among all";
pub(super) const BIND_CONNECTION: &str = "bind + unbind_connection, one more user among all";
pub(super) const LOOKUP_HOT: &str = "lookup of a user's connection, hot";
pub(super) const LOOKUP_RANDOM: &str = "lookup of a user's connection, random";
pub(super) const BYTES: &str = "bytes per binding";
pub(super) const SLOWEST: &str = "slowest unbind, the least disturbed of three passes, µs";

/// Figures by name: nanoseconds of the timed operations, and the benchmark's other figures.
#[derive(Debug, Default)]
pub(super) struct Binder(Vec<(String, Series)>);

impl Binder {
    pub(super) fn series(&self, name: &str) -> Option<Series> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, series)| *series)
    }

    /// The figures as a Markdown table.
    pub(super) fn table(&self) -> String {
        let mut out = "| figure | value |\n|---|---|\n".to_owned();
        for (name, series) in &self.0 {
            out.push_str(&format!("| {name} | {series} |\n"));
        }
        out
    }

    /// The medians of several runs, given the output of each.
    fn of_runs(texts: &[String]) -> anyhow::Result<Self> {
        let mut figures: Vec<(String, Vec<f64>)> = Vec::new();
        for (name, value) in texts.iter().flat_map(|text| text.lines()).filter_map(figure) {
            let value = number(value)?;
            match figures.iter_mut().find(|(it, _)| it == name) {
                Some((_, values)) => values.push(value),
                None => figures.push((name.to_owned(), vec![value])),
            }
        }
        let series = |(name, values)| Some((name, Series::of(values)?));
        Ok(Self(figures.into_iter().filter_map(series).collect()))
    }
}

/// A figure's name, and text that starts with its value, if the line has one.
fn figure(line: &str) -> Option<(&str, &str)> {
    // Criterion prints its figures in the format of the standard library's benchmarks. Its spread
    // is that of one process, and does not include the memory layout of the next one.
    let timed = line.strip_prefix("test ").and_then(|it| it.split_once(" ... bench:"));
    timed.or_else(|| line.strip_prefix("figure ")?.rsplit_once(": "))
}

/// A number, with its unit.
fn number(text: &str) -> anyhow::Result<f64> {
    let digits: String = text
        .trim()
        .chars()
        .take_while(|it| it.is_ascii_digit() || matches!(it, '.' | ','))
        .collect();
    digits.replace(',', "").parse().with_context(|| format!("no number: {text}"))
}

/// Runs the benchmark this many times on the server's core, each time in a new process.
pub(super) fn run(
    sh: &Shell,
    place: &Place,
    rounds: u32,
    is_quick: bool,
) -> anyhow::Result<Binder> {
    cmd!(sh, "cargo bench --package wserver-core --bench binder --no-run").run()?;
    let times: &[&str] = match is_quick {
        true => &["--warm-up-time", "0.1", "--measurement-time", "0.5"],
        false => &["--warm-up-time", "0.5", "--measurement-time", "1"],
    };
    let words = ["bench", "--quiet", "--package", "wserver-core", "--bench", "binder", "--"];
    let words = [&words[..], &["--output-format", "bencher"], times].concat();
    let (program, pin): (_, &[&str]) = match place.is_pinned {
        true => ("taskset", &["--cpu-list", "0", "cargo"]),
        false => ("cargo", &[]),
    };
    let mut texts = Vec::new();
    for round in 0..rounds {
        println!("round {} of {rounds}: binder", round + 1);
        let text = cmd!(sh, "{program} {pin...}").args(&words).read()?;
        println!("{text}");
        texts.push(text);
    }
    let binder = Binder::of_runs(&texts)?;
    for name in [BIND, BIND_CONNECTION, LOOKUP_HOT, LOOKUP_RANDOM, BYTES, SLOWEST] {
        anyhow::ensure!(binder.series(name).is_some(), "the binder's benchmark tells no {name:?}");
    }
    Ok(binder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lines_are_read() {
        let runs = [(143, "1,512"), (145, "1,498"), (143, "1,530")].map(|(bytes, time)| {
            format!(
                "figure bytes per binding: {bytes} at 1000 users\n\
                 test lookup of a user's connection, random ... bench:       {time} ns/iter (+/- 40)\n\
                 anything else\n"
            )
        });
        let binder = Binder::of_runs(&runs).unwrap();
        assert_eq!(binder.series(BYTES).unwrap().to_string(), "143 (143–145)");
        let lookup = binder.series(LOOKUP_RANDOM).unwrap();
        assert_eq!(lookup, Series { median: 1512.0, low: 1498.0, high: 1530.0 });
        assert!(binder.series(BIND).is_none());
        assert!(binder.table().contains("| bytes per binding | 143 (143–145) |"));
        assert!(Binder::of_runs(&["figure nothing: none".to_owned()]).is_err());
    }
}
