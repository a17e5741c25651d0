//! How one push reaches every connection of a user: one lane per user, with a log that all its
//! members share.
//!
//! Under the user's lock a push is accepted and counted, without any system call. A pusher that
//! finds the lane idle walks it: a small group at once, in the pushing task, a large one in a
//! separate task. Messages that are accepted during a walk are appended to the lane's log, and the
//! next walk hands them to each member in one write: the busier the lane, the more frames per
//! write. This module knows nothing of HTTP, sockets or deadlines.
//!
//! There are no channels and no wake-ups per delivery: they would double the latency of a push to
//! one connection, and merge nothing.

mod under_way;
mod walk;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{Instrument as _, Level, enabled, trace, trace_span};
use wserver_core::{CloseReason, ConnectionId, EventName, EventRef, Group, UserId, UserKey};
use wserver_protocol::Protocol;

use crate::acks::{AwaitedPush, Fate};
use crate::entry::What;
use crate::lane::{Lane, Waiting, append};
use crate::message::{KeptMessage, Message, Wanted};
use crate::outbox::{Outbox, Run, Sent, Wire};
use crate::receipt::{NoDelivery, PushOptions, PushReceipt};
use crate::state::NodeState;
use under_way::UnderWay;

/// The pusher itself writes to groups of up to so many slots.
const INLINE_SLOTS_MAX: usize = 32;

type Member<W> = Arc<Outbox<W>>;
/// A reader that is too slow, and the event of the message that exceeded its limit.
type Evicted<W> = (Member<W>, EventName);
type UserGroup<'g, W> = Group<'g, Member<W>, Lane>;

/// One push, in the lane of a user.
struct Push<'p, 'a> {
    message: &'p mut Message<'a>,
    options: PushOptions,
    /// The slot of the excluded connection, if it is a member.
    excluded_slot: Option<usize>,
}

/// What became of a push.
pub(crate) struct FannedOut {
    pub(crate) receipt: PushReceipt,
    /// How long it took to hand it to all members, unless a walker does that and counts the time.
    pub(crate) took: Option<Duration>,
}

/// What became of a push under the user's lock.
enum Admission<W> {
    /// Nobody gets it.
    Nobody(PushReceipt),
    /// Counted; the walk under way with this number will write it.
    Appended { walk: u32, receipt: PushReceipt },
    /// The lane was idle and is small: the caller writes to these members and then ends the walk.
    Inline { walk: u32, wanted: Wanted, targets: Vec<(usize, Member<W>)>, receipt: PushReceipt },
    /// The lane was idle and is large: the caller starts a walker.
    Walker { walk: u32, receipt: PushReceipt },
    /// The log is full; the receipt comes when there is room.
    Waiting(oneshot::Receiver<PushReceipt>),
}

