//! The memory cost of messages that are kept for users who are away.

use anyhow::{Result, ensure};

use super::account::{begin, check_findings};
use super::replay::{ask_each, ensure_v2, gather};
use crate::engine::Engine;
use crate::report::Report;
use crate::settings::{Common, Kept};
use crate::target::Ask;

pub(super) fn run(common: &Common, kept: &Kept) -> Result<Report> {
    let Kept { users, messages, checked, pushers } = *kept;
    ensure_v2(common)?;
    let (mut report, process) = begin("kept", common)?;
    report.setting("users", users);
    report.setting("messages", messages);
    let mut engine = Engine::new(common, 1, 1)?;
    engine.open_pushers(pushers.into())?;
    engine.rest()?;
    let before = process.resident();
    // Asking for a user's position begins the log, as a connection would.
    engine.ask(Ask::Position);
    // Evenly spread over all users.
    let every = (users / checked.clamp(1, users)).max(1);
    let mut positions = Vec::new();
    let mut refused = ask_each(&mut engine, pushers, users, 0, |answer| {
        if answer.user % every == 0 && positions.len() < checked as usize {
            positions.push((answer.user, answer.at));
        }
    })?;
    ensure!(refused == 0, "{refused} users have no position: the server keeps no event (--replay)");
    let begun = process.resident();
    engine.ask(Ask::Push);
    for number in 0..messages {
        refused += ask_each(&mut engine, pushers, users, number, |_| {})?;
    }
    let after = process.resident();
    let count = positions.len() as u64;
    let expected = count * u64::from(messages);
    gather(&mut engine, common.opening_max, count, expected, |engine, number| {
        let (user, position) = positions[number];
        engine.open_behind(user, position).map(drop)
    })?;
    engine.drain(expected)?;
    for number in 0..engine.connections.len() {
        engine.ledger.close(number, 0, messages);
    }
    if process.is_known() {
        #[expect(clippy::cast_precision_loss, reason = "no memory comes near 2⁵² bytes")]
        let each = |from: u64, to: u64| to.saturating_sub(from) as f64 / f64::from(users);
        report.figure("bytes_per_user", each(before, after));
        report.figure("bytes_per_log", each(before, begun));
        report.figure("bytes_per_message", each(begun, after) / f64::from(messages.max(1)));
        report.count("resident_bytes_before", before);
        report.count("resident_bytes_after", after);
    }
    report.check("frames", engine.ledger.received(), expected);
    report.check("gaps", engine.gaps, 0);
    check_findings(&engine, &mut report);
    report.check("pushes refused", refused, 0);
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
