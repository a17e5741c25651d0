//! The other nodes of the cluster: all that were heard from within a lease, and their state. A node
//! that disappeared without a goodbye is remembered, because it may be cut off and have connections
//! that no push reaches.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::broker::NodeId;
use crate::directory::Seat;
use crate::envelope::{self, Heartbeat, Part};
use crate::outbound::JUMP;
use crate::receipt::NodeName;

/// How long the fastest transit of a message counts as the minimum. The last two windows are used,
/// so that the minimum follows clocks that drift, or stop while a machine sleeps.
const WINDOW: Duration = Duration::from_secs(10);

/// The most vanished nodes, and the most departed ones, that are remembered: the latest.
const REMEMBERED_MAX: usize = 256;
/// The most nodes that are accepted: a stranger at the broker can make up more than any memory
/// holds.
const NODES_MAX: usize = 4096;

/// How far a message may be ahead of the fastest recent ones of its node. An honest message is
/// further ahead only if this machine's clock stopped; its node is then heard again after a lease.
const AHEAD_MS_MAX: i64 = 60_000;

/// Two messages of a node that were sent within this time of each other may be numbered in the
/// other order.
const NUMBERED_WITHIN_MS: u64 = 1000;

/// The other nodes.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Written by the tasks that receive and when leases end; limited by the nodes that are there
    /// within a lease.
    all: RwLock<All>,
}

#[derive(Debug, Default)]
struct All {
    by_id: HashMap<NodeId, Member>,
    /// The node in each seat; `None` is free.
    seats: Vec<Option<NodeId>>,
    /// The nodes that vanished without a goodbye, oldest first. At most [`REMEMBERED_MAX`].
    vanished: VecDeque<Vanished>,
    /// The nodes that said goodbye: later messages of theirs are old. At most [`REMEMBERED_MAX`].
    left: VecDeque<NodeId>,
    /// The nodes that vanished and are known to be gone, whatever other nodes say. At most
    /// [`REMEMBERED_MAX`].
    gone: VecDeque<NodeId>,
}

/// A node that was silent for a lease without saying goodbye.
#[derive(Debug)]
struct Vanished {
    node: NodeName,
    heard_at: Instant,
    /// When it holds no connection any more, by its own rule.
    gone_at: Option<Instant>,
    /// What is known of its clock and its numbers, so that messages that the broker held back keep
    /// their age, however long the node was silent.
    clock: Clock,
    channels: HashMap<(u16, bool), Incoming>,
}

/// One other node.
#[derive(Debug)]
struct Member {
    seat: Seat,
    name: Arc<str>,
    release: String,
    is_draining: bool,
    came_at: Instant,
    /// Whether it has introduced itself.
    is_introduced: bool,
    heard_at: Instant,
    /// When this node's view of its users was last verified.
    agreed_at: Option<Instant>,
    /// Consecutive heartbeats with a different sum.
    disagreements: u32,
    /// How long after vanishing it holds no connection, by its own rule.
    gone_after: Option<Duration>,
    /// The nodes that it counts as missing.
    misses: Vec<NodeName>,
    clock: Clock,
    /// By lane, and by whether it is the channel of all.
    channels: HashMap<(u16, bool), Incoming>,
}

/// One channel of one origin.
#[derive(Debug, Default)]
struct Incoming {
    sequence: u64,
    /// When the last one was sent, by its node's clock.
    sent_ms: u64,
    /// The parts of a body that have arrived, and how many have not.
    parts: BytesMut,
    parts_left: u32,
}

/// The offset of an origin's clock: the smallest difference seen, which is that of a message
/// without delay.
#[derive(Debug)]
struct Clock {
    /// The last window, and the current one.
    least: [i64; 2],
    since: Instant,
}

/// The result of an arrived part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A whole body, its time in transit beyond the minimum, and how many messages before it were
    /// lost.
    Whole { body: Bytes, age: Duration, lost: u64 },
    /// A part of a body that is not complete.
    Part { lost: u64 },
    /// A duplicate, or a message that a later one has overtaken.
    Late,
    /// A body with too many parts, or with parts of different bodies.
    Broken,
    /// A message that its node cannot have sent.
    Implausible,
}

/// The consequences of a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    /// The seat of the node.
    pub(crate) seat: Seat,
    /// Whether to ask for its users.
    pub(crate) is_in_doubt: bool,
    /// Whether this is its first heartbeat.
    pub(crate) is_first: bool,
    /// The vanished node that this one replaces.
    pub(crate) replaces: Option<NodeName>,
}

