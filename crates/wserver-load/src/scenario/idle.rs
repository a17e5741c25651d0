//! The memory cost of idle connections.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::account::begin;
use crate::engine::Engine;
use crate::process::kernel_slab;
use crate::progress::progress;
use crate::report::Report;
use crate::settings::{Common, Idle, Versions};

pub(super) fn run(common: &Common, idle: &Idle) -> Result<Report> {
    ensure!(
        idle.users == 1 || common.protocol == Versions::V1,
        "a connection of version 2 has one user, so --users must be 1"
    );
    let (mut report, process) = begin("idle", common)?;
    report.setting("connections", idle.connections);
    report.setting("users", idle.users);
    report.setting("events", idle.events);
    report.setting("heartbeats", idle.heartbeats);
    let mut engine = Engine::new(common, 1, idle.events)?;
    engine.registered_users = idle.users;
    // A connection registers for its users in turn, so the last registration implies the others.
    let last_user_of = |connection: u32| connection * idle.users + idle.users - 1;

    // Open one connection first, so that single allocations do not count for each.
    engine.open_all([idle.connections])?;
    let mut counted = engine.probe_until(last_user_of(idle.connections), 1)?;
    // When the push is answered, the frame is still under way, and leaving would lose it.
    engine.drain(counted)?;
    engine.connections[0].leave(false)?;
    engine.probe_until(last_user_of(idle.connections), 0)?;
    let before = process.resident();
    let broker_before = process.broker().map(|it| (it.resident(), it.cpu()));
    let kernel_before = kernel_slab();
    let began = Instant::now();
    engine.open_all(0..idle.connections)?;
    let opening = began.elapsed();
    let opened = process.resident();
    engine.hold()?;

    let began = Instant::now();
    let mut told_at = began;
    while engine.connections[1..].iter().any(|it| it.pings < idle.heartbeats) {
        engine.turn(Some(Duration::from_millis(100)))?;
        ensure!(engine.changes.is_empty(), "a connection ended while idle");
        ensure!(
            began.elapsed() < idle.heartbeat_timeout * idle.heartbeats,
            "no heartbeats arrive; --heartbeats 0 measures without them"
        );
        if told_at.elapsed() > Duration::from_secs(5) {
            let least = engine.connections[1..].iter().map(|it| it.pings).min();
            progress(&format!("every connection had {} heartbeats", least.unwrap_or(0)));
            told_at = Instant::now();
        }
    }
    let waited = process.resident();

    let each = |before: u64, after: u64| {
        #[expect(clippy::cast_precision_loss, reason = "no memory comes near 2⁵² bytes")]
        let grown = after.saturating_sub(before) as f64;
        grown / f64::from(idle.connections)
    };
    if let (Some(before), Some(after)) = (kernel_before, kernel_slab()) {
        // The figure includes the sockets of all programs on this machine, and our own ends.
        report.figure("kernel_bytes_per_connection", each(before, after));
    }
    if process.is_known() {
        report.count("resident_bytes_before", before);
        report.figure("bytes_per_connection_opened", each(before, opened));
        report.figure("bytes_per_connection", each(before, waited));
        for (kind, bytes) in process.rollup() {
            let name = match kind {
                "Anonymous:" => "resident_anonymous",
                "Private_Clean:" => "resident_private_clean",
                "Shared_Clean:" => "resident_shared_clean",
                "Private_Dirty:" => "resident_private_dirty",
                _ => "resident_bytes",
            };
            report.count(name, bytes);
        }
        report.count("threads", process.threads());
    }
    if let (Some(broker), Some((resident, cpu))) = (process.broker(), broker_before) {
        let users = f64::from(idle.connections) * f64::from(idle.users);
        let grown = each(resident, broker.resident()) / f64::from(idle.users);
        report.count("broker_resident_bytes_before", resident);
        report.figure("broker_bytes_per_user", grown);
        let spent = broker.cpu().saturating_sub(cpu).as_secs_f64() * 1e6;
        report.figure("broker_cpu_us_per_user", spent / users);
    }
    report.figure("openings_per_second", f64::from(idle.connections) / opening.as_secs_f64());
    report.latency("opening", &engine.openings);

    // Check only now that all are registered, because a delivery can cost memory. The server may
    // still be busy with the last ones.
    for user in 0..idle.connections {
        counted += engine.probe_until(last_user_of(user), 1)?;
    }
    engine.drain(counted)?;
    report.check("frames, and the sum of the numbers answered", engine.ledger.received(), counted);
    report.check("foreign", engine.ledger.findings().foreign, 0);
    report.check("connections cut off", engine.cut_off() as u64, 0);
    Ok(report)
}
