//! Judges the answer of an authenticator: the user and the expiry of a registration, or why it is
//! declined.

use std::fmt;
use std::time::SystemTime;

use wserver_api::RegistrationRefusal;
use wserver_auth::{Identity, Refusal};
use wserver_core::{EventName, NameError, UserId};

/// Why a registration is not bound although its message was well formed.
#[derive(Debug)]
pub(crate) enum Declined {
    /// The authenticator refuses the token.
    Refused(Refusal),
    /// The identity has already expired.
    Expired,
    /// The authenticator returned an invalid user id.
    User(NameError),
    /// The token is valid, but not for this event.
    Forbidden(UserId),
    /// The token belongs to another user than the connection of version 2.
    OtherUser,
}

impl Declined {
    /// The label for counters.
    pub(crate) fn reason(&self) -> RegistrationRefusal {
        match self {
            Self::Refused(refusal) => RegistrationRefusal::from(refusal),
            Self::Expired => RegistrationRefusal::Expired,
            Self::User(_) => RegistrationRefusal::UserId,
            Self::Forbidden(_) => RegistrationRefusal::Forbidden,
            Self::OtherUser => RegistrationRefusal::OtherUser,
        }
    }

    /// The label for the journal. Only the operator may know what is wrong with a token.
    pub(crate) fn noted(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.fault().unwrap_or(refusal.as_str()),
            declined => declined.reason().as_str(),
        }
    }

    /// The user to note it under, if the token has proven one; otherwise it is noted among
    /// strangers.
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

/// The user and the expiry of a registration for `event`, from the answer of the authenticator.
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