impl<W: Wire> NodeState<W> {
    /// Makes one push to one user, counts it and passes it to the traces of the user.
    pub(crate) async fn push_to(
        self: &Arc<Self>,
        user: &UserId,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> PushReceipt {
        let event = message.event();
        let FannedOut { receipt, took } = self.fan_out(user, message, options).await;
        if let Some(took) = took {
            self.counters.push_delivery.observe(took, 1);
        }
        self.counters.deliveries_total.add(receipt.delivered() as u64);
        if receipt.dropped > 0 {
            self.counters.deliveries_dropped_total.add(receipt.dropped as u64);
        }
        if self.journal.is_traced() {
            self.journal.note(What::Pushed { receipt }, None, Some(user), Some(event));
        }
        receipt
    }

    /// Hands `message` to every connection of `user` that registered its event; returns what became
    /// of it.
    pub(crate) async fn fan_out(
        self: &Arc<Self>,
        user: &UserId,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> FannedOut {
        if options.is_expired() {
            let receipt = PushReceipt::nobody(NoDelivery::Expired);
            return FannedOut { receipt, took: None };
        }
        let since = Instant::now();
        let mut push = Push { message, options: *options, excluded_slot: None };
        let mut evicted = Vec::new();
        let key = self.binder.key(user);
        let mut took = None;
        let (receipt, is_kept) = loop {
            let (admission, is_kept) = self.accept_and_keep(key, &mut push, &mut evicted, since);
            self.evict(user, &evicted);
            evicted.clear();
            let receipt = match admission {
                None => PushReceipt::nobody(NoDelivery::UserOffline),
                Some(Admission::Nobody(receipt)) => receipt,
                Some(Admission::Appended { walk, receipt }) => {
                    trace!(walk, "left to a walk under way");
                    receipt
                }
                Some(Admission::Inline { walk, wanted, targets, receipt }) => {
                    let receipt =
                        self.write_inline(key, walk, wanted, &targets, &mut push, receipt);
                    took = Some(since.elapsed());
                    receipt
                }
                Some(Admission::Walker { walk, receipt }) => {
                    self.start_walker(user, walk);
                    receipt
                }
                Some(Admission::Waiting(accepted)) => {
                    self.counters.pushes_waited_total.increment();
                    trace!("waits until there is room");
                    match accepted.await {
                        Ok(receipt) => receipt,
                        // The sender is dropped without an answer only when the user's last
                        // connection has gone. The message may still have to be kept.
                        Err(_) if self.replays.is_some() => continue,
                        Err(_) => PushReceipt::nobody(NoDelivery::UserOffline),
                    }
                }
            };
            break (receipt, is_kept);
        };
        FannedOut { receipt: PushReceipt { is_kept: receipt.is_kept || is_kept, ..receipt }, took }
    }

    /// Decides what becomes of a push, and puts it into the log of the user if there is one; also
    /// returns whether it did. A push that waits is put there when it is accepted.
    fn accept_and_keep(
        &self,
        key: UserKey<'_>,
        push: &mut Push<'_, '_>,
        evicted: &mut Vec<Evicted<W>>,
        now: Instant,
    ) -> (Option<Admission<W>>, bool) {
        push.message.place(None);
        let Some(replays) = self.replays.as_ref().filter(|it| it.covers(push.message.event()))
        else {
            return (self.accept(key, push, evicted), false);
        };
        replays.with_log(key.user(), |log| {
            let Some(log) = log else { return (self.accept(key, push, evicted), false) };
            push.message.place(Some(log.next()));
            let admission = self.accept(key, push, evicted);
            let is_accepted = !matches!(admission, Some(Admission::Waiting(_)));
            if is_accepted {
                replays.keep(log, push.message, push.options.expires_at, now);
            }
            (admission, is_accepted)
        })
    }

    /// Decides under the user's lock what becomes of a push; `None` if the user has no connection.
    fn accept(
        &self,
        key: UserKey<'_>,
        push: &mut Push<'_, '_>,
        evicted: &mut Vec<Evicted<W>>,
    ) -> Option<Admission<W>> {
        match push.options.exclude {
            None => self.binder.with_key(key, |mut group| self.admit(&mut group, push, evicted)),
            Some(id) => self.binder.with_user_and_slot(key.user(), id, |mut group, slot| {
                push.excluded_slot = slot;
                self.admit(&mut group, push, evicted)
            }),
        }
    }

    fn admit(
        &self,
        group: &mut UserGroup<'_, W>,
        push: &mut Push<'_, '_>,
        evicted: &mut Vec<Evicted<W>>,
    ) -> Admission<W> {
        let is_walking = group.lane.walk != 0;
        if is_walking
            && let Some(extra) = &mut group.lane.extra
            && (extra.tail_bytes >= self.limits.walk_bytes_max || !extra.waiting.is_empty())
        {
            let (accepted, answer) = oneshot::channel();
            extra.waiting.push_back(Waiting {
                message: KeptMessage::from(&*push.message),
                options: push.options,
                excluded_slot: push.excluded_slot,
                registrations: extra.registrations,
                accepted,
            });
            return Admission::Waiting(answer);
        }
        let members = group.members;
        let counted = self.count(group, push, evicted);
        if let Some(wait) = push.message.wait() {
            self.expect_acks(group, push, wait, evicted);
        }
        let (event, receipt) = match counted {
            Ok(counted) => counted,
            Err(receipt) => return Admission::Nobody(receipt),
        };
        let wanted = group.lane.wanted(members.len());
        if is_walking {
            append(group.lane, push.message, wanted, push.options);
            return Admission::Appended { walk: group.lane.walk, receipt };
        }
        let walk = self.next_walk();
        group.lane.walk = walk;
        if members.slots() > INLINE_SLOTS_MAX {
            append(group.lane, push.message, wanted, push.options);
            return Admission::Walker { walk, receipt };
        }
        let bytes = push.message.bytes(wanted);
        group.lane.head += bytes as u64;
        if let Some(extra) = &mut group.lane.extra {
            // This includes laggards, until the inline walk is over.
            extra.segment_bytes = bytes;
        }
        let mut targets = Vec::with_capacity(receipt.queued);
        for member in members.iter() {
            if member.registered(event).is_some()
                && push.options.exclude != Some(member.id())
                && !evicted.iter().any(|(outbox, _)| outbox.id() == member.id())
            {
                targets.push((member.slot(), member.handle().clone()));
            }
        }
        Admission::Inline { walk, wanted, targets, receipt }
    }

    /// Evicts the readers whose queue this frame would overfill; returns who is left to take it, or
    /// that nobody is.
    fn count<'g>(
        &self,
        group: &mut UserGroup<'g, W>,
        push: &Push<'_, '_>,
        evicted: &mut Vec<Evicted<W>>,
    ) -> Result<(EventRef<'g>, PushReceipt), PushReceipt> {
        let Some(event) = group.members.event(push.message.event()) else {
            return Err(PushReceipt::nobody(NoDelivery::NoRegistrationForEvent));
        };
        let is_excluded = push.excluded_slot.is_some_and(|slot| {
            let member = group.members.member(slot);
            member.is_some_and(|member| {
                Some(member.id()) == push.options.exclude && member.registered(event).is_some()
            })
        });
        let matched = event.count() - usize::from(is_excluded);
        if matched == 0 {
            return Err(PushReceipt::nobody(NoDelivery::Excluded));
        }
        let evicted_before = evicted.len();
        self.check_laggards(group, event, push, evicted);
        let dropped = evicted.len() - evicted_before;
        let queued = matched - dropped;
        let receipt = PushReceipt { matched, queued, dropped, ..PushReceipt::default() };
        if queued > 0 {
            Ok((event, receipt))
        } else {
            Err(PushReceipt { reason: Some(NoDelivery::SlowConsumer), ..receipt })
        }
    }

    /// Notes whose acknowledgements an accepted push waits for.
    #[cold]
    fn expect_acks(
        &self,
        group: &UserGroup<'_, W>,
        push: &Push<'_, '_>,
        wait: AwaitedPush,
        evicted: &[Evicted<W>],
    ) {
        let Some(event) = group.members.event(push.message.event()) else { return };
        let evicted: HashSet<ConnectionId> =
            evicted.iter().map(|(outbox, _)| outbox.id()).collect();
        let members = group.members.iter().filter(|member| {
            member.registered(event).is_some() && push.options.exclude != Some(member.id())
        });
        let fates = members.map(|member| {
            let fate = match member.handle().protocol() {
                Protocol::V1 | Protocol::Sse => Fate::Unable,
                Protocol::V2 if evicted.contains(&member.id()) => Fate::Lost,
                Protocol::V2 => Fate::Able,
            };
            (member.id(), fate)
        });
        self.acks.given(wait, push.message.id(), fates);
    }

    fn check_laggards(
        &self,
        group: &mut UserGroup<'_, W>,
        event: EventRef<'_>,
        push: &Push<'_, '_>,
        evicted: &mut Vec<Evicted<W>>,
    ) {
        let Some(mut extra) = group.lane.extra.take() else { return };
        let frame_bytes = push.message.bytes(group.lane.wanted(group.members.len()));
        let head = group.lane.head + frame_bytes as u64;
        if !extra.laggards.is_empty() && head > extra.laggards_safe_until {
            let unwalked = extra.tail_bytes + extra.segment_bytes + frame_bytes;
            let mut slack_min = usize::MAX;
            let mut is_any = false;
            for word in 0..extra.laggards.len() {
                let mut bits = extra.laggards[word];
                while bits != 0 {
                    let bit = bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    let member = group.members.member(word * 64 + bit);
                    let queued = member.map_or(0, |member| member.handle().queued_bytes());
                    let Some(member) = member.filter(|_| queued > 0) else {
                        extra.laggards[word] &= !(1 << bit);
                        continue;
                    };
                    match self.limits.outbox_bytes_max.checked_sub(queued + unwalked) {
                        Some(slack) => slack_min = slack_min.min(slack),
                        None if member.registered(event).is_some()
                            && push.options.exclude != Some(member.id()) =>
                        {
                            extra.laggards[word] &= !(1 << bit);
                            evicted.push((member.handle().clone(), event.name().clone()));
                            continue;
                        }
                        // This push does not concern it, but the next one may.
                        None => slack_min = 0,
                    }
                    is_any = true;
                }
            }
            if is_any {
                extra.laggards_safe_until = head.saturating_add(slack_min as u64);
            } else {
                extra.laggards.clear();
            }
        }
        let is_idle = group.lane.walk == 0;
        if !(is_idle && extra.laggards.is_empty()) {
            group.lane.extra = Some(extra);
        }
    }

    /// Closes the connections whose queue has reached its limit.
    fn evict(&self, user: &UserId, evicted: &[Evicted<W>]) {
        for (outbox, event) in evicted {
            self.note_dropped(outbox, user, event, NoDelivery::SlowConsumer);
            if outbox.close(&self.outbox_rules, CloseReason::Slow) {
                self.counters.slow_evictions_total.increment();
            }
            self.unbind(outbox);
        }
    }

    /// Unbinds a connection that was found ending during a write.
    fn lose(&self, user: &UserId, event: &EventName, outbox: &Outbox<W>, sent: Sent) {
        if let Some(reason) = NoDelivery::of(sent) {
            self.note_dropped(outbox, user, event, reason);
        }
        self.after_send(outbox, sent);
    }

    fn note_dropped(
        &self,
        outbox: &Outbox<W>,
        user: &UserId,
        event: &EventName,
        reason: NoDelivery,
    ) {
        self.journal.note(What::Dropped { reason }, Some(outbox.id()), Some(user), Some(event));
    }

    fn write_inline(
        self: &Arc<Self>,
        key: UserKey<'_>,
        walk: u32,
        wanted: Wanted,
        targets: &[(usize, Member<W>)],
        push: &mut Push<'_, '_>,
        mut receipt: PushReceipt,
    ) -> PushReceipt {
        let _under_way = UnderWay::new(self, key, walk);
        let _span = trace_span!("write", walk, connections = targets.len()).entered();
        let is_traced = enabled!(Level::TRACE);
        let event = push.message.event();
        let expires_at = push.options.expires_at;
        let runs = push.message.frames(wanted).map(|frames| Run { frames, expires_at });
        let mut lost = Vec::new();
        let mut laggards = Vec::new();
        if receipt.dropped > 0 {
            receipt.reason = Some(NoDelivery::SlowConsumer);
        }
        for (slot, outbox) in targets {
            let sent = self.deliver(outbox, &[runs[outbox.protocol() as usize]]);
            if is_traced {
                note_sent(outbox, sent);
            }
            match sent {
                Sent::Written => {}
                Sent::Queued => laggards.push(*slot),
                Sent::Ended | Sent::Overflow | Sent::NoRoom => {
                    lost.push((outbox, sent));
                    // Of two reasons, the more useful one stays.
                    receipt.reason = receipt.reason.max(NoDelivery::of(sent));
                }
            }
        }
        receipt.queued = laggards.len();
        receipt.dropped += lost.len();
        receipt.written = targets.len() - laggards.len() - lost.len();
        let is_more = self.binder.with_key(key, |group| {
            if group.lane.walk != walk {
                return false;
            }
            self.list_laggards(group.lane, &laggards);
            if let Some(extra) = &mut group.lane.extra {
                extra.segment_bytes = 0;
            }
            let is_more = group
                .lane
                .extra
                .as_ref()
                .is_some_and(|extra| !(extra.tail.is_empty() && extra.waiting.is_empty()));
            if !is_more {
                group.lane.walk = 0;
            }
            is_more
        });
        for (outbox, sent) in lost {
            self.lose(key.user(), event, outbox, sent);
        }
        if is_more == Some(true) {
            self.start_walker(key.user(), walk);
        }
        receipt.settled()
    }

    fn list_laggards(&self, lane: &mut Lane, slots: &[usize]) {
        if slots.is_empty() {
            return;
        }
        let extra = lane.extra.get_or_insert_with(Box::default);
        for slot in slots {
            let word = slot / 64;
            if extra.laggards.len() <= word {
                extra.laggards.resize(word + 1, 0);
            }
            extra.laggards[word] |= 1 << (slot % 64);
        }
        // The next push looks again, and knows how much each has queued.
        extra.laggards_safe_until = 0;
    }

    fn start_walker(self: &Arc<Self>, user: &UserId, walk: u32) {
        let node = Arc::clone(self);
        let user = user.clone();
        // Within the span of the push that found the lane idle; pushes that join it name the walk.
        let span = trace_span!("walk", walk);
        self.tasks.spawn(async move { node.walk(&user, walk).await }.instrument(span));
    }
}

/// Outside the loops over members, where the check of the log level would cost each member a dozen
/// instructions.
#[cold]
fn note_sent<W: Wire>(outbox: &Outbox<W>, sent: Sent) {
    trace!(conn = %outbox.id(), ?sent, "handed over");
}
