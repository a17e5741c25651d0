//! Timed sections, and the summary at their end.
//!
//! A failed section does not stop the others, so one run shows everything that is wrong.

use std::env;
use std::fmt;
use std::time::{Duration, Instant};

use crate::tally::Tally;

/// What the steps of a command found, in addition to success or failure.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) tally: Tally,
    /// What did not run, and why.
    pub(crate) skipped: Vec<String>,
}

impl Report {
    /// Prints that something does not run, and remembers it for the summary.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        eprintln!("\n!!! SKIPPED {what}: {why}\n");
        self.skipped.push(format!("{what}: {why}"));
    }

    /// Prints the notes of a single command.
    pub(crate) fn print(&self) {
        for skipped in &self.skipped {
            println!("skipped  {skipped}");
        }
        if self.tally != Tally::default() {
            println!("{} passed, {} failed", self.tally.passed, self.tally.failed);
        }
    }
}

/// The sections so far.
#[derive(Debug)]
pub(crate) struct Sections {
    /// The section to run, if not all.
    only: Option<String>,
    done: Vec<Done>,
}

#[derive(Debug)]
struct Done {
    name: &'static str,
    time: Duration,
    error: Option<String>,
    report: Report,
}

impl Sections {
    /// Starts without sections; all that follow will run, or only the one with that name.
    pub(crate) fn new(only: Option<String>) -> Self {
        Self { only, done: Vec::new() }
    }

    /// Runs one section, times it and keeps its outcome.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Report) -> anyhow::Result<()>,
    ) {
        if self.only.as_ref().is_some_and(|only| only != name) {
            return;
        }
        // One CI service folds these sections; its log would otherwise be one long page.
        let folds = env::var_os("GITHUB_ACTIONS").is_some();
        println!("{}{name}", if folds { "::group::" } else { "\n=== " });
        let start = Instant::now();
        let mut report = Report::default();
        let error = body(&mut report).err().map(|err| format!("{err:#}"));
        if folds {
            println!("::endgroup::");
        }
        if let Some(error) = &error {
            eprintln!("{name} FAILED: {error}");
        }
        self.done.push(Done { name, time: start.elapsed(), error, report });
    }

    /// Whether no section ran, because the chosen one does not exist.
    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Whether no section has failed.
    pub(crate) fn all_passed(&self) -> bool {
        self.done.iter().all(|done| done.error.is_none())
    }

    /// Tests over all sections. A section that failed without a failed test (for example because it
    /// did not compile) counts as one, so that the last line never reads "0 failed" on a failed
    /// run.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for done in &self.done {
            tally += done.report.tally;
            if done.error.is_some() && done.report.tally.failed == 0 {
                tally += Tally { passed: 0, failed: 1 };
            }
        }
        tally
    }
}

impl fmt::Display for Sections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Done { name, time, error, report } in &self.done {
            let outcome = match error {
                Some(error) => format!("FAILED: {error}"),
                None => "ok".to_owned(),
            };
            writeln!(f, "{name:<10} {:>7.1} s  {outcome}", time.as_secs_f64())?;
            for skipped in &report.skipped {
                writeln!(f, "{:<22}skipped {skipped}", "")?;
            }
        }
        let total: Duration = self.done.iter().map(|done| done.time).sum();
        writeln!(f, "{:<10} {:>7.1} s", "total", total.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_fails_without_a_failed_test_counts_as_one() {
        let mut sections = Sections::new(None);
        sections.run("works", |report| {
            report.tally = Tally { passed: 3, failed: 0 };
            Ok(())
        });
        assert!(sections.all_passed());
        sections.run("breaks", |_| anyhow::bail!("does not compile"));
        sections.run("fails", |report| {
            report.tally = Tally { passed: 1, failed: 2 };
            anyhow::bail!("tests failed")
        });
        assert!(!sections.all_passed());
        assert_eq!(sections.tally(), Tally { passed: 4, failed: 3 });
        let summary = sections.to_string();
        assert!(summary.contains("FAILED: does not compile"), "{summary}");
    }

    #[test]
    fn one_section_can_be_run_alone() {
        for (only, ran) in [(None, "ab"), (Some("b"), "b"), (Some("c"), "")] {
            let mut sections = Sections::new(only.map(ToOwned::to_owned));
            let mut names = String::new();
            for name in ["a", "b"] {
                sections.run(name, |_| {
                    names.push_str(name);
                    Ok(())
                });
            }
            assert_eq!(names, ran);
            assert_eq!(sections.is_empty(), ran.is_empty());
        }
    }
}
