//! From the listener to a served HTTP connection: limits, back-off, timeouts, shutdown.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use wserver_api::Side;

use crate::counters::HttpBound;
use crate::http::exchange;
use crate::http::site::Site;
use crate::listen::canned;
use crate::listen::listener::Door;
use crate::listen::places::{Found, Place, Places, Seat};
use crate::listen::transport::Transport;
use crate::tls::Tls;
use crate::upgrade::addresses;

use socket2::SockRef;

/// Pauses after a failed accept, doubling from the first to the last.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// The maximum number of connections to accept after the end: those that the kernel already has.
const LAST_MAX: usize = 4096;

/// Accepts until `close` is cancelled; then drops the listener, and returns when its connections
/// have ended. When `last_call` is cancelled, it stops waiting for them and ends them.
///
/// Each listener has its own `http_connections_max`, so that strangers at the public one cannot
/// keep a backend out. The limit per address applies to the listener for browsers, but not to
/// backends with their own listener, nor to trusted proxies, which stand for many clients.
pub(crate) async fn run(
    site: Arc<Site>,
    door: Door,
    close: CancellationToken,
    last_call: CancellationToken,
) {
    let limits = site.api.http_limits();
    let Door { listener, side, tls } = door;
    let per_address =
        if side.has_websockets() { limits.http_connections_per_address_max } else { 0 };
    let places = Places::new(limits.http_connections_max, per_address);
    let mut back_off = BACK_OFF;
    let mut last = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = close.cancelled() => match listener.accept_waiting() {
                Ok(Some(accepted)) if last < LAST_MAX => {
                    last += 1;
                    Ok(accepted)
                }
                Ok(_) | Err(_) => break,
            },
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_about_one_connection(&error) => continue,
            Err(error) => {
                // Usually there are no descriptors left: existing connections continue, and some
                // will end.
                warn!(%error, pause = ?back_off, "accept failed");
                tokio::select! {
                    () = close.cancelled() => break,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(BACK_OFF_MAX);
                continue;
            }
        };
        back_off = BACK_OFF;
        let is_anybodys = side.has_websockets() && !site.proxies.trusts(peer.ip());
        let found = places.find(is_anybodys.then(|| addresses::subscriber(peer.ip()))).await;
        let (bound, answer) = match found {
            Found::Place { place, is_evicting } => {
                if is_evicting {
                    site.counters.http_connections_evicted_total.increment();
                }
                let serving = serve(Arc::clone(&site), side, tls.clone(), stream, peer, place);
                site.tasks().spawn(serving);
                continue;
            }
            Found::AllBusy | Found::Leaving => (HttpBound::Listener, canned::OVERLOADED),
            Found::AddressFull => (HttpBound::Address, canned::ADDRESS_FULL),
        };
        site.count_refused(bound);
        refuse(&stream, tls.is_some(), answer);
    }
    drop(listener);
    tokio::select! {
        () = places.emptied() => {}
        () = last_call.cancelled() => places.end(),
    }
}

/// Serves one connection to its end.
async fn serve(
    site: Arc<Site>,
    side: Side,
    tls: Option<Arc<Tls>>,
    stream: Transport,
    peer: SocketAddr,
    place: Place,
) {
    if let Transport::Tcp(stream) = &stream {
        // Without it, a small frame may wait for the acknowledgement of the previous one.
        let _ = stream.set_nodelay(true);
    }
    if let Some(stream) = secure(&site, tls.as_deref(), stream, peer, &place.seat).await {
        exchange::serve(&site, side, stream, peer, &place.seat).await;
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

/// Sends the reason without waiting; a client that cannot take it at once only sees the connection
/// end. A client of TLS could not read it.
fn refuse(stream: &Transport, is_tls: bool, reply: &[u8]) {
    // It bypasses tokio, which does not know yet whether such a new socket is writable.
    let socket = match stream {
        Transport::Tcp(stream) if !is_tls => SockRef::from(stream),
        Transport::Unix(stream) => SockRef::from(stream),
        Transport::Tcp(_) | Transport::Tls(_) => return,
    };
    // Unread input would turn the reply into a reset.
    let _ = (&*socket).read(&mut [0; 1024]);
    let _ = socket.send(reply);
}

/// Makes a TLS connection if the listener uses TLS, within `header_timeout` and as long as its
/// place is kept.
async fn secure(
    site: &Site,
    tls: Option<&Tls>,
    stream: Transport,
    peer: SocketAddr,
    seat: &Seat,
) -> Option<Transport> {
    let (stream, tls) = match (stream, tls) {
        (Transport::Tcp(stream), Some(tls)) => (stream, tls),
        (stream, _) => return Some(stream),
    };
    // Boxed: it is dropped before HTTP begins, and is much larger than the code that serves HTTP.
    let accepting = Box::pin(tls.accept(stream));
    let secured = tokio::select! {
        secured = tokio::time::timeout(site.api.http_limits().header_timeout, accepting) => secured,
        () = std::future::poll_fn(|cx| seat.poll_over(cx)) => return None,
    };
    let error = match secured {
        Ok(Ok(stream)) => return Some(Transport::Tls(Box::new(stream))),
        Ok(Err(error)) => error,
        Err(_elapsed) => io::ErrorKind::TimedOut.into(),
    };
    site.counters.tls_handshakes_failed_total.increment();
    debug!(%peer, %error, "TLS handshake failed");
    None
}
