//! One HTTP connection, from its first byte to its end or its upgrade: first on the short way, then
//! with hyper.
//!
//! The server does not speak HTTP/2: its floods cost more than it would gain for pushes.

use std::error::Error;
use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::TryFutureExt as _;
use futures::future::Either;
use hyper::body::{Body as _, Incoming};
use hyper::header::DATE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use tracing::debug;
use wserver_api::{Api, Found, Reply, Side};

use crate::connection::wire::Socket;
use crate::counters::HttpBound;
use crate::http::date;
use crate::http::express::{self, Next};
use crate::http::host;
use crate::http::io::HttpIo;
use crate::http::keep_alive;
use crate::http::notes::Notes;
use crate::http::refused::Refused;
use crate::http::routes::{self, AnswerBody};
use crate::http::site::Site;
use crate::listen::places::Seat;
use crate::listen::transport::Transport;

/// How a client begins HTTP/2 without prior agreement (RFC 9113, section 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n";
/// An answer in HTTP/2: empty SETTINGS, and GOAWAY with the error HTTP_1_1_REQUIRED and a text for
/// people (sections 6.5, 6.8 and 7).
const HTTP_1_REQUIRED: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x27\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0dthis port speaks HTTP/1.1 alone";

/// Serves one connection until it ends or becomes a WebSocket.
pub(crate) async fn serve(
    site: &Arc<Site>,
    side: Side,
    stream: Transport,
    peer: SocketAddr,
    seat: &Arc<Seat>,
) {
    let io = HttpIo::new(stream, site.api.http_limits(), Arc::clone(seat));
    if let Err(error) = serve_io(site, side, io, peer, seat.is_reserved).await {
        debug!(%peer, %error, "HTTP connection ended");
    }
}

async fn serve_io(
    site: &Arc<Site>,
    side: Side,
    mut io: HttpIo,
    peer: SocketAddr,
    is_reserved: bool,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if side.has_push()
        && !is_reserved
        && express::serve(site, side, &mut io, peer).await? == Next::End
    {
        return Ok(());
    }
    let is_http_2 = tokio::select! {
        biased;
        is_it = poll_fn(|cx| io.poll_ahead(cx).map_ok(|ahead| ahead.starts_with(HTTP_2))) => is_it?,
        () = site.tasks().stopped() => return Ok(()),
    };
    if is_http_2 {
        return Ok(refuse_http_2(site, io).await?);
    }
    let notes = io.notes();
    let filters = routes::filters(site, side);
    let site_of_service = Arc::clone(site);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let site = Arc::clone(&site_of_service);
        let notes = notes.clone();
        let found = site.api.find(side, request.uri().path());
        let asked = Asked::new(&notes, found.as_ref(), &request);
        let answering = match refusal(&site, &notes, &asked, &mut request) {
            None => Either::Left(routes::serve(&site, side, &filters, peer, found, request)),
            Some(refusal) => Either::Right(ready(Ok(routes::whole(refusal)))),
        };
        answering.map_ok(move |mut answer| {
            asked.finish(&site, &notes, &mut answer);
            answer
        })
    });
    // hyper's own default limits the number of headers to 100: with an explicit number it would
    // fill its arrays for each request. `HttpIo` has the timers.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(site.api.http_limits().head_bytes_max)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::select! {
        served = connection => Ok(served?),
        () = site.tasks().stopped() => Ok(()),
    }
}

/// The parts of a request that decide how its answer is sent.
struct Asked {
    version: Version,
    is_persistent: bool,
    /// Whether the end of the request is unambiguous.
    is_clear: bool,
    /// Whether only publishers make such requests.
    is_publishers: bool,
    is_health: bool,
}

impl Asked {
    fn new(notes: &Notes, found: Option<&Found>, request: &Request<Incoming>) -> Self {
        Self {
            version: request.version(),
            is_persistent: keep_alive::is_persistent(request.version(), request.headers()),
            is_clear: notes.begin(request.headers(), &request.body().size_hint()),
            is_publishers: found.is_some_and(Found::is_for_publishers),
            is_health: found.is_some_and(Found::is_health),
        }
    }

    /// Adds the headers that every answer has, and notes that the answer is there.
    fn finish(&self, site: &Site, notes: &Notes, answer: &mut Response<AnswerBody>) {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(DATE, date::now());
            return;
        }
        let has_unread = notes.has_unread_body();
        if answer.status().is_success() && !has_unread {
            notes.served();
            if self.is_publishers {
                notes.seat().pushed();
            }
        }
        let is_stream = answer.body().size_hint().exact().is_none();
        let is_persistent = self.is_persistent && !has_unread && !is_stream;
        let is_kept = site.keep_alive.is_kept(answer.headers(), notes, is_persistent);
        site.keep_alive.finish(answer.headers_mut(), is_kept);
        if !is_kept {
            // Otherwise hyper would add `keep-alive` for a client of HTTP/1.0 that asked for it.
            *answer.version_mut() = self.version;
        }
        notes.answered(is_stream);
    }
}

/// The refusal of a request that is wrong before it is routed.
fn refusal(
    site: &Site,
    notes: &Notes,
    asked: &Asked,
    request: &mut Request<Incoming>,
) -> Option<Reply> {
    if !asked.is_clear {
        return Some(Refused::AmbiguousLength.reply());
    }
    // A target such as CONNECT has; warp panics at one without a path.
    if request.uri().path_and_query().is_none() {
        return Some(Api::<Socket>::not_found());
    }
    let uri = request.uri().clone();
    if let Err(why) = host::settle(asked.version, &uri, request.headers_mut()) {
        return Some(Refused::Host { why }.reply());
    }
    if notes.seat().is_reserved && !asked.is_health {
        site.count_refused(HttpBound::Listener);
        let setting = Some(HttpBound::Listener.as_str());
        let busy = Refused::Busy { why: "http_connections_max is reached", setting };
        return Some(busy.reply());
    }
    None
}

/// Tells a client of HTTP/2, in HTTP/2, which version the server speaks.
async fn refuse_http_2(site: &Site, mut io: HttpIo) -> io::Result<()> {
    io.notes().leave_unserved();
    tokio::select! {
        biased;
        written = express::write(&mut io, HTTP_1_REQUIRED) => written?,
        () = site.tasks().stopped() => return Ok(()),
    }
    tokio::select! {
        biased;
        shut = io.shut_down() => shut,
        () = site.tasks().stopped() => Ok(()),
    }
}
