//! A node that delivers to itself: whether a push would arrive now, tried and not guessed.
//!
//! The probe is bound as every other member is, and what is pushed to it takes the way of every
//! other push: the binder, the user's lane, an outbox, the wire. What comes out of the wire's far
//! end is for whoever made it to see.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wserver_core::{CloseReason, ConnectionId, EventName, PushId, UserId};
use wserver_protocol::Protocol;

use crate::message::Message;
use crate::outbox::{Outbox, Wire};
use crate::receipt::PushOptions;
use crate::state::NodeState;

/// The node's connection to itself, bound until it is dropped.
///
/// It takes no place of `connections_max`, and no count or counter knows of it. Its user and its
/// event have names that are longer than any may be, so nobody else registers or pushes for them.
pub struct Probe<W: Wire> {
    node: Arc<NodeState<W>>,
    outbox: Arc<Outbox<W>>,
    user: UserId,
    event: EventName,
}

impl<W: Wire> fmt::Debug for Probe<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

impl<W: Wire> Probe<W> {
    pub(crate) fn new(node: Arc<NodeState<W>>, wire: W) -> Option<Self> {
        let name = "-".repeat(node.limits.name_bytes_max.saturating_add(1));
        let user = UserId::parse(&name, name.len()).ok()?;
        let event = EventName::parse(&name, name.len()).ok()?;
        if node.has_probe.swap(true, Ordering::AcqRel) {
            return None;
        }
        // Connections are numbered from 1. Unbound and free for the next one, should this fail.
        let outbox = Arc::new(Outbox::new(ConnectionId::new(0), wire, Protocol::V1, 0));
        let probe = Self { node, outbox, user, event };
        let Self { node, outbox, user, event } = &probe;
        node.binder.bind(outbox.id(), outbox, user, event, node.binder.digest("")).ok()?;
        Some(probe)
    }

    /// Pushes `text` to the probe alone; whether its wire or its queue took it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message may or may not have been written.
    pub async fn deliver(&self, text: &str) -> bool {
        let options = PushOptions::default();
        let mut message = Message::new(&self.event, PushId::new(0, 0), text);
        let sent = self.node.fan_out(&self.user, &mut message, &options).await;
        sent.receipt.delivered() == 1
    }

    /// The wire that was given for it.
    #[must_use]
    pub fn wire(&self) -> &W {
        self.outbox.wire()
    }
}

impl<W: Wire> Drop for Probe<W> {
    fn drop(&mut self) {
        self.outbox.end(&self.node.outbox_rules, CloseReason::Shutdown);
        self.node.binder.unbind_connection(self.outbox.id());
        self.node.has_probe.store(false, Ordering::Release);
    }
}
