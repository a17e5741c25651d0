//! What happens to one user, as it happens: Server-Sent Events.
//!
//! A stream holds one of the listener's HTTP connections. Nobody waits for its reader: what that is
//! too slow for is counted and told. A shutdown ends it at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use tokio::time::Instant;
use warp::Reply as _;
use warp::reply::Response;
use warp::sse::{self, Event};
use wserver_cluster::{Cluster, Whom};
use wserver_core::UserId;
use wserver_node::{Trace, TraceError, Traced};
use wserver_protocol::v2::{self, Entry, Missed, Question};

use super::{request, show};
use crate::edge::Edge;
use crate::reply::Refused;
use crate::wire::Socket;

/// Between two comments on a quiet stream, so that no proxy takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Entries of other nodes that wait for one reader.
const ENTRIES_MAX: usize = 256;
/// How often other nodes are asked to go on.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Tells nginx to pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn trace(edge: &Arc<Edge>, uri: &Uri) -> Result<Response, Refused> {
    let [user] = request::query(uri, ["user"])?;
    let user = request::user(edge, "user", &user)?;
    let trace = edge.node.trace(&user).map_err(refused)?;
    let elsewhere = elsewhere(edge, &user).await;
    let both = stream::select(events(trace), elsewhere);
    let events = both.take_until(edge.stop.clone().cancelled_owned());
    let mut reply =
        sse::reply(sse::keep_alive().interval(KEEP_ALIVE).stream(events)).into_response();
    reply.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(reply)
}

pub(super) fn refused(error: TraceError) -> Refused {
    match error {
        TraceError::TooMany { max } => Refused::TracesFull { max },
        _ => Refused::Draining,
    }
}

/// What happens to the user on the other nodes of the cluster, of those too that join it meanwhile.
///
/// They follow the user for a while and are asked again for as long as somebody reads.
async fn elsewhere(
    edge: &Arc<Edge>,
    user: &UserId,
) -> impl Stream<Item = Result<Event, Infallible>> + Send + use<> {
    let Some(cluster) = &edge.cluster else { return stream::empty().left_stream() };
    let entries = cluster.stream(ENTRIES_MAX);
    let question = Question::Trace { user: user.as_str().to_owned(), stream: entries.id() };
    let question = Bytes::from(v2::encode(&question));
    // What happens once the trace has begun is to be seen, on whichever node.
    ask(cluster, &question).await;
    let state = (entries, cluster.clone(), question, Instant::now() + ASK_AGAIN_AFTER);
    stream::unfold(state, |(mut entries, cluster, question, mut again_at)| async move {
        loop {
            match tokio::time::timeout_at(again_at, entries.next()).await {
                Ok(None) => return None,
                Err(_elapsed) => {
                    ask(&cluster, &question).await;
                    again_at = Instant::now() + ASK_AGAIN_AFTER;
                }
                Ok(Some((from, payload))) => {
                    let Ok(entry) = Entry::parse(&payload) else { continue };
                    let node = cluster.members().into_iter().find(|it| it.node.id == from);
                    let entry = match node {
                        Some(member) => super::ask::told_by(&member.node, entry),
                        None => entry,
                    };
                    let event = Event::default().event(entry.what.clone()).data(v2::encode(&entry));
                    return Some((Ok(event), (entries, cluster, question, again_at)));
                }
            }
        }
    })
    .right_stream()
}

/// Asks every other node to follow the user.
async fn ask(cluster: &Cluster<Socket>, question: &Bytes) {
    // Who does not answer is asked again.
    let here = std::future::ready(());
    cluster.ask(Whom::Everybody, question.clone(), here, |_, _| Some(())).await;
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
