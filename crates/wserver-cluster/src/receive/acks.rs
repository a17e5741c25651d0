//! Waits for acknowledgements of the pushes of other nodes, and tells them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wserver_node::{AckWait, AwaitedPush, NodeId, WaitFor, Wire};

use crate::broker::To;
use crate::envelope::{Acks, Content, Wait, Waited};
use crate::state::ClusterState;

/// The longest time that a push of another node may wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A push of another node that waits.
pub(crate) struct Asked {
    wait: AckWait,
    push: AwaitedPush,
    asked: Wait,
}

impl Asked {
    pub(crate) const fn push(&self) -> AwaitedPush {
        self.push
    }
}

impl<W: Wire> ClusterState<W> {
    /// Begins to wait for a push that was asked for this long ago, and is not made yet. `None` if
    /// too many requests wait; its connections are then not asked.
    pub(crate) fn begin_wait(&self, asked: Wait, age: Duration) -> Option<Asked> {
        let wait = self.node.wait_for_acks().ok()?;
        let until = if asked.is_first_enough { WaitFor::First } else { WaitFor::All };
        let time = Duration::from_millis(asked.time_ms.into()).min(WAIT_MAX).saturating_sub(age);
        let push = wait.expect(until, Instant::now() + time);
        Some(Asked { wait, push, asked })
    }

    /// What has come of a push so far. If more may come, a task tells the node that asked.
    pub(crate) fn tell_acks(self: &Arc<Self>, origin: NodeId, asked: Asked) -> Acks {
        let Asked { wait, push, asked: Wait { request, index, .. } } = asked;
        let acks = wait.acks(push);
        if acks.waiting > 0 {
            let state = Arc::clone(self);
            let key = (origin, request, index);
            let over = self.waits.begin(key);
            self.node.tasks().spawn(async move {
                let waited = tokio::select! {
                    waited = wait.waited(push) => Some(waited),
                    () = over.cancelled() => None,
                    () = state.stop.cancelled() => None,
                    () = state.node.tasks().stopped() => None,
                };
                state.waits.end(key);
                if let Some(waited) = waited {
                    let waited = Waited { request, index, acks: Some(waited.acks.into()) };
                    state.say(state.own_lane(), To::Node(origin), Content::Waited(waited).into());
                }
            });
        }
        acks.into()
    }
}
