//! The binder alone, with a million users in memory: its own benchmark, and what that tells.

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::Place;
use super::runs::Series;

/// Names of figures, as the benchmark tells them.
pub(super) const BIND: &str = "bind + unbind, one more user among all";
pub(super) const LOOKUP_HOT: &str = "lookup of a user's connection, hot, handle cloned";
pub(super) const LOOKUP_RANDOM: &str = "lookup of a user's connection, random";
pub(super) const BYTES: &str = "bytes per binding";
pub(super) const SLOWEST: &str = "slowest unbind, µs";

/// Figures by name: nanoseconds of what is timed many times, and what else the benchmark tells.
#[derive(Debug, Default)]
pub(super) struct Binder(Vec<(String, Series)>);

impl Binder {
    pub(super) fn series(&self, name: &str) -> Option<Series> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, series)| *series)
    }

    /// All of them as a table of Markdown.
    pub(super) fn table(&self) -> String {
        let mut out = "| figure | value |\n|---|---|\n".to_owned();
        for (name, series) in &self.0 {
            out.push_str(&format!("| {name} | {series} |\n"));
        }
        out
    }

    /// Reads what the benchmark printed.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut figures = Vec::new();
        for line in text.lines() {
            // Criterion's own, in the words of the standard library's benchmarks.
            if let Some((name, rest)) =
                line.strip_prefix("test ").and_then(|it| it.split_once(" ... bench:"))
            {
                let (time, spread) = rest.split_once("ns/iter (+/- ").context(line.to_owned())?;
                let [time, spread]: [f64; 2] = [number(time)?, number(spread)?];
                let series =
                    Series { median: time, low: (time - spread).max(0.0), high: time + spread };
                figures.push((name.to_owned(), series));
            } else if let Some(line) = line.strip_prefix("figure ") {
                let (name, value) = line.rsplit_once(": ").context("a figure without a value")?;
                let value = number(value)?;
                figures.push((name.to_owned(), Series { median: value, low: value, high: value }));
            }
        }
        Ok(Self(figures))
    }
}

/// A number, with what stands behind it.
fn number(text: &str) -> anyhow::Result<f64> {
    let digits: String = text
        .trim()
        .chars()
        .take_while(|it| it.is_ascii_digit() || matches!(it, '.' | ','))
        .collect();
    digits.replace(',', "").parse().with_context(|| format!("no number: {text}"))
}

/// Runs the benchmark on the server's core.
pub(super) fn run(sh: &Shell, place: &Place, is_quick: bool) -> anyhow::Result<Binder> {
    cmd!(sh, "cargo bench --package wserver-core --bench binder --no-run").run()?;
    let times: &[&str] = match is_quick {
        true => &["--warm-up-time", "0.1", "--measurement-time", "0.5"],
        false => &[],
    };
    let words = ["bench", "--quiet", "--package", "wserver-core", "--bench", "binder", "--"];
    let words = [&words[..], &["--output-format", "bencher"], times].concat();
    let (program, pin): (_, &[&str]) = match place.is_pinned {
        true => ("taskset", &["--cpu-list", "0", "cargo"]),
        false => ("cargo", &[]),
    };
    let text = cmd!(sh, "{program} {pin...} {words...}").read()?;
    println!("{text}");
    let binder = Binder::parse(&text)?;
    for name in [BIND, LOOKUP_HOT, LOOKUP_RANDOM, BYTES, SLOWEST] {
        anyhow::ensure!(binder.series(name).is_some(), "the binder's benchmark tells no {name:?}");
    }
    Ok(binder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lines_are_read() {
        let text = "figure bytes per binding: 143 at 1000 users\n\
                    test lookup of a user's connection, random ... bench:       1,512 ns/iter (+/- 40)\n\
                    anything else\n";
        let binder = Binder::parse(text).unwrap();
        assert_eq!(binder.series(BYTES).unwrap().to_string(), "143");
        let lookup = binder.series(LOOKUP_RANDOM).unwrap();
        assert_eq!(lookup, Series { median: 1512.0, low: 1472.0, high: 1552.0 });
        assert!(binder.series(BIND).is_none());
        assert!(binder.table().contains("| bytes per binding | 143 |"));
        assert!(Binder::parse("figure nothing: none").is_err());
    }
}
