//! What the tests use: a wire in memory, an [`Api`] over it, and requests to that.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use wserver_auth::{OpenPush, Publisher, PushAuthorizer, PushRefusal, PushScope, authorize_with};
use wserver_core::{EventName, Limits, UserId};
use wserver_node::{Attachment, Node, Protocol, Wire};

use crate::api::{Api, Settings};
use crate::authorize::open_push::OpenPushScope;
use crate::cluster::Cluster;
use crate::limits::HttpLimitSettings;
use crate::observe::metrics::page::{Carrier, Page};
use crate::reply::ReplyBody;
use crate::request::{Request, Side};

/// A wire that takes everything, after the first wait for it.
#[derive(Debug, Default)]
pub(crate) struct MemoryWire {
    written: Arc<Mutex<VecDeque<u8>>>,
    was_waited_for: AtomicBool,
    is_full: bool,
}

impl MemoryWire {
    /// One that takes nothing, so that everything waits in the queue.
    pub(crate) fn full() -> Self {
        Self { is_full: true, ..Self::default() }
    }

    /// The bytes that were written to it.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.written.lock().unwrap().iter().copied().collect()
    }
}

impl Wire for MemoryWire {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = self.written.lock().unwrap();
        buffers.iter().for_each(|buffer| written.extend(buffer.iter()));
        Ok(buffers.iter().map(|buffer| buffer.len()).sum())
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.was_waited_for.swap(true, Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

struct FarEnd(Arc<Mutex<VecDeque<u8>>>);

impl Read for FarEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read(buffer)
    }
}

/// The two ends of a connection to itself.
pub(crate) fn ends() -> io::Result<(MemoryWire, Box<dyn Read + Send>)> {
    let wire = MemoryWire::default();
    let far_end = FarEnd(Arc::clone(&wire.written));
    Ok((wire, Box::new(far_end)))
}

/// A node whose connections end without a Close.
pub(crate) fn node() -> Node<MemoryWire> {
    node_with(Limits::default())
}

fn node_with(limits: Limits) -> Node<MemoryWire> {
    Node::new(limits, |_, _| None, Handle::current())
}

struct MemoryCarrier;

impl Carrier for MemoryCarrier {
    fn write_metrics(&self, page: &mut Page) {
        page.one_gauge("wserver_inbound_bytes", "Bytes of incomplete messages.", 7);
    }
}

/// An API that accepts pushes from every client.
pub(crate) fn api() -> Arc<Api<MemoryWire>> {
    api_with(|_| {})
}

/// The same with other settings.
pub(crate) fn api_with(change: impl FnOnce(&mut Settings)) -> Arc<Api<MemoryWire>> {
    let mut settings = settings();
    change(&mut settings);
    let node = node_with(settings.limits.clone());
    api_of(settings, node, None)
}

/// The settings of [`api`].
pub(crate) fn settings() -> Settings {
    let limits = Limits::default();
    Settings {
        http_limits: HttpLimitSettings::default().build(&limits).unwrap(),
        limits,
        ws_path: "/ws".to_owned(),
        push_path: "/push".to_owned(),
        push_authorizer: Arc::new(OpenPush),
        open_push: None,
        pushes_elsewhere: None,
        demo_page: None,
    }
}

/// An API that answers for this node and its part in a cluster.
pub(crate) fn api_of(
    settings: Settings,
    node: Node<MemoryWire>,
    cluster: Option<Cluster<MemoryWire>>,
) -> Arc<Api<MemoryWire>> {
    let stop = CancellationToken::new();
    Arc::new(Api::new(settings, node, cluster, stop, ends, Arc::new(MemoryCarrier)))
}

/// An API that a program on this machine may administer.
pub(crate) fn administered(change: impl FnOnce(&mut Settings)) -> Arc<Api<MemoryWire>> {
    api_with(|it| {
        it.open_push = Some(OpenPushScope::Loopback);
        change(it);
    })
}

/// Publishers by their names in [`KEY`]: `shop` may push everything, and it is also what `jacks`,
/// `news` and `roses` are called, whose scopes are narrower; `admin` administers.
pub(crate) fn publishers() -> impl PushAuthorizer {
    authorize_with(|request| async move {
        let everything = PushScope::everything();
        let shop = |scope| Ok(Publisher::new().with_name("shop").with_scope(scope));
        match request.headers.get(KEY).and_then(|key| key.to_str().ok()) {
            Some("shop") => shop(everything),
            Some("jacks") => shop(everything.with_users(["jack*"])),
            Some("roses") => shop(everything.with_users(["rose*"])),
            Some("news") => shop(everything.with_events(["news"])),
            Some("admin") => Ok(Publisher::new().with_name("admin").with_admin()),
            _ => Err(PushRefusal::Missing),
        }
    })
}

/// The header with the key of one of the [`publishers`].
pub(crate) const KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The header with which a push can be sent again.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse(name, 4096).unwrap()
}

pub(crate) fn event(name: &str) -> EventName {
    EventName::parse(name, 4096).unwrap()
}

/// Opens a connection over `wire` that is registered.
pub(crate) fn join(
    node: &Node<MemoryWire>,
    wire: MemoryWire,
    name: &str,
    about: &str,
) -> Attachment<MemoryWire> {
    let attachment = node.open(wire, Protocol::V1).unwrap();
    attachment.register(&user(name), &event(about), node.digest(name)).unwrap();
    attachment
}

/// `work`, which must end soon.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it ends")
}

/// An answer with its whole body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The name of the problem in the body.
    pub(crate) fn problem(&self) -> String {
        self.json()["type"].as_str().unwrap().rsplit(['/', ':']).next().unwrap().to_owned()
    }
}

/// Where requests come from, and with which headers.
pub(crate) struct Asking<'a> {
    pub(crate) api: &'a Arc<Api<MemoryWire>>,
    pub(crate) side: Side,
    pub(crate) peer: &'a str,
    pub(crate) headers: &'a [(HeaderName, &'a str)],
}

/// A program on this machine.
pub(crate) fn asking(api: &Arc<Api<MemoryWire>>) -> Asking<'_> {
    Asking { api, side: Side::Whole, peer: "127.0.0.1:5", headers: &[(HOST, "localhost")] }
}

impl Asking<'_> {
    /// Asks, and gets an answer that is no stream.
    pub(crate) async fn ask(&self, method: Method, target: &str, body: &str) -> Answer {
        let (head, body) = self.send(method, target, body).await.into_parts();
        let ReplyBody::Whole(body) = body else { panic!("{target} is answered by a stream") };
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target, "").await
    }

    pub(crate) async fn post(&self, target: &str, body: &str) -> Answer {
        self.ask(Method::POST, target, body).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        target: &str,
        body: &str,
    ) -> Response<ReplyBody> {
        let peer = self.peer.parse().unwrap();
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let request = Request {
            method,
            uri: target.parse().unwrap(),
            headers: Arc::new(headers.collect()),
            peer,
            client: peer,
            side: self.side,
        };
        let body = Full::new(Bytes::from(body.to_owned()));
        match self.api.find(self.side, request.uri.path()) {
            Some(found) => self.api.answer(found, request, body).await,
            None => Api::<MemoryWire>::not_found().map(ReplyBody::Whole),
        }
    }
}
