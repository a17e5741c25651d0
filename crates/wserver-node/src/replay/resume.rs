//! A connection registers events and gets what it has missed of them, in one step.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wserver_core::{Bound, EventName, Position, TokenDigest, UserId};
use wserver_protocol::Protocol;

use super::{GapReason, Log, Replays};
use crate::outbox::{Outbox, Wire};
use crate::receipt::is_over;
use crate::registration::RegisterError;
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

impl<W: Wire> NodeState<W> {
    /// Binds a connection to events of a user, and queues the reply and behind it what the
    /// connection has missed since `after`. `reply` makes the frames of the reply; it runs under
    /// the lock of the user's log, so it must not push and not register.
    ///
    /// Only the first registration of a connection may have an `after`; another could get a message
    /// twice.
    pub(crate) fn register_together(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        events: &[EventName],
        token: TokenDigest,
        after: Option<After>,
        reply: impl FnOnce(Registered) -> Bytes,
    ) {
        let bind = || -> Vec<_> {
            events.iter().map(|event| self.bind_or_close(outbox, user, event, token)).collect()
        };
        let replays = self.replays.as_ref().filter(|replays| {
            outbox.protocol() != Protocol::V1 && events.iter().any(|event| replays.covers(event))
        });
        let Some(replays) = replays else {
            let registered = Registered { results: bind(), resumption: None };
            self.send(outbox, &reply(registered));
            return;
        };
        let now = Instant::now();
        let (is_taken, is_new) = replays.with_new_log(user, now, |log| {
            let before = self.binder.registrations(outbox.id());
            let is_first = !before.iter().any(|it| replays.covers(&it.event));
            let results = bind();
            let bound: Vec<&EventName> = events
                .iter()
                .zip(&results)
                .filter(|(event, result)| result.is_ok() && replays.covers(event))
                .map(|(event, _)| event)
                .collect();
            let mut missed = Vec::new();
            // A message may be on its way to a connection that was registered before; its position
            // comes with it.
            let resumption = (is_first && !bound.is_empty()).then(|| {
                let Some(log) = log else {
                    return Resumption { at: None, missed: after.map(|_| Err(GapReason::Evicted)) };
                };
                log.drop_old(replays.window, now);
                let found = after.map(|after| self.missed(replays, log, after, &bound, outbox));
                let mut at = log.position();
                let missed = found.map(|found| {
                    let frames = found?;
                    if let (Some(After::Position(after)), false) = (after, frames.is_empty()) {
                        at = after;
                    }
                    missed = frames;
                    Ok(missed.len())
                });
                Resumption { at: Some(at), missed }
            });
            replays.count(resumption);
            let reply = reply(Registered { results, resumption });
            missed.insert(0, reply);
            // Only what was accepted after `bind` can come before it: its queue has room for both.
            outbox.queue(&self.outbox_rules, &missed)
        });
        if is_new && let Some(interest) = &self.interest {
            interest.came(user);
        }
        if !is_taken {
            self.unbind(outbox);
        }
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
        let wanted = log
            .since(after)?
            .filter(|kept| events.contains(&&kept.event) && !is_over(kept.expires_at));
        let frames: Vec<Bytes> = wanted.map(|kept| kept.frame.clone()).collect();
        let bytes = frames.iter().map(Bytes::len).sum();
        if self.outbox_rules.has_room(outbox.queued_bytes(), bytes) {
            Ok(frames)
        } else {
            Err(GapReason::TooFar)
        }
    }
}
