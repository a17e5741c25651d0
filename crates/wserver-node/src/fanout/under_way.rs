//! Cleans up after a walk that panics, so that no lane accepts messages without handing them out.

use std::sync::Arc;
use std::thread;

use wserver_core::{CloseReason, UserKey};

use crate::outbox::Wire;
use crate::state::NodeState;

/// A walk under way, by a walker or a pusher, which holds this until the walk is over.
///
/// After a panic it is unknown which members got the messages that were counted for them. So all
/// members are closed: a count is exact for connections that stay alive, and clients that come back
/// start afresh.
pub(super) struct UnderWay<'a, W: Wire> {
    node: &'a NodeState<W>,
    key: UserKey<'a>,
    walk: u32,
}

impl<'a, W: Wire> UnderWay<'a, W> {
    pub(super) const fn new(node: &'a NodeState<W>, key: UserKey<'a>, walk: u32) -> Self {
        Self { node, key, walk }
    }

    #[cold]
    fn abandon(&self) {
        self.node.counters.panics_total.increment();
        let left = self.node.binder.with_key(self.key, |group| {
            // After its last member has left, the user gets a new lane.
            (group.lane.walk == self.walk).then(|| {
                group.lane.walk = 0;
                let members: Vec<_> =
                    group.members.iter().map(|member| Arc::clone(member.handle())).collect();
                (members, group.lane.extra.take())
            })
        });
        // The pushes that wait in `extra` learn that nobody is there when it is dropped.
        let Some(Some((members, _extra))) = left else { return };
        for outbox in members {
            self.node.close(&outbox, CloseReason::Internal);
        }
    }
}

impl<W: Wire> Drop for UnderWay<'_, W> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.abandon();
        }
    }
}
