//! Connections come and go, next to a group that must not notice.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::account::{begin, check_group};
use crate::connection::{End, Phase};
use crate::drive::{Audience, Moment, Pace, Plan, drive};
use crate::engine::{Change, Engine};
use crate::report::Report;
use crate::settings::{Churn, Common};

/// Pushes a second to the connections that stay.
const STEADY_RATE: f64 = 100.0;

pub(super) fn run(common: &Common, churn: &Churn) -> Result<Report> {
    let (mut report, process) = begin("churn", common)?;
    report.setting("concurrency", churn.concurrency);
    report.setting("resets", format!("{}%", churn.resets));
    report.setting("steady", churn.steady);
    let pushers = 4;
    let mut engine = Engine::new(common, pushers, 1)?;
    engine.open_all((0..churn.steady).map(|_| 0))?;
    let probed = engine.probe_until(0, u64::from(churn.steady))?;
    let group: Vec<usize> = (0..engine.connections.len()).collect();
    engine.open_pushers(pushers)?;
    engine.rest()?;
    let resident_before = process.resident();
    let descriptors_before = process.descriptors();

    let plan = Plan {
        pace: Pace::Open { per_second: STEADY_RATE },
        audience: Audience::One,
        pushers,
        events: 1,
        window: churn.window,
        sample_every: 1,
    };
    let mut lives = 0_u64;
    let mut unanswered = 0_u64;
    let mut is_begun = false;
    let mut openings_before = 0;
    let mut openings_window = None;
    let course = drive(&mut engine, &process, plan, |engine, moment: Moment| {
        if !is_begun {
            is_begun = true;
            for user in 1..=churn.concurrency {
                engine.open(user)?;
            }
        }
        if openings_window.is_none() && moment.now >= moment.from {
            openings_window = Some(moment.now);
            openings_before = engine.openings.len();
        }
        for change in std::mem::take(&mut engine.changes) {
            match change {
                Change::Opened(number) => {
                    lives += 1;
                    if lives % 100 < u64::from(churn.resets) {
                        engine.connections[number].leave(true)?;
                        engine.reopen(number)?;
                    } else {
                        engine.connections[number].say_close()?;
                    }
                }
                // The connections that stay must notice nothing.
                Change::Ended(number) if number < group.len() => {
                    let phase = &engine.connections[number].phase;
                    bail!("connection {number} of those that stay ended: {phase:?}")
                }
                Change::Ended(number) => match engine.connections[number].phase {
                    Phase::Closed(End::Closed(1000)) => engine.reopen(number)?,
                    Phase::Closed(End::Cut) => {
                        unanswered += 1;
                        engine.reopen(number)?;
                    }
                    ref phase => bail!("connection {number} ended: {phase:?}"),
                },
            }
        }
        Ok(())
    })?;
    let lives_in_window = engine.openings.len() - openings_before;
    // Let the connections that are opening open, and then leave.
    for number in group.len()..engine.connections.len() {
        while matches!(engine.connections[number].phase, Phase::Connecting | Phase::Handshaking(_))
        {
            engine.turn(Some(Duration::from_millis(10)))?;
        }
        engine.connections[number].leave(false)?;
    }
    let mut counted = probed;
    for user in 1..=churn.concurrency {
        counted += engine.probe_until(user, 0)?;
    }
    // A probe can reach a connection that is not completely gone.
    let late = counted - probed;
    check_group(&mut engine, &course, &group, probed, &mut report)?;
    // All others have left by now.
    report.check("connections cut off", engine.cut_off() as u64, 0);
    course.tell(&engine, &process, &mut report);
    #[expect(clippy::cast_precision_loss, reason = "no count comes near 2⁵²")]
    report.figure("lives_per_second", lives_in_window as f64 / churn.window.duration.as_secs_f64());
    report.count("lives", lives);
    report.count("closes_unanswered", unanswered);
    report.count("counted_after_leaving", late);
    report.latency("opening", &engine.openings);
    if process.is_known() {
        report.count("resident_bytes_before", resident_before);
        report.count("resident_bytes_after", process.resident());
        let began = Instant::now();
        while process.descriptors() > descriptors_before && began.elapsed() < common.patience {
            engine.turn(Some(Duration::from_millis(20)))?;
        }
        report.check("descriptors, and those before", process.descriptors(), descriptors_before);
    }
    Ok(report)
}
