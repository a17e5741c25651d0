//! The requests of a connection, from message to answer: registrations of version 1, which get no
//! reply, and requests of version 2.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tracing::{debug, trace};
use wserver_api::RegistrationRefusal;
use wserver_auth::{Identity, Refusal};
use wserver_core::{CloseReason, EventName, Registration, Session, TokenDigest, UserId};
use wserver_node::{After, Attachment, GapReason, Missed, Phase, Registered};
use wserver_protocol::connection::{
    Asked, Code, FromClient, Granted, Hello, Refused, Reply, Request, RequestError,
};
use wserver_protocol::{Protocol, frame};

use super::Driver;
use crate::connection::declined::{self, Declined};
use crate::connection::registering::{Fetching, InFlight, Pending, Turn};
use crate::connection::requests::{self, InHand, Permitted};
use crate::connection::shared::{Shared, heartbeat_seconds};
use crate::connection::wire::Socket;
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
                    if let Some(fetching) = self.conclude(in_hand) {
                        registering.fetch(fetching);
                    }
                }
                Turn::Fetched(fetching, kept) => self.release(fetching, kept),
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
        let mut position = None;
        let (token, is_refresh, (events, refused)) = match asked {
            Asked::Register { events, token, after } => {
                if after.is_some() && !self.attachment.registrations().is_empty() {
                    let detail = "after belongs to the first registration of a connection";
                    self.refuse(id, Code::Malformed, detail);
                    return None;
                }
                position = after.map(|it| After::parse(&it));
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
        Some(InHand::new(id, token, digest, is_refresh, events, refused).with_after(position))
    }

    fn refuse(&mut self, id: u64, code: Code, detail: impl Into<String>) {
        self.attachment.note_refused(None, None, "malformed");
        self.reply(Reply::error(Some(id), Refused::new(code, detail)));
    }

    /// Registers what a request of version 2 is permitted, and replies to it, unless the reply waits
    /// for another node.
    fn conclude(&mut self, mut in_hand: InHand) -> Option<Fetching> {
        let Some(permitted) = in_hand.take_permitted() else {
            let left = self.session.expires_in(self.shared.wall_clock.now());
            self.reply(in_hand.reply(left.map(|left| left.as_secs())));
            return None;
        };
        let (token, after) = (in_hand.digest, in_hand.after);
        let Permitted { user, events, .. } = &permitted;
        let mut in_hand = Some(in_hand);
        let attachment = &self.attachment;
        let conclusion = Conclusion {
            shared: &self.shared,
            attachment,
            session: &mut self.session,
            is_greeted: &mut self.is_greeted,
        };
        let reply = |registered| {
            let in_hand = in_hand.take().expect("a request has one reply");
            conclusion.reply(in_hand, &permitted, registered)
        };
        let held = attachment.register_together(user, events, token, after, reply)?;
        let in_hand = in_hand?;
        // It is registered, although it does not know it yet.
        self.session.handle_registered();
        let answer = self.shared.fetch_kept(held.user.clone(), held.after);
        Some(Fetching { held, in_hand, permitted, answer })
    }

    /// Replies to a registration for which another node was asked.
    fn release(&mut self, fetching: Fetching, kept: Result<Vec<Missed>, GapReason>) {
        let Fetching { held, in_hand, permitted, .. } = fetching;
        let attachment = &self.attachment;
        let conclusion = Conclusion {
            shared: &self.shared,
            attachment,
            session: &mut self.session,
            is_greeted: &mut self.is_greeted,
        };
        attachment
            .release(held, kept, |registered| conclusion.reply(in_hand, &permitted, registered));
    }

    /// Sends the reply to a request.
    fn reply(&mut self, reply: Reply) {
        let reply = greeted(&self.shared, &self.attachment, &mut self.is_greeted, reply);
        self.attachment.send(&said(self.protocol(), &reply.encode()));
    }

    /// Registers what a request for a stream is permitted, and tells it first of all.
    pub(crate) fn begin_stream(&mut self, in_hand: InHand) {
        if let Some(fetching) = self.conclude(in_hand) {
            self.registering.get_or_insert_default().fetch(fetching);
        }
    }

    /// Ends the connection's registrations with these names; returns those that existed.
    fn unregister(&mut self, names: &[String]) -> Vec<String> {
        let mut ended = Vec::new();
        for Registration { user, event, .. } in self.attachment.registrations() {
            if names.iter().any(|name| name == event.as_str())
                && self.attachment.unregister(&user, &event)
            {
                set_expiry(&self.shared, &mut self.session, &user, &event, None);
                ended.push(event.as_str().to_owned());
            }
        }
        ended
    }

    /// Judges what a token permits. A registration of version 1 is made at once, one of a request
    /// when all its events are decided. Why something is refused goes to the log, the journal and
    /// the counters, and to a client of version 2.
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
        if let (Some(in_hand), Ok((user, _))) = (&in_hand, &judged)
            && !(in_hand.is_of(user) && self.belongs_to(user))
        {
            judged = Err(Declined::OtherUser);
        }
        let (user, expires_at) = match judged {
            Ok(good) => good,
            Err(declined) => {
                let reason = declined.reason();
                shared.count_refused(reason);
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
        if let Some(in_hand) = in_hand {
            in_hand.permit(user, event, expires_at);
            return;
        }
        match self.attachment.register(&user, event, in_flight.token) {
            Ok(bound) => {
                trace!(conn = %id, ?bound, "registered");
                self.session.handle_registered();
                set_expiry(&shared, &mut self.session, &user, event, expires_at);
            }
            Err(error) => {
                shared.count_refused(RegistrationRefusal::from(&error));
                debug!(conn = %id, %error, "registration refused");
            }
        }
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
                set_expiry(&self.shared, &mut self.session, &registration.user, event, None);
            }
        }
    }

    /// Whether a connection belongs to this user, or to none yet.
    fn belongs_to(&self, user: &UserId) -> bool {
        let registrations = self.attachment.registrations();
        registrations.is_empty() || registrations.iter().any(|it| it.user == *user)
    }
}

