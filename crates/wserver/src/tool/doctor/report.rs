//! Findings, one line each, with the remedy below.

use std::fmt::Display;
use std::io;

use crate::tool::output::{OneLine, line};

/// Prints each finding at once.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) failed: bool,
}

impl Report {
    pub(super) fn ok(&mut self, check: &str, what: impl Display) -> io::Result<()> {
        self.print("ok", check, &what.to_string(), "")
    }

    pub(super) fn skipped(&mut self, check: &str, what: impl Display) -> io::Result<()> {
        self.print("skipped", check, &what.to_string(), "")
    }

    pub(super) fn warning(
        &mut self,
        check: &str,
        what: impl Display,
        advice: &str,
    ) -> io::Result<()> {
        self.print("warning", check, &what.to_string(), advice)
    }

    pub(super) fn failed(
        &mut self,
        check: &str,
        what: impl Display,
        advice: &str,
    ) -> io::Result<()> {
        self.failed = true;
        self.print("failed", check, &what.to_string(), advice)
    }

    fn print(&mut self, verdict: &str, check: &str, what: &str, advice: &str) -> io::Result<()> {
        line(format_args!("{verdict:<8} {check:<10} {}", OneLine(what)))?;
        if advice.is_empty() {
            Ok(())
        } else {
            line(format_args!("{:<19} → {}", "", OneLine(advice)))
        }
    }
}
