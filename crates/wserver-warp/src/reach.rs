//! How far a push reaches: the connections of this node, or of every node of its cluster.

use wserver_cluster::Gathered;
use wserver_core::{EventName, UserId};
use wserver_node::{EveryoneReceipt, Message, PushOptions, PushReceipt};

use crate::edge::Edge;

/// Pushes to one user, wherever its connections are.
pub(crate) async fn push(
    edge: &Edge,
    user: &UserId,
    event: &EventName,
    text: &str,
    options: &PushOptions,
) -> Gathered<PushReceipt> {
    match &edge.cluster {
        Some(cluster) => cluster.push(user, event, text, options).await,
        None => {
            let message = Message::text(text);
            Gathered::alone(edge.node.push_with(user, event, &message, options).await)
        }
    }
}

/// Pushes to everybody who has a connection that registered `event`, wherever it is.
pub(crate) async fn push_everyone(
    edge: &Edge,
    event: &EventName,
    text: &str,
    options: &PushOptions,
) -> Gathered<EveryoneReceipt> {
    match &edge.cluster {
        Some(cluster) => cluster.push_everyone(event, text, options).await,
        None => {
            let message = Message::text(text);
            Gathered::alone(edge.node.push_everyone(event, &message, options).await)
        }
    }
}
