//! What could not be measured: told and noted, and everything else goes on.

use super::subject::Subject;

/// Runs that came to no figures.
#[derive(Debug, Default)]
pub(super) struct Failures(pub(super) Vec<(Subject, String)>);

impl Failures {
    /// Takes what a part found, or notes that it failed: the rest is measured all the same.
    pub(super) fn take<T>(
        &mut self,
        subject: Subject,
        what: &str,
        found: anyhow::Result<T>,
    ) -> Option<T> {
        let note = |err| {
            eprintln!("\n!!! FAILED {what} of {}: {err:#}\n", subject.name());
            self.0.push((subject, format!("{what} failed: {err:#}")));
        };
        found.map_err(note).ok()
    }
}
