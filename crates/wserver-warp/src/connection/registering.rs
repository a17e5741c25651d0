//! The requests of a connection: messages that wait for their turn, and the registration whose
//! token the authenticator is checking.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::HeaderMap;
use wserver_auth::{Authenticator, Credentials, Identity, Refusal};
use wserver_core::{EventName, TokenDigest};
use wserver_node::{GapReason, Held, Missed};
use wserver_protocol::Register;
use wserver_protocol::connection::{Asked, Reply, Request};

use crate::connection::requests::{InHand, Permitted};
use crate::connection::shared::Fetch;
use crate::upgrade::addresses::AddressPermit;

/// State for registrations under way, which few connections need and no idle one.
#[derive(Default)]
pub(crate) struct Registering {
    current: Option<InFlight>,
    /// The registration whose reply waits for another node.
    fetching: Option<Fetching>,
    /// The request of version 2 that is being carried out.
    pub(crate) in_hand: Option<InHand>,
    /// Limited by `registrations_pending_max`; beyond it reading pauses.
    pub(crate) pending: VecDeque<Pending>,
    /// Input that was read but comes after the pause. Limited to one read.
    pub(crate) unread: Vec<u8>,
}

impl Registering {
    /// When to stop waiting for the authentication under way.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|in_flight| in_flight.deadline)
    }

    /// The next step: the answer of the authenticator, which `begin` asks about a token and an
    /// event, or a step that needs no answer; `None` if nothing waits.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        begin: impl FnOnce(String, TokenDigest, EventName) -> InFlight,
        digest: impl FnOnce(&str) -> TokenDigest,
    ) -> Poll<Option<Turn>> {
        if let Some(mut fetching) = self.fetching.take() {
            let Poll::Ready(kept) = fetching.answer.as_mut().poll(cx) else {
                self.fetching = Some(fetching);
                return Poll::Pending;
            };
            return Poll::Ready(Some(Turn::Fetched(fetching, kept)));
        }
        let mut in_flight = if let Some(in_flight) = self.current.take() {
            in_flight
        } else if let Some(mut in_hand) = self.in_hand.take() {
            let Some(event) = in_hand.next_event() else {
                return Poll::Ready(Some(Turn::Done(in_hand)));
            };
            let in_flight = begin(in_hand.token.clone(), in_hand.digest, event);
            self.in_hand = Some(in_hand);
            in_flight
        } else {
            match self.pending.pop_front() {
                Some(Pending::Register { token, event }) => {
                    let digest = digest(&token);
                    begin(token, digest, event)
                }
                Some(Pending::Request(request)) => {
                    return Poll::Ready(Some(Turn::Request(request)));
                }
                Some(Pending::Refused(reply)) => return Poll::Ready(Some(Turn::Reply(reply))),
                None => return Poll::Ready(None),
            }
        };
        match in_flight.answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(Turn::Answered(in_flight, answer))),
            Poll::Pending if Instant::now() >= in_flight.deadline => {
                Poll::Ready(Some(Turn::Answered(in_flight, Err(late()))))
            }
            Poll::Pending => {
                self.current = Some(in_flight);
                Poll::Pending
            }
        }
    }

    /// Waits for what another node has kept, before anything else.
    pub(crate) fn fetch(&mut self, fetching: Fetching) {
        self.fetching = Some(fetching);
    }

    /// The bytes that are kept of what was read.
    pub(crate) fn held_bytes(&self) -> usize {
        let pending = self.pending.iter().map(Pending::held_bytes);
        let in_hand = self.in_hand.as_ref().map_or(0, InHand::held_bytes);
        self.unread.len() + pending.sum::<usize>() + in_hand
    }
}

/// The next step of a connection's requests.
pub(crate) enum Turn {
    /// The authenticator has answered.
    Answered(InFlight, Result<Identity, Refusal>),
    /// A request of version 2 begins.
    Request(Request),
    /// All events of the request are decided.
    Done(InHand),
    /// Another node has said what it has kept.
    Fetched(Fetching, Result<Vec<Missed>, GapReason>),
    /// The request gets this reply at once.
    Reply(Reply),
}

/// A registration whose reply waits for what another node has kept.
pub(crate) struct Fetching {
    pub(crate) held: Held,
    pub(crate) in_hand: InHand,
    pub(crate) permitted: Permitted,
    pub(crate) answer: Fetch,
}

