//! All connections leave, miss messages, and come back at once: how long until every one of them has
//! everything.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::account::{begin, check_findings};
use super::replay::{ask_each, ensure_v2, gather};
use crate::engine::Engine;
use crate::report::Report;
use crate::sampler::histogram;
use crate::settings::{Common, Resume};

pub(super) fn run(common: &Common, resume: &Resume) -> Result<Report> {
    let Resume { connections, messages, pushers } = *resume;
    ensure_v2(common)?;
    let (mut report, process) = begin("resume", common)?;
    report.setting("connections", connections);
    report.setting("messages", messages);
    report.setting("opening_max", common.opening_max);
    let mut engine = Engine::new(common, 1, 1)?;
    gather(&mut engine, common.opening_max, connections.into(), 0, |engine, number| {
        engine.open(u32::try_from(number)?).map(drop)
    })?;
    let placed = engine.connections.iter().filter(|it| it.position.is_some()).count();
    ensure!(placed == connections as usize, "the server does not keep event-00 (--replay)");
    for connection in &mut engine.connections {
        // A reset leaves no port that waits.
        connection.leave(true)?;
    }
    let mut refused = 0;
    for number in 0..messages {
        refused += ask_each(&mut engine, pushers, connections, number, |_| {})?;
    }
    let resident = process.resident();
    let before = std::mem::replace(&mut engine.openings, histogram());
    let expected = u64::from(connections) * u64::from(messages);
    let (cpu, began) = (process.cpu(), engine.now());
    gather(&mut engine, common.opening_max, connections.into(), expected, Engine::come_back)?;
    let took = Duration::from_micros(engine.now() - began).as_secs_f64();
    let cpu = process.cpu().saturating_sub(cpu).as_secs_f64() * 1e6;
    engine.drain(expected)?;
    for number in 0..engine.connections.len() {
        engine.ledger.close(number, 0, messages);
    }
    report.figure("all_resumed_ms", took * 1e3);
    report.figure("resumed_per_second", f64::from(connections) / took);
    if process.is_known() {
        report.figure("cpu_us_per_connection", cpu / f64::from(connections));
        report.count("resident_bytes_before", resident);
        report.count("resident_bytes_after", process.resident());
    }
    report.latency("opening before", &before);
    report.latency("opening after", &engine.openings);
    report.check("frames", engine.ledger.received(), expected);
    report.check("replies", engine.granted, 2 * u64::from(connections));
    report.check("gaps", engine.gaps, 0);
    check_findings(&engine, &mut report);
    report.check("pushes refused", refused, 0);
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
