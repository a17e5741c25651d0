//! How far a push reaches: the connections of this node, or of every node of its cluster.

use wserver_cluster::Gathered;
use wserver_core::{EventName, UserId};
use wserver_node::{EveryoneReceipt, Message, PushOptions, PushReceipt, Wire};

use crate::api::Api;

impl<W: Wire> Api<W> {
    /// Pushes to one user, wherever its connections are.
    ///
    /// # Cancel safety
    /// A push that is dropped before it is ready may or may not be delivered.
    pub async fn deliver(
        &self,
        user: &UserId,
        event: &EventName,
        text: &str,
        options: &PushOptions,
    ) -> Gathered<PushReceipt> {
        match &self.cluster {
            Some(cluster) => cluster.push(user, event, text, options).await,
            None => {
                let message = Message::text(text);
                Gathered::alone(self.node.push_with(user, event, &message, options).await)
            }
        }
    }

    /// Pushes to everybody who has a connection that registered `event`, wherever it is.
    ///
    /// # Cancel safety
    /// One that is dropped before it is ready may have reached some of the users.
    pub async fn deliver_to_everyone(
        &self,
        event: &EventName,
        text: &str,
        options: &PushOptions,
    ) -> Gathered<EveryoneReceipt> {
        match &self.cluster {
            Some(cluster) => cluster.push_everyone(event, text, options).await,
            None => {
                let message = Message::text(text);
                Gathered::alone(self.node.push_everyone(event, &message, options).await)
            }
        }
    }
}
