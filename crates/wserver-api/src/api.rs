//! What every answer of one server shares.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use wserver_auth::PushAuthorizer;
use wserver_cluster::Cluster;
use wserver_core::Limits;
use wserver_node::{Node, Wire};

use crate::authorize::open_push::OpenPushScope;
use crate::cluster::ask::LentTraces;
use crate::counters::ApiCounters;
use crate::demo::DemoPage;
use crate::observe::health::{Health, ProbeEnds};
use crate::observe::metrics::Page;
use crate::push::idempotency::Idempotency;
use crate::reply::refused::Elsewhere;

/// Whatever carries requests and connections, as far as answers tell of it.
pub trait Carrier: Send + Sync + 'static {
    /// Adds what the carrier has counted to the page of metrics. It may be called from any thread.
    fn write_metrics(&self, page: &mut Page);
}

/// What is answered where, and to whom.
pub struct Settings {
    /// Every bound.
    pub limits: Limits,
    /// The path of version 1's pushes.
    pub push_path: String,
    /// Decides who may push and administer.
    pub push_authorizer: Arc<dyn PushAuthorizer>,
    /// Set when pushes need no key.
    pub open_push: Option<OpenPushScope>,
    /// What a push to the public listener is told, where pushes need no key and are taken elsewhere
    /// or nowhere.
    pub pushes_elsewhere: Option<Elsewhere>,
    /// The demo page, if it is served.
    pub demo_page: Option<DemoPage>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("push_path", &self.push_path)
            .field("open_push", &self.open_push)
            .field("pushes_elsewhere", &self.pushes_elsewhere)
            .finish_non_exhaustive()
    }
}

/// Answers what one server is asked.
pub struct Api<W: Wire> {
    pub(crate) node: Node<W>,
    /// The node's part in a cluster, if it has one.
    pub(crate) cluster: Option<Cluster<W>>,
    /// Users that other nodes follow here.
    pub(crate) lent_traces: Arc<LentTraces>,
    pub(crate) limits: Limits,
    pub(crate) push_path: String,
    pub(crate) push_authorizer: Arc<dyn PushAuthorizer>,
    pub(crate) open_push: Option<OpenPushScope>,
    pub(crate) pushes_elsewhere: Option<Elsewhere>,
    pub(crate) demo_page: Option<DemoPage>,
    /// Bytes of push bodies that may still be read; `push_bodies_bytes_max` in all.
    pub(crate) push_bodies: Arc<Semaphore>,
    pub(crate) push_ids: PushIds,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) started_at: Instant,
    /// Cancelled when a shutdown begins.
    pub(crate) stop: CancellationToken,
    pub(crate) counters: ApiCounters,
    pub(crate) health: Health<W>,
    pub(crate) carrier: Arc<dyn Carrier>,
}

impl<W: Wire> fmt::Debug for Api<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<W: Wire> Api<W> {
    /// Answers for `node` and its part in a cluster. `stop` is cancelled when a shutdown begins;
    /// `probe_ends` makes a connection of the server to itself.
    #[must_use]
    pub fn new(
        settings: Settings,
        node: Node<W>,
        cluster: Option<Cluster<W>>,
        stop: CancellationToken,
        probe_ends: ProbeEnds<W>,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        let Settings { limits, push_path, push_authorizer, open_push, pushes_elsewhere, demo_page } =
            settings;
        Self {
            node,
            cluster,
            lent_traces: Arc::default(),
            push_path,
            push_authorizer,
            open_push,
            pushes_elsewhere,
            demo_page,
            push_bodies: Arc::new(Semaphore::new(limits.push_bodies_bytes_max)),
            push_ids: PushIds::new(),
            idempotency: Arc::new(Idempotency::new(
                limits.idempotency_bytes_max,
                limits.http_connections_max,
            )),
            started_at: Instant::now(),
            stop,
            counters: ApiCounters::default(),
            health: Health::new(probe_ends),
            carrier,
            limits,
        }
    }

    /// The path of version 1's pushes.
    #[must_use]
    pub fn push_path(&self) -> &str {
        &self.push_path
    }

    /// Whether the demo page is served.
    #[must_use]
    pub fn serves_demo_page(&self) -> bool {
        self.demo_page.is_some()
    }

    /// What a push to the public listener is told, if it is told anything.
    #[must_use]
    pub fn pushes_elsewhere(&self) -> Option<&Elsewhere> {
        self.pushes_elsewhere.as_ref()
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
