//! What an operator sees and changes: presence, connections, registrations, nodes. Each of it is known
//! to one node; in a cluster the others are asked as well.

use std::time::Duration;

use hyper::Uri;
use wserver_cluster::Whom;
use wserver_core::{Bound, ConnectionId, UserId};
use wserver_node::{RegisterError, Selection};
use wserver_protocol::v2::{
    self, Answer, Closed, Connection, Connections, Disconnect, NodeInfo, Nodes, Online, Presence,
    Question, Registered, Registration,
};

use super::{ask, request, show};
use crate::body::Body;
use crate::edge::Edge;
use crate::reply::{self, Refused, Reply};

/// Connections of one user that are told at most.
pub(super) const CONNECTIONS_MAX: usize = 1000;

pub(super) async fn presence(edge: &Edge, body: &Body) -> Result<Reply, Refused> {
    let Presence { users } = Presence::parse(&body.bytes).map_err(Refused::Body)?;
    let here = presence_here(edge, &users)?;
    let question = Question::Presence { users };
    let online = ask::gather(edge, Whom::Everybody, &question, here).await;
    Ok(reply::json(v2::encode(&online)))
}

pub(super) fn presence_here(edge: &Edge, users: &[String]) -> Result<Online, Refused> {
    let max = edge.limits.batch_pushes_max;
    if users.len() > max {
        return Err(Refused::TooMany { field: "users", items: users.len(), max });
    }
    let named = users.iter().enumerate();
    let ids: Vec<UserId> = named
        .map(|(index, user)| request::user(edge, format!("users[{index}]"), user))
        .collect::<Result<_, _>>()?;
    let online = users.iter().cloned().zip(edge.node.presence(&ids)).collect();
    Ok(Online { online, nodes_missing: Vec::new() })
}

pub(super) async fn user_connections(edge: &Edge, user: &str) -> Result<Reply, Refused> {
    let user = request::user(edge, "user", user)?;
    let question = Question::UserConnections { user: user.as_str().to_owned() };
    let here = connections_here(edge, &user);
    let connections = ask::gather(edge, Whom::Everybody, &question, here).await;
    Ok(reply::json(v2::encode(&connections)))
}

pub(super) fn connections_here(edge: &Edge, user: &UserId) -> Connections {
    let count = edge.node.presence(std::slice::from_ref(user)).first().copied();
    let connections = edge.node.user_connections(user, CONNECTIONS_MAX);
    // Some may have gone or come between the two looks.
    let count = count.unwrap_or_default().max(connections.len());
    let connections = show::connections(&connections);
    Connections { count, connections, nodes_missing: Vec::new() }
}

/// Whether a connection with this id would be another node's.
fn is_elsewhere(edge: &Edge, id: ConnectionId) -> bool {
    edge.cluster.as_ref().is_some_and(|cluster| !cluster.is_own(id))
}

pub(super) async fn connection(edge: &Edge, id: ConnectionId) -> Result<Reply, Refused> {
    if is_elsewhere(edge, id) {
        return ask::forward::<Connection>(edge, id, &Question::Connection { id: id.to_string() })
            .await;
    }
    connection_here(edge, id).map(|connection| reply::json(v2::encode(&connection)))
}

pub(super) fn connection_here(edge: &Edge, id: ConnectionId) -> Result<Connection, Refused> {
    let info = edge.node.connection_info(id).ok_or(Refused::ConnectionUnknown)?;
    Ok(show::connection(&info))
}

pub(super) async fn close(edge: &Edge, id: ConnectionId) -> Result<Reply, Refused> {
    let body = Disconnect::Connection(id.to_string()).encode();
    let closed = if is_elsewhere(edge, id) {
        let here = Closed::default();
        ask::gather(edge, Whom::ConnectionsNode(id), &Question::Disconnect { body }, here).await
    } else {
        disconnect_here(edge, body.as_bytes())?
    };
    if let [node, ..] = closed.nodes_missing.as_slice() {
        return Err(Refused::NodeMissing { node: node.clone() });
    }
    match closed.closed {
        0 => Err(Refused::ConnectionUnknown),
        _ => Ok(reply::json(v2::encode(&closed))),
    }
}

/// A token that is named here is neither logged nor repeated.
pub(super) async fn disconnect(edge: &Edge, body: &Body) -> Result<Reply, Refused> {
    let here = disconnect_here(edge, &body.bytes)?;
    // What was read as JSON is text.
    let body = String::from_utf8_lossy(&body.bytes).into_owned();
    let question = Question::Disconnect { body };
    let closed = ask::gather(edge, Whom::Everybody, &question, here).await;
    Ok(reply::json(v2::encode(&closed)))
}

