//! From the listener to a served HTTP connection: caps, back-off, timeouts, shutdown.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt;
use futures::future::Either;
use hyper::Version;
use hyper::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::addresses::Addresses;
use crate::edge::Edge;
use crate::express::{self, Next};
use crate::http_io::HttpIo;
use crate::listen::{Door, Side};
use crate::reply::{self, Refused};
use crate::routes;
use crate::tls::Tls;
use crate::transport::Transport;

/// Pauses after a failed accept, doubling from the first to the last.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Accepts until the node's tasks are told to stop accepting; then drops the listener.
///
/// Each listener has `http_connections_max` of its own, so that strangers at the public one keep no
/// backend out. What one address may have of them holds where strangers come, and not for backends
/// with a listener of their own, nor for proxies, behind which are many.
pub(crate) async fn run(edge: Arc<Edge>, door: Door, stop: tokio_util::sync::CancellationToken) {
    let permits = Arc::new(Semaphore::new(edge.limits.http_connections_max));
    let Door { listener, side, tls } = door;
    let per_address =
        if side.has_listeners() { edge.limits.http_connections_per_address_max } else { 0 };
    let addresses = Arc::new(Addresses::new(per_address));
    let mut back_off = BACK_OFF;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                // Most often descriptors have run out: those who are served go on, and some will leave.
                warn!(%error, pause = ?back_off, "accept failed");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(BACK_OFF_MAX);
                continue;
            }
        };
        back_off = BACK_OFF;
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            edge.node.counters().connections_refused_total.increment();
            edge.counters.http_connections_refused_total.increment("http_connections_max");
            refuse(&stream, tls.is_some(), reply::OVERLOADED);
            continue;
        };
        let place = if edge.proxies.trusts(peer.ip()) { Ok(None) } else { addresses.acquire(peer) };
        let Ok(place) = place else {
            edge.node.counters().connections_refused_total.increment();
            edge.counters
                .http_connections_refused_total
                .increment("http_connections_per_address_max");
            refuse(&stream, tls.is_some(), reply::ADDRESS_FULL);
            continue;
        };
        if let Transport::Tcp(stream) = &stream {
            // Without it a small frame may wait for the acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
        }
        let (edge_of_task, tls) = (Arc::clone(&edge), tls.clone());
        let stop = stop.clone();
        edge.node.tasks().spawn(async move {
            let secured = tokio::select! {
                secured = secure(&edge_of_task, tls.as_deref(), stream, peer) => secured,
                () = stop.cancelled() => None,
            };
            if let Some(stream) = secured {
                serve(edge_of_task, side, stream, peer, stop).await;
            }
            drop((permit, place));
        });
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Says why without waiting; whoever cannot take it at once sees the connection end. Who means TLS could not read it.
fn refuse(stream: &Transport, is_tls: bool, reply: &[u8]) {
    // Past tokio, which does not know yet whether a socket this young is ready.
    let socket = match stream {
        Transport::Tcp(stream) if !is_tls => SockRef::from(stream),
        Transport::Unix(stream) => SockRef::from(stream),
        Transport::Tcp(_) | Transport::Tls(_) => return,
    };
    // What was sent and not read would turn the reply into a reset.
    let _ = (&*socket).read(&mut [0; 1024]);
    let _ = socket.send(reply);
}

/// Makes a TLS connection where TLS is spoken, within `header_timeout`.
async fn secure(
    edge: &Edge,
    tls: Option<&Tls>,
    stream: Transport,
    peer: SocketAddr,
) -> Option<Transport> {
    let (stream, tls) = match (stream, tls) {
        (Transport::Tcp(stream), Some(tls)) => (stream, tls),
        (stream, _) => return Some(stream),
    };
    // Boxed: it is gone when HTTP begins, and is much larger than what serves that.
    let accepting = Box::pin(tls.accept(stream));
    let error = match tokio::time::timeout(edge.limits.header_timeout, accepting).await {
        Ok(Ok(stream)) => return Some(Transport::Tls(Box::new(stream))),
        Ok(Err(error)) => error,
        Err(_elapsed) => io::ErrorKind::TimedOut.into(),
    };
    edge.counters.tls_handshakes_failed_total.increment();
    debug!(%peer, %error, "TLS handshake failed");
    None
}

async fn serve(
    edge: Arc<Edge>,
    side: Side,
    stream: Transport,
    peer: SocketAddr,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut io = HttpIo::new(stream, edge.limits.header_timeout);
    if side.has_push() {
        match express::serve(&edge, &mut io, peer, &stop).await {
            Ok(Next::Hyper) => {}
            Ok(Next::End) => return,
            Err(error) => {
                debug!(%peer, %error, "HTTP connection ended");
                return;
            }
        }
    }
    let notes = io.notes();
    let filters = routes::filters(&edge, side);
    let edge_of_service = Arc::clone(&edge);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let version = request.version();
        let refuse = |refused: &Refused| {
            let mut reply = routes::whole(reply::reply(refused));
            say_once(version, &mut reply);
            Either::Left(std::future::ready(Ok(reply)))
        };
        if notes.is_ambiguous(request.headers()) {
            return refuse(&Refused::AmbiguousLength);
        }
        // As of CONNECT; warp panics over a target without a path.
        if request.uri().path_and_query().is_none() {
            return refuse(&Refused::NotFound);
        }
        let notes = notes.clone();
        let serving = routes::serve(&edge_of_service, side, &filters, peer, request);
        Either::Right(serving.map_ok(move |mut reply| {
            if reply.status().is_success() {
                notes.served();
            }
            say_once(version, &mut reply);
            reply
        }))
    });
    // The number of headers is bounded by hyper's own default, 100: with a number of ours it would
    // fill its arrays for each request.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(edge.limits.header_timeout)
        .max_buf_size(edge.limits.head_bytes_max)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection => result,
                () = edge.node.tasks().stopped() => return,
            }
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "HTTP connection ended");
    }
}

/// Keeps hyper from adding its `keep-alive` to our `close` where the client speaks HTTP/1.0 and
/// asked for it: of an answer of that version it takes our word.
fn say_once(version: Version, reply: &mut hyper::Response<routes::AnswerBody>) {
    if version == Version::HTTP_10 && reply.headers().contains_key(CONNECTION) {
        *reply.version_mut() = Version::HTTP_10;
    }
}
