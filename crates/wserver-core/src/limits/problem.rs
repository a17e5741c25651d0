//! What can be wrong with limits, and the checks that find it.
//!
//! A problem has its setting, the value and the related settings as fields, and `Display` puts it
//! into words. It does not know which settings exist: the name of a setting is the name of its
//! field, see [`setting_name`](crate::setting_name).

use std::fmt;
use std::time::Duration;

const MIB: usize = 1024 * 1024;
const GIB: usize = 1024 * MIB;

/// With a longer time, a deadline might not fit the clock.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The name of a setting, which is that of its field; the field must exist.
///
/// ```
/// use wserver_core::{LimitSettings, setting_name};
///
/// assert_eq!(setting_name!(LimitSettings, ping_interval), "ping_interval");
/// ```
///
/// ```compile_fail
/// # use wserver_core::{LimitSettings, setting_name};
/// setting_name!(LimitSettings, ping_intervall);
/// ```
#[macro_export]
macro_rules! setting_name {
    ($settings:ty, $field:ident) => {{
        const _: usize = ::core::mem::offset_of!($settings, $field);
        ::core::stringify!($field)
    }};
}

/// One problem with limits.
///
/// Sizes are in bytes or pieces, depending on the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitProblem {
    /// A time is zero, but must be longer.
    #[error("{setting} must be longer than zero")]
    NoTime {
        /// The setting's name.
        setting: &'static str,
    },
    /// A time is longer than a year.
    #[error("{setting} must be at most a year")]
    TimeTooLong {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: Duration,
    },
    /// A time must be shorter than another.
    #[error("{setting} is {value:?}, but must be shorter than {than}, which is {bound:?}")]
    NotShorter {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: Duration,
        /// The name of the setting that is the bound.
        than: &'static str,
        /// That setting's value.
        bound: Duration,
    },
    /// A number is zero, but must be at least 1.
    #[error("{setting} must be at least 1")]
    Zero {
        /// The setting's name.
        setting: &'static str,
    },
    /// A number is above its maximum.
    #[error("{setting} is {value}, but must be at most {}", Round(*max))]
    TooLarge {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// The largest value.
        max: usize,
    },
    /// A number is below its minimum.
    #[error("{setting} is {value}, but must be at least {min}: {because}")]
    TooSmall {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// The smallest value.
        min: usize,
        /// The names of the settings that determine the minimum, if any do.
        of: &'static [&'static str],
        /// Why, in words.
        because: &'static str,
    },
}

impl LimitProblem {
    /// The names of the settings concerned: first the wrong one, then those that determine its
    /// limit.
    #[must_use]
    pub fn settings(&self) -> Vec<&'static str> {
        match self {
            Self::NoTime { setting }
            | Self::TimeTooLong { setting, .. }
            | Self::Zero { setting }
            | Self::TooLarge { setting, .. } => vec![setting],
            Self::NotShorter { setting, than, .. } => vec![setting, than],
            Self::TooSmall { setting, of, .. } => [&[*setting], *of].concat(),
        }
    }
}

/// A number in the largest unit in which it is whole.
struct Round(usize);

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % GIB == 0 => write!(f, "{} GiB", bytes / GIB),
            bytes if bytes > 0 && bytes % MIB == 0 => write!(f, "{} MiB", bytes / MIB),
            number => number.fmt(f),
        }
    }
}

/// All problems of a set of limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsError(Vec<LimitProblem>);

impl LimitsError {
    /// The problems in the order in which they were found; at least one.
    #[must_use]
    pub fn problems(&self) -> &[LimitProblem] {
        &self.0
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for LimitsError {}

/// Checks limits one by one, and collects the problems.
#[derive(Debug, Default)]
pub struct LimitChecks(Vec<LimitProblem>);

impl LimitChecks {
    /// A time that is longer than zero and at most a year.
    pub fn time(&mut self, setting: &'static str, value: Duration) {
        if value.is_zero() {
            self.0.push(LimitProblem::NoTime { setting });
        }
        self.time_or_zero(setting, value);
    }

    /// A time of at most a year.
    pub fn time_or_zero(&mut self, setting: &'static str, value: Duration) {
        if value > TIME_MAX {
            self.0.push(LimitProblem::TimeTooLong { setting, value });
        }
    }

    /// A time that is shorter than that of the setting `than`.
    pub fn shorter(
        &mut self,
        setting: &'static str,
        value: Duration,
        than: &'static str,
        bound: Duration,
    ) {
        if value >= bound {
            self.0.push(LimitProblem::NotShorter { setting, value, than, bound });
        }
    }

    /// A number of at least 1.
    pub fn at_least_one(&mut self, setting: &'static str, value: usize) {
        if value == 0 {
            self.0.push(LimitProblem::Zero { setting });
        }
    }

    /// A number of at most `max`.
    pub fn at_most(&mut self, setting: &'static str, value: usize, max: usize) {
        if value > max {
            self.0.push(LimitProblem::TooLarge { setting, value, max });
        }
    }

    /// A number of at least `min`, which the settings `of` determine.
    pub fn at_least(
        &mut self,
        setting: &'static str,
        value: usize,
        min: usize,
        of: &'static [&'static str],
        because: &'static str,
    ) {
        if value < min {
            self.0.push(LimitProblem::TooSmall { setting, value, min, of, because });
        }
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// [`LimitsError`] with all problems, not only the first.
    pub fn finish(self) -> Result<(), LimitsError> {
        if self.0.is_empty() { Ok(()) } else { Err(LimitsError(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_worded_once_and_names_its_settings() {
        let mut checks = LimitChecks::default();
        checks.time("a", Duration::ZERO);
        checks.time("b", Duration::MAX);
        checks.time_or_zero("c", Duration::ZERO);
        checks.shorter("d", Duration::from_secs(2), "e", Duration::from_secs(2));
        checks.at_least_one("f", 0);
        checks.at_most("g", 3, 2);
        checks.at_most("h", usize::MAX, GIB);
        checks.at_most("i", usize::MAX, 64 * MIB);
        checks.at_least("j", 1, 2, &["k", "l"], "it holds both");
        let error = checks.finish().unwrap_err();
        let told: Vec<_> =
            error.problems().iter().map(|it| (it.to_string(), it.settings())).collect();
        let expected: [(&str, &[&str]); 8] = [
            ("a must be longer than zero", &["a"]),
            ("b must be at most a year", &["b"]),
            ("d is 2s, but must be shorter than e, which is 2s", &["d", "e"]),
            ("f must be at least 1", &["f"]),
            ("g is 3, but must be at most 2", &["g"]),
            ("h is 18446744073709551615, but must be at most 1 GiB", &["h"]),
            ("i is 18446744073709551615, but must be at most 64 MiB", &["i"]),
            ("j is 1, but must be at least 2: it holds both", &["j", "k", "l"]),
        ];
        assert_eq!(told.len(), expected.len());
        for ((words, settings), (expected_words, expected_settings)) in told.iter().zip(expected) {
            assert_eq!((words.as_str(), settings.as_slice()), (expected_words, expected_settings));
        }
    }
}
