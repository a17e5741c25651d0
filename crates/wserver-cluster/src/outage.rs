//! How often to retry a broker, and how often to log it: less and less, until a link lasts.
//!
//! An open link proves little: a broker out of memory, a proxy without a backend, or one that
//! refuses this user accepts connections and drops them.

use std::time::{Duration, Instant};

use crate::broker::{BrokerError, BrokerErrorKind};

/// The pause between two tries: the first, and the longest.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// A link that lasted this long was good. The next one is opened at once, and its end is logged as
/// news.
const LASTING: Duration = Duration::from_secs(10);
/// The minimum time before another reason for the same outage is logged.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A period without a lasting link.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// The last pause; zero after a good link.
    pause: Duration,
    /// What was logged last, and when.
    told: Option<(String, Instant)>,
}

impl Outage {
    /// Records that a link lasted for `time`; if that was long enough, the next failure begins a
    /// new outage.
    pub(crate) fn had_a_link_for(&mut self, time: Duration) {
        if time >= LASTING {
            *self = Self::default();
        }
    }

    /// Whether to log this as a warning: once per outage, and rarely when the reason changes.
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
            // An operator has to change something first.
            BrokerErrorKind::Refused => most,
            BrokerErrorKind::Unreachable => (self.pause * 2).clamp(first, most),
        };
        jittered(self.pause)
    }
}

/// Between half of the time and all of it, so that nodes that lost a broker together do not return
/// in step.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness they return in step.
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

    #[test]
    fn nodes_that_lost_a_broker_together_do_not_return_in_step() {
        let pauses = [(); 32].map(|()| Outage::default().pause(BrokerErrorKind::Refused));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
