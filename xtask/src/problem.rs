//! A check's findings, and how they are printed.

use std::fmt::Display;

/// One thing to correct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// A file, a file and line, or a package.
    pub(crate) place: String,
    pub(crate) what: String,
    /// How to correct it.
    pub(crate) fix: String,
}

impl Problem {
    pub(crate) fn new(place: impl Display, what: impl Display, fix: impl Display) -> Self {
        Self { place: place.to_string(), what: what.to_string(), fix: fix.to_string() }
    }
}

/// Prints the problems; fails if there are any.
pub(crate) fn report(name: &str, problems: &[Problem]) -> anyhow::Result<()> {
    for Problem { place, what, fix } in problems {
        eprintln!("{place}: {what}\n    → {fix}");
    }
    anyhow::ensure!(problems.is_empty(), "{name} found {} problem(s)", problems.len());
    Ok(())
}
