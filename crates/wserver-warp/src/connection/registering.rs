//! What a connection registers: messages that wait for their turn, the one whose token is with the
//! authenticator, and what its answer comes to.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use hyper::HeaderMap;
use wserver_api::RegistrationRefusal;
use wserver_auth::{Authenticator, Credentials, Identity, Refusal};
use wserver_core::{EventName, NameError, TokenDigest, UserId};
use wserver_protocol::Register;

use crate::upgrade::addresses::AddressPermit;

/// What few connections need and no idle one has: registrations under way.
#[derive(Default)]
pub(crate) struct Registering {
    current: Option<InFlight>,
    /// Bounded by `registrations_pending_max`; beyond it reading pauses.
    pub(crate) pending: VecDeque<Pending>,
    /// Read, but behind the pause. Bounded by one read.
    pub(crate) unread: Vec<u8>,
}

impl Registering {
    /// When the authentication under way is waited for no longer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().map(|in_flight| in_flight.deadline)
    }

    /// The next answer of the authenticator, which `begin` asks in its turn; nothing when nothing
    /// waits.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        begin: impl FnOnce(Pending) -> InFlight,
    ) -> Poll<Option<(InFlight, Result<Identity, Refusal>)>> {
        let mut in_flight = match self.current.take() {
            Some(in_flight) => in_flight,
            None => match self.pending.pop_front() {
                Some(pending) => begin(pending),
                None => return Poll::Ready(None),
            },
        };
        match in_flight.answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some((in_flight, answer))),
            Poll::Pending if Instant::now() >= in_flight.deadline => {
                let late = Refusal::unavailable("no answer within authenticate_timeout");
                Poll::Ready(Some((in_flight, Err(late))))
            }
            Poll::Pending => {
                self.current = Some(in_flight);
                Poll::Pending
            }
        }
    }

    /// What is kept of what was read.
    pub(crate) fn held_bytes(&self) -> usize {
        let pending = self.pending.iter().map(|it| it.token.len() + it.event.as_str().len());
        self.unread.len() + pending.sum::<usize>()
    }
}

/// A register message that waits for its turn. A secret, so it is not `Debug`.
pub(crate) struct Pending {
    pub(crate) token: String,
    event: EventName,
}

impl Pending {
    /// Reads a register message; `handshake_token` stands in for a token that it lacks.
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
        Ok(Self { token: register.token.into_owned(), event })
    }
}

/// A registration whose token is with the authenticator.
pub(crate) struct InFlight {
    answer: Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>,
    pub(crate) event: EventName,
    pub(crate) token: TokenDigest,
    deadline: Instant,
}

impl InFlight {
    pub(crate) fn begin(
        authenticator: Arc<dyn Authenticator>,
        Pending { token: text, event }: Pending,
        token: TokenDigest,
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
}

/// Why a registration is not bound, though its message was well formed.
#[derive(Debug)]
pub(crate) enum Declined {
    /// The authenticator refuses it.
    Refused(Refusal),
    /// What the authenticator says has expired already.
    Expired,
    /// The user that it names is none.
    User(NameError),
    /// The token is good, but not for this event.
    Forbidden(UserId),
}

impl Declined {
    /// How it is counted.
    pub(crate) fn reason(&self) -> RegistrationRefusal {
        match self {
            Self::Refused(refusal) => RegistrationRefusal::from(refusal),
            Self::Expired => RegistrationRefusal::Expired,
            Self::User(_) => RegistrationRefusal::UserId,
            Self::Forbidden(_) => RegistrationRefusal::Forbidden,
        }
    }

    /// What the journal says. What is wrong with a token is the operator's to know, and nobody else
    /// is told.
    pub(crate) fn noted(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.fault().unwrap_or(refusal.as_str()),
            declined => declined.reason().as_str(),
        }
    }

    /// Under whom it is noted: only what a token has proven, the rest is a stranger's.
    pub(crate) fn user(&self) -> Option<&UserId> {
        match self {
            Self::Forbidden(user) => Some(user),
            Self::Refused(_) | Self::Expired | Self::User(_) => None,
        }
    }
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Expired => Refusal::Expired.fmt(f),
            Self::User(error) => write!(f, "the user id {error}"),
            Self::Forbidden(_) => Refusal::Forbidden.fmt(f),
        }
    }
}

/// Who may be registered for `event` by an answer of the authenticator, and until when.
pub(crate) fn judge(
    answer: Result<Identity, Refusal>,
    event: &EventName,
    wall: SystemTime,
    name_bytes_max: usize,
) -> Result<(UserId, Option<SystemTime>), Declined> {
    let identity = answer.map_err(Declined::Refused)?;
    if identity.is_expired(wall) {
        return Err(Declined::Expired);
    }
    let user = UserId::parse(&identity.user, name_bytes_max).map_err(Declined::User)?;
    if !identity.events.permits(event.as_str()) {
        return Err(Declined::Forbidden(user));
    }
    Ok((user, identity.expires_at))
}

/// What a connection keeps of its handshake.
pub(crate) struct Handshake {
    /// Those headers that the authenticator reads, if any came.
    pub(crate) headers: Option<Arc<HeaderMap>>,
    /// The token for registrations without one: a secret, so nothing here is `Debug`.
    pub(crate) token: Option<Box<str>>,
    /// Given back when the connection ends.
    _address: Option<AddressPermit>,
}

impl Handshake {
    /// `None` when there is nothing to keep.
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
