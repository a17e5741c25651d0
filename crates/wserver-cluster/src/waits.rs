//! What ends the waiting for pushes of other nodes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use wserver_node::NodeId;

/// The node that asked, and its numbers for the push.
type Key = (NodeId, u64, u64);

/// What ends the waits under way.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Written when a wait begins, ends, or is needed no longer; limited by `waits_max`.
    under_way: Mutex<HashMap<Key, CancellationToken>>,
}

impl Waits {
    /// Ends a wait that nobody needs any more.
    pub(crate) fn end(&self, key: Key) {
        if let Some(over) = self.lock().remove(&key) {
            over.cancel();
        }
    }

    /// Begins a wait, which ends itself with [`end`](Self::end); returns what tells it to.
    pub(crate) fn begin(&self, key: Key) -> CancellationToken {
        let over = CancellationToken::new();
        self.lock().insert(key, over.clone());
        over
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, CancellationToken>> {
        // Nothing under this lock panics half-way through a change.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
