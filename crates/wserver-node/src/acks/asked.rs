//! What the owner of a node asks of it about acknowledgements, and tells it of other nodes.

use wserver_core::{ConnectionId, EventName, UserId};
use wserver_protocol::Protocol;

use crate::acks::counts::{Acks, AwaitedPush, TooManyWaits};
use crate::acks::wait::AckWait;
use crate::gathered::NodeId;
use crate::node::Node;
use crate::outbox::Wire;

impl<W: Wire> Node<W> {
    /// Begins to wait for acknowledgements, for one request. It waits for at most
    /// `wait_connections_max` connections.
    ///
    /// # Errors
    /// [`TooManyWaits`] if `waits_max` requests wait already.
    pub fn wait_for_acks(&self) -> Result<AckWait, TooManyWaits> {
        let state = &self.state;
        AckWait::begin(&state.acks).inspect_err(|_| state.counters.waits_refused_total.increment())
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
        self.state.acks.asked(push, nodes.into_iter());
    }

    /// Another node has made the push: `acks` is what may become of it there. `None` means that this
    /// node does not count any more, because it has made no push, or said nothing.
    pub fn acks_begun(&self, push: &AwaitedPush, node: NodeId, acks: Option<Acks>) {
        self.state.acks.begun(push, node, acks);
    }

    /// Another node has waited for its part of a push. Nothing changes if that node was not asked, or
    /// nobody waits any more.
    pub fn acks_settled(&self, request: u64, index: usize, node: NodeId, acks: Acks) {
        self.state.acks.settled(request, index, node, acks);
    }
}
