//! What the tests use: a wire in memory, an [`Api`] over it, and requests to that.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use wserver_auth::OpenPush;
use wserver_core::Limits;
use wserver_node::{Node, Wire};

use crate::api::{Api, Settings};
use crate::limits::HttpLimitSettings;
use crate::observe::metrics::page::{Carrier, Page};
use crate::reply::ReplyBody;
use crate::request::{Request, Side};

/// A wire that takes everything, after the first wait for it.
#[derive(Debug, Default)]
pub(crate) struct MemoryWire {
    written: Arc<Mutex<VecDeque<u8>>>,
    was_waited_for: AtomicBool,
}

impl MemoryWire {
    /// The bytes that were written to it.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.written.lock().unwrap().iter().copied().collect()
    }
}

impl Wire for MemoryWire {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
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
    Node::new(Limits::default(), |_, _| None, Handle::current())
}

struct NoCarrier;

impl Carrier for NoCarrier {
    fn write_metrics(&self, _page: &mut Page) {}
}

/// An API that accepts pushes from every client.
pub(crate) fn api() -> Arc<Api<MemoryWire>> {
    api_with(|_| {})
}

/// The same with other settings.
pub(crate) fn api_with(change: impl FnOnce(&mut Settings)) -> Arc<Api<MemoryWire>> {
    let limits = Limits::default();
    let mut settings = Settings {
        http_limits: HttpLimitSettings::default().build(&limits).unwrap(),
        limits,
        ws_path: "/ws".to_owned(),
        push_path: "/push".to_owned(),
        push_authorizer: Arc::new(OpenPush),
        open_push: None,
        pushes_elsewhere: None,
        demo_page: None,
    };
    change(&mut settings);
    let stop = CancellationToken::new();
    Arc::new(Api::new(settings, node(), None, stop, ends, Arc::new(NoCarrier)))
}

/// An answer with its whole body.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The name of the problem in the body.
    pub(crate) fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        problem["type"].as_str().unwrap().rsplit(['/', ':']).next().unwrap().to_owned()
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
    pub(crate) async fn ask(&self, method: Method, target: &str, body: &str) -> Answer {
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
        let answer = match self.api.find(self.side, request.uri.path()) {
            Some(found) => self.api.answer(found, request, body).await,
            None => Api::<MemoryWire>::not_found().map(ReplyBody::Whole),
        };
        let (head, body) = answer.into_parts();
        let ReplyBody::Whole(body) = body else { panic!("{target} is answered by a stream") };
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, body }
    }
}
