//! How a tool ends.

use std::process::ExitCode;

/// Why a tool has ended without doing what it was asked to.
#[derive(Debug)]
pub(super) enum Failure {
    /// What it was asked cannot be done by anybody.
    Usage(anyhow::Error),
    /// It did not work.
    Failed(anyhow::Error),
}

impl Failure {
    pub(super) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(super) type Outcome = Result<ExitCode, Failure>;