/// Another node, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The node.
    pub node: NodeName,
    /// The release it runs; empty until its first heartbeat.
    pub release: String,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// How long it has been silent.
    pub silence: Duration,
}

impl Members {
    /// Handles an arrived part; an unknown node becomes a member.
    pub(crate) fn arrive(
        &self,
        part: Part,
        (lane, is_for_all): (u16, bool),
        now_ms: u64,
        now: Instant,
        bytes_max: usize,
    ) -> Arrival {
        let mut all = self.write();
        let origin = NodeId::new(part.origin);
        if all.left.contains(&origin) {
            return Arrival::Late;
        }
        if all.by_id.len() >= NODES_MAX && !all.by_id.contains_key(&origin) {
            return Arrival::Implausible;
        }
        let member = all.member(origin, now);
        if member.clock.is_ahead(part.sent_ms, now_ms) {
            return Arrival::Implausible;
        }
        let age = member.clock.age(part.sent_ms, now_ms, now);
        let incoming = member.channels.entry((lane, is_for_all)).or_default();
        if part.sequence <= incoming.sequence {
            // A node numbers its messages in the order of its clock. If a lower number was sent
            // later, the higher one was not its own; otherwise all its further messages would be
            // ignored.
            let is_forged = part.sent_ms > incoming.sent_ms + NUMBERED_WITHIN_MS
                || member.clock.is_ahead(incoming.sent_ms, now_ms);
            if is_forged {
                let (sequence, sent_ms) = (part.sequence, part.sent_ms);
                *incoming = Incoming { sequence, sent_ms, ..Incoming::default() };
                return Arrival::Implausible;
            }
            return Arrival::Late;
        }
        // A dropped message is no sign of life.
        member.heard_at = now;
        incoming.sent_ms = part.sent_ms;
        let gap = part.sequence - incoming.sequence - 1;
        // For a new channel, the number of earlier messages is unknown.
        let lost = if incoming.sequence == 0 || gap >= JUMP { 0 } else { gap };
        incoming.sequence = part.sequence;
        if gap > 0 {
            (incoming.parts, incoming.parts_left) = (BytesMut::new(), 0);
        }
        if part.parts_left == 0 && part.parts_before == 0 && incoming.parts.is_empty() {
            return Arrival::Whole { body: part.body, age, lost };
        }
        let is_begun = !incoming.parts.is_empty();
        let fits = incoming.parts.len() + part.body.len() <= bytes_max;
        let is_next = if is_begun {
            part.parts_before > 0 && incoming.parts_left == part.parts_left.saturating_add(1)
        } else {
            part.parts_before == 0
        };
        if !fits || !is_next {
            (incoming.parts, incoming.parts_left) = (BytesMut::new(), 0);
            return Arrival::Broken;
        }
        incoming.parts.extend_from_slice(&part.body);
        incoming.parts_left = part.parts_left;
        if part.parts_left > 0 {
            return Arrival::Part { lost };
        }
        Arrival::Whole { body: std::mem::take(&mut incoming.parts).freeze(), age, lost }
    }

    /// Handles a heartbeat; `sum` is that of this node's view of its users.
    pub(crate) fn beat(
        &self,
        id: NodeId,
        heartbeat: &Heartbeat,
        sum: impl FnOnce(Seat) -> u64,
        now: Instant,
    ) -> Beat {
        let mut all = self.write();
        let member = all.member(id, now);
        let is_first = !std::mem::replace(&mut member.is_introduced, true);
        if !heartbeat.name.is_empty() && *member.name != heartbeat.name {
            member.name = heartbeat.name.as_str().into();
        }
        if member.release != heartbeat.release {
            member.release.clone_from(&heartbeat.release);
        }
        member.is_draining = heartbeat.is_draining;
        let gone_after = Duration::from_millis(heartbeat.gone_after_ms);
        member.gone_after = Some(gone_after).filter(|it| !it.is_zero());
        member.misses.clear();
        let misses = heartbeat.vanished.iter().take(REMEMBERED_MAX);
        member.misses.extend(misses.map(NodeName::from));
        let seat = member.seat;
        let came_at = member.came_at;
        let replaces = all.replace(id, &heartbeat.name, came_at);
        drop(all);
        let agrees = sum(seat) == heartbeat.interest_sum;
        let mut all = self.write();
        let member = all.member(id, now);
        if agrees {
            (member.agreed_at, member.disagreements) = (Some(now), 0);
        } else {
            member.disagreements += 1;
        }
        // Recent changes may still be in transit.
        let is_in_doubt = !agrees && (member.disagreements > 1 || member.agreed_at.is_none());
        Beat { seat: member.seat, is_in_doubt, is_first, replaces }
    }

