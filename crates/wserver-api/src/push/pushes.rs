//! What all pushes of one server share, whichever way they come.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wserver_core::PushId;

use super::idempotency::Idempotency;
use crate::counters::Labelled;
use crate::limits::HttpLimits;
use crate::reply::kind::ProblemKind;

/// What all pushes of one server share.
pub(crate) struct Pushes {
    pub(crate) ids: PushIds,
    pub(crate) idempotency: Arc<Idempotency>,
    /// Pushes that were not accepted.
    pub(crate) refused_total: Labelled<ProblemKind>,
}

impl Pushes {
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        Self {
            ids: PushIds::new(),
            idempotency: Arc::new(Idempotency::new(
                limits.idempotency_bytes_max,
                limits.http_connections_max,
            )),
            refused_total: Labelled::new(ProblemKind::of_pushes()),
        }
    }
}

/// Names for pushes, by which an answer is found in the log and a message on a connection.
pub(crate) struct PushIds {
    process: u32,
    next: AtomicU64,
}

impl PushIds {
    pub(crate) fn new() -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "any 32 random bits do")]
        // Fresh keys are the randomness that the standard library has.
        let process = RandomState::new().hash_one(0) as u32;
        Self { process, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> PushId {
        PushId::new(self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
