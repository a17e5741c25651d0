//! A connection registers events and gets what it has missed of them, in one step.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wserver_core::{Bound, EventName, Position, PushId, TokenDigest, UserId};
use wserver_protocol::connection::{Gap, Head, Notice};
use wserver_protocol::{Protocol, events};

use crate::entry::What;
use crate::outbox::{Outbox, Wire};
use crate::receipt::is_over;
use crate::registration::RegisterError;
use crate::replay::{GapReason, Kept, Log, Replays};
use crate::state::NodeState;

/// What became of a registration of several events.
#[derive(Debug)]
pub struct Registered {
    /// For each event, in the order of the request.
    pub results: Vec<Result<Bound, RegisterError>>,
    /// Where the connection stands, if these are its first events whose messages are kept.
    pub resumption: Option<Resumption>,
}

/// Where a connection stands in the messages of its user that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumption {
    /// The connection's position when it has got the reply: its own if messages follow. `None` if
    /// there is no room to keep any.
    pub at: Option<Position>,
    /// How many messages follow the reply, or why none does although some may be missing; `None` if
    /// the connection did not ask.
    pub missed: Option<Result<usize, GapReason>>,
}

/// A position that a connection had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// A position that some server gave.
    Position(Position),
    /// A text that is none.
    Unknown,
}

impl After {
    /// Reads a position as a client sends it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Position::parse(text).map_or(Self::Unknown, Self::Position)
    }
}

/// A registration that is bound and whose reply waits for what another node has kept. Until
/// [`Attachment::release`](crate::Attachment::release) nothing is sent to the connection.
#[derive(Debug)]
pub struct Held {
    /// Whose messages they are.
    pub user: UserId,
    /// Where the connection stood, at another node.
    pub after: Position,
    results: Vec<Result<Bound, RegisterError>>,
    /// The events whose messages are kept.
    events: Vec<EventName>,
    /// The position here, behind which everything is held back.
    at: Position,
}

/// A message that another node has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Its event.
    pub event: String,
    /// The id of its push.
    pub id: String,
    /// The position behind it, at that node.
    pub at: String,
    /// The message.
    pub message: String,
}

impl<W: Wire> NodeState<W> {
    /// Binds a connection to events of a user, and queues the reply and behind it what the
    /// connection has missed since `after`. `reply` makes the frames of the reply; it runs under
    /// the lock of the user's log, so it must not push and not register.
    ///
    /// Only the first registration of a connection may have an `after`; another could get a message
    /// twice.
    ///
    /// If another node has kept what it has missed, nothing is sent and `reply` does not run.
    pub(crate) fn register_together(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        events: &[EventName],
        token: TokenDigest,
        after: Option<After>,
        reply: impl FnOnce(Registered) -> Bytes,
    ) -> Option<Held> {
        let bind = || -> Vec<_> {
            events.iter().map(|event| self.bind_or_close(outbox, user, event, token)).collect()
        };
        let replays = self.replays.as_ref().filter(|replays| {
            outbox.protocol() != Protocol::V1 && events.iter().any(|event| replays.covers(event))
        });
        let Some(replays) = replays else {
            let registered = Registered { results: bind(), resumption: None };
            self.send(outbox, &reply(registered));
            return None;
        };
        let now = Instant::now();
        let (held, is_new) = replays.with_new_log(user, now, |log| {
            let before = self.binder.registrations(outbox.id());
            let is_first = !before.iter().any(|it| replays.covers(&it.event));
            let results = bind();
            let bound: Vec<&EventName> = events
                .iter()
                .zip(&results)
                .filter(|(event, result)| result.is_ok() && replays.covers(event))
                .map(|(event, _)| event)
                .collect();
            // A message may be on its way to a connection that was registered before; its position
            // comes with it.
            if !is_first || bound.is_empty() {
                return self.reply(outbox, &[reply(Registered { results, resumption: None })]);
            }
            let Some(log) = log else {
                let missed = after.map(|_| Err(GapReason::Evicted));
                let resumption =
                    self.counted(outbox, user, replays, Resumption { at: None, missed });
                return self.reply(outbox, &[reply(Registered { results, resumption })]);
            };
            if let Some(After::Position(after)) = after
                && after.log.home() != replays.home()
                && self.interest.is_some()
            {
                outbox.hold();
                let (user, events) = (user.clone(), bound.into_iter().cloned().collect());
                return Some(Held { user, after, results, events, at: log.position() });
            }
            replays.drop_old(log, now);
            let found = after.map(|after| self.missed(replays, log, after, &bound, outbox));
            let mut frames = Vec::new();
            let mut at = log.position();
            let missed = found.map(|found| {
                let found = found?;
                if let (Some(After::Position(after)), false) = (after, found.is_empty()) {
                    at = after;
                }
                frames = found;
                Ok(frames.len())
            });
            let resumption = Resumption { at: Some(at), missed };
            let resumption = self.counted(outbox, user, replays, resumption);
            frames.insert(0, reply(Registered { results, resumption }));
            self.reply(outbox, &frames)
        });
        if is_new && let Some(interest) = &self.interest {
            interest.came(user);
        }
        held
    }

    /// Queues the reply to a registration, without writing any of it.
    fn reply(&self, outbox: &Outbox<W>, frames: &[Bytes]) -> Option<Held> {
        // If the connection is ending, somebody else unbinds it.
        outbox.queue(&self.outbox_rules, frames);
        None
    }

