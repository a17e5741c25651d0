//! `GET /livez` and `GET /readyz`: whether the process works, and whether it should get traffic.
//!
//! Ready means that a message has just got through: the server keeps a connection to itself, pushes
//! to it, and reads at its far end. This tests the binder, the fan-out, an outbox and a socket,
//! which is everything between an accepted push and a client's network. A WebSocket to the server's
//! own port would also test the way in, but could not register without a token. Every answer to a
//! health check proves that the way in works. A node of a cluster is ready only while it takes part
//! in the cluster, which messages to itself prove as well.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use wserver_node::{Node, Probe, Wire};
use wserver_protocol::frame;

use crate::reply::{self, Reply};

/// How long to repeat a verdict.
const CACHED_FOR: Duration = Duration::from_secs(1);
/// How long a message to itself may take.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the server should get traffic now, or why not.
pub type Verdict = Result<(), &'static str>;

/// Makes the two ends of a connection from the server to itself: what is written to the wire can be
/// read, without waiting, at the other end.
pub type ProbeEnds<W> = fn() -> io::Result<(W, Box<dyn Read + Send>)>;

/// The known health of a server.
pub(crate) struct Health<W: Wire> {
    node: Node<W>,
    cluster: Option<Cluster<W>>,
    /// Cancelled when a shutdown begins.
    stop: CancellationToken,
    probe_ends: ProbeEnds<W>,
    last: Mutex<LastCheck<W>>,
}

struct LastCheck<W: Wire> {
    at: Option<Instant>,
    verdict: Verdict,
    /// Taken out while a message is on its way.
    connection: Option<SelfConnection<W>>,
}

/// The server's connection to itself.
struct SelfConnection<W: Wire> {
    probe: Probe<W>,
    far_end: Box<dyn Read + Send>,
    messages: u64,
}

impl<W: Wire> Health<W> {
    pub(crate) fn new(
        node: Node<W>,
        cluster: Option<Cluster<W>>,
        stop: CancellationToken,
        probe_ends: ProbeEnds<W>,
    ) -> Self {
        let last = LastCheck {
            at: None,
            verdict: Err("no message has gone through yet"),
            connection: None,
        };
        Self { node, cluster, stop, probe_ends, last: Mutex::new(last) }
    }

    /// Tests the server, at most once in [`CACHED_FOR`]. Callers that arrive during a test get the
    /// previous verdict.
    async fn check(&self) -> Verdict {
        let connection = {
            let mut last = self.last();
            let now = Instant::now();
            if last.at.is_some_and(|at| now < at + CACHED_FOR) {
                return last.verdict;
            }
            last.at = Some(now);
            last.connection.take()
        };
        let sent = tokio::time::timeout(
            DELIVERY_TIMEOUT,
            SelfConnection::deliver(connection, &self.node, self.probe_ends),
        )
        .await;
        let mut last = self.last();
        last.verdict = match sent {
            Ok(Ok(connection)) => {
                last.connection = Some(connection);
                Ok(())
            }
            Ok(Err(error)) => {
                warn!(%error, "not ready: the server cannot deliver to itself");
                Err("the server cannot deliver to itself")
            }
            Err(_elapsed) => {
                warn!("not ready: a message from the server to itself takes too long");
                Err("a message from the server to itself takes too long")
            }
        };
        last.verdict
    }

    /// Answers whether the server should get traffic now.
    pub(crate) async fn ready(self: &Arc<Self>) -> Reply {
        // In a task of its own: a dropped client drops its answer, but a test that has begun must
        // end.
        let verdict = self.verdict_of_a_worker().await.map_err(Cow::Borrowed);
        answer(verdict.and_then(|()| match &self.cluster {
            Some(cluster) => cluster.ready().map_err(Cow::Owned),
            None => Ok(()),
        }))
    }

    /// Whether the server should get traffic now. A worker of the runtime finds out, so there is no
    /// answer while all workers are blocked.
    pub(crate) async fn verdict_of_a_worker(self: &Arc<Self>) -> Verdict {
        let (told, verdict_of) = oneshot::channel();
        let health = Arc::clone(self);
        self.node.tasks().spawn(async move {
            // The caller may have given up.
            let _ = told.send(health.verdict().await);
        });
        verdict_of.await.unwrap_or(Err("the server has ended"))
    }