/// A message that waits for its turn. It may hold a secret, so it is not `Debug`.
pub(crate) enum Pending {
    /// Version 1: one event, and no reply.
    Register { token: String, event: EventName },
    /// Version 2.
    Request(Request),
    /// Version 2: a message without a known request.
    Refused(Reply),
}

impl Pending {
    /// Reads a register message of version 1; `handshake_token` replaces a missing token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(
        message: &[u8],
        handshake_token: Option<&str>,
        name_bytes_max: usize,
    ) -> Result<Self, String> {
        let register = Register::parse_with_token(message, handshake_token.unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let event = EventName::parse(&register.event, name_bytes_max)
            .map_err(|error| format!("event {error}"))?;
        if register.token.len() > name_bytes_max {
            return Err(format!(
                "token is {} bytes long, the limit is {name_bytes_max}",
                register.token.len()
            ));
        }
        Ok(Self::Register { token: register.token.into_owned(), event })
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Register { token, event } => token.len() + event.as_str().len(),
            Self::Request(Request { asked, .. }) => match asked {
                Asked::Register { events, token, after } => {
                    let texts = [token, after].into_iter().flatten();
                    names_bytes(events) + texts.map(String::len).sum::<usize>()
                }
                Asked::Unregister { events } => names_bytes(events),
                Asked::Refresh { token } => token.len(),
                _ => 0,
            },
            Self::Refused(_) => 0,
        }
    }
}

fn names_bytes(names: &[String]) -> usize {
    names.iter().map(|name| size_of::<String>() + name.len()).sum()
}

/// A registration whose token the authenticator is checking.
pub(crate) struct InFlight {
    answer: Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>,
    pub(crate) event: EventName,
    pub(crate) token: TokenDigest,
    deadline: Instant,
}

impl InFlight {
    pub(crate) fn begin(
        authenticator: Arc<dyn Authenticator>,
        text: String,
        token: TokenDigest,
        event: EventName,
        peer: SocketAddr,
        headers: Option<Arc<HeaderMap>>,
        deadline: Instant,
    ) -> Self {
        let mut credentials = Credentials::new(text, peer).with_event(event.as_str());
        if let Some(headers) = headers {
            credentials = credentials.with_headers(headers);
        }
        let answer = Box::pin(async move { authenticator.authenticate(credentials).await });
        Self { answer, event, token, deadline }
    }

    /// The answer, for a caller that waits for it.
    pub(crate) async fn answer(self) -> Result<Identity, Refusal> {
        let answered = tokio::time::timeout_at(self.deadline.into(), self.answer).await;
        answered.unwrap_or_else(|_elapsed| Err(late()))
    }
}

fn late() -> Refusal {
    Refusal::unavailable("no answer within authenticate_timeout")
}

/// What a connection keeps of its handshake.
pub(crate) struct Handshake {
    /// The headers that the authenticator reads, if any came.
    pub(crate) headers: Option<Arc<HeaderMap>>,
    /// The token for registrations without one: a secret, so nothing here is `Debug`.
    pub(crate) token: Option<Box<str>>,
    /// Returned when the connection ends.
    _address: Option<AddressPermit>,
}

impl Handshake {
    /// `None` if there is nothing to keep.
    pub(crate) fn new(
        headers: HeaderMap,
        token: Option<Box<str>>,
        address: Option<AddressPermit>,
    ) -> Option<Box<Self>> {
        let headers = (!headers.is_empty()).then(|| Arc::new(headers));
        let is_any = headers.is_some() || token.is_some() || address.is_some();
        is_any.then(|| Box::new(Self { headers, token, _address: address }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of `name_bytes_max` is taken, and one byte more is not.
    #[test]
    fn tokens_and_events_have_one_bound() {
        for (token, event, is_taken) in [(5, 5, true), (6, 5, false), (5, 6, false), (0, 5, false)]
        {
            let (token, event) = ("t".repeat(token), "e".repeat(event));
            let message = format!(r#"{{"token":"{token}","event":"{event}"}}"#);
            let parsed = Pending::parse(message.as_bytes(), None, 5);
            assert_eq!(parsed.is_ok(), is_taken, "{message}");
        }
        // The one of the handshake stands in.
        assert!(Pending::parse(br#"{"event":"e"}"#, Some("t"), 5).is_ok());
        assert!(Pending::parse(br#"{"event":"e"}"#, None, 5).is_err());
    }
}
