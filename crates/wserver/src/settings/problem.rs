//! What is wrong with settings: in words, and which settings it is about.

use std::fmt;

/// One thing that is wrong, with the names of the settings to look at, the wrong one first.
///
/// It may be the context of an error: then the error's words follow its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    settings: Vec<String>,
    words: String,
}

impl Problem {
    pub(crate) fn new<S: Into<String>>(
        settings: impl IntoIterator<Item = S>,
        words: impl Into<String>,
    ) -> Self {
        Self { settings: settings.into_iter().map(Into::into).collect(), words: words.into() }
    }

    /// An error in all its words, about the settings that its outermost problem names.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let named = error.downcast_ref::<Self>();
        let settings = named.map(|it| it.settings.clone()).unwrap_or_default();
        Self { settings, words: format!("{error:#}") }
    }

    pub(crate) fn settings(&self) -> &[String] {
        &self.settings
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn an_error_is_about_what_its_context_names() {
        let deep = anyhow!("it is empty").context(Problem::new(["inner"], "inner file"));
        let error = Err::<(), _>(deep).context(Problem::new(["outer"], "outer")).unwrap_err();
        assert_eq!(Problem::of(&error), Problem::new(["outer"], "outer: inner file: it is empty"));
        let error = anyhow!(Problem::new(["inner"], "inner file")).context("no setting");
        assert_eq!(Problem::of(&error), Problem::new(["inner"], "no setting: inner file"));
        assert_eq!(Problem::of(&anyhow!("x")), Problem::new([""; 0], "x"));
    }
}
