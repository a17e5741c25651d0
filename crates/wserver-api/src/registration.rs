//! Why a registration is refused: what authenticators, the node and the edge say, as one closed list.

use wserver_auth::Refusal;
use wserver_node::RegisterError;

wserver_core::words! {
    /// Why a registration was refused, as counters and the journal call it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum RegistrationRefusal {
        /// The token stands for nobody.
        Unknown = "unknown",
        /// The token, or what it granted, was good once.
        Expired = "expired",
        /// The token is not good yet.
        NotYetValid = "not_yet_valid",
        /// The token is not good for this event.
        Forbidden = "forbidden",
        /// The token is of another user than the connection.
        OtherUser = "other_user",
        /// Nobody could tell whose the token is.
        Unavailable = "unavailable",
        /// The authenticator named a user that cannot be one.
        UserId = "user_id",
        /// The connection has its most registrations.
        TooManyRegistrations = "too_many_registrations",
        /// The user has its most connections.
        UserFull = "user_full",
        /// The connection was ending.
        ConnectionEnding = "connection_ending",
        /// The names of the connection's registrations are too long together.
        NamesTooLong = "names_too_long",
        /// The names of all registrations are too long together.
        NamesFull = "names_full",
    }
}

impl From<&Refusal> for RegistrationRefusal {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unknown | Refusal::Faulty { .. } => Self::Unknown,
            Refusal::Expired => Self::Expired,
            Refusal::NotYetValid => Self::NotYetValid,
            Refusal::Forbidden => Self::Forbidden,
            Refusal::Unavailable { .. } => Self::Unavailable,
        }
    }
}

impl From<&RegisterError> for RegistrationRefusal {
    fn from(error: &RegisterError) -> Self {
        match error {
            RegisterError::TooMany { .. } => Self::TooManyRegistrations,
            RegisterError::UserFull { .. } => Self::UserFull,
            RegisterError::NamesTooLong { .. } => Self::NamesTooLong,
            RegisterError::NamesFull { .. } => Self::NamesFull,
            RegisterError::Ending => Self::ConnectionEnding,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those who refuse have words of their own, for their own logs and for the journal.
    #[test]
    fn the_words_are_those_of_who_refused() {
        for refusal in [
            Refusal::Unknown,
            Refusal::Faulty { fault: "jwt_signature" },
            Refusal::Expired,
            Refusal::NotYetValid,
            Refusal::Forbidden,
            Refusal::unavailable("no answer"),
        ] {
            assert_eq!(RegistrationRefusal::from(&refusal).as_str(), refusal.as_str());
        }
        let max = 1;
        for error in [
            RegisterError::TooMany { max },
            RegisterError::UserFull { max },
            RegisterError::NamesTooLong { max },
            RegisterError::NamesFull { max },
            RegisterError::Ending,
        ] {
            assert_eq!(RegistrationRefusal::from(&error).as_str(), error.as_str());
        }
    }
}
