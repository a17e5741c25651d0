//! Streams: what other nodes send one entry at a time, for as long as somebody here reads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::broker::NodeId;

/// Every stream that is read.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Written by who opens and drops one; bounded by whoever bounds its readers.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    readers: HashMap<u64, mpsc::Sender<(NodeId, Bytes)>>,
}

/// One stream; dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    entries: mpsc::Receiver<(NodeId, Bytes)>,
    streams: Arc<Streams>,
}

impl Stream {
    /// The number by which other nodes send to it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The next entry, and whose it is.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<(NodeId, Bytes)> {
        self.entries.recv().await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.lock().readers.remove(&self.id);
    }
}

impl Streams {
    pub(crate) fn open(this: &Arc<Self>, entries_max: usize) -> Stream {
        let (sender, entries) = mpsc::channel(entries_max.max(1));
        let mut open = this.lock();
        open.next_id += 1;
        let id = open.next_id;
        open.readers.insert(id, sender);
        Stream { id, entries, streams: Arc::clone(this) }
    }

    /// Hands an entry to its reader; false when there is none, or it is too slow.
    pub(crate) fn deliver(&self, id: u64, from: NodeId, payload: Bytes) -> bool {
        let reader = self.lock().readers.get(&id).cloned();
        reader.is_some_and(|reader| reader.try_send((from, payload)).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing under this lock panics half-way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
