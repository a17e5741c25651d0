//! The problems of the access settings. Reading goes on after a problem, so that all are reported at once.

use anyhow::Result;

use crate::settings::{Loaded, Problem};

/// Collects problems while reading goes on.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<Problem>);

impl Problems {
    pub(super) fn tell(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Returns the value that was read, or notes why there is none.
    pub(super) fn note<T>(&mut self, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.tell(Problem::of(&error))).ok()
    }

    /// Reports settings of the table `prefix` that have no effect without `needed`, if they differ
    /// from their defaults.
    pub(super) fn tell_idle(&mut self, loaded: &Loaded, prefix: &str, needed: &str) {
        let defaults = Loaded::defaults();
        for it in &loaded.effective {
            let is_ours =
                it.definition.name.strip_prefix(prefix).is_some_and(|it| it.starts_with('_'));
            let default = defaults.effective(it.definition.name);
            let is_default = default.is_some_and(|default| default.shown == it.shown);
            if is_ours && !is_default {
                let name = it.definition.name;
                self.tell(Problem::new([name], format!("{name} needs {needed}")));
            }
        }
    }
}