    /// The seat of a node, if it is a member.
    pub(crate) fn seat(&self, id: NodeId) -> Option<Seat> {
        self.read().by_id.get(&id).map(|member| member.seat)
    }

    /// The nodes in these seats.
    pub(crate) fn at(&self, seats: &[Seat]) -> Vec<NodeName> {
        let all = self.read();
        let ids = seats.iter().filter_map(|seat| *all.seats.get(usize::from(*seat))?);
        ids.filter_map(|id| Some(all.by_id.get(&id)?.named(id))).collect()
    }

    /// All other nodes.
    pub(crate) fn everybody(&self) -> Vec<NodeName> {
        let all = self.read();
        all.by_id.iter().map(|(id, member)| member.named(*id)).collect()
    }

    /// All other nodes, for an operator.
    pub(crate) fn infos(&self, now: Instant) -> Vec<MemberInfo> {
        let all = self.read();
        let info = |(id, member): (&NodeId, &Member)| MemberInfo {
            node: member.named(*id),
            release: member.release.clone(),
            is_draining: member.is_draining,
            silence: now.saturating_duration_since(member.heard_at),
        };
        all.by_id.iter().map(info).collect()
    }

    /// The nodes that have been silent since `limit`.
    pub(crate) fn silent_since(&self, limit: Instant) -> Vec<NodeId> {
        let all = self.read();
        let silent = all.by_id.iter().filter(|(_, member)| member.heard_at < limit);
        silent.map(|(id, _)| *id).collect()
    }

    /// Removes the nodes that have been silent since `limit`; they keep their seats until those are
    /// freed. A node that has introduced itself counts as vanished `now`, until it is back or known
    /// to be gone. The time by which it is gone by its own rule counts only if the rule holds: if
    /// the broker is one place, so that a node that others do not hear does not hear itself either.
    pub(crate) fn expire(
        &self,
        limit: Instant,
        now: Instant,
        are_at_one_place: bool,
    ) -> Vec<(NodeName, Seat)> {
        let mut all = self.write();
        let expired: Vec<NodeId> = all
            .by_id
            .iter()
            .filter(|(_, member)| member.heard_at < limit)
            .map(|(id, _)| *id)
            .collect();
        let mut gone = Vec::new();
        for id in expired {
            let Some(member) = all.by_id.remove(&id) else { continue };
            let node = member.named(id);
            gone.push((node.clone(), member.seat));
            if member.release.is_empty() {
                continue;
            }
            let Member { heard_at, gone_after, clock, channels, .. } = member;
            let gone_after = gone_after.filter(|_| are_at_one_place);
            let gone_at = gone_after.and_then(|it| now.checked_add(it));
            remember(&mut all.vanished, Vanished { node, heard_at, gone_at, clock, channels });
        }
        gone
    }

    /// The vanished nodes that hold no connection by now.
    pub(crate) fn known_gone(&self, now: Instant) -> Vec<NodeName> {
        if self.read().vanished.is_empty() {
            return Vec::new();
        }
        let mut all = self.write();
        let mut gone = Vec::new();
        all.vanished.retain(|it| {
            let is_gone = it.gone_at.is_some_and(|at| now >= at);
            gone.extend(is_gone.then(|| it.node.clone()));
            !is_gone
        });
        gone.iter().for_each(|it| remember(&mut all.gone, it.id));
        gone
    }

    /// The nodes that vanished without a goodbye, as seen by this node itself.
    pub(crate) fn vanished(&self) -> Vec<NodeName> {
        self.read().vanished.iter().map(|it| it.node.clone()).collect()
    }

