//! Streams: other nodes send entries to them one at a time, as long as this node reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use wserver_node::NodeId;

/// All streams with a reader.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Written when a stream is opened or dropped; limited by the caller's limit on readers.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    readers: HashMap<u64, Reader>,
}

#[derive(Debug, Clone)]
struct Reader {
    entries: mpsc::Sender<(NodeId, Bytes)>,
    /// Entries that the reader was too slow for. Increased here, and reset by the reader.
    missed: Arc<AtomicU64>,
}

/// One stream; dropping it ends it.
#[derive(Debug)]
pub struct Stream {
    id: u64,
    entries: mpsc::Receiver<(NodeId, Bytes)>,
    missed: Arc<AtomicU64>,
    streams: Arc<Streams>,
}

impl Stream {
    /// The number by which other nodes send to it.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The next entry, and the node that sent it.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time without losing an entry.
    pub async fn next(&mut self) -> Option<(NodeId, Bytes)> {
        self.entries.recv().await
    }

    /// How many entries found no room since the last call.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
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
        let missed = Arc::new(AtomicU64::new(0));
        open.readers.insert(id, Reader { entries: sender, missed: Arc::clone(&missed) });
        Stream { id, entries, missed, streams: Arc::clone(this) }
    }

    /// Passes an entry to its reader, if there still is one; returns false if the reader is too
    /// slow.
    pub(crate) fn deliver(&self, id: u64, from: NodeId, payload: Bytes) -> bool {
        let reader = self.lock().readers.get(&id).cloned();
        let Some(Reader { entries, missed }) = reader else { return true };
        let sent = entries.try_send((from, payload));
        let is_full = matches!(sent, Err(mpsc::error::TrySendError::Full(_)));
        if is_full {
            missed.fetch_add(1, Ordering::Relaxed);
        }
        !is_full
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing under this lock panics half-way through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: NodeId = NodeId::new(9);

    #[test]
    fn a_reader_that_is_too_slow_misses_entries_and_one_that_is_gone_does_not() {
        let streams = Arc::new(Streams::default());
        let stream = Streams::open(&streams, 1);
        let deliver = || streams.deliver(1, HERE, Bytes::from_static(b"entry"));
        assert_eq!(stream.id(), 1);
        assert_eq!([deliver(), deliver(), deliver()], [true, false, false]);
        assert_eq!((stream.take_missed(), stream.take_missed()), (2, 0));
        drop(stream);
        assert!(streams.lock().readers.is_empty());
        assert!(deliver());
    }
}
