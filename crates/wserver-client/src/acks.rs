//! Acknowledges messages that the caller has handled, several in one message if they come fast.
//!
//! It knows no socket: the connection sends what comes of it.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use wserver_protocol::connection::FromClient;

/// The shortest time between two messages with acknowledgements. A server closes connections that
/// send too many messages, however many pushes they are about; by default, 50 a second are allowed.
const PAUSE: Duration = Duration::from_millis(50);
/// The most ids in one message, which is then far shorter than a server's limit.
const IDS_MAX: usize = 500;
/// The most ids that wait. A server that reads nothing for so long gets none of the others.
const WAITING_MAX: usize = 10_000;

/// The acknowledgements of one connection.
#[derive(Default)]
pub(crate) struct Acks {
    /// The push that the caller got last, and may still be handling.
    in_hand: Option<String>,
    /// Pushes that are handled. At most [`WAITING_MAX`].
    handled: Vec<String>,
    /// Runs after each message.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Acks {
    /// The caller gets a push that waits for an acknowledgement.
    pub(crate) fn hand_out(&mut self, id: String) {
        self.in_hand = Some(id);
    }

    /// The caller asks for more, so it has handled what it got.
    pub(crate) fn handle_asked(&mut self) {
        if self.handled.len() < WAITING_MAX {
            self.handled.extend(self.in_hand.take());
        }
    }

    /// The next message to send. It is pending also if there is nothing to acknowledge.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        if self.handled.is_empty() {
            return Poll::Pending;
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = Some(Box::pin(sleep(PAUSE)));
        let ids = self.handled.drain(..self.handled.len().min(IDS_MAX)).collect();
        Poll::Ready(FromClient::Ack(ids).encode())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    fn handle(acks: &mut Acks, ids: impl IntoIterator<Item = usize>) {
        for id in ids {
            acks.hand_out(id.to_string());
            acks.handle_asked();
        }
    }

    fn is_nothing(acks: &mut Acks) -> bool {
        acks.poll_message(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn one_goes_at_once_and_those_behind_it_together() {
        let mut acks = Acks::default();
        assert!(is_nothing(&mut acks));
        acks.hand_out("a".to_owned());
        assert!(is_nothing(&mut acks), "the caller has it in hand");
        acks.handle_asked();
        acks.handle_asked();
        assert_eq!(poll_fn(|cx| acks.poll_message(cx)).await, r#"{"ack":["a"]}"#);
        handle(&mut acks, 1..4);
        assert!(is_nothing(&mut acks), "it is too early");
        assert_eq!(poll_fn(|cx| acks.poll_message(cx)).await, r#"{"ack":["1","2","3"]}"#);
    }

    #[tokio::test]
    async fn messages_are_short_and_few_wait() {
        let mut acks = Acks::default();
        handle(&mut acks, 0..WAITING_MAX + 1);
        assert_eq!(acks.handled.len(), WAITING_MAX);
        let message = poll_fn(|cx| acks.poll_message(cx)).await;
        assert!(message.ends_with("\"499\"]}"), "{message}");
    }
}
