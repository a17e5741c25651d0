//! What scenarios with replay share: one request for each of many users, and connections that come
//! back behind their positions.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::engine::{Change, Engine};
use crate::pusher::Answer;
use crate::settings::{Common, Versions};
use crate::stamp::{SEQUENCE_MAX, first_of};

/// How long nothing may happen.
const PATIENCE: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(100);

/// Only connections of version 2 have positions and acknowledge.
pub(super) fn ensure_v2(common: &Common) -> Result<()> {
    ensure!(common.protocol == Versions::V2, "this scenario needs --protocol v2");
    Ok(())
}

/// Asks once for each of these users, with the message of this number, as fast as the pushers get
/// answers; tells how many were refused.
pub(super) fn ask_each(
    engine: &mut Engine,
    pushers: u8,
    users: u32,
    number: u32,
    mut told: impl FnMut(&Answer),
) -> Result<u64> {
    engine.open_pushers(pushers.into())?;
    let mut idle: Vec<usize> = (0..pushers.into()).collect();
    let mut users = 0..users;
    let (mut under_way, mut refused) = (0, 0);
    let mut progress_at = Instant::now();
    loop {
        while let Some(pusher) = idle.pop() {
            let Some(user) = users.next() else { break };
            let sequence = first_of(user).wrapping_add(number) & SEQUENCE_MAX;
            let now = engine.now();
            engine.send(pusher, user, 0, (0, sequence), now)?;
            under_way += 1;
        }
        if under_way == 0 {
            return Ok(refused);
        }
        engine.turn(Some(TURN))?;
        for answer in std::mem::take(&mut engine.answers) {
            under_way -= 1;
            refused += u64::from(!engine.is_accepted(answer.status));
            told(&answer);
            idle.push(answer.pusher);
            progress_at = Instant::now();
        }
        ensure!(progress_at.elapsed() < PATIENCE, "the server did not answer {under_way} requests");
    }
}

/// Opens connections, at most `opening_max` at a time, as `open` begins them until it tells that
/// there are no more, and waits until all of them have the reply to their registration and all have
/// `messages` together.
pub(super) fn gather(
    engine: &mut Engine,
    opening_max: usize,
    connections: u64,
    messages: u64,
    mut open: impl FnMut(&mut Engine, usize) -> Result<()>,
) -> Result<()> {
    let granted = engine.granted + connections;
    let received = engine.ledger.received() + messages;
    let mut begun = 0;
    let (mut seen, mut progress_at) = ((0, 0), Instant::now());
    loop {
        while (begun as u64) < connections && engine.opening() < opening_max {
            open(engine, begun)?;
            begun += 1;
        }
        if engine.granted >= granted && engine.ledger.received() >= received {
            return Ok(());
        }
        engine.turn(Some(TURN))?;
        for change in std::mem::take(&mut engine.changes) {
            if let Change::Ended(number) = change {
                anyhow::bail!("connection {number} ended: {:?}", engine.connections[number].phase);
            }
        }
        let now = (engine.granted, engine.ledger.received());
        if now != seen {
            (seen, progress_at) = (now, Instant::now());
        } else if progress_at.elapsed() > PATIENCE.min(engine.patience()) {
            // What is missing is found in the books.
            return Ok(());
        }
    }
}
