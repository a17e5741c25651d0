//! Limits log lines about things that a stranger can cause again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The minimum time between two lines about the same thing.
const INTERVAL: Duration = Duration::from_secs(60);

/// When something was last logged.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// Written by every caller that logs.
    told_at: Mutex<Option<Instant>>,
}

impl Seldom {
    /// Whether it may be logged now; if so, it counts as logged from then on.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told_at.is_none_or(|at| now.saturating_duration_since(at) >= INTERVAL);
        if is_due {
            *told_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_whatever_comes() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let due = (0..121).filter(|second| seldom.is_due(start + Duration::from_secs(*second)));
        assert_eq!(due.count(), 3);
    }
}
