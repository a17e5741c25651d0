//! The other nodes of the cluster: all that were heard from within a lease, and their state. A node
//! that disappeared without a goodbye is remembered, because it may be cut off and have connections
//! that no push reaches.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use wserver_node::{NodeId, NodeName};

use crate::arrival::{Arrival, Clock, Incoming};
use crate::directory::Seat;
use crate::envelope::{self, Heartbeat, Part};

/// The most vanished nodes, and the most departed ones, that are remembered: the latest.
const REMEMBERED_MAX: usize = 256;
/// The most nodes that are accepted: a stranger at the broker can make up more than any memory
/// holds.
const NODES_MAX: usize = 4096;

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
        channel: (u16, bool),
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
        let Member { clock, channels, heard_at, .. } = all.member(origin, now);
        let incoming = channels.entry(channel).or_default();
        let arrival = incoming.take(part, clock, now_ms, now, bytes_max);
        // A dropped message is no sign of life.
        if arrival.is_sign_of_life() {
            *heard_at = now;
        }
        arrival
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
                || (Clock::new(now), HashMap::new()),
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
        Self::new(id, name)
    }
}

impl Member {
    fn named(&self, id: NodeId) -> NodeName {
        NodeName::new(id, Arc::clone(&self.name))
    }
}
