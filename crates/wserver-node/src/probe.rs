//! A node that delivers to itself, which proves that a push would arrive now.
//!
//! The probe is bound like every other member, and pushes to it take the same way: the binder, the
//! user's lane, an outbox, the wire. The maker of the wire reads at its far end.

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
/// It takes no place of `connections_max`, and no count or counter includes it. The names of its
/// user and event are longer than the limit for others, so nobody else can register or push for
/// them.
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
        // Other connections are numbered from 1. If this fails, it is unbound and free for the next
        // probe.
        let outbox = Arc::new(Outbox::new(ConnectionId::new(0), wire, Protocol::V1, 0));
        let probe = Self { node, outbox, user, event };
        let Self { node, outbox, user, event } = &probe;
        node.binder.bind(outbox.id(), outbox, user, event, node.binder.digest("")).ok()?;
        Some(probe)
    }

    /// Pushes `text` only to the probe; returns whether its wire or queue took it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message may or may not have been written.
    pub async fn deliver(&self, text: &str) -> bool {
        let options = PushOptions::default();
        let mut message = Message::new(&self.event, PushId::new(0, 0), text);
        let sent = self.node.fan_out(&self.user, &mut message, &options).await;
        sent.receipt.delivered() == 1
    }

    /// The wire of the probe.
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