pub(super) fn disconnect_here(edge: &Edge, body: &[u8]) -> Result<Closed, Refused> {
    let node = &edge.node;
    let closed = match Disconnect::parse(body).map_err(Refused::Body)? {
        Disconnect::User(user) => {
            node.disconnect(Selection::User(&request::user(edge, "user", &user)?))
        }
        Disconnect::UserEvent { user, event } => {
            let user = request::user(edge, "user", &user)?;
            node.disconnect(Selection::UserEvent(&user, &request::event(edge, &event)?))
        }
        Disconnect::Connection(id) => {
            let id = request::connection_field("connection", &id)?;
            node.disconnect(Selection::Connection(id))
        }
        Disconnect::Token(token) => node.disconnect(Selection::Token(&token)),
        _ => return Err(Refused::NotFound),
    };
    Ok(Closed { closed, nodes_missing: Vec::new() })
}

pub(super) async fn register(edge: &Edge, id: ConnectionId, body: &Body) -> Result<Reply, Refused> {
    let Registration { user, event } = Registration::parse(&body.bytes).map_err(Refused::Body)?;
    if is_elsewhere(edge, id) {
        let question = Question::Register { id: id.to_string(), user, event };
        return ask::forward::<Registered>(edge, id, &question).await;
    }
    register_here(edge, id, &user, &event).map(|it| reply::json(v2::encode(&it)))
}

pub(super) fn register_here(
    edge: &Edge,
    id: ConnectionId,
    user: &str,
    event: &str,
) -> Result<Registered, Refused> {
    let (user, event) = (request::user(edge, "user", user)?, request::event(edge, event)?);
    let bound = edge.node.register(id, &user, &event).map_err(|error| match error {
        RegisterError::Ending => Refused::ConnectionUnknown,
        error => Refused::Registration(error),
    })?;
    Ok(Registered { changed: bound != Bound::Already })
}

pub(super) async fn unregister(edge: &Edge, id: ConnectionId, uri: &Uri) -> Result<Reply, Refused> {
    let [user, event] = request::query(uri, ["user", "event"])?;
    if is_elsewhere(edge, id) {
        let question = Question::Unregister { id: id.to_string(), user, event };
        return ask::forward::<Registered>(edge, id, &question).await;
    }
    unregister_here(edge, id, &user, &event).map(|it| reply::json(v2::encode(&it)))
}

pub(super) fn unregister_here(
    edge: &Edge,
    id: ConnectionId,
    user: &str,
    event: &str,
) -> Result<Registered, Refused> {
    let (user, event) = (request::user(edge, "user", user)?, request::event(edge, event)?);
    if edge.node.connection(id).is_none() {
        return Err(Refused::ConnectionUnknown);
    }
    Ok(Registered { changed: edge.node.unregister(id, &user, &event) })
}

pub(super) fn node(edge: &Edge) -> Reply {
    reply::json(v2::encode(&node_here(edge)))
}

pub(super) fn node_here(edge: &Edge) -> NodeInfo {
    let (node, counts) = (&edge.node, edge.node.counts());
    let cluster = edge.cluster.as_ref();
    NodeInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: edge.started_at.elapsed().as_secs(),
        is_draining: edge.stop.is_cancelled(),
        connections: node.connections_open(),
        connections_max: edge.limits.connections_max,
        users: counts.users,
        registrations: counts.bindings,
        queued_bytes: node.outboxes_bytes(),
        pushes_total: node.counters().pushes_total.value(),
        deliveries_total: node.counters().deliveries_total.value(),
        name: cluster.map(|cluster| cluster.node_name()),
        id: cluster.map(|cluster| cluster.id().to_string()),
        not_ready: cluster.and_then(|cluster| cluster.ready().err()),
        round_trip_ms: None,
    }
}

/// Every node of the cluster, or this one alone.
pub(super) async fn nodes(edge: &Edge) -> Reply {
    let mut nodes = vec![node_here(edge)];
    let Some(cluster) = &edge.cluster else {
        return reply::json(v2::encode(&Nodes { broker: None, nodes, nodes_missing: Vec::new() }));
    };
    let question = v2::encode(&Question::Node).into();
    let said = |answer: &[u8], took: Duration| match Answer::parse(answer)? {
        Answer::Ok(info) => {
            let round_trip_ms = Some((took.as_secs_f64() * 1e6).round() / 1e3);
            Some(NodeInfo { round_trip_ms, ..info })
        }
        Answer::Problem(_) => None,
    };
    let here = std::future::ready(node_here(edge));
    let gathered = cluster.ask(Whom::Everybody, question, here, said).await;
    let nodes_missing = ask::missing(&gathered);
    let mut others: Vec<NodeInfo> = gathered.others.into_iter().map(|(_, info)| info).collect();
    others.sort_by(|one, next| one.name.cmp(&next.name));
    nodes.extend(others);
    let broker = Some(cluster.broker_kind().to_owned());
    reply::json(v2::encode(&Nodes { broker, nodes, nodes_missing }))
}
