//! Tests whether a push arrives, and without delay.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use wserver_client::{Probed, Protocol, PushError, Seen};

use super::proxy::Proxy;
use super::report::Report;
use super::{Plan, STEP_TIMEOUT, advice};

/// Something holds back a message that takes longer than this.
const DELIVERY_MAX: Duration = Duration::from_secs(1);
/// How long to wait for a message after the server accepted it.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to check a token: by version 1, a registration has no reply.
const REGISTERING_MAX: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// The outcome of a push to ourselves.
enum Delivery {
    Arrived(Duration),
    /// The server accepted it within this time, but it did not arrive.
    HeldBack(Duration),
    /// Nobody got it, for the reason that the server gives.
    Nobody(String),
    Refused(PushError),
    /// The connection ended.
    Lost(Seen),
}

impl Plan {
    /// Pushes to itself if it is allowed to. Returns whether the connection is still good.
    pub(super) async fn deliver(
        &self,
        probed: &mut Probed,
        proxy: &Proxy,
        report: &mut Report,
    ) -> io::Result<bool> {
        let Some(user) = &self.user else {
            report
                .skipped("delivery", "to push to the token's user, name that user with --user")?;
            return Ok(true);
        };
        match self.push_to_itself(user, probed).await {
            Delivery::Arrived(after) => {
                let what = format!("a push arrived after {} ms", after.as_millis());
                if after > DELIVERY_MAX {
                    report.warning("delivery", what, &advice::held_back(proxy))?;
                } else {
                    report.ok("delivery", what)?;
                }
            }
            Delivery::HeldBack(accepted) => {
                let (accepted, waited) = (accepted.as_millis(), ARRIVAL_TIMEOUT.as_secs());
                let what = format!(
                    "the server accepted the push within {accepted} ms, but nothing arrived within \
                     {waited} s"
                );
                report.failed("delivery", what, &advice::held_back(proxy))?;
            }
            Delivery::Nobody(why) => {
                let what = format_args!("the push reached nobody: {why}");
                match probed.protocol() {
                    Protocol::V2 | Protocol::Sse => {
                        report.failed("delivery", what, advice::NOBODY)?;
                    }
                    Protocol::V1 if self.has_token => {
                        report.failed("delivery", what, advice::UNKNOWN_TOKEN)?;
                    }
                    Protocol::V1 => report.warning("delivery", what, advice::TOKEN)?,
                }
            }
            Delivery::Refused(error) => {
                let (what, advice) = advice::refused_push(&error);
                let key = if self.has_key { advice::key(&error) } else { None };
                match (error, key) {
                    (_, Some((what, advice))) => report.failed("delivery", what, &advice)?,
                    // Pushes from here can be forbidden on purpose.
                    (PushError::Refused { status, .. }, None) if status.is_client_error() => {
                        report.skipped("delivery", format_args!("{what}; {advice}"))?;
                    }
                    (_, None) => report.failed("delivery", what, advice)?,
                }
            }
            Delivery::Lost(seen) => {
                let (what, advice) = advice::lost(&seen);
                report.failed("delivery", what, &advice)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn push_to_itself(&self, user: &str, probed: &mut Probed) -> Delivery {
        let message = format!("wserver doctor {}", std::process::id());
        let started = Instant::now();
        loop {
            let round = Instant::now();
            let arrived = |arrived: Result<(), Seen>| match arrived {
                Ok(()) => Delivery::Arrived(round.elapsed()),
                Err(seen) => Delivery::Lost(seen),
            };
            let pushed = tokio::select! {
                // The message can arrive before the answer.
                biased;
                outcome = arrival(probed, &message) => return arrived(outcome),
                pushed = self.pusher.push_json(user, &self.event, &message) => pushed,
            };
            let delivery = match pushed {
                Ok(answer) => answer.delivery,
                Err(error) => return Delivery::Refused(error),
            };
            if delivery.delivered() > 0 {
                let accepted = round.elapsed();
                let waited = timeout(ARRIVAL_TIMEOUT, arrival(probed, &message)).await;
                return waited.map_or(Delivery::HeldBack(accepted), arrived);
            }
            if started.elapsed() >= REGISTERING_MAX {
                return Delivery::Nobody(delivery.detail.unwrap_or_default());
            }
            sleep(PAUSE).await;
        }
    }
}

/// Waits for `message`.
async fn arrival(probed: &mut Probed, message: &str) -> Result<(), Seen> {
    loop {
        match probed.next(STEP_TIMEOUT).await {
            Some(Seen::Pushed(pushed)) if pushed == message => return Ok(()),
            Some(seen @ (Seen::Closed(_) | Seen::Lost(_))) => return Err(seen),
            _ => {}
        }
    }
}
