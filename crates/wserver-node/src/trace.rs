//! Follows one user live: everything that the journal notes about it, in order, or how much was
//! missed.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use wserver_core::UserId;

use crate::entry::Entry;

/// The maximum number of entries that wait for one reader; further entries are counted and dropped.
const TRACE_ENTRIES_MAX: usize = 256;

/// Why a user cannot be traced now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The limit of traces is reached (`traces_max`).
    #[error("{max} traces are already running (traces_max)")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The node is shutting down.
    #[error("the server is shutting down")]
    Draining,
}

/// One entry of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traced {
    /// Entries directly before this one that the reader was too slow for.
    pub missed: u64,
    /// What happened.
    pub entry: Entry,
}

/// Follows one user from the call on. Dropping it ends the trace.
///
/// A reader that is 256 entries behind misses the following ones, and the next entry that it gets
/// says how many. The node never waits for a reader.
pub struct Trace {
    entries: mpsc::Receiver<Traced>,
    tracers: Arc<Tracers>,
    id: u64,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("waiting", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Trace {
    /// The next entry; `None` when the node has shut down.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Traced> {
        self.entries.recv().await
    }

    /// As [`next`](Self::next), for callers that poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Traced>> {
        self.entries.poll_recv(cx)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let mut list = self.tracers.lock();
        list.tracers.retain(|tracer| tracer.id != self.id);
        self.tracers.count.store(list.tracers.len(), Ordering::Relaxed);
    }
}

/// All traces of a node.
#[derive(Debug)]
pub(crate) struct Tracers {
    max: usize,
    /// The length of the list, to check without a lock.
    count: AtomicUsize,
    /// Written when traces begin and end, and for each entry; limited by `max`.
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    tracers: Vec<Tracer>,
    next_id: u64,
    is_ended: bool,
}

#[derive(Debug)]
struct Tracer {
    id: u64,
    user: UserId,
    entries: mpsc::Sender<Traced>,
    /// Missed since the last entry that was taken.
    missed: u64,
}

impl Tracers {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, count: AtomicUsize::new(0), list: Mutex::default() }
    }

    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn trace(this: &Arc<Self>, user: &UserId) -> Result<Trace, TraceError> {
        let mut list = this.lock();
        if list.is_ended {
            return Err(TraceError::Draining);
        }
        if list.tracers.len() >= this.max {
            return Err(TraceError::TooMany { max: this.max });
        }
        let (sender, entries) = mpsc::channel(TRACE_ENTRIES_MAX);
        list.next_id += 1;
        let id = list.next_id;
        list.tracers.push(Tracer { id, user: user.clone(), entries: sender, missed: 0 });
        this.count.store(list.tracers.len(), Ordering::Relaxed);
        Ok(Trace { entries, tracers: Arc::clone(this), id })
    }

    /// Passes the entry to the traces of its user.
    pub(crate) fn tell(&self, entry: &Entry) {
        for tracer in &mut self.lock().tracers {
            if Some(&tracer.user) != entry.user.as_ref() {
                continue;
            }
            let traced = Traced { missed: tracer.missed, entry: entry.clone() };
            match tracer.entries.try_send(traced) {
                Ok(()) => tracer.missed = 0,
                Err(_full_or_left) => tracer.missed += 1,
            }
        }
    }

    pub(crate) fn end(&self) {
        let mut list = self.lock();
        list.is_ended = true;
        list.tracers.clear();
        self.count.store(0, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // No code under this lock can panic in the middle of a change.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
