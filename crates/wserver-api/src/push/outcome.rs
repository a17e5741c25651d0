//! The outcome of a push in the terms of the HTTP API: counts, and a reason if nobody got it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::cluster::Cluster;
use wserver_auth::PushScope;
use wserver_core::{CloseReason, EventName, UserId};
use wserver_node::{
    Entry, EveryoneReceipt, Gathered, NoDelivery, Node, NodeName, PushReceipt, What, Wire,
};
use wserver_protocol::v2::{Acks, Delivery, NodeDelivery, Reason, UserDelivery};

use crate::cluster::ask;
use crate::operate::words::{Ago, Count, Name, of_close};

/// How many bytes of event names still fit into the answer to one request.
///
/// A user may have registered half a megabyte of them, and a request may name a thousand users.
#[derive(Debug)]
pub(crate) struct EventsRoom(usize);

impl Default for EventsRoom {
    fn default() -> Self {
        Self(256 * 1024)
    }
}

impl EventsRoom {
    /// The names of those events that the publisher may know, as many as fit.
    fn names(&mut self, scope: &PushScope, events: &[EventName]) -> Vec<String> {
        let names = events.iter().map(EventName::as_str).filter(|it| scope.permits_event(it));
        let told = names.map_while(|name| {
            self.0 = self.0.checked_sub(name.len())?;
            Some(name.to_owned())
        });
        told.collect()
    }
}

/// The outcome of a push to one user, with only what its publisher may know.
pub(crate) fn of_user<W: Wire>(
    node: &Node<W>,
    cluster: Option<&Cluster<W>>,
    scope: &PushScope,
    user: &UserId,
    event: &EventName,
    gathered: &Gathered<PushReceipt>,
    room: &mut EventsRoom,
) -> Delivery {
    let mut delivery = of_receipt(node, user, event, gathered.total(), &gathered.others);
    if delivery.reason == Some(Reason::NoRegistrationForEvent) {
        delivery.events = Some(room.names(scope, &node.user_events(user)));
    }
    of_cluster(cluster, delivery, gathered, |receipt| *receipt)
}

/// The outcome of a push to everyone.
pub(crate) fn of_everyone<W: Wire>(
    cluster: Option<&Cluster<W>>,
    event: &EventName,
    gathered: &Gathered<EveryoneReceipt>,
) -> Delivery {
    let delivery = of_sum(event, gathered.total().total);
    of_cluster(cluster, delivery, gathered, |receipt| receipt.total)
}

/// Adds the results of the nodes, if there is a cluster.
fn of_cluster<W: Wire, T>(
    cluster: Option<&Cluster<W>>,
    delivery: Delivery,
    gathered: &Gathered<T>,
    receipt: impl Fn(&T) -> PushReceipt,
) -> Delivery {
    let Some(cluster) = cluster else { return delivery };
    let here = cluster.node_name();
    let by_node = gathered.all().map(|(node, said)| {
        let PushReceipt { matched, written, queued, dropped, .. } = receipt(said);
        let node = node.map_or_else(|| here.clone(), ToString::to_string);
        NodeDelivery { node, matched, written, queued, dropped }
    });
    Delivery {
        nodes: Some(1 + gathered.others.len()),
        nodes_missing: Some(ask::missing(gathered)),
        is_partial: Some(!gathered.is_whole()),
        by_node: (!gathered.others.is_empty()).then(|| by_node.collect()),
        ..delivery
    }
}

fn of_receipt<W: Wire>(
    node: &Node<W>,
    user: &UserId,
    event: &EventName,
    receipt: PushReceipt,
    others: &[(NodeName, PushReceipt)],
) -> Delivery {
    let mut delivery = counts(&receipt);
    let Some(no_delivery) = receipt.reason else { return delivery };
    let user_shown = Name(user.as_str());
    let (reason, detail) = match no_delivery {
        NoDelivery::UserOffline => offline(user_shown, node.recent(user, 1).pop()),
        NoDelivery::NoRegistrationForEvent => {
            let connections = Count(node.presence(std::slice::from_ref(user))[0], "connection");
            let event = Name(event.as_str());
            let elsewhere: Vec<String> = others.iter().map(|(node, _)| node.to_string()).collect();
            let detail = if elsewhere.is_empty() {
                format!("user {user_shown} has {connections}, none registered for {event}")
            } else {
                let nodes = elsewhere.join(", ");
                format!(
                    "user {user_shown} has connections to several nodes, none registered for \
                     {event}: {connections} here, others to {nodes}"
                )
            };
            (Reason::NoRegistrationForEvent, detail)
        }
        NoDelivery::Excluded => (Reason::Excluded, only_excluded().to_owned()),
        NoDelivery::Expired => {
            (Reason::Expired, "ttl_seconds had passed before the push was accepted".to_owned())
        }
        NoDelivery::ConnectionEnding => {
            let dropped = Count(receipt.dropped, "connection");
            (
                Reason::ConnectionEnding,
                format!("{dropped} of user {user_shown} had already begun to close"),
            )
        }
        NoDelivery::SlowConsumer => (
            Reason::SlowConsumer,
            format!(
                "the server closed {} of user {user_shown} for reading too slowly",
                Count(receipt.dropped, "connection")
            ),
        ),
    };
    (delivery.reason, delivery.detail) = (Some(reason), Some(detail));
    delivery
}

