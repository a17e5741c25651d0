//! A push to everyone who is registered for an event: a walk over the binder, a slice of users at a
//! time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use wserver_core::UserCursor;

use crate::message::Message;
use crate::node::Node;
use crate::outbox::Wire;
use crate::receipt::{EveryoneReceipt, NoDelivery, PushOptions};

/// Users taken out of the binder at once.
const SLICE_USERS_MAX: usize = 256;
/// How long it may occupy its runtime worker without a pause.
const TURN_MAX: Duration = Duration::from_micros(500);

impl<W: Wire> Node<W> {
    /// Sends `message` to every connection of every user that registered its event. It counts as
    /// one push; the receipt adds up those of all users.
    ///
    /// The users are taken one after the other, so it does not see one instant: a connection that
    /// is registered the whole time gets the message once; one that comes or goes meanwhile may get
    /// it. For each user, the message has its position among the user's other messages. If it
    /// expires in the middle, the remaining users are left out.
    ///
    /// # Cancel safety
    /// If the future is dropped, the message has reached some of the users.
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
        // Users whose messages are kept come first, connected or not. What comes later has no log
        // yet, or is one of them.
        let logged = match &state.replays {
            Some(replays) if replays.covers(message.event()) => replays.users(),
            _ => HashSet::new(),
        };
        for user in &logged {
            receipt.add(state.push_to(user, message, options).await);
            let_others(&mut since).await;
        }
        while let Some(from) = cursor {
            if options.is_expired() {
                receipt.total.reason = receipt.total.reason.max(Some(NoDelivery::Expired));
                break;
            }
            cursor = state.binder.event_users(message.event(), from, SLICE_USERS_MAX, &mut users);
            for user in users.drain(..).filter(|user| !logged.contains(user)) {
                receipt.add(state.push_to(&user, message, options).await);
                let_others(&mut since).await;
            }
            let_others(&mut since).await;
        }
        state.counters.pushes_total.increment();
        receipt.settled()
    }
}

/// Yields if the worker has been occupied for long enough.
async fn let_others(since: &mut Instant) {
    if since.elapsed() >= TURN_MAX {
        tokio::task::yield_now().await;
        *since = Instant::now();
    }
}