    /// Replies to a registration that was held, with what the other node has kept, or why it has
    /// not; then come the messages that were held back.
    pub(crate) fn release(
        &self,
        outbox: &Outbox<W>,
        held: Held,
        kept: Result<Vec<Missed>, GapReason>,
        reply: impl FnOnce(Registered) -> Bytes,
    ) {
        let Some(replays) = &self.replays else { return };
        let user = held.user.clone();
        // Under the lock, so that a message that was kept is known here if it is held back.
        replays.with_log(&user, |log| {
            let Held { after, results, events, at: here, .. } = held;
            let missed = kept.and_then(|kept| {
                let held_back = log.ok_or(GapReason::Evicted)?.since(here)?;
                let known: HashSet<String> = held_back.map(|it| it.id.to_string()).collect();
                let is_wanted = |missed: &Missed| {
                    let is_bound = events.iter().any(|event| event.as_str() == missed.event);
                    is_bound && !known.contains(&missed.id)
                };
                let missed: Vec<Missed> = kept.into_iter().filter(is_wanted).collect();
                let frames = frames_of(&missed, here, outbox.protocol());
                let bytes = frames.iter().map(Bytes::len).sum();
                let has_room = self.outbox_rules.has_room(outbox.queued_bytes(), bytes);
                if has_room { Ok(frames) } else { Err(GapReason::TooFar) }
            });
            let at = if missed.as_ref().is_ok_and(|it| !it.is_empty()) { after } else { here };
            let (mut frames, missed) = match missed {
                Ok(frames) => {
                    let count = frames.len();
                    (frames, Ok(count))
                }
                Err(gap) => (Vec::new(), Err(gap)),
            };
            let resumption = Resumption { at: Some(at), missed: Some(missed) };
            let resumption = self.counted(outbox, &user, replays, resumption);
            frames.insert(0, reply(Registered { results, resumption }));
            outbox.release(&self.outbox_rules, &frames);
        });
    }

    /// Takes note of a push that may not have come, and tells the user's connections of the gap.
    pub(crate) fn lost(&self, user: &UserId, push: Option<PushId>) {
        let Some(replays) = &self.replays else { return };
        replays.lose(user, push, |here| {
            let reason = GapReason::Lost.as_str().to_owned();
            let spread_seconds = self.limits.drain_spread.as_secs();
            let gap = Gap { reason, spread_seconds };
            let notice = Notice::Gap { gap, at: here.to_string() }.encode();
            self.binder.with_user(user, |group| {
                let events: Vec<_> =
                    group.members.events().filter(|it| replays.covers(it)).collect();
                let events: Vec<_> =
                    events.into_iter().filter_map(|event| group.members.event(event)).collect();
                for member in group.members.iter() {
                    let is_kept = events.iter().any(|event| member.registered(*event).is_some());
                    let outbox = member.handle();
                    if is_kept && let Some(said) = outbox.protocol().say(&notice) {
                        outbox.queue(&self.outbox_rules, &[said]);
                        replays.counters().gaps_total(GapReason::Lost).increment();
                        let what = What::Gap { reason: GapReason::Lost };
                        self.journal.note(what, Some(outbox.id()), Some(user), None);
                    }
                }
            });
        });
    }

    /// Counts and notes what became of a connection that asked for what it has missed.
    fn counted(
        &self,
        outbox: &Outbox<W>,
        user: &UserId,
        replays: &Replays,
        resumption: Resumption,
    ) -> Option<Resumption> {
        let counters = replays.counters();
        let what = match resumption.missed {
            None => return Some(resumption),
            Some(Ok(count)) => {
                counters.resumed_total.increment();
                counters.replayed_total.add(count as u64);
                What::Resumed { count }
            }
            Some(Err(reason)) => {
                counters.gaps_total(reason).increment();
                What::Gap { reason }
            }
        };
        if what.is_kept() || self.journal.is_traced() {
            self.journal.note(what, Some(outbox.id()), Some(user), None);
        }
        Some(resumption)
    }

    /// The frames that a connection with these events has missed, all of them.
    fn missed(
        &self,
        replays: &Replays,
        log: &Log,
        after: After,
        events: &[&EventName],
        outbox: &Outbox<W>,
    ) -> Result<Vec<Bytes>, GapReason> {
        let After::Position(after) = after else { return Err(GapReason::Restarted) };
        if after.log.home() != replays.home() {
            return Err(GapReason::Restarted);
        }
        let is_wanted = |kept: &&Kept| events.contains(&&kept.event) && !is_over(kept.expires_at);
        let wanted = log.since(after)?.filter(is_wanted);
        let frames: Vec<Bytes> = wanted.map(|kept| kept.frame_of(outbox.protocol())).collect();
        let bytes = frames.iter().map(Bytes::len).sum();
        let has_room = self.outbox_rules.has_room(outbox.queued_bytes(), bytes);
        if has_room { Ok(frames) } else { Err(GapReason::TooFar) }
    }
}

/// The frames of messages that another node has kept. Behind the last one the client stands `here`,
/// and no longer needs that node.
fn frames_of(missed: &[Missed], here: Position, protocol: Protocol) -> Vec<Bytes> {
    let here = here.to_string();
    let behind = missed.iter().skip(1).map(|_| None).chain([Some(&here)]);
    let frames = missed.iter().zip(behind).map(|(missed, behind)| {
        let Missed { event, id, at, message } = missed;
        let at = Some(behind.unwrap_or(at));
        match protocol {
            Protocol::Sse => events::event(event, at, message),
            Protocol::V1 | Protocol::V2 => Head { event, id, at, ack: false }.frame(message),
        }
    });
    frames.collect()
}
