//! What a stranger can bring about again and again, and a log should not tell as often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines about the same.
const INTERVAL: Duration = Duration::from_secs(60);

/// When something was told last.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    /// Written by whoever tells it.
    told_at: Mutex<Option<Instant>>,
}

impl Seldom {
    /// Whether it may be told now; from then on it counts as told.
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
