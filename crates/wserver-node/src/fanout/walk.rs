//! The walker: hands a lane's log to every member, segment by segment, a slice of members at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{Level, enabled, trace};
use wserver_core::{EventName, EventRef, UserId};

use super::lane::{self, append, take_runs};
use super::{Evicted, Member, Push, UserGroup, note_sent};
use crate::inner::Inner;
use crate::journal::What;
use crate::outbox::{Outbox, OutboxRules, Run, Sent, Wire};
use crate::receipt::{NoDelivery, PushOptions, PushReceipt, is_over};

/// Members looked up per acquisition of the user's lock.
const WALK_SLICE: usize = 16;
/// How long a walk holds its runtime worker. Short, so that whoever pushes in a closed loop has its next
/// message in the log before the walk is through: then even a single pusher's messages merge.
const WALK_TIME_MAX: Duration = Duration::from_micros(50);

/// A run of the log on its way to the members.
struct Part {
    event: EventName,
    start: u64,
    options: PushOptions,
    frames: Bytes,
    count: u64,
    accepted: Instant,
}

impl Part {
    const fn run(&self) -> Run<'_> {
        Run { frames: &self.frames, expires_at: self.options.expires_at }
    }
}

impl<W: Wire> Inner<W> {
    /// Hands out the log, segment by segment, until nothing is left in it.
    pub(super) async fn walk(self: Arc<Self>, user: &UserId, walk: u64) {
        let mut laggards = Vec::new();
        loop {
            let mut evicted = Vec::new();
            let segment = self.binder.with_user(user, |mut group| {
                if group.lane.walk != walk {
                    return None;
                }
                self.list_laggards(group.lane, &laggards);
                self.take_segment(&mut group, &mut evicted)
            });
            laggards.clear();
            self.evict(user, &evicted);
            let Some(Some(segment)) = segment else { return };
            let segment: Vec<Part> = segment
                .into_iter()
                .map(|lane::Run { event, start, options, body, count, accepted }| Part {
                    event,
                    start,
                    options,
                    frames: body.freeze(),
                    count,
                    accepted,
                })
                .collect();
            trace!(runs = segment.len(), "segment taken");
            if !self.walk_segment(user, walk, &segment, &mut laggards).await {
                return;
            }
            let now = Instant::now();
            for Part { count, accepted, .. } in &segment {
                self.counters.push_delivery.observe(now - *accepted, *count);
            }
        }
    }

    /// Takes the whole log as the next segment and lets in those who wait; ends the walk when there is nothing.
    fn take_segment(
        &self,
        group: &mut UserGroup<'_, W>,
        evicted: &mut Vec<Evicted<W>>,
    ) -> Option<Vec<lane::Run>> {
        let extra = group.lane.extra.as_mut()?;
        extra.segment_bytes = 0;
        let mut segment = take_runs(extra);
        self.admit_waiting(group, evicted);
        if segment.is_empty()
            && let Some(extra) = &mut group.lane.extra
        {
            segment = take_runs(extra);
        }
        if segment.is_empty() {
            group.lane.walk = 0;
            if group.lane.extra.as_ref().is_some_and(|extra| extra.laggards.is_empty()) {
                group.lane.extra = None;
            }
            return None;
        }
        Some(segment)
    }

    fn admit_waiting(&self, group: &mut UserGroup<'_, W>, evicted: &mut Vec<Evicted<W>>) {
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
                // It may be among those who came meanwhile.
                let found = group.members.iter().find(|member| member.id() == id);
                excluded_slot = found.map(|member| member.slot());
            }
            let lane::Waiting { event, frame, options, accepted, .. } = waiting;
            let push = Push { event: &event, frame: &frame, options, excluded_slot };
            let receipt = if options.is_expired() {
                PushReceipt::nobody(NoDelivery::Expired)
            } else {
                match self.count(group, &push, evicted) {
                    Ok((event, receipt)) => {
                        append(group.lane, event.name(), &frame, options);
                        receipt
                    }
                    Err(receipt) => receipt,
                }
            };
            // A caller that left in this very moment was told nothing; its message is delivered all the same.
            let _ = accepted.send(receipt);
        }
    }

    /// Writes one segment to all members; false when the lane is gone.
    async fn walk_segment(
        &self,
        user: &UserId,
        walk: u64,
        segment: &[Part],
        laggards: &mut Vec<usize>,
    ) -> bool {
        let mut since = Instant::now();
        let mut slot = 0;
        let mut targets: Vec<(usize, u64, Member<W>)> = Vec::with_capacity(WALK_SLICE);
        // What is too late for the rest of the members: a bit each.
        let mut expired = 0_u64;
        let is_traced = enabled!(Level::TRACE);
        loop {
            expired = self.note_expired(user, segment, expired);
            let mut expired_count = 0;
            let slots = self.binder.with_user(user, |group| {
                if group.lane.walk != walk {
                    return None;
                }
                let members = group.members;
                // An event that nobody has any more concerns nobody.
                let parts: Vec<(usize, EventRef<'_>, &Part)> = segment
                    .iter()
                    .enumerate()
                    .filter_map(|(bit, part)| Some((bit, members.event(&part.event)?, part)))
                    .collect();
                let slots = members.slots();
                let end = slots.min(slot + WALK_SLICE);
                for member in members.range(slot..end) {
                    let mut mask = 0_u64;
                    for (bit, event, part) in &parts {
                        // Who registered behind the start of a run was not counted for it.
                        if member.registered(*event).is_some_and(|mark| mark <= part.start)
                            && part.options.exclude != Some(member.id())
                        {
                            mask |= 1 << bit;
                        }
                    }
                    if mask & expired != 0 {
                        expired_count += (mask & expired).count_ones();
                        mask &= !expired;
                    }
                    if mask != 0 {
                        targets.push((member.slot(), mask, member.handle().clone()));
                    }
                }
                slot = end;
                Some(slots)
            });
            self.counters.deliveries_expired_total.add(expired_count.into());
            let Some(Some(slots)) = slots else { return false };
            let mut lost = Vec::new();
            for (slot, mask, outbox) in targets.drain(..) {
                let sent = send_masked(&self.outbox_rules, &outbox, mask, segment);
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
                let first = &segment[mask.trailing_zeros() as usize];
                self.lose(user, &first.event, &outbox, sent);
            }
            if slot >= slots {
                return true;
            }
            if since.elapsed() >= WALK_TIME_MAX {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
        }
    }

    /// Adds the frames whose time is over to those that were `expired` before, and notes each once.
    fn note_expired(&self, user: &UserId, segment: &[Part], mut expired: u64) -> u64 {
        for (bit, part) in segment.iter().enumerate() {
            if expired & (1 << bit) == 0 && is_over(part.options.expires_at) {
                expired |= 1 << bit;
                let reason = NoDelivery::Expired;
                self.journal.note(What::Dropped { reason }, None, Some(user), Some(&part.event));
            }
        }
        expired
    }
}

fn send_masked<W: Wire>(
    rules: &OutboxRules,
    outbox: &Outbox<W>,
    mask: u64,
    segment: &[Part],
) -> Sent {
    if let [part] = segment {
        return outbox.send(rules, &[part.run()]);
    }
    let runs: Vec<Run<'_>> = segment
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0)
        .map(|(_, part)| part.run())
        .collect();
    outbox.send(rules, &runs)
}
