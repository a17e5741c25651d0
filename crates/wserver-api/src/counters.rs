//! Counters beside those of the node, with labels from closed lists.

use wserver_node::Counter;

/// The label for everything in a family that has no counter of its own.
const OTHER: &str = "other";

/// The counters of one family; a label distinguishes them.
///
/// Each increment looks the label up, so use it for rare events; frequent ones have counters of
/// their own.
#[derive(Debug)]
pub struct Labelled<L> {
    own: Box<[(L, Counter)]>,
    other: Counter,
}

impl<L: Copy + PartialEq + Into<&'static str>> Labelled<L> {
    /// One counter for each label, and one for all others.
    #[must_use]
    pub fn new(labels: impl IntoIterator<Item = L>) -> Self {
        let own = labels.into_iter().map(|label| (label, Counter::default())).collect();
        Self { own, other: Counter::default() }
    }

    /// Counts one more of `label`.
    pub fn increment(&self, label: L) {
        let own = self.own.iter().find(|(it, _)| *it == label).map(|(_, counter)| counter);
        own.unwrap_or(&self.other).increment();
    }

    /// Each label with its count.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = self.own.iter().map(|(label, counter)| ((*label).into(), counter.value()));
        own.chain([(OTHER, self.other.value())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::kind::ProblemKind;

    #[test]
    fn each_label_has_a_counter_of_its_own() {
        let counters = Labelled::new([ProblemKind::Busy, ProblemKind::PushRate]);
        counters.increment(ProblemKind::PushRate);
        counters.increment(ProblemKind::PushRate);
        counters.increment(ProblemKind::CutOff);
        let values: Vec<_> = counters.values().collect();
        assert_eq!(values, [("busy", 0), ("push_rate", 2), (OTHER, 1)]);
    }
}
