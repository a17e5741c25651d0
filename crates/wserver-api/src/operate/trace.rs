//! Follows one user live, by Server-Sent Events.
//!
//! A stream holds one of the listener's HTTP connections. The server never waits for a slow reader:
//! it drops entries, counts them, and reports the number. A shutdown ends the stream at once.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, Whom};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::Response;
use http::Uri;
use http::header::{HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio::time::Instant;
use wserver_core::UserId;
use wserver_node::{Trace, Traced, Wire};
use wserver_protocol::v2::{self, Entry, Missed, Question};

use super::sse::{self, Event};
use super::{show, words};
use crate::api::Api;
use crate::cluster::ask as ask_others;
use crate::parameters;
use crate::reply::ReplyBody;
use crate::reply::refused::Refused;

/// The time between comments on a quiet stream, so that proxies do not close it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Entries of other nodes that can wait for one reader.
const ENTRIES_MAX: usize = 256;
/// How often this node asks the others to continue.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How soon it asks when a node has joined or come back: several may do so at once.
const ASK_AGAIN_SOON: Duration = Duration::from_millis(200);
/// Tells nginx to pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(crate) async fn trace<W: Wire>(
    api: &Arc<Api<W>>,
    uri: &Uri,
) -> Result<Response<ReplyBody>, Refused> {
    let [user] = parameters::query(uri, ["user"])?;
    let user = parameters::user(&api.limits, "user", &user)?;
    let trace = api.node.trace(&user).map_err(Refused::of_trace)?;
    let elsewhere = elsewhere(api, &user).await;
    let both = stream::select(events(trace), elsewhere);
    let events = both.take_until(api.stop.clone().cancelled_owned());
    let mut reply = sse::reply(sse::kept_alive(events, KEEP_ALIVE));
    reply.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    Ok(reply)
}

/// What happens to the user on the other nodes of the cluster, including nodes that join later. The
/// others follow the user only for a while, so this node asks them again as long as the client
/// reads; and at once when a node joins, or when this one takes part again after being cut off.
async fn elsewhere<W: Wire>(
    api: &Arc<Api<W>>,
    user: &UserId,
) -> impl Stream<Item = Event> + Send + Sync + use<W> {
    let Some(cluster) = &api.cluster else { return stream::empty().left_stream() };
    let entries = cluster.stream(ENTRIES_MAX);
    let question = Question::Trace { user: user.as_str().to_owned(), stream: entries.id() };
    let question = Bytes::from(v2::encode(&question));
    // Subscribed before the first question, so that no node that joins meanwhile is missed.
    let mut joined = cluster.joined();
    joined.mark_unchanged();
    // The first question gets its answers before the stream begins, so that everything from then on
    // is seen on every node.
    ask(cluster, &question).await;
    let asked_at = Instant::now();
    let elsewhere = Elsewhere { entries, cluster: cluster.clone(), question, joined, asked_at };
    stream::unfold(elsewhere, async |mut elsewhere| {
        let events = elsewhere.next().await?;
        Some((stream::iter(events), elsewhere))
    })
    .flatten()
    .right_stream()
}

/// A user that this node follows on the others.
struct Elsewhere<W: Wire> {
    entries: crate::cluster::Stream,
    cluster: Cluster<W>,
    question: Bytes,
    joined: watch::Receiver<()>,
    asked_at: Instant,
}

impl<W: Wire> Elsewhere<W> {
    /// The next events: an entry, and before it the number of missing ones.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let mut again_at = self.asked_at + ASK_AGAIN_AFTER;
        loop {
            let (from, payload) = tokio::select! {
                entry = self.entries.next() => entry?,
                Ok(()) = self.joined.changed() => {
                    again_at = again_at.min(self.asked_at + ASK_AGAIN_SOON);
                    continue;
                }
                () = tokio::time::sleep_until(again_at) => {
                    ask(&self.cluster, &self.question).await;
                    self.asked_at = Instant::now();
                    again_at = self.asked_at + ASK_AGAIN_AFTER;
                    continue;
                }
            };
            let missed = self.entries.take_missed();
            let mut events: Vec<Event> =
                (missed > 0).then(|| missed_event(missed)).into_iter().collect();
            if let Ok(entry) = Entry::parse(&payload) {
                let node = self.cluster.members().into_iter().find(|it| it.node.id == from);
                let entry = match node {
                    Some(member) => ask_others::told_by(&member.node, entry),
                    None => entry,
                };
                events.push(event(entry));
            } else if let Ok(Missed { missed }) = Missed::parse(&payload) {
                events.push(missed_event(missed));
            }
            if !events.is_empty() {
                return Some(events);
            }
        }
    }
}

/// An entry of any node, with its sentence.
fn event(mut entry: Entry) -> Event {
    entry.sentence = words::of_entry(&entry);
    Event::new(&entry.what, &v2::encode(&entry))
}

fn missed_event(missed: u64) -> Event {
    Event::new("missed", &v2::encode(&Missed { missed }))
}

/// Asks every other node to follow the user.
async fn ask<W: Wire>(cluster: &Cluster<W>, question: &Bytes) {
    // A node that does not answer is asked again later.
    let here = std::future::ready(());
    cluster.ask(Whom::Everybody, question.clone(), here, |_, _| Some(())).await;
}

fn events(trace: Trace) -> impl Stream<Item = Event> + Send + Sync {
    stream::unfold(trace, |mut trace| async move {
        let Traced { missed, entry, .. } = trace.next().await?;
        let missed = (missed > 0).then(|| missed_event(missed));
        let told = event(show::entry(&entry));
        Some((stream::iter(missed.into_iter().chain([told])), trace))
    })
    .flatten()
}
