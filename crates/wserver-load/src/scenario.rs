//! What is done to a server, one file for each scenario, and how its account is checked.

mod churn;
mod fanout;
mod idle;
mod mass_disconnect;
mod slow_readers;
mod unicast;

use anyhow::Result;

use crate::drive::Course;
use crate::engine::Engine;
use crate::process::Process;
use crate::report::Report;
use crate::settings::{Common, Scenario, Settings, Target};

/// Runs one scenario to its end.
///
/// # Errors
/// When it cannot be run. That the server said something untrue is no error, but told by
/// [`Report::is_true`].
pub fn run(settings: &Settings) -> Result<Report> {
    let common = &settings.common;
    match &settings.scenario {
        Scenario::Idle(idle) => idle::run(common, idle),
        Scenario::Fanout(fanout) => fanout::run(common, fanout),
        Scenario::Unicast(unicast) => unicast::run(common, unicast),
        Scenario::Churn(churn) => churn::run(common, churn),
        Scenario::MassDisconnect(mass) => mass_disconnect::run(common, mass),
        Scenario::SlowReaders(slow) => slow_readers::run(common, slow),
    }
}

fn begin(name: &str, common: &Common) -> Result<(Report, Process)> {
    let mut report = Report::new(name, common.target.to_string());
    report.setting("message_bytes", common.message_bytes);
    let broker = Process::open(&common.broker_pids)?;
    Ok((report, Process::open(&common.pids)?.with_broker(broker)))
}

/// Waits for what is under way, and checks the account of a group that all get every message.
///
/// `probed` is what the server answered to pushes outside of the course.
fn check_group(
    engine: &mut Engine,
    course: &Course,
    group: &[usize],
    probed: u64,
    report: &mut Report,
) -> Result<()> {
    engine.drain(course.counted + probed)?;
    for &listener in group.iter().filter(|&&it| engine.listeners[it].is_open()) {
        for (stream, &sent) in course.sequences.iter().enumerate() {
            engine.ledger.close(listener, stream, sent);
        }
    }
    report.check(
        "frames, and the sum of the numbers answered",
        engine.ledger.received(),
        course.counted + probed,
    );
    let dissenters = engine.ledger.dissenters(group) as u64;
    // Only wserver promises one order of what several pushers send.
    if engine.target == Target::Wserver {
        report.check("connections that saw another order", dissenters, 0);
    } else {
        report.count("connections_in_another_order", dissenters);
    }
    check_books(engine, course, report);
    Ok(())
}

/// The checks that every scenario has.
fn check_books(engine: &Engine, course: &Course, report: &mut Report) {
    let findings = engine.ledger.findings();
    report.check("lost", findings.lost, 0);
    report.check("duplicated", findings.duplicated, 0);
    report.check("out of order", findings.disordered, 0);
    report.check("foreign", findings.foreign, 0);
    report.check("pushes refused", course.refused, 0);
}

/// Tells the person who waits.
#[expect(clippy::print_stderr, reason = "the table goes to standard output, progress must not")]
pub(crate) fn progress(text: &str) {
    eprintln!("wserver-load: {text}");
}