    /// The nodes that may have connections that a push of `own` does not reach: those that
    /// vanished, even before this node joined; those that have been silent since `limit`; and those
    /// whose users are not known since they joined.
    pub(crate) fn unreached(&self, own: NodeId, limit: Option<Instant>) -> Vec<NodeName> {
        let all = self.read();
        let mut unreached: Vec<NodeName> = all.vanished.iter().map(|it| it.node.clone()).collect();
        for (id, member) in &all.by_id {
            let is_silent = limit.is_some_and(|limit| member.heard_at < limit);
            if is_silent || member.agreed_at.is_none() {
                unreached.push(member.named(*id));
            }
            let others = member.misses.iter().filter(|it| {
                let is_known = all.left.contains(&it.id) || all.gone.contains(&it.id);
                it.id != own && !is_known && !all.by_id.contains_key(&it.id)
            });
            unreached.extend(others.cloned());
        }
        unreached.sort_unstable_by_key(|it| it.id);
        unreached.dedup_by_key(|it| it.id);
        unreached
    }

    /// Removes a node that says goodbye.
    pub(crate) fn leave(&self, id: NodeId) -> Option<(NodeName, Seat)> {
        let mut all = self.write();
        all.vanished.retain(|it| it.node.id != id);
        if !all.left.contains(&id) {
            remember(&mut all.left, id);
        }
        let member = all.by_id.remove(&id)?;
        Some((member.named(id), member.seat))
    }

    /// Frees a seat, after everything of its node has been removed.
    pub(crate) fn free(&self, seat: Seat) {
        if let Some(seat) = self.write().seats.get_mut(usize::from(seat)) {
            *seat = None;
        }
    }

    /// Whether the users of all nodes have been verified since `limit`.
    pub(crate) fn agree_since(&self, limit: Instant) -> bool {
        self.read().by_id.values().all(|member| member.agreed_at.is_some_and(|at| at >= limit))
    }

    /// The number of other nodes.
    pub(crate) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    fn read(&self) -> RwLockReadGuard<'_, All> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, All> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn member(&mut self, id: NodeId, now: Instant) -> &mut Member {
        let Self { by_id, seats, vanished, gone, .. } = self;
        by_id.entry(id).or_insert_with(|| {
            let known = vanished.iter().position(|it| it.node.id == id);
            let known = known.and_then(|at| vanished.remove(at));
            gone.retain(|it| *it != id);
            let (clock, channels) = known.map_or_else(
                || (Clock { least: [i64::MAX; 2], since: now }, HashMap::new()),
                |known| (known.clock, known.channels),
            );
            let free = seats.iter().position(Option::is_none);
            let seat = free.unwrap_or_else(|| {
                seats.push(None);
                seats.len() - 1
            });
            seats[seat] = Some(id);
            Member {
                // Nobody has 65,536 nodes; otherwise two would share a seat and get each other's
                // pushes.
                seat: Seat::try_from(seat).unwrap_or(Seat::MAX),
                name: id.to_string().into(),
                release: String::new(),
                is_draining: false,
                came_at: now,
                is_introduced: false,
                heard_at: now,
                agreed_at: None,
                disagreements: 0,
                gone_after: None,
                misses: Vec::new(),
                clock,
                channels,
            }
        })
    }

    /// A node with this name has joined: a vanished node with the same name was the same one before
    /// a restart. A node without a name is called by its id, and replaces none.
    fn replace(&mut self, id: NodeId, name: &str, came_at: Instant) -> Option<NodeName> {
        let is_it =
            |it: &Vanished| *it.node.name == *name && it.node.id != id && it.heard_at < came_at;
        let at = self.vanished.iter().position(is_it)?;
        let replaced = self.vanished.remove(at)?.node;
        remember(&mut self.gone, replaced.id);
        Some(replaced)
    }
}

fn remember<T>(those_of_late: &mut VecDeque<T>, one: T) {
    if those_of_late.len() == REMEMBERED_MAX {
        those_of_late.pop_front();
    }
    those_of_late.push_back(one);
}

impl From<&envelope::Vanished> for NodeName {
    fn from(told: &envelope::Vanished) -> Self {
        let id = NodeId::new(told.id);
        let name = if told.name.is_empty() { id.to_string() } else { told.name.clone() };
        Self { id, name: name.into() }
    }
}

impl Member {
    fn named(&self, id: NodeId) -> NodeName {
        NodeName { id, name: Arc::clone(&self.name) }
    }
}

