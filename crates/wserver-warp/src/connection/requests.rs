//! A request of version 2 that is carried out one event after the other, and the words of its
//! refusals. It sends nothing.

use std::collections::VecDeque;
use std::time::SystemTime;

use wserver_auth::Refusal;
use wserver_core::{EventName, TokenDigest, UserId};
use wserver_node::{After, GapReason, RegisterError, Resumption};
use wserver_protocol::connection::{Code, Gap, Granted, Refused, RefusedEvent, Reply};

use crate::connection::declined::Declined;

/// The number of seconds after which a client may retry what could not be decided.
const RETRY_AFTER: u64 = 5;

/// A request to register events, or to renew all registrations.
pub(crate) struct InHand {
    id: u64,
    /// A secret, so this is not `Debug`.
    pub(crate) token: String,
    pub(crate) digest: TokenDigest,
    /// Whether a refused event loses its registration.
    pub(crate) is_refresh: bool,
    /// The events that are not decided yet: at most those of one message, or those that are
    /// registered.
    rest: VecDeque<EventName>,
    /// The position that the client had before, if it has one.
    pub(crate) after: Option<After>,
    /// Whose events are permitted.
    user: Option<UserId>,
    /// The events that the token permits, each with its expiry.
    permitted: Vec<(EventName, Option<SystemTime>)>,
    granted: Granted,
    /// Why the whole request is refused.
    refused: Option<Refused>,
}

impl InHand {
    pub(crate) fn new(
        id: u64,
        token: String,
        digest: TokenDigest,
        is_refresh: bool,
        rest: VecDeque<EventName>,
        refused: Vec<RefusedEvent>,
    ) -> Self {
        let granted = Granted { registered: Some(Vec::new()), refused, ..Granted::default() };
        let (after, user, permitted) = (None, None, Vec::new());
        Self { id, token, digest, is_refresh, rest, after, user, permitted, granted, refused: None }
    }

    /// The same for a client that has been here before, up to `after`.
    pub(crate) fn with_after(mut self, after: Option<After>) -> Self {
        self.after = after;
        self
    }

    /// The next event to decide.
    pub(crate) fn next_event(&mut self) -> Option<EventName> {
        self.rest.pop_front()
    }

    /// Whether the events that are permitted so far are those of `user`, or there is none.
    pub(crate) fn is_of(&self, user: &UserId) -> bool {
        self.user.as_ref().is_none_or(|own| own == user)
    }

    /// Notes that the token permits an event; it is registered when all are decided.
    pub(crate) fn permit(
        &mut self,
        user: UserId,
        event: &EventName,
        expires_at: Option<SystemTime>,
    ) {
        self.user = Some(user);
        self.permitted.push((event.clone(), expires_at));
    }

    /// Whether there is anything to register.
    pub(crate) fn is_any_permitted(&self) -> bool {
        !self.permitted.is_empty()
    }

    /// The events to register, each with its expiry, and for whom; `None` if there is none.
    pub(crate) fn take_permitted(&mut self) -> Option<Permitted> {
        let user = self.user.take()?;
        let (events, expiries) = std::mem::take(&mut self.permitted).into_iter().unzip();
        Some(Permitted { user, events, expiries })
    }

    /// Notes where the client stands in what is kept for it. `spread_seconds` is the time over which
    /// clients come back when all have to.
    pub(crate) fn resume(&mut self, resumption: Resumption, spread_seconds: u64) {
        self.granted.at = resumption.at.map(|at| at.to_string());
        match resumption.missed {
            None => {}
            Some(Ok(count)) => self.granted.replaying = Some(count as u64),
            Some(Err(reason)) => {
                let spread_seconds = if is_of_all(reason) { spread_seconds } else { 0 };
                let reason = reason.as_str().to_owned();
                self.granted.gap = Some(Gap { reason, spread_seconds });
            }
        }
    }

    /// Notes that an event is registered.
    pub(crate) fn grant(&mut self, event: &EventName) {
        self.granted.registered.get_or_insert_default().push(event.as_str().to_owned());
    }

    /// Notes that an event is refused; a reason that does not concern one event refuses the rest
    /// too.
    pub(crate) fn refuse(&mut self, event: &EventName, refused: Refused) {
        if is_of_one_event(refused.code) {
            self.refuse_one(event, refused);
            return;
        }
        let is_nothing =
            self.permitted.is_empty() && self.granted.registered.as_ref().is_none_or(Vec::is_empty);
        let rest = std::mem::take(&mut self.rest);
        if is_nothing {
            self.refused = Some(refused);
            return;
        }
        for event in std::iter::once(event).chain(&rest) {
            self.refuse_one(event, refused.clone());
        }
    }

    fn refuse_one(&mut self, event: &EventName, refused: Refused) {
        let event = event.as_str().to_owned();
        self.granted.refused.push(RefusedEvent { event, refused });
    }

    /// The reply, once all events are decided. `expires_in` is in whole seconds.
    pub(crate) fn reply(self, expires_in: Option<u64>) -> Reply {
        match self.refused {
            Some(refused) => Reply::error(Some(self.id), refused),
            None => Reply::ok(self.id, Granted { expires_in, ..self.granted }),
        }
    }

    /// The bytes that are kept of what was read.
    pub(crate) fn held_bytes(&self) -> usize {
        self.token.len() + self.rest.iter().map(|event| event.as_str().len()).sum::<usize>()
    }
}

/// The events of a request that its token permits.
pub(crate) struct Permitted {
    pub(crate) user: UserId,
    pub(crate) events: Vec<EventName>,
    /// In the order of the events.
    pub(crate) expiries: Vec<Option<SystemTime>>,
}

