//! Tests whether the server takes the registration.

use std::io;

use tokio::time::Instant;
use wserver_client::{Outcome, Probed, Protocol, Refused, Seen};

use super::report::Report;
use super::{Plan, Registering, STEP_TIMEOUT, advice};
use crate::tool::output::{Milliseconds, with_causes};

impl Plan {
    /// Registers, and waits for the reply, which only version 2 has.
    pub(super) async fn register(
        &self,
        probed: &mut Probed,
        report: &mut Report,
    ) -> io::Result<Registering> {
        let started = Instant::now();
        if let Err(error) = probed.register(&self.token, &self.event).await {
            report.failed("register", with_causes(&error), advice::BROKEN)?;
            return Ok(Registering::Lost);
        }
        if probed.protocol() == Protocol::V1 {
            return Ok(Registering::Done);
        }
        let outcome = loop {
            match probed.next(STEP_TIMEOUT).await {
                Some(Seen::Replied(outcome)) => break outcome,
                Some(seen @ (Seen::Closed(_) | Seen::Lost(_))) => {
                    let (what, advice) = advice::lost(&seen);
                    report.failed("register", what, &advice)?;
                    return Ok(Registering::Lost);
                }
                Some(_) => {}
                None => {
                    report.failed("register", "no reply within 10 s", advice::SILENT)?;
                    return Ok(Registering::Refused);
                }
            }
        };
        let refused = match outcome {
            Outcome::Error(refused) => refused,
            Outcome::Ok(mut granted) => match granted.refused.pop() {
                Some(refused) => refused.refused,
                None => {
                    let expiry = granted.expires_in.map(|it| format!("; it expires in {it} s"));
                    let after = Milliseconds(started);
                    let expiry = expiry.unwrap_or_default();
                    report.ok("register", format_args!("accepted in {after}{expiry}"))?;
                    return Ok(Registering::Done);
                }
            },
        };
        self.refused(&refused, report)?;
        Ok(Registering::Refused)
    }

    /// A server that refuses who has no token may do so on purpose.
    fn refused(&self, refused: &Refused, report: &mut Report) -> io::Result<()> {
        let what = format_args!("refused: {}", refused.detail);
        if self.has_token {
            report.failed("register", what, advice::registration(refused.code))
        } else {
            report.warning("register", what, advice::TOKEN)
        }
    }
}
