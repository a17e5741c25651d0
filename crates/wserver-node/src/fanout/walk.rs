//! The walker: hands a lane's log to every member, a slice of members at a time, round after round.
//!
//! Messages that are accepted during a round join it at the walker's current slot, and are handed
//! out from there around to there again: they wait for the next few members to be written to, not
//! for the last one. Each member gets everything under way at once, so the rounds cause no
//! additional writes.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{Level, enabled, trace};
use wserver_core::{EventName, EventRef, UserId, UserKey};
use wserver_protocol::Protocol;

use super::under_way::UnderWay;
use super::{Evicted, Member, Push, UserGroup, note_sent};
use crate::entry::What;
use crate::lane::{self, Extra, RunBody, append, take_runs};
use crate::outbox::{Outbox, Run, Sent, Wire};
use crate::receipt::{NoDelivery, PushOptions, PushReceipt, is_over};
use crate::replay::Log;
use crate::state::NodeState;

/// Members that are looked up under one acquisition of the user's lock.
const WALK_SLICE: usize = 16;
/// The same while messages arrive during the walk; pushers get a turn after each slice. A pusher in
/// a closed loop then has its next message in the log by the next slice, so even a single pusher's
/// messages merge: with half as many members between two turns, it delivers half as much again.
const BUSY_SLICE: usize = 8;
/// How often per round the walker looks for new messages. Each look may add a run, and so a buffer,
/// to every write; with eight looks, messages came hardly sooner.
const LOOKS: usize = 4;
/// How long a walk may occupy its runtime worker while no messages arrive.
const WALK_TIME_MAX: Duration = Duration::from_micros(50);

/// A run of the log on its way to the members.
struct Part {
    event: EventName,
    start: u64,
    options: PushOptions,
    /// By protocol; empty for a protocol that no member speaks.
    frames: [Bytes; 3],
    /// The sum of the longest frames of its messages.
    bytes: usize,
    count: u64,
    accepted: Instant,
    /// It has expired; members that have not got it do not get it.
    is_expired: bool,
}

impl Part {
    const fn run(&self, protocol: Protocol) -> Run<'_> {
        Run { frames: &self.frames[protocol as usize], expires_at: self.options.expires_at }
    }
}

/// The runs that were taken out of the log at one time.
struct Segment {
    parts: usize,
    bytes: usize,
    /// The slot from which it is handed out, and where it is complete when the round comes back.
    from: usize,
    has_wrapped: bool,
}

/// The parts under way of all segments, the oldest first.
#[derive(Default)]
struct Round {
    /// The next slot to get them.
    slot: usize,
    segments: VecDeque<Segment>,
    /// At most as many as a mask has bits.
    parts: VecDeque<Part>,
    bytes: usize,
    /// Slots until the walker looks for new messages.
    until_look: usize,
}

impl Round {
    fn add(&mut self, runs: Vec<lane::Run>) {
        let parts = runs.len();
        let parts_before = self.parts.len();
        self.parts.extend(runs.into_iter().map(
            |lane::Run { event, start, options, bodies, bytes, count, accepted }| {
                let frames = bodies.map(|body| body.map(RunBody::freeze).unwrap_or_default());
                Part { event, start, options, frames, bytes, count, accepted, is_expired: false }
            },
        ));
        let bytes = self.parts.range(parts_before..).map(|part| part.bytes).sum();
        self.bytes += bytes;
        self.segments.push_back(Segment { parts, bytes, from: self.slot, has_wrapped: false });
    }

    /// The end of the slice that begins at `slot`: before the first slot that already has
    /// something.
    fn slice_end(&self, slots: usize) -> usize {
        let come_round = self.segments.iter().find(|segment| segment.has_wrapped);
        let end = come_round.map_or(slots, |segment| segment.from.min(slots));
        end.min(self.slot + if self.is_busy() { BUSY_SLICE } else { WALK_SLICE })
    }

    /// Whether messages arrived while others were under way, so that more are likely to follow.
    fn is_busy(&self) -> bool {
        self.segments.len() > 1
    }

    /// Advances to `slot` of so many, and removes the parts that have come round.
    fn advance(&mut self, slot: usize, slots: usize) -> Vec<Part> {
        if self.until_look == 0 {
            // The walker has just looked.
            self.until_look = (slots / LOOKS).max(WALK_SLICE);
        }
        self.until_look = self.until_look.saturating_sub(slot.saturating_sub(self.slot));
        let mut done = self.take_done(slot, slots);
        self.slot = slot;
        if slot >= slots {
            self.slot = 0;
            for segment in &mut self.segments {
                segment.has_wrapped = true;
            }
            done.extend(self.take_done(0, slots));
        }
        done
    }

    fn take_done(&mut self, slot: usize, slots: usize) -> Vec<Part> {
        let mut done = Vec::new();
        while let Some(segment) = self.segments.front()
            && segment.has_wrapped
            // There may be fewer slots than at the beginning.
            && slot >= segment.from.min(slots)
        {
            done.extend(self.parts.drain(..segment.parts));
            self.bytes -= segment.bytes;
            self.segments.pop_front();
        }
        done
    }
}

