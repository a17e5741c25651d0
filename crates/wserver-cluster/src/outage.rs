//! How often a broker is tried again, and how often that is told: less and less, until a link lasts.
//!
//! That a link opens shows little: a broker out of memory, a proxy before nobody, or one that turns
//! this user away takes connections and ends them.

use std::time::{Duration, Instant};

use crate::broker::{BrokerError, BrokerErrorKind};

/// Between two tries: at first, and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// A link that lived for so long was good. The next one is opened at once, and its end is news.
const LASTING: Duration = Duration::from_secs(10);
/// Another reason for the same outage is told no sooner.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A time without a link that lasts; before it begins, nothing.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// The last pause; zero after a link that was good.
    pause: Duration,
    /// What was told last, and when.
    told: Option<(String, Instant)>,
}

impl Outage {
    /// There was a link for so long; where that is long enough, another outage begins.
    pub(crate) fn had_a_link_for(&mut self, time: Duration) {
        if time >= LASTING {
            *self = Self::default();
        }
    }

    /// Whether an operator is to hear of this: once for each outage, and seldom of what changes in it.
    pub(crate) fn is_to_be_told(&mut self, error: &BrokerError, now: Instant) -> bool {
        let text = error.to_string();
        let is_news = match &self.told {
            None => true,
            Some((told, at)) => {
                *told != text && now.saturating_duration_since(*at) >= TOLD_AGAIN_AFTER
            }
        };
        if is_news {
            self.told = Some((text, now));
        }
        is_news
    }

    /// How long to wait before the next try.
    pub(crate) fn pause(&mut self, kind: BrokerErrorKind) -> Duration {
        let [first, most] = PAUSE;
        self.pause = match kind {
            // Somebody has to do something about it first.
            BrokerErrorKind::Refused => most,
            BrokerErrorKind::Unreachable => (self.pause * 2).clamp(first, most),
        };
        jittered(self.pause)
    }
}

/// Half of it to all of it, so that nodes which lost a broker together do not come back in step.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness they come back in step.
    let _ = getrandom::fill(&mut byte);
    time / 2 + time.mul_f64(f64::from(byte[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: BrokerErrorKind = BrokerErrorKind::Unreachable;

    #[test]
    fn links_that_do_not_last_are_opened_less_and_less_often() {
        let mut outage = Outage::default();
        let mut passed = Duration::ZERO;
        let mut tries = 0;
        while passed < Duration::from_secs(5) {
            outage.had_a_link_for(Duration::from_millis(20));
            passed += outage.pause(AWAY);
            tries += 1;
        }
        assert!(tries <= 12, "{tries} in five seconds");
        assert!(outage.pause(AWAY) >= Duration::from_secs(1));
        // One that lasts is another beginning.
        outage.had_a_link_for(LASTING);
        assert!(outage.pause(AWAY) <= PAUSE[0]);
        assert!(outage.pause(BrokerErrorKind::Refused) >= PAUSE[1] / 2);
    }

    #[test]
    fn an_outage_is_told_once_and_what_changes_in_it_seldom() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let mut told = 0;
        for number in 0..600_u64 {
            outage.had_a_link_for(Duration::from_millis(20));
            let now = start + Duration::from_millis(100 * number);
            let error = BrokerError::unreachable(format!("reason {}", number % 3));
            told += u32::from(outage.is_to_be_told(&error, now));
        }
        assert_eq!(told, 2, "in a minute");
        let same = BrokerError::unreachable("reason 1");
        outage.told = Some((same.to_string(), start));
        assert!(!outage.is_to_be_told(&same, start + Duration::from_secs(3600)));
        outage.had_a_link_for(LASTING);
        assert!(outage.is_to_be_told(&same, start));
    }
}
