//! What the answer of an authenticator comes to: whose a registration is and until when, or why it is
//! declined.

use std::fmt;
use std::time::SystemTime;

use wserver_api::RegistrationRefusal;
use wserver_auth::{Identity, Refusal};
use wserver_core::{EventName, NameError, UserId};

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
    /// The token is another user's than a connection of version 2 belongs to.
    OtherUser,
}

impl Declined {
    /// How it is counted.
    pub(crate) fn reason(&self) -> RegistrationRefusal {
        match self {
            Self::Refused(refusal) => RegistrationRefusal::from(refusal),
            Self::Expired => RegistrationRefusal::Expired,
            Self::User(_) => RegistrationRefusal::UserId,
            Self::Forbidden(_) => RegistrationRefusal::Forbidden,
            Self::OtherUser => RegistrationRefusal::OtherUser,
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
            Self::Refused(_) | Self::Expired | Self::User(_) | Self::OtherUser => None,
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
            Self::OtherUser => f.write_str("the connection belongs to another user"),
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
