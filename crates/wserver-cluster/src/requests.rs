//! The requests to other nodes whose answers this node waits for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use wserver_node::NodeId;

use crate::envelope::Outcome;

/// The number of locks over which requests are spread.
const SHARDS: usize = 16;

/// The nodes that have answered, with the answer and its time.
type Answers = Vec<(NodeId, Outcome, std::time::Instant)>;

/// All waiting requests.
#[derive(Debug)]
pub(crate) struct Requests {
    next_id: AtomicU64,
    count: AtomicUsize,
    count_max: usize,
    /// Written when a request is made, answered, or given up because a node has gone; limited by
    /// `count_max`.
    waiting: [Mutex<HashMap<u64, Waiting>>; SHARDS],
}

#[derive(Debug)]
struct Waiting {
    /// The nodes that have not answered yet.
    outstanding: Vec<NodeId>,
    answers: Answers,
    /// Notified when no answer is outstanding.
    done: oneshot::Sender<()>,
}

/// A request in progress; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Asked {
    requests: Arc<Requests>,
    id: u64,
    done: oneshot::Receiver<()>,
}

impl Requests {
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            next_id: AtomicU64::new(1),
            count: AtomicUsize::new(0),
            count_max,
            waiting: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Starts to wait for these nodes; `None` if too many requests wait already.
    pub(crate) fn ask(self: &Arc<Self>, nodes: Vec<NodeId>) -> Option<Asked> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.count_max {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        let answers = Vec::with_capacity(nodes.len());
        let waiting = Waiting { outstanding: nodes, answers, done: sender };
        self.shard(id).insert(id, waiting);
        Some(Asked { requests: Arc::clone(self), id, done })
    }

    /// Records the answer of a node; returns false if its request has ended.
    pub(crate) fn answer(&self, id: u64, node: NodeId, outcome: Outcome) -> bool {
        self.settle(id, node, Some(outcome))
    }

    /// Ends all waiting for a node that has gone or cannot be reached.
    pub(crate) fn give_up_on(&self, node: NodeId) {
        self.give_up(|it| it == node);
    }

    /// Ends all waiting, because no node can be reached.
    pub(crate) fn give_up_on_all(&self) {
        self.give_up(|_| true);
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn give_up(&self, is_lost: impl Fn(NodeId) -> bool) {
        for shard in &self.waiting {
            for waiting in lock(shard).values_mut() {
                waiting.outstanding.retain(|node| !is_lost(*node));
                waiting.tell_if_done();
            }
        }
    }

    fn settle(&self, id: u64, node: NodeId, outcome: Option<Outcome>) -> bool {
        let mut shard = self.shard(id);
        let Some(waiting) = shard.get_mut(&id) else { return false };
        let Some(at) = waiting.outstanding.iter().position(|it| *it == node) else { return false };
        waiting.outstanding.swap_remove(at);
        let now = std::time::Instant::now();
        waiting.answers.extend(outcome.map(|outcome| (node, outcome, now)));
        waiting.tell_if_done();
        true
    }

    #[expect(clippy::cast_possible_truncation, reason = "the rest of a division by 16")]
    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        lock(&self.waiting[(id % SHARDS as u64) as usize])
    }
}

impl Waiting {
    fn tell_if_done(&mut self) {
        if self.outstanding.is_empty() {
            let (told_before, _) = oneshot::channel();
            // The caller may be gone.
            let _ = std::mem::replace(&mut self.done, told_before).send(());
        }
    }
}

impl Asked {
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Does not wait for a node that the request could not be sent to.
    pub(crate) fn give_up_on(&self, node: NodeId) {
        self.requests.settle(self.id, node, None);
    }

    /// Waits until all nodes have answered, or until `deadline`; a node that has not answered by
    /// then is missing.
    pub(crate) async fn answers(mut self, deadline: Instant) -> Answers {
        let _ = tokio::time::timeout_at(deadline, &mut self.done).await;
        let waiting = self.requests.shard(self.id).remove(&self.id);
        waiting.map(|waiting| waiting.answers).unwrap_or_default()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.requests.shard(self.id).remove(&self.id);
        self.requests.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under this lock panics half-way through a change.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn nodes() -> Vec<NodeId> {
        [1, 2, 3].map(NodeId::new).into()
    }

    fn outcome() -> Outcome {
        Outcome::Failed("x".to_owned())
    }

    fn said(answers: Answers) -> Vec<(NodeId, Outcome)> {
        answers.into_iter().map(|(node, outcome, _)| (node, outcome)).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn it_waits_for_those_who_can_answer() {
        let requests = Arc::new(Requests::new(10));
        let asked = requests.ask(nodes()).unwrap();
        let id = asked.id();
        asked.give_up_on(NodeId::new(1));
        assert!(requests.answer(id, NodeId::new(2), outcome()));
        assert!(!requests.answer(id, NodeId::new(2), outcome()), "one answer each");
        assert!(!requests.answer(id, NodeId::new(9), outcome()), "nobody asked that node");
        requests.give_up_on(NodeId::new(3));
        assert_eq!(said(asked.answers(soon()).await), [(NodeId::new(2), outcome())]);
        assert_eq!(requests.len(), 0);
        assert!(!requests.answer(id, NodeId::new(3), outcome()), "too late");
    }

    #[tokio::test]
    async fn what_was_answered_by_its_deadline_counts() {
        let requests = Arc::new(Requests::new(10));
        let asked = requests.ask(nodes()).unwrap();
        requests.answer(asked.id(), NodeId::new(2), outcome());
        let answers = asked.answers(Instant::now()).await;
        assert_eq!(said(answers), [(NodeId::new(2), outcome())]);
        let asked = requests.ask(nodes()).unwrap();
        requests.give_up_on_all();
        assert_eq!(said(asked.answers(soon()).await), []);
    }

    #[tokio::test]
    async fn there_are_never_too_many_and_who_gives_up_leaves_nothing() {
        let requests = Arc::new(Requests::new(2));
        let one = requests.ask(nodes()).unwrap();
        let two = requests.ask(nodes()).unwrap();
        assert!(requests.ask(nodes()).is_none());
        drop(one);
        assert!(requests.ask(nodes()).is_some());
        drop(two);
        assert_eq!(requests.len(), 0);
        assert!(requests.waiting.iter().all(|shard| lock(shard).is_empty()));
    }
}