/// Only the counts.
pub(crate) fn counts(receipt: &PushReceipt) -> Delivery {
    Delivery {
        matched: receipt.matched,
        written: receipt.written,
        queued: receipt.queued,
        dropped: receipt.dropped,
        is_kept: receipt.is_kept,
        ..Delivery::default()
    }
}

/// The acknowledgements of a push that waited.
pub(crate) fn acks(acks: wserver_node::Acks) -> Acks {
    let wserver_node::Acks { acked, waiting, unable, lost } = acks;
    Acks { acked, waiting, unable, lost }
}

/// The reason of a receipt, as a trace shows it.
pub(crate) fn reason(no_delivery: NoDelivery) -> Reason {
    match no_delivery {
        NoDelivery::UserOffline => Reason::UserOffline,
        NoDelivery::NoRegistrationForEvent => Reason::NoRegistrationForEvent,
        NoDelivery::Excluded => Reason::Excluded,
        NoDelivery::Expired => Reason::Expired,
        NoDelivery::ConnectionEnding => Reason::ConnectionEnding,
        NoDelivery::SlowConsumer => Reason::SlowConsumer,
    }
}

/// A connection that was closed because its registration expired, or because it read too slowly,
/// gets its own reason: unlike an ordinary absence, the publisher can do something about it.
fn offline(user: Name<'_>, last: Option<Entry>) -> (Reason, String) {
    let mut detail = format!("user {user} has no connection");
    let Some((at, closed)) = last.and_then(|entry| match entry.what {
        What::Closed { reason } => Some((entry.at, reason)),
        _ => None,
    }) else {
        return (Reason::UserOffline, detail);
    };
    let ago = Ago::since(at, SystemTime::now());
    detail.push_str(&format!("; the last one was closed {ago}: {}", of_close(closed)));
    let reason = match closed {
        CloseReason::Expired => Reason::Expired,
        CloseReason::Slow => Reason::SlowConsumer,
        _ => Reason::UserOffline,
    };
    (reason, detail)
}

fn of_sum(event: &EventName, receipt: PushReceipt) -> Delivery {
    let mut delivery = counts(&receipt);
    if let Some(no_delivery) = receipt.reason {
        let event = Name(event.as_str());
        let detail = match no_delivery {
            NoDelivery::Expired => "ttl_seconds had passed before the push was accepted".to_owned(),
            NoDelivery::Excluded => only_excluded().to_owned(),
            NoDelivery::UserOffline | NoDelivery::NoRegistrationForEvent => {
                format!("nobody is registered for {event}")
            }
            _ => {
                format!("all connections registered for {event} were closed or had begun to close")
            }
        };
        (delivery.reason, delivery.detail) = (Some(reason(no_delivery)), Some(detail));
    }
    delivery
}

/// Adds up the nodes that took part for any of the users, and those that did not answer.
pub(crate) fn sum_nodes(sum: &mut Delivery, results: &[UserDelivery]) {
    let deliveries = || results.iter().map(|result| &result.delivery);
    sum.nodes = deliveries().filter_map(|it| it.nodes).max();
    if sum.nodes.is_some() {
        let missing = deliveries().filter_map(|it| it.nodes_missing.as_ref()).flatten();
        let missing: BTreeSet<&String> = missing.collect();
        sum.is_partial = Some(deliveries().any(|it| it.is_partial == Some(true)));
        sum.nodes_missing = Some(missing.into_iter().cloned().collect());
    }
}

fn only_excluded() -> &'static str {
    "the only connection registered for the event is the one that the push leaves out"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_within_a_scope_and_a_bound() {
        let events: Vec<_> = ["invoice.8841-overdue", "post", "post.more"]
            .map(|event| EventName::parse(event, 4096).unwrap())
            .into();
        let everything = PushScope::everything();
        let posts = PushScope::everything().with_events(["post*"]);
        let mut room = EventsRoom(40);
        assert_eq!(room.names(&posts, &events), ["post", "post.more"]);
        assert_eq!(room.names(&everything, &events), ["invoice.8841-overdue", "post"]);
        assert_eq!(room.names(&everything, &events), [""; 0]);
    }
}