impl Clock {
    /// Whether a message claims to be sent in the future, as far as can be known.
    fn is_ahead(&self, sent_ms: u64, now_ms: u64) -> bool {
        let difference = now_ms.cast_signed().saturating_sub(sent_ms.cast_signed());
        let least = self.least[0].min(self.least[1]);
        least != i64::MAX && difference < least.saturating_sub(AHEAD_MS_MAX)
    }

    /// The time of a message in transit, beyond the recent minimum.
    fn age(&mut self, sent_ms: u64, now_ms: u64, now: Instant) -> Duration {
        let difference = now_ms.cast_signed().saturating_sub(sent_ms.cast_signed());
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.least = [self.least[1], i64::MAX];
            self.since = now;
        }
        self.least[1] = self.least[1].min(difference);
        let least = self.least[0].min(self.least[1]);
        Duration::from_millis(difference.saturating_sub(least).unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId::new(1);

    fn part(sequence: u64, sent_ms: u64, parts_left: u32, body: &'static str) -> Part {
        let body = Bytes::from_static(body.as_bytes());
        Part { origin: 1, sequence, sent_ms, parts_left, body, ..Part::default() }
    }

    /// One that is not the first of its body.
    fn later(sequence: u64, parts_left: u32, body: &'static str) -> Part {
        Part { parts_before: 1, ..part(sequence, 0, parts_left, body) }
    }

    #[test]
    fn what_follows_a_lost_part_is_no_body() {
        let members = Members::default();
        assert_eq!(arrive(&members, part(1, 0, 0, "a"), 0), whole("a", 0, 0));
        // Number 2, the first of three, never comes.
        assert_eq!(arrive(&members, later(3, 1, "b"), 0), Arrival::Broken);
        assert_eq!(arrive(&members, later(4, 0, "c"), 0), Arrival::Broken);
        assert_eq!(arrive(&members, part(5, 0, 0, "d"), 0), whole("d", 0, 0));
    }

    fn arrive(members: &Members, part: Part, now_ms: u64) -> Arrival {
        let now = Instant::now();
        members.arrive(part, (0, false), now_ms, now, 100)
    }

    fn whole(body: &'static str, age_ms: u64, lost: u64) -> Arrival {
        let age = Duration::from_millis(age_ms);
        Arrival::Whole { body: Bytes::from_static(body.as_bytes()), age, lost }
    }

    #[test]
    fn nothing_comes_twice_or_late_and_what_is_missing_is_counted() {
        let members = Members::default();
        assert_eq!(arrive(&members, part(7, 0, 0, "a"), 1000), whole("a", 0, 0));
        assert_eq!(arrive(&members, part(8, 10, 0, "b"), 1010), whole("b", 0, 0));
        assert_eq!(arrive(&members, part(8, 10, 0, "b"), 1010), Arrival::Late);
        assert_eq!(arrive(&members, part(12, 20, 0, "c"), 1020), whole("c", 0, 3));
        assert_eq!(arrive(&members, part(9, 15, 0, "x"), 1021), Arrival::Late);
        let beginning = part(12 + 2 * JUMP, 30, 0, "d");
        assert_eq!(arrive(&members, beginning, 1030), whole("d", 0, 0), "no loss but a beginning");
    }

    #[test]
    fn a_forged_jump_does_not_silence_a_node() {
        let members = Members::default();
        assert_eq!(arrive(&members, part(7, 5000, 0, "a"), 9000), whole("a", 0, 0));
        // As high as may be, sent when nobody can know better: the node's next one shows it.
        assert_eq!(arrive(&members, part(9000 << 16, 6000, 0, "x"), 10_000), whole("x", 0, 0));
        assert_eq!(arrive(&members, part(8, 6500, 0, "b"), 10_500), Arrival::Late);
        assert_eq!(arrive(&members, part(9, 7500, 0, "c"), 11_500), Arrival::Implausible);
        assert_eq!(arrive(&members, part(10, 7501, 0, "d"), 11_501), whole("d", 0, 0));
        assert_eq!(arrive(&members, part(10, 7501, 0, "d"), 11_501), Arrival::Late);
        // One that was sent in a time to come is none of its own, whatever its number.
        let ahead = part(1 << 50, 1 << 35, 0, "x");
        assert_eq!(arrive(&members, ahead, 11_502), Arrival::Implausible);
        assert_eq!(arrive(&members, part(11, 7503, 0, "e"), 11_503), whole("e", 0, 0));
    }

    #[test]
    fn who_says_only_what_is_let_go_is_not_heard_of() {
        let members = Members::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let arrive = |part, now| members.arrive(part, (0, false), 1000, now, 100);
        assert_eq!(arrive(part(7, 0, 0, "a"), start), whole("a", 0, 0));
        assert_eq!(arrive(part(7, 0, 0, "a"), later), Arrival::Late);
        assert_eq!(members.silent_since(later), [ONE]);
        assert_eq!(arrive(part(8, 0, 0, "b"), later), whole("b", 0, 0));
        assert!(members.silent_since(later).is_empty());
    }

    #[test]
    fn made_up_nodes_are_bounded() {
        let members = Members::default();
        for origin in 1..=NODES_MAX as u64 + 5 {
            arrive(&members, Part { origin, ..part(1, 0, 0, "a") }, 0);
        }
        assert_eq!(members.len(), NODES_MAX);
        assert_eq!(arrive(&members, part(2, 0, 0, "b"), 0), whole("b", 0, 0));
    }

    #[test]
    fn parts_make_a_body_or_none() {
        let members = Members::default();
        assert_eq!(arrive(&members, part(1, 0, 2, "a"), 0), Arrival::Part { lost: 0 });
        assert_eq!(arrive(&members, later(2, 1, "b"), 0), Arrival::Part { lost: 0 });
        assert_eq!(arrive(&members, later(3, 0, "c"), 0), whole("abc", 0, 0));
        // One in the middle is lost, and a whole one comes next.
        assert_eq!(arrive(&members, part(4, 0, 2, "a"), 0), Arrival::Part { lost: 0 });
        assert_eq!(arrive(&members, part(6, 0, 0, "c"), 0), whole("c", 0, 1));
        assert_eq!(arrive(&members, part(7, 0, 2, "a"), 0), Arrival::Part { lost: 0 });
        assert_eq!(arrive(&members, part(8, 0, 0, "c"), 0), Arrival::Broken);
        let long = "x".repeat(60).leak();
        assert_eq!(arrive(&members, part(9, 0, 2, long), 0), Arrival::Part { lost: 0 });
        assert_eq!(arrive(&members, later(10, 1, long), 0), Arrival::Broken, "too large");
    }

    #[test]
    fn the_age_of_a_message_needs_no_clock_in_common() {
        let start = Instant::now();
        let mut clock = Clock { least: [i64::MAX; 2], since: start };
        let mut age = |sent, now_ms, seconds: u64| {
            clock.age(sent, now_ms, start + Duration::from_secs(seconds)).as_millis()
        };
        assert_eq!(age(1_000_000, 5, 0), 0, "the first is the measure");
        assert_eq!(age(1_000_010, 12, 0), 0, "quicker");
        assert_eq!(age(1_000_020, 30, 0), 8);
        assert_eq!(age(1_004_000, 9000, 9), 4998, "a broker that stood still");
        assert_eq!(age(1_005_000, 35_000, 35), 29_998, "however long");
        assert_eq!(age(1_016_000, 46_000, 46), 0, "a clock that was stopped is caught up with");
    }

    #[test]
    fn who_is_not_heard_of_leaves_and_the_seat_is_free_again() {
        let members = Members::default();
        let start = Instant::now();
        let heartbeat = Heartbeat {
            name: "b".to_owned(),
            release: "1".to_owned(),
            interest_sum: 5,
            ..Heartbeat::default()
        };
        let beat = members.beat(ONE, &heartbeat, |_| 5, start);
        assert_eq!(beat, Beat { seat: 0, is_in_doubt: false, is_first: true, replaces: None });
        assert!(members.agree_since(start));
        let beat = members.beat(ONE, &heartbeat, |_| 6, start);
        assert!(!beat.is_in_doubt, "it may be on its way");
        assert!(members.beat(ONE, &heartbeat, |_| 6, start).is_in_doubt);
        assert!(members.expire(start, start, true).is_empty());
        assert!(members.vanished().is_empty());
        let later = start + Duration::from_secs(1);
        let expired = members.expire(later, later, true);
        assert_eq!(expired.len(), 1);
        assert_eq!((&*expired[0].0.name, expired[0].1), ("b", 0));
        let two = NodeId::new(2);
        assert_eq!(members.beat(two, &heartbeat, |_| 5, later).seat, 1, "not yet free");
        members.free(0);
        let three = NodeId::new(3);
        let beat = members.beat(three, &heartbeat, |_| 6, later);
        assert_eq!(beat, Beat { seat: 0, is_in_doubt: true, is_first: true, replaces: None });
        assert_eq!(members.at(&[0, 1]).iter().map(|it| it.id).collect::<Vec<_>>(), [three, two]);
        assert!(!members.agree_since(later));
    }

    fn vanished(members: &Members) -> Vec<String> {
        members.vanished().iter().map(ToString::to_string).collect()
    }

    fn unreached(members: &Members) -> Vec<String> {
        members.unreached(NodeId::new(9), None).iter().map(ToString::to_string).collect()
    }

    fn named(name: &str) -> Heartbeat {
        Heartbeat { name: name.to_owned(), release: "1".to_owned(), ..Heartbeat::default() }
    }

    #[test]
    fn who_vanished_is_missed_until_it_holds_no_connection_by_its_own_rule() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (gone_after_ms, are_at_one_place, is_gone) in
            [(60_000, true, true), (60_000, false, false), (0, true, false)]
        {
            let members = Members::default();
            members.beat(ONE, &Heartbeat { gone_after_ms, ..named("b") }, |_| 0, start);
            assert_eq!(unreached(&members), [""; 0]);
            members.expire(at(5), at(10), are_at_one_place);
            assert_eq!(
                (vanished(&members), unreached(&members)),
                (vec!["b".to_owned()], vec!["b".to_owned()])
            );
            assert_eq!(members.known_gone(at(69)), []);
            assert_eq!(!members.known_gone(at(70)).is_empty(), is_gone);
            assert_eq!(vanished(&members).is_empty(), is_gone);
        }
    }

