//! Counters beside those of the node, with labels from closed lists.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wserver_node::Counter;

/// The shortest time between two log lines about one label: a stranger can cause as many as it likes.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The label for everything in a family that has no counter of its own.
const OTHER: &str = "other";

/// The counters of one family; a label distinguishes them.
///
/// Each increment looks the label up, so use it for rare events; frequent ones have counters of
/// their own.
#[derive(Debug)]
pub struct Labelled<L> {
    own: Box<[(L, Entry)]>,
    other: Entry,
}

/// What is known of one label.
#[derive(Debug, Default)]
struct Entry {
    count: Counter,
    /// Written by every caller of [`Labelled::increment_and_log`] that may log.
    logged_at: Mutex<Option<Instant>>,
}

impl<L: Copy + PartialEq + Into<&'static str>> Labelled<L> {
    /// One counter for each label, and one for all others.
    #[must_use]
    pub fn new(labels: impl IntoIterator<Item = L>) -> Self {
        let own = labels.into_iter().map(|label| (label, Entry::default())).collect();
        Self { own, other: Entry::default() }
    }

    /// Counts one more of `label`.
    pub fn increment(&self, label: L) {
        self.entry(label).count.increment();
    }

    /// Counts one more of `label`, and calls `log` with their number, unless it did so less than a
    /// minute before `now`.
    pub fn increment_and_log(&self, label: L, now: Instant, log: impl FnOnce(u64)) {
        let Entry { count, logged_at } = self.entry(label);
        count.increment();
        let is_due = {
            let mut logged_at = logged_at.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due =
                logged_at.is_none_or(|at| now.saturating_duration_since(at) >= LOG_INTERVAL);
            if is_due {
                *logged_at = Some(now);
            }
            is_due
        };
        if is_due {
            log(count.value());
        }
    }

    fn entry(&self, label: L) -> &Entry {
        let own = self.own.iter().find(|(it, _)| *it == label);
        own.map_or(&self.other, |(_, entry)| entry)
    }

    /// Each label with its count.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = self.own.iter().map(|(label, entry)| ((*label).into(), entry.count.value()));
        own.chain([(OTHER, self.other.count.value())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::kind::ProblemKind;

    #[test]
    fn a_label_is_logged_at_once_and_then_once_a_minute() {
        let counters = Labelled::new([ProblemKind::Busy, ProblemKind::PushRate]);
        let start = Instant::now();
        let mut logged = Vec::new();
        for second in 0..=120 {
            let now = start + Duration::from_secs(second);
            counters
                .increment_and_log(ProblemKind::Busy, now, |total| logged.push((second, total)));
        }
        assert_eq!(logged, [(0, 1), (60, 61), (120, 121)]);
        let mut is_logged = false;
        counters.increment_and_log(ProblemKind::PushRate, start, |_| is_logged = true);
        assert!(is_logged, "each label by itself");
    }

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
