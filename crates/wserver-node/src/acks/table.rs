//! The requests that wait, and the connections whose acknowledgements they wait for.
//!
//! It knows neither sockets nor clocks.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wserver_core::{ConnectionId, Limits, PushId};

use crate::acks::counts::{Acks, AwaitedPush, TooManyWaits, WaitFor, Waited};
use crate::gathered::NodeId;

/// What becomes of one connection that a push matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Able,
    Unable,
    Lost,
}

/// The requests that wait, and the connections whose acknowledgements they wait for.
#[derive(Debug)]
pub(crate) struct AckTable {
    /// Requests that wait. As long as nobody does, an end of a connection reads only this.
    waiting: AtomicUsize,
    requests_max: usize,
    connections_max: usize,
    /// Written by requests that wait, by fan-outs of their pushes under their user's lock, by
    /// acknowledgements and by ends of connections. Limited by `waits_max` times
    /// `wait_connections_max`.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    requests: HashMap<u64, Request>,
    /// What may be acknowledged.
    ///
    /// Invariant: each belongs to a request above, which has counted it as waiting.
    given: BTreeSet<Given>,
}

/// A push that a connection may acknowledge. The order finds those of a connection, and of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Given {
    connection: ConnectionId,
    push: PushId,
    request: u64,
    index: usize,
}

#[derive(Debug)]
struct Request {
    pushes: Vec<Expected>,
    /// How many more connections it may wait for.
    room: usize,
    /// Notified whenever one of its pushes is finished.
    changed: Arc<Notify>,
}

/// A push of a request.
#[derive(Debug)]
pub(super) struct Expected {
    until: WaitFor,
    /// The acknowledgements of this node's connections.
    here: Acks,
    /// The connections that can acknowledge it, and the push.
    given: Vec<(ConnectionId, PushId)>,
    /// The nodes that were asked.
    others: Vec<Other>,
}

/// Another node that was asked.
#[derive(Debug)]
struct Other {
    node: NodeId,
    acks: Acks,
    /// Whether nothing more comes from it.
    is_settled: bool,
}

