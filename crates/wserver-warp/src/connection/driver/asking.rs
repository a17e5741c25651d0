//! The requests of a connection, from message to answer: registrations of version 1, which get no
//! reply, and requests of version 2.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use tracing::{debug, info, trace};
use wserver_api::RegistrationRefusal;
use wserver_auth::{Identity, Refusal};
use wserver_core::{CloseReason, EventName, Registration, TokenDigest, UserId};
use wserver_node::Phase;
use wserver_protocol::connection::{
    Asked, Code, FromClient, Granted, Hello, Refused, Reply, Request, RequestError,
};
use wserver_protocol::frame;

use super::Driver;
use crate::connection::declined::{self, Declined};
use crate::connection::registering::{InFlight, Pending, Turn};
use crate::connection::requests::{self, InHand};
use crate::connection::shared::heartbeat_seconds;
use crate::counters::Authentication;

impl Driver {
    /// Reads a message of version 1; ignores it if it is not a register message.
    pub(super) fn register_message(&self, message: &[u8]) -> Option<Pending> {
        let handshake_token = self.handshake.as_ref().and_then(|it| it.token.as_deref());
        let bytes_max = self.shared.limits.name_bytes_max;
        let parsed = Pending::parse(message, handshake_token, bytes_max);
        parsed.inspect_err(|why| self.note_malformed(why, "register message ignored")).ok()
    }

    /// Reads a message of version 2, and takes acknowledgements at once; one that cannot be answered ends the connection.
    pub(super) fn request(&self, message: &[u8]) -> Option<Pending> {
        match FromClient::parse(message) {
            Ok(FromClient::Request(request)) => Some(Pending::Request(request)),
            Ok(FromClient::Ack(ids)) => {
                // What is no id of a push acknowledges nothing, like an id that nobody waits for.
                for push in ids.iter().filter_map(|id| id.parse().ok()) {
                    self.attachment.acknowledge(push);
                }
                None
            }
            // A kind of message that this server does not know.
            Ok(_) => None,
            Err(RequestError::Refused { id, code, detail }) => {
                self.note_malformed(detail, "request refused");
                Some(Pending::Refused(Reply::error(id, Refused::new(code, detail))))
            }
            Err(error @ RequestError::NotAnObject) => {
                self.note_malformed(&error.to_string(), "no request");
                self.attachment.close(CloseReason::Malformed);
                None
            }
        }
    }

    fn note_malformed(&self, why: &str, what: &str) {
        self.shared.counters.registrations_malformed_total.increment();
        self.attachment.note_refused(None, None, "malformed");
        debug!(conn = %self.attachment.id(), why, "{what}");
    }

    /// Carries out requests as long as the authenticator answers at once.
    pub(super) fn poll_registering(&mut self, cx: &mut Context<'_>) {
        while let Some(mut registering) = self.registering.take() {
            let node = &self.shared.node;
            let turn = registering.poll(
                cx,
                |text, token, event| self.authenticate(text, token, event),
                |token| node.digest(token),
            );
            let Poll::Ready(Some(turn)) = turn else {
                if turn.is_pending() || !registering.unread.is_empty() {
                    self.registering = Some(registering);
                }
                return;
            };
            match turn {
                Turn::Answered(in_flight, answer) => {
                    self.finish(&in_flight, answer, registering.in_hand.as_mut());
                }
                Turn::Request(request) => registering.in_hand = self.begin(request),
                Turn::Done(in_hand) => {
                    let left = self.session.expires_in(self.shared.wall_clock.now());
                    self.reply(in_hand.reply(left.map(|left| left.as_secs())));
                }
                Turn::Reply(reply) => self.reply(reply),
            }
            if self.attachment.outbox().phase() != Phase::Open {
                // The requests that wait behind it are dropped.
                return;
            }
            self.registering = Some(registering);
        }
    }

    fn authenticate(&self, text: String, token: TokenDigest, event: EventName) -> InFlight {
        let deadline = Instant::now() + self.shared.limits.authenticate_timeout;
        let authenticator = Arc::clone(&self.shared.authenticator);
        let headers = self.handshake.as_ref().and_then(|it| it.headers.clone());
        InFlight::begin(authenticator, text, token, event, self.peer(), headers, deadline)
    }

    /// Begins a request of version 2, or answers it at once.
    fn begin(&mut self, Request { id, asked }: Request) -> Option<InHand> {
        let bytes_max = self.shared.limits.name_bytes_max;
        let (token, is_refresh, (events, refused)) = match asked {
            Asked::Register { events, token } => {
                let handshake_token = self.handshake.as_ref().and_then(|it| it.token.as_deref());
                let token = token.or_else(|| handshake_token.map(str::to_owned));
                (token, false, requests::events_of(&events, bytes_max))
            }
            Asked::Refresh { token } => {
                let mut events: VecDeque<EventName> =
                    self.attachment.registrations().into_iter().map(|it| it.event).collect();
                events.make_contiguous().sort_unstable();
                if events.is_empty() {
                    let detail = "nothing is registered that a token could renew";
                    self.refuse(id, Code::Malformed, detail);
                    return None;
                }
                (Some(token), true, (events, Vec::new()))
            }
            Asked::Unregister { events } => {
                let granted =
                    Granted { unregistered: Some(self.unregister(&events)), ..Granted::default() };
                self.reply(Reply::ok(id, granted));
                return None;
            }
            _ => {
                self.reply(Reply::ok(id, Granted::default()));
                return None;
            }
        };
        let Some(token) = token else {
            self.refuse(
                id,
                Code::TokenMissing,
                "the request has no token, and the handshake had none",
            );
            return None;
        };
        if token.len() > bytes_max {
            let bytes = token.len();
            let detail = format!(
                "the token is {bytes} bytes long, the limit is {bytes_max} (name_bytes_max)"
            );
            self.refuse(id, Code::NameTooLong, detail);
            return None;
        }
        let digest = self.shared.node.digest(&token);
        Some(InHand::new(id, token, digest, is_refresh, events, refused))
    }

