//! What all pushes of one server share, whichever way they come.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wserver_core::Limits;

use super::idempotency::Idempotency;
use crate::counters::Labelled;

/// What all pushes of one server share.
pub(crate) struct Pushes {
    pub(crate) ids: PushIds,
    pub(crate) idempotency: Arc<Idempotency>,
    /// Pushes that were not accepted.
    pub(crate) refused_total: Labelled,
}

impl Pushes {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            ids: PushIds::new(),
            idempotency: Arc::new(Idempotency::new(
                limits.idempotency_bytes_max,
                limits.http_connections_max,
            )),
            refused_total: Labelled::new(&[
                "method_not_allowed",
                "push_needs_key",
                "unauthorized",
                "content_coding",
                "authorizer_unavailable",
                "push_rate",
                "out_of_scope",
                "body_invalid",
                "body_too_large",
                "body_too_slow",
                "body_broken",
                "busy",
                "name_too_long",
                "message_too_large",
                "too_many_items",
                "parameter_invalid",
                "idempotency_key_in_use",
                "idempotency_key_reused",
                "internal",
            ]),
        }
    }
}

/// Names for pushes, by which an answer is found in the log: unique in a process, and hardly the
/// same in two.
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

    pub(crate) fn next(&self) -> String {
        format!("{:08x}-{}", self.process, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
