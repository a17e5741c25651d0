//! What every answer of one server shares.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::cluster::Cluster;
use tokio_util::sync::CancellationToken;
use wserver_auth::PushAuthorizer;
use wserver_core::{Limits, PushId};
use wserver_node::{Node, Wire};

use crate::authorize::Authorization;
use crate::authorize::open_push::OpenPushScope;
use crate::body::Bodies;
use crate::cluster::lent::LentTraces;
use crate::cluster::lost::LostPushes;
use crate::demo::DemoPage;
use crate::limits::HttpLimits;
use crate::observe::health::{Health, ProbeEnds, Verdict};
use crate::observe::metrics::page::Carrier;
use crate::push::pushes::Pushes;
use crate::reply::refused::Elsewhere;
use crate::routes::Routes;

/// What is served where, and to whom.
pub struct Settings {
    /// The limits of sessions and their node.
    pub limits: Limits,
    /// The limits of HTTP.
    pub http_limits: HttpLimits,
    /// The path at which browsers open their WebSockets.
    pub ws_path: String,
    /// The path for pushes of version 1.
    pub push_path: String,
    /// Decides which publishers may push and administer.
    pub push_authorizer: Arc<dyn PushAuthorizer>,
    /// Set if pushes need no key.
    pub open_push: Option<OpenPushScope>,
    /// The answer to a push at the public listener, if pushes need no key and are therefore
    /// accepted elsewhere or nowhere.
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

/// Answers the requests to one server.
pub struct Api<W: Wire> {
    pub(crate) node: Node<W>,
    /// The node's part in a cluster, if it has one.
    pub(crate) cluster: Option<Cluster<W>>,
    pub(crate) limits: Limits,
    pub(crate) http_limits: HttpLimits,
    pub(crate) routes: Routes,
    pub(crate) authorization: Authorization,
    pub(crate) bodies: Bodies,
    pub(crate) pushes: Pushes,
    /// The answer to a push at the public listener, if there is a special one.
    pub(crate) pushes_elsewhere: Option<Elsewhere>,
    /// Users of this node that other nodes trace.
    pub(crate) lent_traces: Arc<LentTraces<W>>,
    /// Pushes that other nodes may have lost.
    pub(crate) lost_pushes: Arc<LostPushes<W>>,
    pub(crate) health: Arc<Health<W>>,
    pub(crate) demo_page: Option<DemoPage>,
    pub(crate) carrier: Arc<dyn Carrier>,
    pub(crate) started_at: Instant,
    /// Cancelled when a shutdown begins.
    pub(crate) stop: CancellationToken,
}

impl<W: Wire> fmt::Debug for Api<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("node", &self.node).finish_non_exhaustive()
    }
}

impl<W: Wire> Api<W> {
    /// Answers for `node` and its part in a cluster. `stop` is cancelled when a shutdown begins;
    /// `probe_ends` makes a connection from the server to itself.
    #[must_use]
    pub fn new(
        settings: Settings,
        node: Node<W>,
        cluster: Option<Cluster<W>>,
        stop: CancellationToken,
        probe_ends: ProbeEnds<W>,
        carrier: Arc<dyn Carrier>,
    ) -> Self {
        let Settings { limits, http_limits, ws_path, push_path, demo_page, .. } = settings;
        let routes = Routes {
            ws_path,
            push_path,
            has_demo: demo_page.is_some(),
            tells_elsewhere: settings.pushes_elsewhere.is_some(),
        };
        let health = Health::new(node.clone(), cluster.clone(), stop.clone(), probe_ends);
        Self {
            lent_traces: Arc::new(LentTraces::new(node.clone(), cluster.clone(), stop.clone())),
            lost_pushes: Arc::new(LostPushes::new(
                node.clone(),
                cluster.clone(),
                stop.clone(),
                &limits,
            )),
            health: Arc::new(health),
            node,
            cluster,
            routes,
            authorization: Authorization::new(settings.push_authorizer, settings.open_push),
            bodies: Bodies::new(&http_limits),
            pushes: Pushes::new(&http_limits),
            pushes_elsewhere: settings.pushes_elsewhere,
            demo_page,
            carrier,
            started_at: Instant::now(),
            stop,
            limits,
            http_limits,
        }
    }

    /// The id of a push that does not come from a request.
    #[must_use]
    pub fn next_push(&self) -> PushId {
        self.pushes.ids.next()
    }

    /// The node that it answers for.
    #[must_use]
    pub fn node(&self) -> &Node<W> {
        &self.node
    }

    /// The node's part in a cluster, if it has one.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster<W>> {
        self.cluster.as_ref()
    }

    /// The limits of sessions and their node.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The limits of HTTP.
    #[must_use]
    pub fn http_limits(&self) -> &HttpLimits {
        &self.http_limits
    }

    /// Whether a shutdown has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The path for pushes of version 1.
    #[must_use]
    pub fn push_path(&self) -> &str {
        &self.routes.push_path
    }

    /// Whether the demo page is served.
    #[must_use]
    pub fn serves_demo_page(&self) -> bool {
        self.routes.has_demo
    }

    /// Whether the server delivers. A worker of the runtime finds out, so there is no answer while
    /// all workers are blocked.
    ///
    /// # Errors
    /// The reason, in a few words.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self) -> Verdict {
        self.health.verdict_of_a_worker().await
    }
}
