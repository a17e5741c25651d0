//! What is wrong with who may do what: everything is read on, so that all of it is told at once.

use anyhow::Result;

use crate::settings::Loaded;

/// What is wrong, while more is read.
#[derive(Debug, Default)]
pub(super) struct Problems(pub(super) Vec<String>);

impl Problems {
    pub(super) fn tell(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// What was read, or nothing, and why not is taken note of.
    pub(super) fn note<T>(&mut self, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.tell(format!("{error:#}"))).ok()
    }

    /// Settings of the table `prefix` that say nothing without `needed`, and are not what they are
    /// by themselves.
    pub(super) fn tell_idle(&mut self, loaded: &Loaded, prefix: &str, needed: &str) {
        let defaults = Loaded::defaults();
        for it in &loaded.effective {
            let is_ours =
                it.definition.name.strip_prefix(prefix).is_some_and(|it| it.starts_with('_'));
            let default = defaults.effective(it.definition.name);
            let is_default = default.is_some_and(|default| default.shown == it.shown);
            if is_ours && !is_default {
                self.tell(format!("{} needs {needed}", it.definition.name));
            }
        }
    }
}
