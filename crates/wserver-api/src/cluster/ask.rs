//! Questions of the HTTP API that concern a whole cluster: asked of the other nodes while this one
//! answers for itself, and answered to them.
//!
//! A node answers with what it would answer a client, about itself alone; how the answers of several
//! become one is for [`Merge`] to say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use wserver_cluster::{Gathered, NodeId, NodeName, Whom};
use wserver_core::{ConnectionId, UserId};
use wserver_protocol::v2::{
    self, Answer, Closed, Connection, Connections, Entry, Missed, Online, Question, Said,
};

use crate::api::Api;
use crate::operate::{admin, explain, show};
use crate::parameters;
use crate::reply::refused::Refused;
use crate::reply::told;
use crate::reply::{self, Reply};
use wserver_node::Wire;

/// For how long a node follows a user for another one that does not ask again.
const LENT_FOR: Duration = Duration::from_secs(15);

/// How the answers of several nodes become one.
pub(crate) trait Merge: Said {
    /// Adds what another node says.
    fn add(&mut self, node: &NodeName, other: Self);
    /// Says which nodes have not answered.
    fn miss(&mut self, nodes: Vec<String>);
}

impl Merge for Online {
    fn add(&mut self, _node: &NodeName, other: Self) {
        for (user, count) in other.online {
            // What another node says may be any number.
            let sum = self.online.entry(user).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    fn miss(&mut self, nodes: Vec<String>) {
        self.nodes_missing = nodes;
    }
}

impl Merge for Connections {
    fn add(&mut self, node: &NodeName, other: Self) {
        self.count = self.count.saturating_add(other.count);
        let left = admin::CONNECTIONS_MAX.saturating_sub(self.connections.len());
        self.connections.extend(other.connections.into_iter().take(left).map(|it| named(node, it)));
    }

    fn miss(&mut self, nodes: Vec<String>) {
        self.nodes_missing = nodes;
    }
}

impl Merge for Closed {
    fn add(&mut self, _node: &NodeName, other: Self) {
        self.closed = self.closed.saturating_add(other.closed);
    }

    fn miss(&mut self, nodes: Vec<String>) {
        self.nodes_missing = nodes;
    }
}

/// A connection of another node.
pub(crate) fn named(node: &NodeName, connection: Connection) -> Connection {
    Connection { node: Some(node.to_string()), ..connection }
}

/// An entry of another node.
pub(crate) fn told_by(node: &NodeName, entry: Entry) -> Entry {
    Entry { node: Some(node.to_string()), ..entry }
}

/// Asks those whom it concerns, and adds what they say to what this node does.
pub(crate) async fn gather<W: Wire, T: Merge>(
    api: &Api<W>,
    whom: Whom<'_>,
    question: &Question,
    here: T,
) -> T {
    let Some(cluster) = &api.cluster else { return here };
    let question = Bytes::from(v2::encode(question));
    let said = |answer: &[u8], _took| match Answer::parse(answer)? {
        Answer::Ok(answer) => Some(answer),
        Answer::Problem(_) => None,
    };
    let gathered = cluster.ask(whom, question, std::future::ready(here), said).await;
    let missing = missing(&gathered);
    let Gathered { here: mut merged, others, .. } = gathered;
    for (node, other) in others {
        merged.add(&node, other);
    }
    merged.miss(missing);
    merged
}

/// The names of those that did not answer; of a node that is cut off, of all that may be there.
pub(crate) fn missing<T>(gathered: &Gathered<T>) -> Vec<String> {
    let mut names: Vec<String> = gathered.missing.iter().map(ToString::to_string).collect();
    if gathered.is_cut_off && names.is_empty() {
        names.push("every other node".to_owned());
    }
    names.sort_unstable();
    names
}

/// Asks the node that a connection belongs to, which is another one; its answer is the reply.
pub(crate) async fn forward<W: Wire, T: Said>(
    api: &Api<W>,
    id: ConnectionId,
    question: &Question,
) -> Result<Reply, Refused> {
    let Some(cluster) = &api.cluster else { return Err(Refused::ConnectionUnknown) };
    let question = Bytes::from(v2::encode(question));
    // It has nothing to say itself.
    let here = std::future::ready(None);
    let said = |answer: &[u8], _took| Answer::<T>::parse(answer).map(Some);
    let gathered = cluster.ask(Whom::ConnectionsNode(id), question, here, said).await;
    if !gathered.missing.is_empty() || gathered.is_cut_off {
        return Err(Refused::NodeMissing { node: missing(&gathered).join(", ") });
    }
    match gathered.others.into_iter().find_map(|(_, answer)| answer) {
        None => Err(Refused::ConnectionUnknown),
        Some(Answer::Ok(answer)) => Ok(reply::json(v2::encode(&answer))),
        Some(Answer::Problem(problem)) => Ok(told::problem(&problem)),
    }
}

/// Answers another node.
pub(crate) fn answer<W: Wire>(
    api: &Arc<Api<W>>,
    from: NodeId,
    question: &Bytes,
) -> BoxFuture<'static, Option<Bytes>> {
    let Some(question) = Question::parse(question) else {
        return std::future::ready(None).boxed();
    };
    let api = Arc::clone(api);
    async move { Some(Bytes::from(answer_here(&api, from, question))) }.boxed()
}

fn answer_here<W: Wire>(api: &Arc<Api<W>>, from: NodeId, question: Question) -> String {
    match question {
        Question::Presence { users } => encode(admin::presence_here(api, &users)),
        Question::UserConnections { user } => {
            encode(parameters::user(api, "user", &user).map(|it| admin::connections_here(api, &it)))
        }
        Question::Connection { id } => {
            encode(parameters::connection_id(&id).and_then(|id| admin::connection_here(api, id)))
        }
        Question::Disconnect { body } => encode(admin::disconnect_here(api, body.as_bytes())),
        Question::Register { id, user, event } => encode(
            parameters::connection_id(&id)
                .and_then(|id| admin::register_here(api, id, &user, &event)),
        ),
        Question::Unregister { id, user, event } => encode(
            parameters::connection_id(&id)
                .and_then(|id| admin::unregister_here(api, id, &user, &event)),
        ),
        Question::Explain { user, event } => encode(explain::explain_here(api, &user, &event)),
        Question::Trace { user, stream } => encode(
            parameters::user(api, "user", &user)
                .and_then(|user| LentTraces::lend(api, from, stream, &user)),
        ),
        Question::Node => encode(Ok(admin::node_here(api))),
        _ => encode::<()>(Err(Refused::NotFound)),
    }
}

fn encode<T: Said>(answer: Result<T, Refused>) -> String {
    v2::encode(&match answer {
        Ok(answer) => Answer::Ok(answer),
        Err(refused) => Answer::Problem(refused.told().problem()),
    })
}

/// Users of this node that other nodes follow.
#[derive(Debug, Default)]
pub(crate) struct LentTraces {
    /// Until when, by node and stream. Written by those who ask and by the tasks that follow; bounded
    /// by `traces_max`.
    until: Mutex<HashMap<(NodeId, u64), Instant>>,
}

impl LentTraces {
    /// Follows a user for another node, from now on or for longer.
    fn lend<W: Wire>(
        api: &Arc<Api<W>>,
        from: NodeId,
        stream: u64,
        user: &UserId,
    ) -> Result<(), Refused> {
        let key = (from, stream);
        let until = Instant::now() + LENT_FOR;
        if let Some(known) = api.lent_traces.lock().get_mut(&key) {
            *known = until;
            return Ok(());
        }
        let mut trace = api.node.trace(user).map_err(crate::operate::trace::refused)?;
        api.lent_traces.lock().insert(key, until);
        let api_of_task = Arc::clone(api);
        api.node.tasks().spawn(async move {
            let api = api_of_task;
            let Some(cluster) = &api.cluster else { return };
            // Entries that came too fast here, or found no room on their way.
            let mut missed = 0;
            loop {
                let until = api.lent_traces.lock().get(&key).copied();
                let Some(until) = until else { break };
                let next = tokio::time::timeout_at(until.into(), trace.next());
                let traced = tokio::select! {
                    traced = next => traced,
                    () = api.stop.cancelled() => break,
                };
                match traced {
                    Ok(Some(traced)) => {
                        missed += traced.missed;
                        if missed > 0 {
                            let told = Bytes::from(v2::encode(&Missed { missed }));
                            if cluster.send(from, stream, told) {
                                missed = 0;
                            }
                        }
                        let entry = show::entry(&traced.entry);
                        let is_sent = cluster.send(from, stream, Bytes::from(v2::encode(&entry)));
                        missed += u64::from(!is_sent);
                    }
                    Ok(None) => break,
                    // It may have been asked for again meanwhile.
                    Err(_elapsed) => {
                        let mut lent = api.lent_traces.lock();
                        if lent.get(&key).is_some_and(|until| *until <= Instant::now()) {
                            lent.remove(&key);
                        }
                    }
                }
            }
            api.lent_traces.lock().remove(&key);
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(NodeId, u64), Instant>> {
        // Nothing under this lock panics half-way through a change.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
