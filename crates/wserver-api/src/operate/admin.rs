//! What an operator can see and change: presence, connections, registrations, nodes. One node knows
//! each of these; in a cluster this node also asks the others.

use std::time::Duration;

use crate::cluster::Whom;
use http::Uri;
use wserver_core::{Bound, ConnectionId, UserId};
use wserver_node::{RegisterError, Selection, Wire};
use wserver_protocol::v2::{
    self, Answer, Closed, Connection, Connections, Disconnect, NodeInfo, Nodes, Online, Presence,
    Question, Registered, Registration,
};

use super::show;
use crate::api::Api;
use crate::body::Body;
use crate::cluster::ask;
use crate::parameters;
use crate::reply::refused::Refused;
use crate::reply::{self, Reply};

pub(crate) async fn presence<W: Wire>(api: &Api<W>, body: &Body) -> Result<Reply, Refused> {
    let Presence { users } = Presence::parse(&body.bytes).map_err(Refused::Body)?;
    let here = presence_here(api, &users)?;
    let question = Question::Presence { users };
    let online = ask::gather(api.cluster.as_ref(), Whom::Everybody, &question, here).await;
    Ok(reply::json(v2::encode(&online)))
}

pub(crate) fn presence_here<W: Wire>(api: &Api<W>, users: &[String]) -> Result<Online, Refused> {
    let max = api.http_limits.batch_pushes_max;
    if users.len() > max {
        return Err(Refused::TooMany { field: "users", items: users.len(), max });
    }
    let named = users.iter().enumerate();
    let ids: Vec<UserId> = named
        .map(|(index, user)| parameters::user(&api.limits, format!("users[{index}]"), user))
        .collect::<Result<_, _>>()?;
    let online = users.iter().cloned().zip(api.node.presence(&ids)).collect();
    Ok(Online { online, nodes_missing: Vec::new() })
}

pub(crate) async fn user_connections<W: Wire>(api: &Api<W>, user: &str) -> Result<Reply, Refused> {
    let user = parameters::user(&api.limits, "user", user)?;
    let question = Question::UserConnections { user: user.as_str().to_owned() };
    let here = connections_here(api, &user);
    let connections = ask::gather(api.cluster.as_ref(), Whom::Everybody, &question, here).await;
    Ok(reply::json(v2::encode(&connections)))
}

pub(crate) fn connections_here<W: Wire>(api: &Api<W>, user: &UserId) -> Connections {
    let count = api.node.presence(std::slice::from_ref(user)).first().copied();
    let connections = api.node.user_connections(user, ask::CONNECTIONS_MAX);
    // Connections may have come or gone between the two looks.
    let count = count.unwrap_or_default().max(connections.len());
    let connections = show::connections(&connections);
    Connections { count, connections, nodes_missing: Vec::new() }
}

/// Whether a connection with this id would belong to another node.
fn is_elsewhere<W: Wire>(api: &Api<W>, id: ConnectionId) -> bool {
    api.cluster.as_ref().is_some_and(|cluster| !cluster.is_own(id))
}

pub(crate) async fn connection<W: Wire>(api: &Api<W>, id: ConnectionId) -> Result<Reply, Refused> {
    if is_elsewhere(api, id) {
        return ask::forward::<W, Connection>(
            api.cluster.as_ref(),
            id,
            &Question::Connection { id: id.to_string() },
            ask::named,
        )
        .await;
    }
    connection_here(api, id).map(|connection| reply::json(v2::encode(&connection)))
}

pub(crate) fn connection_here<W: Wire>(
    api: &Api<W>,
    id: ConnectionId,
) -> Result<Connection, Refused> {
    let info = api.node.connection_info(id).ok_or(Refused::ConnectionUnknown)?;
    Ok(show::connection(&info))
}

pub(crate) async fn close<W: Wire>(api: &Api<W>, id: ConnectionId) -> Result<Reply, Refused> {
    let body = Disconnect::Connection(id.to_string()).encode();
    let closed = if is_elsewhere(api, id) {
        let here = Closed::default();
        ask::gather(
            api.cluster.as_ref(),
            Whom::ConnectionsNode(id),
            &Question::Disconnect { body },
            here,
        )
        .await
    } else {
        disconnect_here(api, body.as_bytes())?
    };
    if let [node, ..] = closed.nodes_missing.as_slice() {
        return Err(Refused::NodeMissing { node: node.clone() });
    }
    match closed.closed {
        0 => Err(Refused::ConnectionUnknown),
        _ => Ok(reply::json(v2::encode(&closed))),
    }
}

/// The token in the body is neither logged nor repeated.
pub(crate) async fn disconnect<W: Wire>(api: &Api<W>, body: &Body) -> Result<Reply, Refused> {
    let here = disconnect_here(api, &body.bytes)?;
    // The body was parsed as JSON, so it is text.
    let body = String::from_utf8_lossy(&body.bytes).into_owned();
    let question = Question::Disconnect { body };
    let closed = ask::gather(api.cluster.as_ref(), Whom::Everybody, &question, here).await;
    Ok(reply::json(v2::encode(&closed)))
}

