//! Every push to all connections of one user.

use anyhow::Result;

use super::account::{begin, check_group};
use crate::drive::{Audience, Pace, Plan, drive};
use crate::engine::Engine;
use crate::report::Report;
use crate::settings::{Common, Fanout};

/// On a saturated server, measures the latency of one message in this many.
const SAMPLE_EVERY: u32 = 16;

pub(super) fn run(common: &Common, fanout: &Fanout) -> Result<Report> {
    let (mut report, process) = begin("fanout", common)?;
    let pace = Pace::of(fanout.paced);
    let sample_every = if fanout.paced.is_some() { 1 } else { SAMPLE_EVERY };
    report.setting("connections", fanout.connections);
    report.setting("pushers", fanout.pushers);
    report.setting("events", fanout.events);
    report.setting("pace", pace);
    let mut engine = Engine::new(common, usize::from(fanout.pushers), fanout.events)?;
    engine.open_all((0..fanout.connections).map(|_| 0))?;
    let probed = engine.probe_until(0, u64::from(fanout.connections))?;
    engine.drain(probed)?;
    report.count("resident_bytes_before", process.resident());
    let plan = Plan {
        pace,
        audience: Audience::One,
        pushers: usize::from(fanout.pushers),
        events: fanout.events,
        window: fanout.window,
        sample_every,
    };
    let course = drive(&mut engine, &process, plan, |_, _| Ok(()))?;
    let group: Vec<usize> = (0..engine.connections.len()).collect();
    check_group(&mut engine, &course, &group, probed, &mut report)?;
    course.tell(&engine, &process, &mut report);
    report.check("lowest number answered", course.count_min, fanout.connections.into());
    report.check("highest number answered", course.count_max, fanout.connections.into());
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
