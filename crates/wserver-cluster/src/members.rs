//! Who is in the cluster: everybody who was heard of within a lease, and what each is like. Who was,
//! and went without a goodbye, is not forgotten: it may be cut off, and have connections that nobody
//! reaches.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::arrival::{Arrival, Clock, Incoming};
use crate::broker::NodeId;
use crate::directory::Seat;
use crate::envelope::{self, Heartbeat, Part};
use crate::receipt::NodeName;

/// Nodes that vanished, and those that said goodbye, which are remembered at most: the last ones.
const REMEMBERED_MAX: usize = 256;
/// Nodes that are taken in: a stranger at the broker can make up more than any memory holds.
const NODES_MAX: usize = 4096;

/// The other nodes.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Written by who receives and by the leases; bounded by the nodes that are there within a lease.
    all: RwLock<All>,
}

#[derive(Debug, Default)]
struct All {
    by_id: HashMap<NodeId, Member>,
    /// Who sits where; `None` is free.
    seats: Vec<Option<NodeId>>,
    /// Who went without a goodbye, the one of longest ago first. Bounded by [`REMEMBERED_MAX`].
    vanished: VecDeque<Vanished>,
    /// Who said goodbye: what comes of it after that is old. Bounded by [`REMEMBERED_MAX`].
    left: VecDeque<NodeId>,
    /// Who vanished and is known to be gone, whatever others say. Bounded by [`REMEMBERED_MAX`].
    gone: VecDeque<NodeId>,
}

/// A node that was not heard of for a lease, and did not say that it goes.
#[derive(Debug)]
struct Vanished {
    node: NodeName,
    heard_at: Instant,
    /// By its own rule it holds no connection from then on.
    gone_at: Option<Instant>,
    /// What is known of its clock and its numbers: what the broker held back meanwhile is as old as it
    /// is, however long nobody heard of its origin.
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
    /// It has said who it is.
    is_introduced: bool,
    heard_at: Instant,
    /// When its users were last found to be what it says they are.
    agreed_at: Option<Instant>,
    /// Heartbeats in a row whose sum was another.
    disagreements: u32,
    /// After how long, once it has vanished, it holds no connection, by its own rule.
    gone_after: Option<Duration>,
    /// Whom it misses.
    misses: Vec<NodeName>,
    clock: Clock,
    /// By lane, and by whether it is the channel of all.
    channels: HashMap<(u16, bool), Incoming>,
}

/// What a heartbeat leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Where the node sits.
    pub(crate) seat: Seat,
    /// Its users are to be asked for.
    pub(crate) is_in_doubt: bool,
    /// It was heard of for the first time, by a heartbeat.
    pub(crate) is_first: bool,
    /// One that had vanished is gone: this is the one that came in its place.
    pub(crate) replaces: Option<NodeName>,
}

/// Another node, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Which one.
    pub node: NodeName,
    /// The release it runs; empty until its first heartbeat.
    pub release: String,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// How long ago it was last heard of.
    pub silence: Duration,
}

impl Members {
    /// Takes in what a broker brought; a node that nobody knew is a member from then on.
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
        // What is let go shows nothing: who only says such things is not heard of.
        if arrival.is_sign_of_life() {
            *heard_at = now;
        }
        arrival
    }

    /// A node says that it lives; `sum` is what this one holds of its users.
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
        // What changed a moment ago may still be on its way.
        let is_in_doubt = !agrees && (member.disagreements > 1 || member.agreed_at.is_none());
        Beat { seat: member.seat, is_in_doubt, is_first, replaces }
    }

    /// Where a node sits, if it is one of the others.
    pub(crate) fn seat(&self, id: NodeId) -> Option<Seat> {
        self.read().by_id.get(&id).map(|member| member.seat)
    }

    /// Who sits there.
    pub(crate) fn at(&self, seats: &[Seat]) -> Vec<NodeName> {
        let all = self.read();
        let ids = seats.iter().filter_map(|seat| *all.seats.get(usize::from(*seat))?);
        ids.filter_map(|id| Some(all.by_id.get(&id)?.named(id))).collect()
    }

    /// Everybody.
    pub(crate) fn everybody(&self) -> Vec<NodeName> {
        let all = self.read();
        all.by_id.iter().map(|(id, member)| member.named(*id)).collect()
    }

    /// Everybody, as an operator sees them.
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

    /// Who was not heard of since `limit`.
    pub(crate) fn silent_since(&self, limit: Instant) -> Vec<NodeId> {
        let all = self.read();
        let silent = all.by_id.iter().filter(|(_, member)| member.heard_at < limit);
        silent.map(|(id, _)| *id).collect()
    }

    /// Lets go of who was not heard of since `limit`; they keep their seats until those are freed. Who
    /// has ever said what it is has vanished `now`, until it is back or known to be gone. The time by
    /// which it is gone by its own rule counts only where the rule holds: where all are at one place,
    /// and who is not heard of does not hear itself.
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

    /// Those that had vanished and hold no connection by now.
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

    /// Who went without a goodbye, as this node has seen itself.
    pub(crate) fn vanished(&self) -> Vec<NodeName> {
        self.read().vanished.iter().map(|it| it.node.clone()).collect()
    }

    /// Who may have connections that a push of `own` does not reach: those that vanished, be it before
    /// this node came; those that are silent since `limit`; those whose users are not known since
    /// they came.
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

    /// Lets go of a node that says it goes.
    pub(crate) fn leave(&self, id: NodeId) -> Option<(NodeName, Seat)> {
        let mut all = self.write();
        all.vanished.retain(|it| it.node.id != id);
        if !all.left.contains(&id) {
            remember(&mut all.left, id);
        }
        let member = all.by_id.remove(&id)?;
        Some((member.named(id), member.seat))
    }

    /// Nothing of whoever sat there is left, so that another may.
    pub(crate) fn free(&self, seat: Seat) {
        if let Some(seat) = self.write().seats.get_mut(usize::from(seat)) {
            *seat = None;
        }
    }

    /// Whether the users of everybody were found to be as they say since `limit`.
    pub(crate) fn agree_since(&self, limit: Instant) -> bool {
        self.read().by_id.values().all(|member| member.agreed_at.is_some_and(|at| at >= limit))
    }

    /// How many there are.
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
                // Nobody has 65,536 nodes; should they, two share a seat and get each other's pushes.
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

    /// A node of this name is there: one of the same name that vanished was the same before it was
    /// started again. Who has no name of its own is called by its id, and replaces nobody.
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