pub(crate) fn disconnect_here<W: Wire>(api: &Api<W>, body: &[u8]) -> Result<Closed, Refused> {
    let node = &api.node;
    let closed = match Disconnect::parse(body).map_err(Refused::Body)? {
        Disconnect::User(user) => {
            node.disconnect(Selection::User(&parameters::user(&api.limits, "user", &user)?))
        }
        Disconnect::UserEvent { user, event } => {
            let user = parameters::user(&api.limits, "user", &user)?;
            node.disconnect(Selection::UserEvent(&user, &parameters::event(&api.limits, &event)?))
        }
        Disconnect::Connection(id) => {
            let id = parameters::connection_field("connection", &id)?;
            node.disconnect(Selection::Connection(id))
        }
        Disconnect::Token(token) => node.disconnect(Selection::Token(&token)),
        _ => return Err(Refused::NotFound),
    };
    Ok(Closed { closed, nodes_missing: Vec::new() })
}

pub(crate) async fn register<W: Wire>(
    api: &Api<W>,
    id: ConnectionId,
    body: &Body,
) -> Result<Reply, Refused> {
    let Registration { user, event } = Registration::parse(&body.bytes).map_err(Refused::Body)?;
    if is_elsewhere(api, id) {
        let question = Question::Register { id: id.to_string(), user, event };
        return ask::forward::<W, Registered>(api.cluster.as_ref(), id, &question, |_, it| it)
            .await;
    }
    register_here(api, id, &user, &event).map(|it| reply::json(v2::encode(&it)))
}

pub(crate) fn register_here<W: Wire>(
    api: &Api<W>,
    id: ConnectionId,
    user: &str,
    event: &str,
) -> Result<Registered, Refused> {
    let (user, event) =
        (parameters::user(&api.limits, "user", user)?, parameters::event(&api.limits, event)?);
    let bound = api.node.register(id, &user, &event).map_err(|error| match error {
        RegisterError::Ending => Refused::ConnectionUnknown,
        error => Refused::Registration(error),
    })?;
    Ok(Registered { changed: bound != Bound::Already })
}

pub(crate) async fn unregister<W: Wire>(
    api: &Api<W>,
    id: ConnectionId,
    uri: &Uri,
) -> Result<Reply, Refused> {
    let [user, event] = parameters::query(uri, ["user", "event"])?;
    if is_elsewhere(api, id) {
        let question = Question::Unregister { id: id.to_string(), user, event };
        return ask::forward::<W, Registered>(api.cluster.as_ref(), id, &question, |_, it| it)
            .await;
    }
    unregister_here(api, id, &user, &event).map(|it| reply::json(v2::encode(&it)))
}

pub(crate) fn unregister_here<W: Wire>(
    api: &Api<W>,
    id: ConnectionId,
    user: &str,
    event: &str,
) -> Result<Registered, Refused> {
    let (user, event) =
        (parameters::user(&api.limits, "user", user)?, parameters::event(&api.limits, event)?);
    if api.node.connection(id).is_none() {
        return Err(Refused::ConnectionUnknown);
    }
    Ok(Registered { changed: api.node.unregister(id, &user, &event) })
}

pub(crate) fn node<W: Wire>(api: &Api<W>) -> Reply {
    reply::json(v2::encode(&node_here(api)))
}

pub(crate) fn node_here<W: Wire>(api: &Api<W>) -> NodeInfo {
    let (node, counts) = (&api.node, api.node.counts());
    let cluster = api.cluster.as_ref();
    NodeInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: api.started_at.elapsed().as_secs(),
        is_draining: api.stop.is_cancelled(),
        connections: node.connections_open(),
        connections_max: api.limits.connections_max,
        users: counts.users,
        registrations: counts.registrations,
        queued_bytes: node.outboxes_bytes(),
        pushes_total: node.counters().pushes_total.value(),
        deliveries_total: node.counters().deliveries_total.value(),
        name: cluster.map(|cluster| cluster.node_name()),
        id: cluster.map(|cluster| cluster.id().to_string()),
        not_ready: cluster.and_then(|cluster| cluster.ready().err()),
        round_trip_ms: None,
    }
}

/// Every node of the cluster, or only this one if there is no cluster.
pub(crate) async fn nodes<W: Wire>(api: &Api<W>) -> Reply {
    let mut nodes = vec![node_here(api)];
    let Some(cluster) = &api.cluster else {
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
    let here = std::future::ready(node_here(api));
    let gathered = cluster.ask(Whom::Everybody, question, here, said).await;
    let nodes_missing = ask::missing(&gathered);
    let mut others: Vec<NodeInfo> = gathered.others.into_iter().map(|(_, info)| info).collect();
    others.sort_by(|one, next| one.name.cmp(&next.name));
    nodes.extend(others);
    let broker = Some(cluster.broker_kind().to_owned());
    reply::json(v2::encode(&Nodes { broker, nodes, nodes_missing }))
}