impl<W: Wire> NodeState<W> {
    /// Hands out the log until it is empty.
    pub(super) async fn walk(self: Arc<Self>, user: &UserId, walk: u32) {
        let key = self.binder.key(user);
        let _under_way = UnderWay::new(&self, key, walk);
        let mut round = Round::default();
        let mut laggards = Vec::new();
        let mut targets = Vec::with_capacity(WALK_SLICE);
        let mut since = Instant::now();
        loop {
            if (round.segments.is_empty() || round.until_look == 0)
                && !self.look(key, walk, &mut round, &mut laggards)
            {
                return;
            }
            let Some(slots) = self.take_slice(key, walk, &mut round, &mut targets) else { return };
            self.write_slice(user, &round, &mut targets, &mut laggards);
            let slot = round.slice_end(slots);
            let done = round.advance(slot, slots);
            if !done.is_empty() {
                let now = Instant::now();
                for Part { count, accepted, .. } in &done {
                    self.counters.push_delivery.observe(now - *accepted, *count);
                }
            }
            if round.is_busy() || since.elapsed() >= WALK_TIME_MAX {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
        }
    }

    /// Lets new messages join the round. Returns false if there is nothing more to hand out, which
    /// ends the walk, or if the lane is gone.
    fn look(
        &self,
        key: UserKey<'_>,
        walk: u32,
        round: &mut Round,
        laggards: &mut Vec<usize>,
    ) -> bool {
        let mut evicted = Vec::new();
        let mut take = |log: Option<&mut Log>| {
            self.binder.with_key(key, |mut group| {
                if group.lane.walk != walk {
                    return None;
                }
                self.list_laggards(group.lane, laggards);
                self.take_segment(&mut group, round, log, &mut evicted)
            })
        };
        let runs = match &self.replays {
            Some(replays) => replays.with_log(key.user(), take),
            None => take(None),
        };
        laggards.clear();
        self.evict(key.user(), &evicted);
        let Some(Some(runs)) = runs else { return false };
        if !runs.is_empty() {
            trace!(runs = runs.len(), slot = round.slot, "segment taken");
            round.add(runs);
        }
        true
    }

    /// Takes the log as the next segment and admits the pushes that wait. Returns `None` if nothing
    /// is left to hand out, and then the walk is over.
    fn take_segment(
        &self,
        group: &mut UserGroup<'_, W>,
        round: &Round,
        log: Option<&mut Log>,
        evicted: &mut Vec<Evicted<W>>,
    ) -> Option<Vec<lane::Run>> {
        let extra = group.lane.extra.as_mut()?;
        extra.segment_bytes = round.bytes;
        let is_idle = round.segments.is_empty();
        // Messages under way and those that are taken share one limit, so that no member is handed
        // more at once than when a push had to wait.
        let fits = |extra: &Extra| round.bytes + extra.tail_bytes <= self.limits.walk_bytes_max;
        let mut runs = Vec::new();
        if is_idle || fits(extra) {
            runs = take_runs(extra, round.parts.len());
        }
        self.admit_waiting(group, log, evicted);
        if is_idle
            && runs.is_empty()
            && let Some(extra) = &mut group.lane.extra
        {
            runs = take_runs(extra, 0);
        }
        if is_idle && runs.is_empty() {
            group.lane.walk = 0;
            if group.lane.extra.as_ref().is_some_and(|extra| extra.laggards.is_empty()) {
                group.lane.extra = None;
            }
            return None;
        }
        Some(runs)
    }

    /// `log` is that of the user, locked.
    fn admit_waiting(
        &self,
        group: &mut UserGroup<'_, W>,
        mut log: Option<&mut Log>,
        evicted: &mut Vec<Evicted<W>>,
    ) {
        while let Some(extra) = &mut group.lane.extra
            && extra.tail_bytes < self.limits.walk_bytes_max
            && let Some(waiting) = extra.waiting.pop_front()
        {
            if waiting.accepted.is_closed() {
                continue;
            }
            let mut excluded_slot = waiting.excluded_slot;
            if let Some(id) = waiting.options.exclude
                && waiting.registrations != extra.registrations
            {
                // It may have joined meanwhile.
                let found = group.members.iter().find(|member| member.id() == id);
                excluded_slot = found.map(|member| member.slot());
            }
            let lane::Waiting { message, options, accepted, .. } = waiting;
            let mut message = message.lend();
            let replays = self.replays.as_ref().filter(|it| it.covers(message.event()));
            let mut log = log.as_deref_mut().zip(replays);
            if let Some((log, _)) = &log {
                message.place(Some(log.next()));
            }
            let push = Push { message: &mut message, options, excluded_slot };
            let receipt = if options.is_expired() {
                log = None;
                PushReceipt::nobody(NoDelivery::Expired)
            } else {
                let counted = self.count(group, &push, evicted);
                if let Some(wait) = push.message.wait() {
                    self.expect_acks(group, &push, wait, evicted);
                }
                match counted {
                    Ok((_, receipt)) => {
                        let wanted = group.lane.wanted(group.members.len());
                        append(group.lane, push.message, wanted, options);
                        receipt
                    }
                    Err(receipt) => receipt,
                }
            };
            let is_kept = log.is_some();
            if let Some((log, replays)) = log {
                replays.keep(log, push.message, options.expires_at, Instant::now());
            }
            let receipt = PushReceipt { is_kept, ..receipt };
            // The caller may have left just now, without an answer; its message is delivered
            // anyway.
            let _ = accepted.send(receipt);
        }
    }

    /// Finds what each member of the next slice gets. Returns the number of slots, or `None` if the
    /// lane is gone.
    fn take_slice(
        &self,
        key: UserKey<'_>,
        walk: u32,
        round: &mut Round,
        targets: &mut Vec<(usize, u64, Member<W>)>,
    ) -> Option<usize> {
        self.note_expired(key.user(), &mut round.parts);
        let mut expired_count = 0;
        let slots = self.binder.with_key(key, |group| {
            if group.lane.walk != walk {
                return None;
            }
            let members = group.members;
            // No member is left for such an event.
            let parts: Vec<(usize, EventRef<'_>, &Part)> = round
                .parts
                .iter()
                .enumerate()
                .filter_map(|(bit, part)| Some((bit, members.event(&part.event)?, part)))
                .collect();
            let slots = members.slots();
            let mut wanted = Vec::with_capacity(WALK_SLICE);
            for member in members.range(round.slot.min(slots)..round.slice_end(slots)) {
                let mut mask = 0_u64;
                for (bit, event, part) in &parts {
                    // A member that registered after the start of a run was not counted for it.
                    if member.registered(*event).is_some_and(|mark| mark <= part.start)
                        && part.options.exclude != Some(member.id())
                    {
                        if part.is_expired {
                            expired_count += 1;
                        } else {
                            mask |= 1 << bit;
                        }
                    }
                }
                if mask != 0 {
                    touch(member.handle());
                    wanted.push((member.slot(), mask, member.handle()));
                }
            }
            let clones =
                wanted.into_iter().map(|(slot, mask, outbox)| (slot, mask, Arc::clone(outbox)));
            targets.extend(clones);
            Some(slots)
        });
        self.counters.deliveries_expired_total.add(expired_count);
        slots?
    }

    /// Writes to each member of a slice what it gets.
    fn write_slice(
        &self,
        user: &UserId,
        round: &Round,
        targets: &mut Vec<(usize, u64, Member<W>)>,
        laggards: &mut Vec<usize>,
    ) {
        let is_traced = enabled!(Level::TRACE);
        let mut lost = Vec::new();
        for (slot, mask, outbox) in targets.drain(..) {
            let sent = send_masked(self, &outbox, mask, &round.parts);
            if is_traced {
                note_sent(&outbox, sent);
            }
            match sent {
                Sent::Written => {}
                Sent::Queued => laggards.push(slot),
                Sent::Ended | Sent::Overflow | Sent::NoRoom => {
                    self.counters.deliveries_lost_total.increment();
                    lost.push((outbox, mask, sent));
                }
            }
        }
        for (outbox, mask, sent) in lost {
            let first = &round.parts[mask.trailing_zeros() as usize];
            self.lose(user, &first.event, &outbox, sent);
        }
    }

    /// Marks the frames that have expired, and notes each once.
    fn note_expired(&self, user: &UserId, parts: &mut VecDeque<Part>) {
        for part in parts {
            if !part.is_expired && is_over(part.options.expires_at) {
                part.is_expired = true;
                let reason = NoDelivery::Expired;
                self.journal.note(What::Dropped { reason }, None, Some(user), Some(&part.event));
            }
        }
    }
}

/// Loads the parts of an outbox that a write needs. Loads of several outboxes wait for memory at
/// the same time; clones of their handles, each an atomic write, would wait one after the other.
fn touch<W: Wire>(outbox: &Member<W>) {
    // One load at either end of the outbox.
    black_box((Arc::strong_count(outbox), outbox.queued_bytes()));
}

fn send_masked<W: Wire>(
    node: &NodeState<W>,
    outbox: &Outbox<W>,
    mask: u64,
    parts: &VecDeque<Part>,
) -> Sent {
    let chosen = parts.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
    let protocol = outbox.protocol();
    let mut runs = chosen.map(|(_, part)| part.run(protocol));
    match (runs.next(), runs.next()) {
        // The usual case, which needs no list.
        (Some(run), None) => node.deliver(outbox, &[run]),
        (first, second) => {
            let runs: Vec<Run<'_>> = first.into_iter().chain(second).chain(runs).collect();
            node.deliver(outbox, &runs)
        }
    }
}
