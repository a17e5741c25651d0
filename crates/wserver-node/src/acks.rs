//! Pushes that wait for acknowledgements: which connections were given them, and what came back.
//!
//! All state belongs to the requests that wait and goes with them; a connection keeps nothing, and
//! a push that does not wait touches nothing here. It knows no clock but the deadline of a wait.

use std::collections::{BTreeSet, HashMap};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use wserver_core::{ConnectionId, EventName, Limits, PushId, UserId};
use wserver_protocol::Protocol;

use crate::gathered::NodeId;
use crate::node::Node;
use crate::outbox::Wire;

/// Which acknowledgements a push to one user waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The first.
    First,
    /// Those of every connection that can acknowledge.
    All,
}

/// How many connections have acknowledged a push, and what keeps the others from it. The four add up
/// to the connections that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acks {
    /// Connections that have acknowledged it.
    pub acked: usize,
    /// Connections that have not, and still may.
    pub waiting: usize,
    /// Connections that cannot, because they speak version 1, or because their node did not ask.
    pub unable: usize,
    /// Connections that ended without acknowledging it.
    pub lost: usize,
}

impl AddAssign for Acks {
    fn add_assign(&mut self, other: Self) {
        self.acked += other.acked;
        self.waiting += other.waiting;
        self.unable += other.unable;
        self.lost += other.lost;
    }
}

/// Why a request cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} requests already wait for acknowledgements (waits_max)")]
pub struct TooManyWaits {
    /// The limit.
    pub max: usize,
}

/// One push to one user by a request that waits: what [`Message::await_acks`] takes.
///
/// [`Message::await_acks`]: crate::Message::await_acks
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitedPush {
    request: u64,
    index: usize,
    until: WaitFor,
    deadline: Instant,
}

impl AwaitedPush {
    /// The number of its request in this process.
    #[must_use]
    pub const fn request(&self) -> u64 {
        self.request
    }

    /// Its number in its request.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// What it waits for.
    #[must_use]
    pub const fn until(&self) -> WaitFor {
        self.until
    }

    /// How long it waits.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// A request that waits for acknowledgements of its pushes. Dropping it ends all waiting, and frees
/// what was kept for it.
pub struct AckWait {
    table: Arc<AckTable>,
    request: u64,
    changed: Arc<Notify>,
}

impl std::fmt::Debug for AckWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AckWait").field("request", &self.request).finish_non_exhaustive()
    }
}

/// What came of a push that waited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Waited {
    /// The acknowledgements, over all nodes.
    pub acks: Acks,
    /// Nodes that have not said what came of theirs, although the wait has lasted to its deadline.
    pub silent: Vec<NodeId>,
}

impl AckWait {
    /// Begins to wait for one push to one user, which is not made yet.
    #[must_use]
    pub fn expect(&self, until: WaitFor, deadline: Instant) -> AwaitedPush {
        let mut state = self.table.lock();
        let pushes = state.requests.get_mut(&self.request).map(|request| &mut request.pushes);
        let index = pushes.map_or(0, |pushes| {
            pushes.push(Expected {
                until,
                here: Acks::default(),
                given: Vec::new(),
                others: Vec::new(),
            });
            pushes.len() - 1
        });
        AwaitedPush { request: self.request, index, until, deadline }
    }

    /// How many more connections it may wait for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.table.lock().requests.get(&self.request).map_or(0, |request| request.room)
    }

    /// The acknowledgements of a push that have come so far.
    #[must_use]
    pub fn acks(&self, push: AwaitedPush) -> Acks {
        self.table.read(push, Expected::waited).unwrap_or_default().acks
    }

    /// Waits until a push that has been made got what it waits for, or cannot get it any more, or
    /// its deadline is over.
    ///
    /// # Cancel safety
    /// A dropped future has changed nothing.
    pub async fn waited(&self, push: AwaitedPush) -> Waited {
        while !self.table.read(push, Expected::is_finished).unwrap_or(true) {
            // Whatever finishes leaves a permit, so nothing is missed between the two lines.
            let changed = self.changed.notified();
            if tokio::time::timeout_at(push.deadline.into(), changed).await.is_err() {
                break;
            }
        }
        self.table.read(push, Expected::waited).unwrap_or_default()
    }
}