    fn refuse(&mut self, id: u64, code: Code, detail: impl Into<String>) {
        self.attachment.note_refused(None, None, "malformed");
        self.reply(Reply::error(Some(id), Refused::new(code, detail)));
    }

    /// Sends the reply to a request; the first reply introduces the server.
    fn reply(&mut self, mut reply: Reply) {
        if !std::mem::replace(&mut self.is_greeted, true) {
            reply.hello = Some(Hello {
                connection: self.attachment.id().to_string(),
                heartbeat: heartbeat_seconds(&self.shared.limits),
                features: Vec::new(),
            });
        }
        self.attachment.send(&frame::text(&reply.encode()));
    }

    /// Ends the connection's registrations with these names; returns those that existed.
    fn unregister(&mut self, names: &[String]) -> Vec<String> {
        let mut ended = Vec::new();
        for Registration { user, event, .. } in self.attachment.registrations() {
            if names.iter().any(|name| name == event.as_str())
                && self.attachment.unregister(&user, &event)
            {
                self.set_expiry(&user, &event, None);
                ended.push(event.as_str().to_owned());
            }
        }
        ended
    }

    fn set_expiry(&mut self, user: &UserId, event: &EventName, expires_at: Option<SystemTime>) {
        if expires_at.is_some() || self.session.has_expiry() {
            let key = self.shared.node.registration_key(user, event);
            self.session.handle_expiry(key, expires_at);
        }
    }

    /// Registers what a token permits, or reports why not: to the log, the journal and the
    /// counters, and to a client of version 2.
    fn finish(
        &mut self,
        in_flight: &InFlight,
        answer: Result<Identity, Refusal>,
        in_hand: Option<&mut InHand>,
    ) {
        let id = self.attachment.id();
        let shared = Arc::clone(&self.shared);
        shared.counters.authentications_total.increment(Authentication::from(&answer));
        let wall = shared.wall_clock.now();
        if self.session.is_expired(wall) {
            // A client that renews too late has been without a valid registration for a while.
            self.attachment.close(CloseReason::Expired);
            return;
        }
        let event = &in_flight.event;
        let mut judged = declined::judge(answer, event, wall, shared.limits.name_bytes_max);
        if in_hand.is_some()
            && let Ok((user, _)) = &judged
            && !self.belongs_to(user)
        {
            judged = Err(Declined::OtherUser);
        }
        let (user, expires_at) = match judged {
            Ok(good) => good,
            Err(declined) => {
                let reason = declined.reason();
                self.count_refused(reason);
                self.attachment.note_refused(declined.user(), Some(event), declined.noted());
                let reason = reason.as_str();
                debug!(conn = %id, error = %declined, reason, "registration refused");
                if let Some(in_hand) = in_hand {
                    self.end_what_is_not_permitted(in_hand, &declined, event);
                    in_hand.refuse(event, requests::of_declined(&declined));
                }
                return;
            }
        };
        match self.attachment.register(&user, event, in_flight.token) {
            Ok(bound) => {
                trace!(conn = %id, ?bound, "registered");
                self.session.handle_registered();
                self.set_expiry(&user, event, expires_at);
                if let Some(in_hand) = in_hand {
                    in_hand.grant(event);
                }
            }
            Err(error) => {
                self.count_refused(RegistrationRefusal::from(&error));
                debug!(conn = %id, %error, "registration refused");
                if let Some(in_hand) = in_hand {
                    in_hand.refuse(event, requests::of_error(&error));
                }
            }
        }
    }

    /// Counts a registration that is refused; the log says so once a minute for each reason.
    fn count_refused(&self, refusal: RegistrationRefusal) {
        let refused_total = &self.shared.counters.registrations_refused_total;
        refused_total.increment_and_log(refusal, Instant::now(), |total| {
            info!(
                reason = refusal.as_str(),
                total,
                "registrations are being refused; `wserver explain` says more about a user and event"
            );
        });
    }

    /// Ends the registration of an event that the token of a refresh does not permit.
    fn end_what_is_not_permitted(
        &mut self,
        in_hand: &InHand,
        declined: &Declined,
        event: &EventName,
    ) {
        if !in_hand.is_refresh || declined.reason() != RegistrationRefusal::Forbidden {
            return;
        }
        for registration in self.attachment.registrations() {
            if registration.event == *event && self.attachment.unregister(&registration.user, event)
            {
                self.set_expiry(&registration.user, event, None);
            }
        }
    }

    /// Whether a connection belongs to this user, or to none yet.
    fn belongs_to(&self, user: &UserId) -> bool {
        let registrations = self.attachment.registrations();
        registrations.is_empty() || registrations.iter().any(|it| it.user == *user)
    }
}
