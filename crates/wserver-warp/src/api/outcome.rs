//! What became of a push, in the terms of the HTTP API: counts, and the reason when nobody got it.

use std::time::SystemTime;

use wserver_core::{CloseReason, EventName, UserId};
use wserver_node::{Entry, NoDelivery, Node, PushReceipt, What};
use wserver_protocol::v2::{Delivery, Reason};

use super::words::{Ago, Count, Name, of_close};
use crate::wire::Socket;

/// The outcome of a push to one user.
pub(crate) fn of_user(
    node: &Node<Socket>,
    user: &UserId,
    event: &EventName,
    receipt: PushReceipt,
) -> Delivery {
    let mut delivery = counts(&receipt);
    let Some(no_delivery) = receipt.reason else { return delivery };
    let user_shown = Name(user.as_str());
    let (reason, detail) = match no_delivery {
        NoDelivery::UserOffline => offline(user_shown, node.recent(user, 1).pop()),
        NoDelivery::NoRegistrationForEvent => {
            let connections = Count(node.presence(std::slice::from_ref(user))[0], "connection");
            let events = node.user_events(user);
            delivery.events = Some(events.iter().map(|it| it.as_str().to_owned()).collect());
            let event = Name(event.as_str());
            let detail =
                format!("user {user_shown} has {connections}, none registered for {event}");
            (Reason::NoRegistrationForEvent, detail)
        }
        NoDelivery::Excluded => (Reason::Excluded, only_excluded().to_owned()),
        NoDelivery::Expired => {
            (Reason::Expired, "ttl_seconds were over before the push was accepted".to_owned())
        }
        NoDelivery::ConnectionEnding => {
            let dropped = Count(receipt.dropped, "connection");
            (Reason::ConnectionEnding, format!("{dropped} of user {user_shown} was about to end"))
        }
        NoDelivery::SlowConsumer => (
            Reason::SlowConsumer,
            format!(
                "{} of user {user_shown} read too slowly and is closed now",
                Count(receipt.dropped, "connection")
            ),
        ),
        _ => (Reason::Other, no_delivery.as_str().to_owned()),
    };
    (delivery.reason, delivery.detail) = (Some(reason), Some(detail));
    delivery
}

/// The counts alone.
pub(crate) fn counts(receipt: &PushReceipt) -> Delivery {
    Delivery {
        matched: receipt.matched,
        written: receipt.written,
        queued: receipt.queued,
        dropped: receipt.dropped,
        reason: None,
        detail: None,
        events: None,
    }
}

/// The label of a receipt's reason, as a trace has it.
pub(crate) fn reason(no_delivery: NoDelivery) -> Reason {
    match no_delivery {
        NoDelivery::UserOffline => Reason::UserOffline,
        NoDelivery::NoRegistrationForEvent => Reason::NoRegistrationForEvent,
        NoDelivery::Excluded => Reason::Excluded,
        NoDelivery::Expired => Reason::Expired,
        NoDelivery::ConnectionEnding => Reason::ConnectionEnding,
        NoDelivery::SlowConsumer => Reason::SlowConsumer,
        _ => Reason::Other,
    }
}

/// Who is gone because the registration expired, or because it read too slowly, is told apart from
/// who is just not there: there is something to do about it.
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

/// The outcome of a push to everyone.
pub(crate) fn of_everyone(event: &EventName, receipt: PushReceipt) -> Delivery {
    let mut delivery = counts(&receipt);
    if let Some(no_delivery) = receipt.reason {
        let event = Name(event.as_str());
        let detail = match no_delivery {
            NoDelivery::Expired => "ttl_seconds were over before the push was accepted".to_owned(),
            NoDelivery::Excluded => only_excluded().to_owned(),
            NoDelivery::UserOffline | NoDelivery::NoRegistrationForEvent => {
                format!("nobody is registered for {event}")
            }
            _ => format!("all who were registered for {event} were closed or about to end"),
        };
        (delivery.reason, delivery.detail) = (Some(reason(no_delivery)), Some(detail));
    }
    delivery
}

fn only_excluded() -> &'static str {
    "the only connection registered for the event is the one that was to be left out"
}
