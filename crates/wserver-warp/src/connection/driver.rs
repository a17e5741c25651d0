//! One small task per connection: readiness, frames, registrations, deadlines, the end.
//!
//! The task owns the reading side and the session; every byte out goes through the outbox. Written
//! as one state machine by hand, because its size is most of what an idle connection costs.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::HeaderMap;
use tracing::{debug, trace};
use wserver_auth::{Credentials, Identity, Refusal};
use wserver_core::{Action, CloseReason, EventName, Session, TokenDigest, UserId};
use wserver_node::{Attachment, Flush, Phase};
use wserver_protocol::{
    CloseCode, DecodeError, DecodeLimits, Decoder, Inbound, Register, Role, frame,
};

use crate::connection::hooks::{Connection, Flow, Received};
use crate::connection::read_buffer;
use crate::connection::shared::Shared;
use crate::connection::wire::Socket;
use crate::upgrade::addresses::AddressPermit;

/// So much of a message may be half read whatever the others have: a registration whose bytes come in
/// two pieces is no hoard.
const HALF_READ_BYTES_FREE: u32 = 2048;

/// Reads of one poll, before other tasks have their turn.
const READS_MAX: usize = 4;

/// What few connections need and no idle one has: registrations under way.
#[derive(Default)]
struct Registering {
    current: Option<InFlight>,
    /// Bounded by `registrations_pending_max`; beyond it reading pauses.
    pending: VecDeque<Pending>,
    /// Read, but behind the pause. Bounded by one read.
    unread: Vec<u8>,
}

impl Registering {
    /// What is kept of what was read.
    fn held_bytes(&self) -> usize {
        let pending = self.pending.iter().map(|it| it.token.len() + it.event.as_str().len());
        self.unread.len() + pending.sum::<usize>()
    }
}

struct Pending {
    token: String,
    event: EventName,
}

struct InFlight {
    answer: Pin<Box<dyn Future<Output = Result<Identity, Refusal>> + Send>>,
    event: EventName,
    token: TokenDigest,
    deadline: Instant,
}

/// How far the end of a connection is that is closing.
///
/// Once both ends have sent their Close it is for the server to end the TCP connection (RFC 6455,
/// section 7.1.1). A client that sees its end earlier may throw away what it has not read yet, and
/// holds the closing for unclean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// The peer's Close has not come, and our writing side stays open for as long.
    Awaited,
    /// The peer's Close has come; what it still sends is not looked at.
    Come,
    /// The same, and our writing side is shut.
    Shut,
    /// The peer has shut its own writing side.
    Gone,
}

/// Drives one connection from its upgrade to its end.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    attachment: Attachment<Socket>,
    session: Session,
    decoder: Decoder,
    /// Apart, because a `SocketAddr` takes twelve bytes more.
    peer_ip: IpAddr,
    peer_port: u16,
    farewell: Farewell,
    /// What it has its part of in `EdgeCounters::inbound_bytes`.
    half_read_bytes: u32,
    registering: Option<Box<Registering>>,
    /// What most connections come without.
    handshake: Option<Box<Handshake>>,
}

