//! Pushes to one user that wait until every connection has acknowledged them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use wserver_protocol::v2::Acks;

use super::account::{begin, check_findings};
use super::replay::{ensure_v2, gather};
use crate::engine::{Engine, micros};
use crate::process::own_cpu;
use crate::report::Report;
use crate::sampler::histogram;
use crate::settings::{Common, Waits};
use crate::target::Ask;

/// Longer than a push waits.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) fn run(common: &Common, waits: &Waits) -> Result<Report> {
    let Waits { connections, pushes, rate } = *waits;
    ensure_v2(common)?;
    ensure!(rate > 0.0, "--rate must be above 0");
    let (mut report, process) = begin("waits", common)?;
    report.setting("connections", connections);
    report.setting("pushes", pushes);
    report.setting("pace", format!("{rate}/s"));
    let mut engine = Engine::new(common, 1, 1)?;
    gather(&mut engine, common.opening_max, connections.into(), 0, |engine, _| {
        engine.open(0).map(drop)
    })?;
    engine.ask(Ask::Wait);
    engine.open_pushers(1)?;
    engine.rest()?;
    let mut round_trips = histogram();
    let (mut total, mut matched, mut refused) = (Acks::default(), 0, 0);
    let (cpu, own, start) = (process.cpu(), own_cpu(), engine.now());
    for number in 0..pushes {
        let due = start + micros(Duration::from_secs_f64(f64::from(number) / rate));
        while engine.now() < due {
            engine.turn(Some(Duration::from_micros(due - engine.now().min(due))))?;
        }
        let sent = engine.now();
        engine.send(0, 0, 0, (0, number), sent)?;
        let answer = loop {
            engine.turn(Some(Duration::from_millis(100)))?;
            if let Some(answer) = engine.answers.pop() {
                break answer;
            }
            let waited = Duration::from_micros(engine.now() - sent);
            ensure!(waited < PATIENCE, "the server did not answer a push that waits");
        };
        if engine.is_accepted(answer.status) {
            total += answer.acks.context("the answer to a push that waits has no acks")?;
            matched += answer.count.unwrap_or(0);
            round_trips.saturating_record(answer.done - answer.due);
        } else {
            refused += 1;
        }
    }
    let each = f64::from(pushes.max(1)) * f64::from(connections.max(1));
    if process.is_known() {
        let spent = process.cpu().saturating_sub(cpu).as_secs_f64() * 1e6;
        report.figure("cpu_us_per_acknowledgement", spent / each);
        report.count("resident_bytes", process.resident());
    }
    let spent = own_cpu().saturating_sub(own).as_secs_f64() * 1e6;
    report.figure("generator_cpu_us_per_acknowledgement", spent / each);
    let expected = u64::from(pushes) * u64::from(connections);
    engine.drain(expected)?;
    for number in 0..engine.connections.len() {
        engine.ledger.close(number, 0, pushes);
    }
    report.latency("push that waits", &round_trips);
    report.check("frames", engine.ledger.received(), expected);
    report.check("the sum of the numbers answered", matched, expected);
    report.check("acknowledged", total.acked as u64, expected);
    report.check(
        "still waiting, unable or lost",
        (total.waiting + total.unable + total.lost) as u64,
        0,
    );
    check_findings(&engine, &mut report);
    report.check("pushes refused", refused, 0);
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
