//! What is wrong with the settings of a server.

use std::fmt;

/// All that is wrong with a server's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    problems: Vec<String>,
}

impl BuildError {
    pub(crate) const fn new(problems: Vec<String>) -> Self {
        Self { problems }
    }

    /// The problems, one sentence each, naming the setting.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

impl std::error::Error for BuildError {}
