//! A push to everyone who is registered for an event: a walk over the binder, a slice of users at a time.

use std::time::{Duration, Instant};

use wserver_core::UserCursor;

use crate::message::Message;
use crate::node::Node;
use crate::outbox::Wire;
use crate::receipt::{EveryoneReceipt, NoDelivery, PushOptions};

/// Users taken out of the binder at once.
const SLICE_USERS_MAX: usize = 256;
/// How long it holds its runtime worker.
const TURN_MAX: Duration = Duration::from_micros(500);

impl<W: Wire> Node<W> {
    /// Sends `message` to every connection of every user that registered its event; one push, the
    /// receipts of all users added up.
    ///
    /// Users are taken one after the other, so it is no picture of one instant: who is registered
    /// all the while gets it once; who comes or goes meanwhile, perhaps. Each user's part of it has
    /// its place among that user's other messages. When its time is over in the middle, the rest of
    /// the users is left out.
    ///
    /// # Cancel safety
    /// One that is dropped has reached some of the users.
    pub async fn push_everyone(
        &self,
        message: &mut Message<'_>,
        options: &PushOptions,
    ) -> EveryoneReceipt {
        let state = &self.state;
        let mut receipt = EveryoneReceipt::default();
        let mut users = Vec::new();
        let mut cursor = Some(UserCursor::default());
        let mut since = Instant::now();
        while let Some(from) = cursor {
            if options.is_expired() {
                receipt.total.reason = receipt.total.reason.max(Some(NoDelivery::Expired));
                break;
            }
            cursor = state.binder.event_users(message.event(), from, SLICE_USERS_MAX, &mut users);
            for user in users.drain(..) {
                receipt.add(state.push_to(&user, message, options).await);
                let_others(&mut since).await;
            }
            let_others(&mut since).await;
        }
        state.counters.pushes_total.increment();
        receipt.settled()
    }
}

/// Gives the worker up when it has been held for long enough.
async fn let_others(since: &mut Instant) {
    if since.elapsed() >= TURN_MAX {
        tokio::task::yield_now().await;
        *since = Instant::now();
    }
}
