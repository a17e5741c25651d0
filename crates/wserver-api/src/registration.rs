//! Why a registration is refused: one closed list of the reasons of authenticators, node and edge.

use wserver_auth::Refusal;
use wserver_node::RegisterError;

wserver_core::words! {
    /// Why a registration was refused: the word in counters and in the journal.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum RegistrationRefusal {
        /// The token belongs to nobody.
        Unknown = "unknown",
        /// The token, or what it grants, has expired.
        Expired = "expired",
        /// The token is not valid yet.
        NotYetValid = "not_yet_valid",
        /// The token does not permit this event.
        Forbidden = "forbidden",
        /// The token belongs to another user than the connection.
        OtherUser = "other_user",
        /// Nobody could check the token.
        Unavailable = "unavailable",
        /// The authenticator returned an invalid user id.
        UserId = "user_id",
        /// The connection has reached its limit of registrations.
        TooManyRegistrations = "too_many_registrations",
        /// The user has reached its limit of connections.
        UserFull = "user_full",
        /// The connection was ending.
        ConnectionEnding = "connection_ending",
        /// The names of the connection's registrations would exceed their limit.
        NamesTooLong = "names_too_long",
        /// The names of all registrations would exceed their limit.
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

    /// The parts that refuse have their own words, for their logs and the journal.
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