/// Whether many clients have such a gap at the same time.
const fn is_of_all(reason: GapReason) -> bool {
    match reason {
        GapReason::Restarted | GapReason::NodeGone | GapReason::Lost => true,
        GapReason::Expired | GapReason::Evicted | GapReason::TooFar => false,
    }
}

const fn is_of_one_event(code: Code) -> bool {
    matches!(code, Code::NotPermitted | Code::TooManyEvents | Code::NameTooLong)
}

/// What a client is told about a registration that was declined. Only the operator may know what is
/// wrong with a token.
pub(crate) fn of_declined(declined: &Declined) -> Refused {
    match declined {
        Declined::Refused(refusal) => match refusal {
            Refusal::Unknown | Refusal::Faulty { .. } => {
                Refused::new(Code::TokenRefused, "the token is unknown or malformed")
            }
            Refusal::NotYetValid => Refused::new(Code::TokenRefused, "the token is not valid yet"),
            Refusal::Expired => expired(),
            Refusal::Forbidden => not_permitted(),
            Refusal::Unavailable { .. } => {
                Refused::new(Code::Busy, "the server cannot check tokens now")
                    .with_retry_after(RETRY_AFTER)
            }
        },
        Declined::Expired => expired(),
        Declined::User(_) => Refused::new(Code::TokenRefused, "the token names an invalid user id"),
        Declined::Forbidden(_) => not_permitted(),
        Declined::OtherUser => Refused::new(
            Code::OtherUser,
            "this connection belongs to another user; open a connection for each user",
        ),
    }
}

fn expired() -> Refused {
    Refused::new(Code::TokenExpired, "the token has expired")
}

fn not_permitted() -> Refused {
    Refused::new(Code::NotPermitted, "the token does not permit this event")
}

/// What a client is told about a registration that was not bound.
pub(crate) fn of_error(error: &RegisterError) -> Refused {
    match error {
        RegisterError::TooMany { .. } => Refused::new(Code::TooManyEvents, error.to_string()),
        RegisterError::NamesTooLong { .. } => Refused::new(Code::NameTooLong, error.to_string()),
        RegisterError::NamesFull { .. } => {
            Refused::new(Code::Busy, "the server has no room for more registrations")
                .with_retry_after(RETRY_AFTER)
        }
        RegisterError::UserFull { .. } | RegisterError::Ending => {
            Refused::new(Code::Draining, error.to_string())
        }
    }
}

/// The events of a request in order, each once; names that are too long are refused.
pub(crate) fn events_of(
    names: &[String],
    name_bytes_max: usize,
) -> (VecDeque<EventName>, Vec<RefusedEvent>) {
    let (mut events, mut refused) = (VecDeque::new(), Vec::new());
    let mut seen = std::collections::HashSet::new();
    for name in names.iter().filter(|name| seen.insert(name.as_str())) {
        match EventName::parse(name, name_bytes_max) {
            Ok(event) => events.push_back(event),
            Err(error) => {
                let detail = format!("the event {error} (name_bytes_max)");
                // A long name is not repeated in full.
                let event = name.chars().take(64).collect();
                let refusal = Refused::new(Code::NameTooLong, detail);
                refused.push(RefusedEvent { event, refused: refusal });
            }
        }
    }
    (events, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_hand(names: &[&str]) -> InHand {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (events, refused) = events_of(&names, 5);
        let binder = wserver_core::Binder::<()>::new(1);
        InHand::new(7, "token".to_owned(), binder.digest("token"), false, events, refused)
    }

    #[test]
    fn each_event_is_decided_once_and_by_itself() {
        let mut request = in_hand(&["news", "chat", "news", "orders"]);
        let [news, chat] = [(); 2].map(|()| request.next_event().unwrap());
        assert_eq!(request.next_event(), None);
        request.grant(&news);
        request.refuse(&chat, not_permitted());
        assert_eq!(
            request.reply(Some(60)).encode(),
            "{\"re\":7,\"ok\":{\"registered\":[\"news\"],\"refused\":[\
             {\"event\":\"orders\",\"code\":\"name_too_long\",\"detail\":\
             \"the event is 6 bytes long, the limit is 5 (name_bytes_max)\"},\
             {\"event\":\"chat\",\"code\":\"not_permitted\",\"detail\":\
             \"the token does not permit this event\"}],\"expires_in\":60}}"
        );
    }

    #[test]
    fn a_token_that_is_refused_refuses_the_request() {
        let mut request = in_hand(&["news", "chat"]);
        let news = request.next_event().unwrap();
        request.refuse(&news, expired());
        assert_eq!(request.next_event(), None, "it is not asked for the others");
        assert_eq!(
            request.reply(None).encode(),
            "{\"re\":7,\"error\":{\"code\":\"token_expired\",\"detail\":\"the token has expired\"}}"
        );
    }

    /// What was granted stays granted, and the client learns about each of the others.
    #[test]
    fn what_cannot_be_decided_any_more_refuses_the_rest() {
        let mut request = in_hand(&["news", "chat", "mail"]);
        let [news, chat] = [(); 2].map(|()| request.next_event().unwrap());
        request.grant(&news);
        let unavailable = Declined::Refused(Refusal::unavailable("no answer"));
        request.refuse(&chat, of_declined(&unavailable));
        assert_eq!(request.next_event(), None);
        let reply = request.reply(None).encode();
        for event in ["chat", "mail"] {
            let refused = format!("{{\"event\":\"{event}\",\"code\":\"busy\"");
            assert!(reply.contains(&refused), "{reply}");
        }
        assert!(reply.contains("\"registered\":[\"news\"]"), "{reply}");
        assert!(!reply.contains("no answer"), "what a backend says is the operator's: {reply}");
    }
}