/// What the reply to a registration needs of its connection.
struct Conclusion<'a> {
    shared: &'a Shared,
    attachment: &'a Attachment<Socket>,
    session: &'a mut Session,
    is_greeted: &'a mut bool,
}

impl Conclusion<'_> {
    /// Takes note of what is registered; returns the frame of the reply.
    fn reply(self, mut in_hand: InHand, permitted: &Permitted, registered: Registered) -> Bytes {
        let Self { shared, attachment, session, is_greeted } = self;
        let Permitted { user, events, expiries } = permitted;
        for ((event, expires_at), result) in events.iter().zip(expiries).zip(registered.results) {
            match result {
                Ok(bound) => {
                    trace!(conn = %attachment.id(), ?bound, "registered");
                    session.handle_registered();
                    set_expiry(shared, session, user, event, *expires_at);
                    in_hand.grant(event);
                }
                Err(error) => {
                    shared.count_refused(RegistrationRefusal::from(&error));
                    debug!(conn = %attachment.id(), %error, "registration refused");
                    in_hand.refuse(event, requests::of_error(&error));
                }
            }
        }
        if let Some(resumption) = registered.resumption {
            in_hand.resume(resumption, shared.limits.drain_spread.as_secs());
        }
        let left = session.expires_in(shared.wall_clock.now());
        let reply = in_hand.reply(left.map(|left| left.as_secs()));
        let protocol = attachment.outbox().protocol();
        said(protocol, &greeted(shared, attachment, is_greeted, reply).encode())
    }
}

fn set_expiry(
    shared: &Shared,
    session: &mut Session,
    user: &UserId,
    event: &EventName,
    expires_at: Option<SystemTime>,
) {
    if expires_at.is_some() || session.has_expiry() {
        session.handle_expiry(shared.node.registration_key(user, event), expires_at);
    }
}

/// The first reply of a connection introduces the server.
fn greeted(
    shared: &Shared,
    attachment: &Attachment<Socket>,
    is_greeted: &mut bool,
    mut reply: Reply,
) -> Reply {
    if !std::mem::replace(is_greeted, true) {
        reply.hello = Some(Hello {
            connection: attachment.id().to_string(),
            heartbeat: heartbeat_seconds(&shared.limits),
            features: shared.features(),
        });
    }
    reply
}

/// What the server says, in the form of the connection. Version 1 has no such form, and no request.
fn said(protocol: Protocol, json: &str) -> Bytes {
    protocol.say(json).unwrap_or_else(|| frame::text(json))
}
