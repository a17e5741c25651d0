//! What the answer to a request waits for, once its pushes are made: acknowledgements.

use std::time::Instant;

use tracing::debug;
use wserver_core::{ConnectionId, EventName, LimitSettings, UserId, setting_name};
use wserver_node::{AckWait, AwaitedPush, Gathered, Message, NodeName, PushReceipt, Waited, Wire};
use wserver_protocol::v2::{self, Acks, Delivery, PushAnswer};

use super::outcome;
use crate::api::Api;
use crate::reply::refused::Refused;

/// What one request waits for. Dropping it ends the waiting.
pub(crate) struct Waits {
    /// Since when its pushes wait: one moment for all of them, so that a batch takes no longer than
    /// its longest wait.
    since: Instant,
    /// `None` until a push waits.
    wait: Option<AckWait>,
}

/// The push of one user that waits.
pub(crate) struct Waiting {
    push: AwaitedPush,
    user: UserId,
    event: EventName,
    /// The other nodes that have made it.
    nodes: Vec<NodeName>,
}

impl Waits {
    pub(crate) fn new(since: Instant) -> Self {
        Self { since, wait: None }
    }

    /// Prepares to wait for a push that is about to be made.
    ///
    /// # Errors
    /// If too many requests wait, or if this one would wait for too many connections of this node.
    pub(crate) fn prepare<W: Wire>(
        &mut self,
        api: &Api<W>,
        users: &[UserId],
        event: &EventName,
        exclude: Option<ConnectionId>,
    ) -> Result<(), Refused> {
        let wait = match self.wait.take() {
            Some(wait) => wait,
            None => api.node.wait_for_acks().map_err(|_too_many| Refused::Busy {
                why: "too many requests wait for acknowledgements",
                setting: Some(setting_name!(LimitSettings, waits_max)),
            })?,
        };
        let room = wait.room();
        self.wait = Some(wait);
        let able = users.iter().map(|user| api.node.able_to_acknowledge(user, event, exclude));
        let connections: usize = able.sum();
        if connections > room {
            let max = api.limits.wait_connections_max;
            return Err(Refused::TooManyToWaitFor { connections: max - room + connections, max });
        }
        Ok(())
    }

    /// Has the next push of `message` wait; a caller has prepared that.
    pub(crate) fn begin(&self, wait: v2::Wait, message: &mut Message<'_>) -> Option<AwaitedPush> {
        let until = match wait.until {
            v2::WaitFor::First => wserver_node::WaitFor::First,
            v2::WaitFor::All => wserver_node::WaitFor::All,
        };
        let push = self.wait.as_ref()?.expect(until, self.since + wait.timeout);
        message.await_acks(push);
        Some(push)
    }

    /// Waits, and completes the answer with what came of it.
    pub(crate) async fn complete<W: Wire>(
        &self,
        api: &Api<W>,
        answer: &mut PushAnswer,
        waiting: Vec<Waiting>,
    ) {
        let Some(wait) = &self.wait else { return };
        if waiting.is_empty() {
            return;
        }
        let mut total = Acks::default();
        for (index, Waiting { push, user, event, nodes }) in waiting.into_iter().enumerate() {
            let waited = wait.waited(push).await;
            api.node.note_waited(&user, &event, waited.acks);
            if let Some(cluster) = &api.cluster {
                cluster.wait_is_over(&push, &waited.unneeded);
            }
            let delivery = match &mut answer.results {
                Some(results) => &mut results[index].delivery,
                None => &mut answer.delivery,
            };
            let acks = add(delivery, &waited, &nodes);
            total += acks;
        }
        if let Some(results) = &answer.results {
            answer.delivery.acks = Some(total);
            outcome::sum_nodes(&mut answer.delivery, results);
        }
        let Acks { acked, waiting, unable, lost } = total;
        debug!(push = %answer.id, acked, waiting, unable, lost, "waited");
    }
}

impl Waiting {
    pub(crate) fn new(
        push: AwaitedPush,
        user: UserId,
        event: EventName,
        gathered: &Gathered<PushReceipt>,
    ) -> Self {
        let nodes = gathered.others.iter().map(|(node, _)| node.clone()).collect();
        Self { push, user, event, nodes }
    }
}

/// Adds the acknowledgements to what became of a push, and the nodes that have not told theirs to
/// those that are missing.
fn add(delivery: &mut Delivery, waited: &Waited, nodes: &[NodeName]) -> Acks {
    let acks = outcome::acks(waited.acks);
    delivery.acks = Some(acks);
    for node in nodes.iter().filter(|node| waited.silent.contains(&node.id)) {
        delivery.nodes_missing.get_or_insert_default().push(node.to_string());
        delivery.is_partial = Some(true);
    }
    acks
}