impl Drop for AckWait {
    fn drop(&mut self) {
        self.table.end(self.request);
    }
}

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

#[derive(Debug)]
struct Expected {
    until: WaitFor,
    /// The acknowledgements of this node's connections.
    here: Acks,
    /// The connections that can acknowledge it, and the push.
    given: Vec<(ConnectionId, PushId)>,
    /// The nodes that were asked.
    others: Vec<Other>,
}

#[derive(Debug)]
struct Other {
    node: NodeId,
    acks: Acks,
    /// Whether nothing more comes from it.
    is_settled: bool,
}

impl Expected {
    fn is_finished(&self) -> bool {
        let is_acked = self.here.acked > 0 || self.others.iter().any(|it| it.acks.acked > 0);
        (self.until == WaitFor::First && is_acked)
            || (self.here.waiting == 0 && self.others.iter().all(|it| it.is_settled))
    }

    fn waited(&self) -> Waited {
        let mut waited = Waited { acks: self.here, silent: Vec::new() };
        let is_finished = self.is_finished();
        for other in &self.others {
            waited.acks += other.acks;
            if !other.is_settled && !is_finished {
                waited.silent.push(other.node);
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

    pub(crate) fn begin(self: &Arc<Self>) -> Result<AckWait, TooManyWaits> {
        let mut state = self.lock();
        if state.requests.len() >= self.requests_max {
            return Err(TooManyWaits { max: self.requests_max });
        }
        state.next += 1;
        let (request, changed) = (state.next, Arc::new(Notify::new()));
        let room = self.connections_max;
        let waits = Request { pushes: Vec::new(), room, changed: Arc::clone(&changed) };
        state.requests.insert(request, waits);
        self.waiting.store(state.requests.len(), Ordering::Relaxed);
        Ok(AckWait { table: Arc::clone(self), request, changed })
    }

    fn end(&self, request: u64) {
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

    fn read<T>(&self, push: AwaitedPush, read: impl FnOnce(&Expected) -> T) -> Option<T> {
        let state = self.lock();
        state.requests.get(&push.request)?.pushes.get(push.index).map(read)
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

impl<W: Wire> Node<W> {
    /// Begins to wait for acknowledgements, for one request. It waits for at most
    /// `wait_connections_max` connections.
    ///
    /// # Errors
    /// [`TooManyWaits`] if `waits_max` requests wait already.
    pub fn wait_for_acks(&self) -> Result<AckWait, TooManyWaits> {
        let state = &self.state;
        state.acks.begin().inspect_err(|_| state.counters.waits_refused_total.increment())
    }

    /// Requests that wait for acknowledgements.
    #[must_use]
    pub fn waits(&self) -> usize {
        self.state.acks.waiting()
    }

    /// How many connections of `user` could acknowledge a push of `event` now.
    #[must_use]
    pub fn able_to_acknowledge(
        &self,
        user: &UserId,
        event: &EventName,
        exclude: Option<ConnectionId>,
    ) -> usize {
        let able = self.state.binder.with_user(user, |group| {
            let members = group.members;
            let Some(event) = members.event(event) else { return 0 };
            let able = members.iter().filter(|member| {
                member.registered(event).is_some()
                    && member.handle().protocol() == Protocol::V2
                    && exclude != Some(member.id())
            });
            able.count()
        });
        able.unwrap_or_default()
    }

    /// Notes that other nodes were asked to make a push and to tell its acknowledgements.
    pub fn acks_asked(&self, push: &AwaitedPush, nodes: impl IntoIterator<Item = NodeId>) {
        let others =
            nodes.into_iter().map(|node| Other { node, acks: Acks::default(), is_settled: false });
        let mut state = self.state.acks.lock();
        state.change(push.request, push.index, |expected| expected.others.extend(others));
    }

    /// Another node has made the push: `acks` is what may become of it there. `None` means that this
    /// node does not count any more, because it has made no push, or said nothing.
    pub fn acks_begun(&self, push: &AwaitedPush, node: NodeId, acks: Option<Acks>) {
        let mut state = self.state.acks.lock();
        state.change(push.request, push.index, |expected| match acks {
            None => expected.others.retain(|other| other.node != node),
            Some(acks) => {
                let of_node = |other: &&mut Other| other.node == node && !other.is_settled;
                if let Some(other) = expected.others.iter_mut().find(of_node) {
                    // It has nothing more to tell.
                    other.is_settled = acks.waiting == 0;
                    other.acks = acks;
                }
            }
        });
    }

    /// Another node has waited for its part of a push. Nothing changes if that node was not asked, or
    /// nobody waits any more.
    pub fn acks_settled(&self, request: u64, index: usize, node: NodeId, acks: Acks) {
        let mut state = self.state.acks.lock();
        state.change(request, index, |expected| {
            if let Some(other) = expected.others.iter_mut().find(|other| other.node == node) {
                (other.acks, other.is_settled) = (acks, true);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PUSH: PushId = PushId::new(1, 1);

    fn table(waits_max: usize, wait_connections_max: usize) -> Arc<AckTable> {
        let limits = wserver_core::LimitSettings {
            waits_max,
            wait_connections_max,
            ..wserver_core::LimitSettings::default()
        };
        Arc::new(AckTable::new(&limits.build().unwrap()))
    }

    fn connections(numbers: std::ops::Range<u64>) -> impl Iterator<Item = (ConnectionId, Fate)> {
        numbers.map(|number| (ConnectionId::new(number), Fate::Able))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn is_empty(table: &AckTable) -> bool {
        let state = table.lock();
        state.requests.is_empty() && state.given.is_empty() && table.waiting() == 0
    }

    #[tokio::test]
    async fn requests_are_bounded_and_leave_nothing() {
        let table = table(2, 10);
        let (one, two) = (table.begin().unwrap(), table.begin().unwrap());
        assert_eq!(table.begin().unwrap_err(), TooManyWaits { max: 2 });
        for wait in [&one, &two] {
            let push = wait.expect(WaitFor::All, soon());
            table.given(push, PUSH, connections(0..3));
        }
        assert_eq!((one.room(), table.waiting()), (7, 2));
        drop(one);
        // What the others wait for stays.
        assert!(table.acknowledged(ConnectionId::new(0), PUSH));
        assert!(!table.acknowledged(ConnectionId::new(0), PUSH), "once");
        assert!(table.begin().is_ok());
        drop(two);
        assert!(is_empty(&table));
        assert!(!table.acknowledged(ConnectionId::new(1), PUSH));
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_not_waited_for_but_told() {
        let table = table(1, 2);
        let wait = table.begin().unwrap();
        let push = wait.expect(WaitFor::All, Instant::now());
        table.given(push, PUSH, connections(0..3));
        for number in 0..3 {
            assert_eq!(table.acknowledged(ConnectionId::new(number), PUSH), number < 2);
        }
        let acks = Acks { acked: 2, waiting: 1, ..Acks::default() };
        assert_eq!(wait.waited(push).await, Waited { acks, silent: Vec::new() });
    }

    /// The same push to a user who is named twice: what a connection says holds for both.
    #[tokio::test]
    async fn one_acknowledgement_counts_wherever_it_was_given() {
        let table = table(1, 10);
        let wait = table.begin().unwrap();
        let pushes = [(); 2].map(|()| wait.expect(WaitFor::First, soon()));
        for push in pushes {
            table.given(push, PUSH, connections(0..1));
        }
        let elsewhere = wait.expect(WaitFor::First, Instant::now());
        table.given(elsewhere, PushId::new(1, 2), connections(0..1));
        assert!(table.acknowledged(ConnectionId::new(0), PUSH));
        for push in pushes {
            assert_eq!(wait.waited(push).await.acks.acked, 1);
        }
        assert_eq!(wait.waited(elsewhere).await.acks.acked, 0, "another push");
        table.ended(ConnectionId::new(0));
        assert_eq!(wait.waited(elsewhere).await.acks.lost, 1);
    }
}
