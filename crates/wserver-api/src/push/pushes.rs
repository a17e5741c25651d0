//! State that all pushes of one server share, of either API.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tracing::info;
use wserver_core::PushId;

use super::idempotency::Idempotency;
use crate::counters::Labelled;
use crate::limits::HttpLimits;
use crate::reply::details::ProblemDetails;
use crate::reply::kind::ProblemKind;

/// State that all pushes of one server share.
pub(crate) struct Pushes {
    pub(crate) ids: PushIds,
    pub(crate) idempotency: Arc<Idempotency>,
    /// Pushes that were refused.
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

impl Pushes {
    /// Counts a push that is refused; the log says so once a minute for each kind.
    pub(crate) fn count_refused(&self, details: &ProblemDetails) {
        let (reason, why) = (details.kind.as_str(), details.title());
        self.refused_total.increment_and_log(details.kind, Instant::now(), |total| {
            info!(reason, total, "pushes are being refused: {why}");
        });
    }
}

/// Makes ids of pushes, which the answer, the log and connections of version 2 show.
pub(crate) struct PushIds {
    process: u32,
    next: AtomicU64,
}

impl PushIds {
    pub(crate) fn new() -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "any 32 random bits do")]
        // New hash keys are the only randomness in the standard library.
        let process = RandomState::new().hash_one(0) as u32;
        Self { process, next: AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> PushId {
        PushId::new(self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