impl Expected {
    const fn new(until: WaitFor) -> Self {
        Self {
            until,
            here: Acks { acked: 0, waiting: 0, unable: 0, lost: 0 },
            given: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Whether it got what it waits for, or cannot get it any more.
    pub(super) fn is_finished(&self) -> bool {
        let is_acked = self.here.acked > 0 || self.others.iter().any(|it| it.acks.acked > 0);
        (self.until == WaitFor::First && is_acked)
            || (self.here.waiting == 0 && self.others.iter().all(|it| it.is_settled))
    }

    /// What has come of it so far.
    pub(super) fn waited(&self) -> Waited {
        let mut waited = Waited { acks: self.here, ..Waited::default() };
        let is_finished = self.is_finished();
        for other in &self.others {
            waited.acks += other.acks;
            match (other.is_settled, is_finished) {
                (true, _) => {}
                (false, false) => waited.silent.push(other.node),
                (false, true) => waited.unneeded.push(other.node),
            }
        }
        waited
    }
}

impl AckTable {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            requests_max: limits.waits_max,
            connections_max: limits.wait_connections_max,
            state: Mutex::default(),
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Begins a request; returns its number, and what is notified whenever one of its pushes is
    /// finished.
    pub(crate) fn begin(&self) -> Result<(u64, Arc<Notify>), TooManyWaits> {
        let mut state = self.lock();
        if state.requests.len() >= self.requests_max {
            return Err(TooManyWaits { max: self.requests_max });
        }
        state.next += 1;
        let (number, changed) = (state.next, Arc::new(Notify::new()));
        let room = self.connections_max;
        let request = Request { pushes: Vec::new(), room, changed: Arc::clone(&changed) };
        state.requests.insert(number, request);
        self.waiting.store(state.requests.len(), Ordering::Relaxed);
        Ok((number, changed))
    }

    /// Adds a push to a request, and returns its number there.
    pub(super) fn expect(&self, request: u64, until: WaitFor) -> usize {
        let mut state = self.lock();
        let Some(Request { pushes, .. }) = state.requests.get_mut(&request) else { return 0 };
        pushes.push(Expected::new(until));
        pushes.len() - 1
    }

    /// How many more connections a request may wait for.
    pub(super) fn room(&self, request: u64) -> usize {
        self.lock().requests.get(&request).map_or(0, |request| request.room)
    }

    /// Forgets a request.
    pub(super) fn end(&self, request: u64) {
        let mut state = self.lock();
        let Some(ended) = state.requests.remove(&request) else { return };
        for (index, expected) in ended.pushes.into_iter().enumerate() {
            for (connection, push) in expected.given {
                state.given.remove(&Given { connection, push, request, index });
            }
        }
        self.waiting.store(state.requests.len(), Ordering::Relaxed);
    }

    /// Notes which connections get a push. The caller holds the user's lock, so none of them can end
    /// unnoticed: whoever unbinds one calls [`ended`](Self::ended) after it has held that lock.
    ///
    /// Beyond `wait_connections_max` they count as waiting, but nobody notices what they say.
    pub(crate) fn given(
        &self,
        wait: AwaitedPush,
        push: PushId,
        members: impl Iterator<Item = (ConnectionId, Fate)>,
    ) {
        let AwaitedPush { request, index, .. } = wait;
        let mut guard = self.lock();
        let state = &mut *guard;
        // The request may have been dropped.
        let Some(Request { pushes, room, .. }) = state.requests.get_mut(&request) else { return };
        let Some(expected) = pushes.get_mut(index) else { return };
        for (connection, fate) in members {
            match fate {
                Fate::Able => {
                    expected.here.waiting += 1;
                    if *room > 0 {
                        *room -= 1;
                        expected.given.push((connection, push));
                        state.given.insert(Given { connection, push, request, index });
                    }
                }
                Fate::Unable => expected.here.unable += 1,
                Fate::Lost => expected.here.lost += 1,
            }
        }
    }

    /// A client has acknowledged a push. Returns whether anybody waited for that.
    pub(crate) fn acknowledged(&self, connection: ConnectionId, push: PushId) -> bool {
        let first = Given { connection, push, request: 0, index: 0 };
        let last = Given { connection, push, request: u64::MAX, index: usize::MAX };
        self.settle(first, last, |acks| &mut acks.acked)
    }

    /// A connection has ended, and nothing more that it says is read.
    pub(crate) fn ended(&self, connection: ConnectionId) {
        let (least, most) = (PushId::new(0, 0), PushId::new(u32::MAX, u64::MAX));
        let first = Given { connection, push: least, request: 0, index: 0 };
        let last = Given { connection, push: most, request: u64::MAX, index: usize::MAX };
        self.settle(first, last, |acks| &mut acks.lost);
    }

    fn settle(&self, first: Given, last: Given, count: fn(&mut Acks) -> &mut usize) -> bool {
        if self.waiting() == 0 {
            return false;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        let settled: Vec<Given> = state.given.range(first..=last).copied().collect();
        for given in &settled {
            state.given.remove(given);
            state.change(given.request, given.index, |expected| {
                expected.here.waiting -= 1;
                *count(&mut expected.here) += 1;
            });
        }
        !settled.is_empty()
    }

    /// Notes that other nodes were asked to make a push and to tell its acknowledgements.
    pub(super) fn asked(&self, push: &AwaitedPush, nodes: impl Iterator<Item = NodeId>) {
        let others = nodes.map(|node| Other { node, acks: Acks::default(), is_settled: false });
        self.lock().change(push.request, push.index, |expected| expected.others.extend(others));
    }

    pub(super) fn begun(&self, push: &AwaitedPush, node: NodeId, acks: Option<Acks>) {
        self.lock().change(push.request, push.index, |expected| match acks {
            None => expected.others.retain(|other| other.node != node),
            Some(acks) => {
                let is_it = |other: &&mut Other| other.node == node && !other.is_settled;
                if let Some(other) = expected.others.iter_mut().find(is_it) {
                    // If nobody can acknowledge it there, nothing more comes.
                    (other.is_settled, other.acks) = (acks.waiting == 0, acks);
                }
            }
        });
    }

    pub(super) fn settled(&self, request: u64, index: usize, node: NodeId, acks: Acks) {
        self.lock().change(request, index, |expected| {
            if let Some(other) = expected.others.iter_mut().find(|other| other.node == node) {
                (other.acks, other.is_settled) = (acks, true);
            }
        });
    }

    pub(super) fn read<T>(
        &self,
        push: AwaitedPush,
        read: impl FnOnce(&Expected) -> T,
    ) -> Option<T> {
        let state = self.lock();
        state.requests.get(&push.request)?.pushes.get(push.index).map(read)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.requests.is_empty() && state.given.is_empty() && self.waiting() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic in the middle of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Changes a push, and tells its request if it is finished.
    fn change(&mut self, request: u64, index: usize, change: impl FnOnce(&mut Expected)) {
        let Some(Request { pushes, changed, .. }) = self.requests.get_mut(&request) else { return };
        let Some(expected) = pushes.get_mut(index) else { return };
        change(expected);
        if expected.is_finished() {
            changed.notify_one();
        }
    }
}
