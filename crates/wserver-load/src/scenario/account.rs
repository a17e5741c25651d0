//! How a scenario starts its account, and checks it at the end.

use anyhow::Result;

use crate::drive::Course;
use crate::engine::Engine;
use crate::process::Process;
use crate::report::Report;
use crate::settings::{Common, Target, Versions};

pub(super) fn begin(name: &str, common: &Common) -> Result<(Report, Process)> {
    let mut report = Report::new(name, common.target.to_string());
    report.setting("message_bytes", common.message_bytes);
    if common.protocol != Versions::V1 {
        report.setting("protocol", common.protocol);
    }
    let broker = Process::open(&common.broker_pids)?;
    Ok((report, Process::open(&common.pids)?.with_broker(broker)))
}

/// Waits for messages under way, and checks the account of a group in which every connection gets
/// every message.
///
/// `probed` is the sum of the server's answers to pushes outside of the course.
pub(super) fn check_group(
    engine: &mut Engine,
    course: &Course,
    group: &[usize],
    probed: u64,
    report: &mut Report,
) -> Result<()> {
    engine.drain(course.counted + probed)?;
    for &connection in group.iter().filter(|&&it| engine.connections[it].is_open()) {
        for (stream, &sent) in course.sequences.iter().enumerate() {
            engine.ledger.close(connection, stream, sent);
        }
    }
    report.check(
        "frames, and the sum of the numbers answered",
        engine.ledger.received(),
        course.counted + probed,
    );
    let dissenters = engine.ledger.dissenters(group) as u64;
    // Only wserver promises one order for the messages of several pushers.
    if engine.target == Target::Wserver {
        report.check("connections that saw another order", dissenters, 0);
    } else {
        report.count("connections_in_another_order", dissenters);
    }
    check_books(engine, course, report);
    Ok(())
}

/// The checks of every scenario that has a course.
pub(super) fn check_books(engine: &Engine, course: &Course, report: &mut Report) {
    check_findings(engine, report);
    report.check("pushes refused", course.refused, 0);
}

/// The checks of every scenario.
pub(super) fn check_findings(engine: &Engine, report: &mut Report) {
    let findings = engine.ledger.findings();
    report.check("lost", findings.lost, 0);
    report.check("duplicated", findings.duplicated, 0);
    report.check("out of order", findings.disordered, 0);
    report.check("foreign", findings.foreign, 0);
}
