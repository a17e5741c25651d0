//! What an operator sees and changes: presence, connections, registrations, the node.

use std::collections::BTreeMap;

use hyper::Uri;
use wserver_core::{Bound, ConnectionId, UserId};
use wserver_node::{RegisterError, Selection};
use wserver_protocol::v2::{
    self, Closed, Connections, Disconnect, NodeInfo, Online, Presence, Registered, Registration,
};

use super::{request, show};
use crate::body::Body;
use crate::edge::Edge;
use crate::reply::{self, Refused, Reply};

/// Connections of one user that are told at most.
const CONNECTIONS_MAX: usize = 1000;

pub(super) fn presence(edge: &Edge, body: &Body) -> Result<Reply, Refused> {
    let Presence { users } = Presence::parse(&body.bytes).map_err(Refused::Body)?;
    let max = edge.limits.batch_pushes_max;
    if users.len() > max {
        return Err(Refused::TooMany { field: "users", items: users.len(), max });
    }
    let named = users.iter().enumerate();
    let ids: Vec<UserId> = named
        .map(|(index, user)| request::user(edge, format!("users[{index}]"), user))
        .collect::<Result<_, _>>()?;
    let online: BTreeMap<_, _> = users.into_iter().zip(edge.node.presence(&ids)).collect();
    Ok(reply::json(v2::encode(&Online { online })))
}

pub(super) fn user_connections(edge: &Edge, user: &str) -> Result<Reply, Refused> {
    let user = request::user(edge, "user", user)?;
    let count = edge.node.presence(std::slice::from_ref(&user)).first().copied();
    let connections = edge.node.user_connections(&user, CONNECTIONS_MAX);
    let connections: Vec<_> = connections.iter().map(show::connection).collect();
    // Some may have gone or come between the two looks.
    let count = count.unwrap_or_default().max(connections.len());
    Ok(reply::json(v2::encode(&Connections { count, connections })))
}

pub(super) fn connection(edge: &Edge, id: ConnectionId) -> Result<Reply, Refused> {
    let info = edge.node.connection_info(id).ok_or(Refused::ConnectionUnknown)?;
    Ok(reply::json(v2::encode(&show::connection(&info))))
}

pub(super) fn close(edge: &Edge, id: ConnectionId) -> Result<Reply, Refused> {
    match edge.node.disconnect(Selection::Connection(id)) {
        0 => Err(Refused::ConnectionUnknown),
        closed => Ok(reply::json(v2::encode(&Closed { closed }))),
    }
}

/// A token that is named here is neither logged nor repeated.
pub(super) fn disconnect(edge: &Edge, body: &Body) -> Result<Reply, Refused> {
    let node = &edge.node;
    let closed = match Disconnect::parse(&body.bytes).map_err(Refused::Body)? {
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
    Ok(reply::json(v2::encode(&Closed { closed })))
}

pub(super) fn register(edge: &Edge, id: ConnectionId, body: &Body) -> Result<Reply, Refused> {
    let Registration { user, event } = Registration::parse(&body.bytes).map_err(Refused::Body)?;
    let (user, event) = (request::user(edge, "user", &user)?, request::event(edge, &event)?);
    let bound = edge.node.register(id, &user, &event).map_err(|error| match error {
        RegisterError::Ending => Refused::ConnectionUnknown,
        error => Refused::Registration(error),
    })?;
    Ok(reply::json(v2::encode(&Registered { changed: bound != Bound::Already })))
}

pub(super) fn unregister(edge: &Edge, id: ConnectionId, uri: &Uri) -> Result<Reply, Refused> {
    let [user, event] = request::query(uri, ["user", "event"])?;
    let (user, event) = (request::user(edge, "user", &user)?, request::event(edge, &event)?);
    if edge.node.connection(id).is_none() {
        return Err(Refused::ConnectionUnknown);
    }
    let changed = edge.node.unregister(id, &user, &event);
    Ok(reply::json(v2::encode(&Registered { changed })))
}

pub(super) fn node(edge: &Edge) -> Reply {
    let (node, counts) = (&edge.node, edge.node.counts());
    reply::json(v2::encode(&NodeInfo {
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
    }))
}
