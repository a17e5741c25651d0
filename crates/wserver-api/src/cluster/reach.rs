//! How far a push reaches: the connections of this node, or of every node of its cluster.

use wserver_core::UserId;
use wserver_node::{EveryoneReceipt, Gathered, Message, PushOptions, PushReceipt, Wire};

use crate::api::Api;

impl<W: Wire> Api<W> {
    /// Pushes to one user, on every node that has connections of the user.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may or may not be delivered.
    pub async fn deliver(
        &self,
        user: &UserId,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> Gathered<PushReceipt> {
        match &self.cluster {
            Some(cluster) => {
                let gathered = cluster.push(user, message, options).await;
                self.lost_pushes.note(Some(user), message.event(), message.id(), &gathered);
                gathered
            }
            None => Gathered::alone(self.node.push_with(user, message, options).await),
        }
    }

    /// Pushes to every user with a connection that registered the event, on every node.
    ///
    /// # Cancel safety
    /// If the future is dropped, the push may have reached some of the users.
    pub async fn deliver_to_everyone(
        &self,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> Gathered<EveryoneReceipt> {
        match &self.cluster {
            Some(cluster) => {
                let gathered = cluster.push_everyone(message, options).await;
                self.lost_pushes.note(None, message.event(), message.id(), &gathered);
                gathered
            }
            None => Gathered::alone(self.node.push_everyone(message, options).await),
        }
    }
}
