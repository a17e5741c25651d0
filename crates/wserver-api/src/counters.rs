//! What is counted beside the node: by labels from closed lists, the names of problems.

use wserver_node::Counter;

/// What stands for everything that is in no list.
const OTHER: &str = "other";

/// Counters of one family, told apart by a label.
///
/// Looking the label up is for what is rare; what happens all the time has a counter of its own.
#[derive(Debug)]
pub struct Labelled(Box<[(&'static str, Counter)]>);

impl Labelled {
    /// One counter for each label, and one for all others.
    #[must_use]
    pub fn new(labels: &[&'static str]) -> Self {
        Self(labels.iter().chain([&OTHER]).map(|label| (*label, Counter::default())).collect())
    }

    /// Counts one more of `label`, which is one of those it was made with.
    pub fn increment(&self, label: &str) {
        let of_label = self.0.iter().find(|(it, _)| *it == label);
        debug_assert!(of_label.is_some(), "{label} is in no list");
        if let Some((_, counter)) = of_label.or_else(|| self.0.last()) {
            counter.increment();
        }
    }

    /// Each label with its count.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(label, counter)| (*label, counter.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_has_a_counter_of_its_own() {
        let counters = Labelled::new(&["a", "b"]);
        counters.increment("b");
        counters.increment("b");
        counters.increment(OTHER);
        assert_eq!(counters.values().collect::<Vec<_>>(), [("a", 0), ("b", 2), (OTHER, 1)]);
    }
}