    #[test]
    fn one_of_the_same_name_that_comes_later_replaces_who_vanished() {
        let members = Members::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let two = NodeId::new(2);
        for id in [ONE, two] {
            members.beat(id, &named("b"), |_| 0, start);
        }
        // Two of one name is a mistake: the other one was there all the time.
        members.beat(two, &named("b"), |_| 0, at(9));
        members.arrive(Part { origin: 2, ..part(1, 0, 0, "a") }, (0, false), 0, at(9), 100);
        members.expire(at(5), at(10), true);
        assert_eq!(members.beat(two, &named("b"), |_| 0, at(11)).replaces, None);
        assert_eq!(vanished(&members), ["b"]);
        let beat = members.beat(NodeId::new(3), &named("b"), |_| 0, at(12));
        assert_eq!(beat.replaces.map(|it| it.id), Some(ONE));
        assert_eq!(vanished(&members), [""; 0]);
    }

    #[test]
    fn who_vanished_before_this_node_came_is_told_by_those_who_saw_it() {
        let members = Members::default();
        let now = Instant::now();
        let told = |ids: &[u64]| {
            let one = |id: &u64| envelope::Vanished { id: *id, name: format!("node {id}") };
            Heartbeat { vanished: ids.iter().map(one).collect(), ..named("b") }
        };
        members.beat(ONE, &told(&[5, 9]), |_| 0, now);
        assert_eq!(unreached(&members), ["node 5"], "and it is not itself");
        assert_eq!(vanished(&members), [""; 0], "who has only heard of it does not tell it on");
        members.leave(NodeId::new(5));
        assert_eq!(unreached(&members), [""; 0], "one that said goodbye to this node");
        members.beat(ONE, &told(&[6]), |_| 0, now);
        assert_eq!(unreached(&members), ["node 6"]);
        members.beat(ONE, &told(&[]), |_| 0, now);
        assert_eq!(unreached(&members), [""; 0]);
    }

    #[test]
    fn what_was_held_back_is_as_old_as_it_is_when_its_origin_had_vanished() {
        let members = Members::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(9);
        assert_eq!(arrive(&members, part(1, 0, 0, "a"), 0), whole("a", 0, 0));
        members.beat(ONE, &named("b"), |_| 0, start);
        assert_eq!(members.expire(later, later, true).len(), 1);
        assert_eq!(arrive(&members, part(1, 0, 0, "a"), 9000), Arrival::Late);
        assert_eq!(arrive(&members, part(2, 10, 0, "b"), 9000), whole("b", 8990, 0));
        members.leave(ONE);
        assert_eq!(arrive(&members, part(3, 20, 0, "c"), 9000), Arrival::Late, "after its goodbye");
    }
}
