//! All connections leave at once: how long until the server knows, and how long new connections
//! take to open.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::account::{begin, check_group};
use crate::drive::{Audience, Moment, Pace, Plan, drive};
use crate::engine::{Change, Engine};
use crate::report::Report;
use crate::sampler::histogram;
use crate::settings::{Common, MassDisconnect};

/// Pushes a second to the connections that stay.
const STEADY_RATE: f64 = 100.0;

/// Connections that leave before the generator looks at its other sockets again. Closing one costs
/// the kernel about 10 µs, and the wait that this causes for the others is not the server's fault.
const LEAVERS_PER_TURN: usize = 512;

/// Microseconds between two looks at how many descriptors the server has.
const LOOK_EVERY: u64 = 20_000;

pub(super) fn run(common: &Common, mass: &MassDisconnect) -> Result<Report> {
    let (mut report, process) = begin("mass-disconnect", common)?;
    report.setting("connections", mass.connections);
    report.setting("steady", mass.steady);
    report.setting("arrivals", format!("{}/s", mass.arrivals));
    report.setting("leave", if mass.reset { "with a reset" } else { "with a FIN" });
    let pushers = 4;
    let mut engine = Engine::new(common, pushers, 1)?;
    engine.open_all((0..mass.steady).map(|_| 0))?;
    let mut probed = engine.probe_until(0, u64::from(mass.steady))?;
    let group: Vec<usize> = (0..engine.connections.len()).collect();
    engine.open_pushers(pushers)?;
    engine.rest()?;
    let descriptors = process.descriptors();
    let leavers = group.len()..group.len() + mass.connections as usize;
    engine.open_all(1..=mass.connections)?;
    probed += engine.probe_until(mass.connections, 1)?;
    let resident_full = process.resident();
    let openings_before = std::mem::replace(&mut engine.openings, histogram());

    let mut left_at = None;
    let mut leaving = leavers.clone();
    let mut leaving_took = None;
    let mut gone_at = None;
    let mut look_at = 0;
    let mut arrived = 0_u32;
    let mut arrived_before_gone = None;
    let mut arrived_open = 0_u64;
    let plan = Plan {
        pace: Pace::Open { per_second: STEADY_RATE },
        audience: Audience::One,
        pushers,
        events: 1,
        window: mass.window,
        sample_every: 1,
    };
    let course = drive(&mut engine, &process, plan, |engine, moment: Moment| {
        for change in std::mem::take(&mut engine.changes) {
            match change {
                Change::Opened(_) => arrived_open += 1,
                Change::Ended(number) => {
                    bail!("connection {number} ended: {:?}", engine.connections[number].phase)
                }
            }
        }
        if moment.now < moment.from {
            return Ok(());
        }
        let left_at = *left_at.get_or_insert(moment.now);
        for number in leaving.by_ref().take(LEAVERS_PER_TURN) {
            // A socket that cannot be reset is closed anyway.
            let _ = engine.connections[number].leave(mass.reset);
        }
        if leaving.is_empty() {
            leaving_took.get_or_insert_with(|| engine.now() - left_at);
        }
        let seconds = Duration::from_micros(moment.now - moment.from).as_secs_f64();
        let leftover = 0.5 / mass.arrivals.max(0.001);
        while f64::from(arrived) < mass.arrivals * (seconds - leftover) {
            arrived += 1;
            engine.open(mass.connections + arrived)?;
        }
        if gone_at.is_none() && process.is_known() && moment.now >= look_at {
            if process.descriptors()
                <= descriptors + engine.connections.len() as u64 - leavers.end as u64
            {
                gone_at = Some(engine.now() - left_at);
                arrived_before_gone = Some(u64::from(arrived));
            }
            look_at = engine.now() + LOOK_EVERY;
        }
        Ok(())
    })?;
    let began = Instant::now();
    while engine.opening() > 0 && began.elapsed() < Duration::from_secs(10) {
        engine.turn(Some(Duration::from_millis(10)))?;
    }
    arrived_open +=
        engine.changes.iter().filter(|it| matches!(it, Change::Opened(_))).count() as u64;
    engine.changes.clear();
    // A busy server may not have noticed all ends yet, or read all registrations.
    let deadline = Instant::now() + common.patience;
    let mut still_bound = 0;
    for user in 1..=mass.connections {
        let (_, last) = engine.probe_before(user, 0, deadline)?;
        still_bound += u64::from(last > 0);
    }
    let mut unbound_new = 0;
    for user in mass.connections + 1..=mass.connections + arrived {
        let (sum, last) = engine.probe_before(user, 1, deadline)?;
        probed += sum;
        unbound_new += u64::from(last != 1);
    }
    check_group(&mut engine, &course, &group, probed, &mut report)?;
    report.check("connections cut off", engine.cut_off() as u64, 0);
    ensure!(leaving.is_empty(), "{} could not leave in time", leaving.len());
    if let Some(took) = leaving_took {
        report.figure("leaving_ms", Duration::from_micros(took).as_secs_f64() * 1e3);
    }
    if let Some(gone) = gone_at {
        report.figure("all_descriptors_gone_ms", Duration::from_micros(gone).as_secs_f64() * 1e3);
    }
    if let Some(count) = arrived_before_gone {
        report.count("newcomers_before_gone", count);
    }
    report.count("newcomers", arrived.into());
    course.tell(&engine, &process, &mut report);
    report.latency("opening before", &openings_before);
    report.latency("opening of newcomers", &engine.openings);
    report.count("resident_bytes_full", resident_full);
    report.count("resident_bytes_after", process.resident());
    report.check("users still bound", still_bound, 0);
    report.check("newcomers that opened", arrived_open, u64::from(arrived));
    report.check("newcomers not bound", unbound_new, 0);
    Ok(report)
}
