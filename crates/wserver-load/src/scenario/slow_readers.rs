//! Some connections of a user do not read: the others must not notice, and memory must stay
//! bounded.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::account::{begin, check_books};
use crate::connection::{End, Phase};
use crate::drive::{Audience, Pace, Plan, drive};
use crate::engine::Engine;
use crate::report::Report;
use crate::settings::{Common, SlowReaders, Target};

/// Receive buffer of a stalled socket, small so that the server's limit is reached soon.
const STALLED_BUFFER: usize = 4096;

/// How long to wait for the end of a connection that the server closes as too slow.
const EVICTION_PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn run(common: &Common, slow: &SlowReaders) -> Result<Report> {
    ensure!(slow.stalled < slow.connections, "--stalled must be less than --connections");
    let (mut report, process) = begin("slow-readers", common)?;
    report.setting("connections", slow.connections);
    report.setting("stalled", slow.stalled);
    report.setting("pushers", slow.pushers);
    let pace = Pace::of(slow.rate);
    report.setting("pace", pace);
    let mut engine = Engine::new(common, usize::from(slow.pushers), 1)?;
    engine.receive_buffer = Some(STALLED_BUFFER);
    engine.open_all((0..slow.stalled).map(|_| 0))?;
    engine.receive_buffer = None;
    engine.open_all((slow.stalled..slow.connections).map(|_| 0))?;
    let probed = engine.probe_until(0, u64::from(slow.connections))?;
    engine.drain(probed)?;
    let resident_before = process.resident();
    let (stalled, readers) =
        (0..slow.stalled as usize, slow.stalled as usize..engine.connections.len());
    for number in stalled.clone() {
        engine.connections[number].is_stalled = true;
    }
    let plan = Plan {
        pace,
        audience: Audience::One,
        pushers: usize::from(slow.pushers),
        events: 1,
        window: slow.window,
        sample_every: 1,
    };
    let course = drive(&mut engine, &process, plan, |_, _| Ok(()))?;
    let last_count = engine.probe(0)?;
    let counted = course.counted + probed + last_count;

    // Only now do the stalled connections read, and notice that the server closed them.
    for number in stalled.clone() {
        engine.resume(number)?;
    }
    let began = Instant::now();
    while stalled.clone().any(|it| engine.connections[it].is_open())
        && began.elapsed() < EVICTION_PATIENCE
    {
        engine.turn(Some(Duration::from_millis(50)))?;
    }
    engine.drain(counted)?;
    let readers: Vec<usize> = readers.collect();
    for &connection in &readers {
        for (stream, &sent) in course.sequences.iter().enumerate() {
            engine.ledger.close(connection, stream, sent);
        }
    }
    let ends = |wanted: fn(End) -> bool| {
        let is_wanted =
            |it: &usize| matches!(engine.connections[*it].phase, Phase::Closed(end) if wanted(end));
        stalled.clone().filter(is_wanted).count() as u64
    };
    report.count("stalled_told_1013", ends(|end| end == End::Closed(1013)));
    report.count("stalled_cut", ends(|end| end == End::Cut));
    let evicted = ends(|_| true);
    report.count("stalled_evicted", evicted);
    course.tell(&engine, &process, &mut report);
    report.count("resident_bytes_before", resident_before);
    report.count("resident_bytes_after", process.resident());
    // A message that was counted for a connection closed later may not have arrived.
    report.count("counted_and_not_read", counted.saturating_sub(engine.ledger.received()));
    report.check_at_least(
        "the sum of the numbers answered, and frames",
        counted,
        engine.ledger.received(),
    );
    report.check("the last number answered", last_count, u64::from(slow.connections) - evicted);
    let dissenters = engine.ledger.dissenters(&readers) as u64;
    if common.target == Target::Wserver {
        report.check("readers that saw another order", dissenters, 0);
    }
    let cut = readers.iter().filter(|&&it| !engine.connections[it].is_open()).count();
    report.check("readers cut off", cut as u64, 0);
    check_books(&engine, &course, &mut report);
    Ok(report)
}