    async fn verdict(&self) -> Verdict {
        if self.stop.is_cancelled() {
            Err("the server is shutting down")
        } else {
            self.check().await
        }
    }

    fn last(&self) -> MutexGuard<'_, LastCheck<W>> {
        // A thread that panicked has left a complete verdict, at worst an old one.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Wire> SelfConnection<W> {
    fn connect(node: &Node<W>, probe_ends: ProbeEnds<W>) -> io::Result<Self> {
        let (near_end, far_end) = probe_ends()?;
        let probe = node.probe(near_end);
        let probe =
            probe.ok_or_else(|| io::Error::other("the last message is still on its way"))?;
        Ok(Self { probe, far_end, messages: 0 })
    }

    /// Sends a message and reads it. If that fails, the connection is not used again.
    async fn deliver(
        connection: Option<Self>,
        node: &Node<W>,
        probe_ends: ProbeEnds<W>,
    ) -> io::Result<Self> {
        let mut connection = connection.map_or_else(|| Self::connect(node, probe_ends), Ok)?;
        // A new socket is not known to be writable.
        poll_fn(|cx| connection.probe.wire().poll_write_ready(cx)).await?;
        connection.messages += 1;
        let text = connection.messages.to_string();
        if !connection.probe.deliver(&text).await {
            return Err(io::Error::other("the push reached nobody"));
        }
        let expected = frame::text(&text);
        let mut received = vec![0; expected.len()];
        // What one end has written can be read at the other.
        connection.far_end.read_exact(&mut received)?;
        if received != expected {
            return Err(io::Error::other("something else arrived"));
        }
        Ok(connection)
    }
}

/// Always succeeds, because an answer is all that a client wants to know.
pub(crate) fn live() -> Reply {
    answer(Ok(()))
}

fn answer(verdict: Result<(), Cow<'static, str>>) -> Reply {
    let mut reply = match verdict {
        Ok(()) => reply::text(StatusCode::OK, "ok"),
        Err(why) => reply::text(StatusCode::SERVICE_UNAVAILABLE, why.into_owned()),
    };
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::Poll;

    use wserver_core::Counts;

    use super::*;
    use crate::fixture::{self, MemoryWire};

    fn health(node: &Node<MemoryWire>) -> Health<MemoryWire> {
        Health::new(node.clone(), None, CancellationToken::new(), fixture::ends)
    }

    #[tokio::test]
    async fn it_is_tried_once_in_a_while_and_shows_in_no_count() {
        let node = fixture::node();
        let health = health(&node);
        let messages = || health.last().connection.as_ref().map(|it| it.messages);
        for _ in 0..3 {
            assert_eq!(health.check().await, Ok(()));
            assert_eq!(messages(), Some(1));
        }
        health.last().at = None;
        assert_eq!(health.check().await, Ok(()));
        assert_eq!(messages(), Some(2), "over the same connection");
        assert_eq!(node.counts(), Counts::default());
        assert_eq!(node.connections_open(), 0);
        let counters = node.counters();
        assert_eq!((counters.pushes_total.value(), counters.deliveries_total.value()), (0, 0));
        assert_eq!(counters.push_delivery.counts().iter().sum::<u64>(), 0);
    }

    /// A first caller that leaves at once must not keep a new server from becoming ready.
    #[tokio::test]
    async fn what_is_tried_comes_to_an_end_when_its_asker_has_gone() {
        let health = Arc::new(health(&fixture::node()));
        {
            let mut asking = std::pin::pin!(health.ready());
            let first = poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx).is_pending()));
            assert!(first.await, "a new socket has to be waited for");
        }
        let ends = async {
            while health.last().verdict.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ends).await.expect("it is ready");
    }

    #[tokio::test]
    async fn what_does_not_arrive_is_told_and_the_next_try_is_a_new_one() {
        let node = fixture::node();
        let health = health(&node);
        assert_eq!(health.check().await, Ok(()));
        // Nothing arrives, or something else.
        for far_end in [Box::new(io::empty()) as Box<dyn Read + Send>, Box::new(io::repeat(0))] {
            {
                let mut last = health.last();
                last.connection.as_mut().unwrap().far_end = far_end;
                last.at = None;
            }
            assert_eq!(health.check().await, Err("the server cannot deliver to itself"));
            health.last().at = None;
            assert_eq!(health.check().await, Ok(()));
        }
    }
}
