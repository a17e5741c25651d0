//! What happens to one user, as it happens: Server-Sent Events.
//!
//! A stream holds one of the listener's HTTP connections. Nobody waits for its reader: what that is
//! too slow for is counted and told. A shutdown ends it at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use warp::Reply as _;
use warp::reply::Response;
use warp::sse::{self, Event};
use wserver_node::{Trace, TraceError, Traced};
use wserver_protocol::v2::{self, Missed};

use super::{request, show};
use crate::edge::Edge;
use crate::reply::Refused;

/// Between two comments on a quiet stream, so that no proxy takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Tells nginx to pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn trace(edge: &Arc<Edge>, uri: &Uri) -> Result<Response, Refused> {
    let [user] = request::query(uri, ["user"])?;
    let user = request::user(edge, "user", &user)?;
    let trace = edge.node.trace(&user).map_err(|error| match error {
        TraceError::TooMany { max } => Refused::TracesFull { max },
        _ => Refused::Draining,
    })?;
    let events = events(trace).take_until(edge.stop.clone().cancelled_owned());
    let mut reply =
        sse::reply(sse::keep_alive().interval(KEEP_ALIVE).stream(events)).into_response();
    reply.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(reply)
}

fn events(trace: Trace) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(trace, |mut trace| async move {
        let Traced { missed, entry, .. } = trace.next().await?;
        let missed = (missed > 0)
            .then(|| Event::default().event("missed").data(v2::encode(&Missed { missed })));
        let shown = show::entry(&entry);
        let event = Event::default().event(shown.what.clone()).data(v2::encode(&shown));
        Some((stream::iter(missed.into_iter().chain([event]).map(Ok)), trace))
    })
    .flatten()
}