/// What a connection keeps of its handshake.
pub(crate) struct Handshake {
    /// Those headers that the authenticator reads, if any came.
    headers: Option<Arc<HeaderMap>>,
    /// The token for registrations without one: a secret, so nothing here is `Debug`.
    token: Option<Box<str>>,
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

/// Whether the connection goes on.
type Step = ControlFlow<()>;

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        attachment: Attachment<Socket>,
        peer: SocketAddr,
        handshake: Option<Box<Handshake>>,
    ) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits of a running number do")]
        let spread = attachment.id().as_u64() as u32;
        let session = Session::new(&shared.limits, Instant::now(), spread);
        debug!(conn = %attachment.id(), %peer, "connection opened");
        Self {
            shared,
            attachment,
            session,
            decoder: Decoder::new(Role::Server),
            peer_ip: peer.ip(),
            peer_port: peer.port(),
            farewell: Farewell::Awaited,
            half_read_bytes: 0,
            registering: None,
            handshake,
        }
    }

    /// Takes in what the client sent right behind its handshake.
    pub(crate) fn preload(&mut self, parts: &[&[u8]]) {
        let bytes = parts.concat();
        if !bytes.is_empty() {
            self.registering.get_or_insert_default().unread = bytes;
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, written_bytes: u64) -> Step {
        self.resume_unread(cx);
        self.poll_registering(cx);
        self.poll_read(cx)?;
        self.count_half_read();
        if self.attachment.outbox().phase() != Phase::Open {
            // Closing wakes this task, and the next poll is of a closing connection.
            return Step::Continue(());
        }
        let shared = Arc::clone(&self.shared);
        let (now, wall) = (Instant::now(), shared.wall_clock.now());
        if self.is_paused() {
            // Its pong may stand among what is not read yet.
            self.session.handle_paused(now);
        }
        loop {
            match self.session.poll(&shared.limits, now, wall, written_bytes) {
                Action::Ping => {
                    self.attachment.send(&shared.ping);
                }
                // Somebody else has registered it meanwhile.
                Action::Close(CloseReason::NotRegistered) if self.attachment.was_registered() => {
                    self.session.handle_registered();
                }
                Action::Close(reason) => {
                    self.attachment.close(reason);
                    return Step::Continue(());
                }
                Action::Terminate => return Step::Break(()),
                Action::Wait(deadline) => {
                    let authentication = self.registering.as_ref().and_then(|registering| {
                        registering.current.as_ref().map(|in_flight| in_flight.deadline)
                    });
                    self.attachment.wake_at([deadline, authentication].into_iter().flatten().min());
                    return Step::Continue(());
                }
            }
        }
    }

    /// Our Close is under way: sees it out, waits for the peer's, shuts the writing side, and reads
    /// until the peer has shut its own, so that a reset does not eat what it has not read yet.
    fn poll_closing(&mut self, cx: &mut Context<'_>, reason: CloseReason, flush: Flush) -> Step {
        if let Some(registering) = self.registering.take() {
            // The peer's Close may stand among what is not read yet.
            self.decoder.pass_over(&registering.unread);
        }
        // From here on no payload is kept.
        self.decoder.pass_over(&[]);
        self.count_half_read();
        self.poll_farewell(cx)?;
        let Flush { is_empty: is_flushed, written_bytes, .. } = flush;
        if reason == CloseReason::Shutdown && !is_flushed {
            // What was accepted may take as long as the drain, which cuts off who takes longer.
            self.attachment.wake_at(None);
            return Step::Continue(());
        }
        let shared = Arc::clone(&self.shared);
        let (now, wall) = (Instant::now(), shared.wall_clock.now());
        self.session.handle_closing(&shared.limits, now);
        let is_over = match self.session.poll(&shared.limits, now, wall, written_bytes) {
            Action::Wait(deadline) => {
                self.attachment.wake_at(deadline);
                false
            }
            Action::Terminate | Action::Close(_) | Action::Ping => true,
        };
        match self.farewell {
            Farewell::Awaited | Farewell::Shut if !is_over => return Step::Continue(()),
            Farewell::Shut => return Step::Break(()),
            Farewell::Awaited | Farewell::Come | Farewell::Gone => {}
        }
        if !is_flushed {
            if is_over {
                // The peer does not read: forget what waits, and let it see the end at once.
                self.socket().abandon();
                return Step::Break(());
            }
            return Step::Continue(());
        }
        let is_shut = self.socket().poll_shut_write(cx).is_ready();
        if is_over || (is_shut && self.farewell == Farewell::Gone) {
            return Step::Break(());
        }
        if is_shut {
            self.farewell = Farewell::Shut;
        }
        Step::Continue(())
    }

    /// Reads on for the peer's Close, and behind it for its end; breaks when both ends are shut, or
    /// the socket has failed.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Step {
        read_buffer::with(|buffer| {
            for _ in 0..READS_MAX {
                if self.farewell == Farewell::Awaited && self.decoder.is_closed() {
                    self.farewell = Farewell::Come;
                }
                let read = match self.farewell {
                    Farewell::Awaited => self.socket().poll_read(cx, buffer),
                    Farewell::Come | Farewell::Shut => self.socket().poll_discard(cx, buffer),
                    Farewell::Gone => return Step::Continue(()),
                };
                match read {
                    Poll::Pending => return Step::Continue(()),
                    Poll::Ready(Ok(0)) if self.farewell != Farewell::Shut => {
                        // What is queued is still sent: it may have shut no more than one side.
                        self.farewell = Farewell::Gone;
                    }
                    Poll::Ready(Ok(count @ 1..)) => {
                        self.decoder.pass_over(&buffer[..count]);
                    }
                    Poll::Ready(Ok(0) | Err(_)) => return Step::Break(()),
                }
            }
            cx.waker().wake_by_ref();
            Step::Continue(())
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Step {
        read_buffer::with(|buffer| {
            for _ in 0..READS_MAX {
                if self.is_paused() || self.attachment.outbox().phase() != Phase::Open {
                    return Step::Continue(());
                }
                match self.socket().poll_read(cx, buffer) {
                    Poll::Pending => return Step::Continue(()),
                    Poll::Ready(Ok(0)) => return Step::Break(()),
                    Poll::Ready(Ok(count)) => self.take_in(cx, &mut buffer[..count]),
                    Poll::Ready(Err(error)) => {
                        trace!(conn = %self.attachment.id(), %error, "read failed");
                        return Step::Break(());
                    }
                }
            }
            cx.waker().wake_by_ref();
            Step::Continue(())
        })
    }

    fn socket(&self) -> &Socket {
        self.attachment.outbox().wire()
    }

    /// Whether reading waits for registrations: for what is unread, or for room among them.
    fn is_paused(&self) -> bool {
        let is_unread =
            self.registering.as_ref().is_some_and(|registering| !registering.unread.is_empty());
        is_unread || self.is_registering_full()
    }

    /// Decodes `input` as far as registrations may wait; what is behind that is kept for later.
    fn take_in(&mut self, cx: &mut Context<'_>, input: &mut [u8]) {
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::new(Role::Server));
        let limits = DecodeLimits {
            message_bytes_max: self.shared.limits.inbound_message_bytes_max,
            fragments_max: self.shared.limits.inbound_fragments_max,
        };
        let now = Instant::now();
        let mut consumed = 0;
        let result = loop {
            match decoder
                .decode(&limits, &mut input[consumed..], |inbound| self.handle(&inbound, now))
            {
                Ok(count) => {
                    consumed += count;
                    self.poll_registering(cx);
                    let is_open = self.attachment.outbox().phase() == Phase::Open;
                    if consumed == input.len() || !is_open || self.is_registering_full() {
                        break Ok(());
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.decoder = decoder;
        if let Err(error) = result {
            debug!(conn = %self.attachment.id(), %error, "refused what was read");
            self.attachment.note_protocol_broken(error.as_str());
            self.attachment.close_with(
                close_reason(&error),
                &frame::close(error.close_code(), &error.to_string()),
            );
        } else if self.attachment.outbox().phase() != Phase::Open {
            // The peer's Close may stand among what is left.
            self.decoder.pass_over(&input[consumed..]);
        } else if consumed < input.len() && self.is_registering_full() {
            self.registering.get_or_insert_default().unread = input[consumed..].to_vec();
        }
    }

    /// Counts what is kept of messages that are half read or wait, and closes where there is no room
    /// for it.
    fn count_half_read(&mut self) {
        let waiting = self.registering.as_ref().map_or(0, |registering| registering.held_bytes());
        let held = u32::try_from(self.decoder.held_bytes() + waiting).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.half_read_bytes, held);
        if held <= before {
            // Nearly every message comes whole, and all connections share this number.
            if held < before {
                self.shared
                    .counters
                    .inbound_bytes
                    .fetch_sub((before - held) as usize, Ordering::Relaxed);
            }
            return;
        }
        let more = (held - before) as usize;
        let all = self.shared.counters.inbound_bytes.fetch_add(more, Ordering::Relaxed) + more;
        if held > HALF_READ_BYTES_FREE && all > self.shared.limits.inbound_bytes_max {
            self.attachment.close(CloseReason::InboundFull);
        }
    }

    fn resume_unread(&mut self, cx: &mut Context<'_>) {
        self.poll_registering(cx);
        if self.is_paused() && !self.is_registering_full() {
            let mut unread = self
                .registering
                .as_mut()
                .map(|registering| std::mem::take(&mut registering.unread))
                .unwrap_or_default();
            self.take_in(cx, &mut unread);
        }
    }

    fn is_registering_full(&self) -> bool {
        self.registering.as_ref().is_some_and(|registering| {
            registering.pending.len() >= self.shared.limits.registrations_pending_max
        })
    }

    fn handle(&mut self, inbound: &Inbound<'_>, now: Instant) -> ControlFlow<()> {
        let shared = Arc::clone(&self.shared);
        let limits = &shared.limits;
        let allowed = match inbound {
            Inbound::Text(_) | Inbound::Binary(_) => self.session.handle_message(limits, now),
            Inbound::Ping(_) => self.session.handle_ping(limits, now),
            Inbound::Pong(_) => {
                self.session.handle_pong(limits, now, self.attachment.outbox().written_bytes())
            }
            Inbound::Close(_) => Ok(()),
        };
        if let Err(reason) = allowed {
            self.attachment.close(reason);
            return ControlFlow::Break(());
        }
        if matches!(inbound, Inbound::Text(_) | Inbound::Binary(_) | Inbound::Pong(_)) {
            self.attachment.seen(now);
        }
        match inbound {
            Inbound::Text(text) => self.handle_message(Received::Text(text)),
            Inbound::Binary(bytes) => self.handle_message(Received::Binary(bytes)),
            Inbound::Ping(payload) => {
                self.attachment.send_pong(&frame::pong(payload));
                ControlFlow::Continue(())
            }
            Inbound::Pong(_) => ControlFlow::Continue(()),
            Inbound::Close(close) => {
                // The answer carries the code that was received (RFC 6455, section 5.5.1).
                let code = close.map_or(CloseCode::NORMAL, |(code, _)| code);
                self.attachment.close_with(CloseReason::PeerClosed, &frame::close(code, ""));
                ControlFlow::Break(())
            }
        }
    }

    fn handle_message(&mut self, message: Received<'_>) -> ControlFlow<()> {
        if let Some(hook) = &self.shared.hooks.message {
            let flow = hook(&self.handle_of(), message);
            if flow == Flow::Handled {
                self.session.handle_registered();
            }
            if self.attachment.outbox().phase() != Phase::Open {
                return ControlFlow::Break(());
            }
            if flow == Flow::Handled {
                return ControlFlow::Continue(());
            }
        }
        let (token, event) = match self.parse(message.as_bytes()) {
            Ok(register) => register,
            Err(why) => {
                self.shared.counters.registrations_malformed_total.increment();
                self.attachment.note_refused(None, None, "malformed");
                debug!(conn = %self.attachment.id(), why, "register message ignored");
                return ControlFlow::Continue(());
            }
        };
        self.registering.get_or_insert_default().pending.push_back(Pending { token, event });
        // Looked at before the frame behind it: where the authenticator answers at once, the pong
        // of a ping behind a registration tells that it was taken.
        ControlFlow::Break(())
    }

    fn parse(&self, message: &[u8]) -> Result<(String, EventName), String> {
        let handshake_token = self.handshake.as_ref().and_then(|it| it.token.as_deref());
        let register = Register::parse_with_token(message, handshake_token.unwrap_or_default())
            .map_err(|error| error.to_string())?;
        let bytes_max = self.shared.limits.name_bytes_max;
        let event = EventName::parse(&register.event, bytes_max)
            .map_err(|error| format!("event {error}"))?;
        if register.token.len() > bytes_max {
            return Err(format!(
                "token is {} bytes long, the limit is {bytes_max}",
                register.token.len()
            ));
        }
        Ok((register.token.into_owned(), event))
    }

    fn handle_of(&self) -> Connection {
        Connection::new(self.shared.node.clone(), self.attachment.outbox(), self.peer())
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
    }

    /// Takes registrations as far as the authenticator answers at once.
    fn poll_registering(&mut self, cx: &mut Context<'_>) {
        while let Some(mut registering) = self.registering.take() {
            if registering.current.is_none() {
                let Some(pending) = registering.pending.pop_front() else {
                    if !registering.unread.is_empty() {
                        self.registering = Some(registering);
                    }
                    return;
                };
                registering.current = Some(self.authenticate(pending));
            }
            let Some(in_flight) = &mut registering.current else { return };
            let answer = match in_flight.answer.as_mut().poll(cx) {
                Poll::Ready(answer) => answer,
                Poll::Pending if Instant::now() >= in_flight.deadline => {
                    Err(Refusal::unavailable("no answer within authenticate_timeout"))
                }
                Poll::Pending => {
                    self.registering = Some(registering);
                    return;
                }
            };
            if let Some(in_flight) = registering.current.take() {
                self.finish(&in_flight, answer);
            }
            if self.attachment.outbox().phase() != Phase::Open {
                // What waits behind it is not asked for any more.
                return;
            }
            self.registering = Some(registering);
        }
    }

    fn authenticate(&self, pending: Pending) -> InFlight {
        let token = self.shared.node.digest(&pending.token);
        let mut credentials =
            Credentials::new(pending.token, self.peer()).with_event(pending.event.as_str());
        if let Some(headers) = self.handshake.as_ref().and_then(|it| it.headers.as_ref()) {
            credentials = credentials.with_headers(Arc::clone(headers));
        }
        let authenticator = Arc::clone(&self.shared.authenticator);
        InFlight {
            answer: Box::pin(async move { authenticator.authenticate(credentials).await }),
            event: pending.event,
            token,
            deadline: Instant::now() + self.shared.limits.authenticate_timeout,
        }
    }

    fn finish(&mut self, in_flight: &InFlight, answer: Result<Identity, Refusal>) {
        let id = self.attachment.id();
        let shared = Arc::clone(&self.shared);
        shared.counters.count_authentication(&answer);
        let wall = shared.wall_clock.now();
        if self.session.is_expired(wall) {
            // Whoever renews too late has been without for a while.
            self.attachment.close(CloseReason::Expired);
            return;
        }
        // Under a user only what a token has proven; the rest is a stranger's.
        let refused = |user, error: &dyn std::fmt::Display, reason: &'static str| {
            shared.counters.registrations_refused_total.increment(reason);
            self.attachment.note_refused(user, Some(&in_flight.event), reason);
            debug!(conn = %id, %error, reason, "registration refused");
        };
        let identity = match answer {
            Ok(identity) => identity,
            Err(refusal) => {
                shared.counters.registrations_refused_total.increment(refusal.as_str());
                // What is wrong with a token is the operator's to know, and nobody else is told.
                let noted = refusal.fault().unwrap_or(refusal.as_str());
                self.attachment.note_refused(None, Some(&in_flight.event), noted);
                let reason = refusal.as_str();
                debug!(conn = %id, error = %refusal, reason, "registration refused");
                return;
            }
        };
        if identity.is_expired(wall) {
            return refused(None, &Refusal::Expired, Refusal::Expired.as_str());
        }
        let user = match UserId::parse(&identity.user, self.shared.limits.name_bytes_max) {
            Ok(user) => user,
            Err(error) => return refused(None, &format_args!("the user id {error}"), "user_id"),
        };
        if !identity.events.permits(in_flight.event.as_str()) {
            return refused(Some(&user), &Refusal::Forbidden, Refusal::Forbidden.as_str());
        }
        match self.attachment.register(&user, &in_flight.event, in_flight.token) {
            Ok(bound) => {
                trace!(conn = %id, ?bound, "registered");
                self.session.handle_registered();
                if identity.expires_at.is_some() || self.session.has_expiry() {
                    let key = self.shared.node.registration_key(&user, &in_flight.event);
                    self.session.handle_expiry(key, identity.expires_at);
                }
            }
            Err(error) => {
                shared.counters.registrations_refused_total.increment(error.as_str());
                debug!(conn = %id, %error, "registration refused");
            }
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let flush = this.attachment.poll_flush(cx);
        let step = match flush.phase {
            Phase::Ended(_) => Step::Break(()),
            Phase::Closing(reason) => this.poll_closing(cx, reason, flush),
            Phase::Open => this.poll_open(cx, flush.written_bytes),
        };
        match step {
            Step::Continue(()) => Poll::Pending,
            Step::Break(()) => Poll::Ready(()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let reason = match self.attachment.outbox().phase() {
            Phase::Closing(reason) | Phase::Ended(reason) => reason,
            Phase::Open => CloseReason::PeerGone,
        };
        self.shared
            .counters
            .inbound_bytes
            .fetch_sub(self.half_read_bytes as usize, Ordering::Relaxed);
        debug!(conn = %self.attachment.id(), %reason, "connection closed");
        // A hook that has just panicked is not asked again.
        if !std::thread::panicking()
            && let Some(hook) = &self.shared.hooks.close
        {
            hook(&self.handle_of(), reason);
        }
    }
}

fn close_reason(error: &DecodeError) -> CloseReason {
    match error.close_code() {
        CloseCode::TOO_BIG => CloseReason::TooBig,
        CloseCode::INVALID_PAYLOAD => CloseReason::InvalidPayload,
        _ => CloseReason::ProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_no_more_than_its_budget() {
        // tokio rounds a task up to a multiple of 128 bytes, and adds about a hundred of its own.
        assert!(size_of::<Driver>() <= 152, "{}", size_of::<Driver>());
    }
}
