//! One small task per connection: readiness, frames, registrations, deadlines, the end.
//!
//! The task owns the reading side and the session; every byte to the client goes through the
//! outbox. It is a state machine written by hand, because its size is most of what an idle
//! connection costs.
//!
//! `warp::ws()` is not used: it keeps a read buffer of 128 KiB for each connection.

mod asking;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use tracing::{debug, trace};
use wserver_core::{Action, CloseReason, Session};
use wserver_node::{Attachment, Flush, Phase};
use wserver_protocol::connection::Notice;
use wserver_protocol::{
    CloseCode, DecodeError, DecodeLimits, Decoder, Inbound, Protocol, Role, frame,
};

use crate::connection::farewell::Farewell;
use crate::connection::hooks::{Connection, Flow, Received};
use crate::connection::read_buffer::{self, READS_MAX};
use crate::connection::registering::{Handshake, Registering};
use crate::connection::shared::Shared;
use crate::connection::wire::Socket;

/// A connection may always have this much of an incomplete message, whatever the others hold: a
/// registration whose bytes come in two pieces is no abuse.
const HALF_READ_BYTES_FREE: u32 = 2048;

/// Drives one connection from its upgrade to its end.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    attachment: Attachment<Socket>,
    session: Session,
    decoder: Decoder,
    /// Only the IP, because a `SocketAddr` takes twelve bytes more.
    peer_ip: IpAddr,
    peer_port: u16,
    farewell: Farewell,
    /// Whether a client of version 2 has got the introduction of the server.
    is_greeted: bool,
    /// This connection's share of `CarrierCounters::inbound_bytes`.
    half_read_bytes: u32,
    registering: Option<Box<Registering>>,
    /// Most connections have none.
    handshake: Option<Box<Handshake>>,
}

/// Whether the connection continues.
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
        let mut session = Session::new(&shared.limits, Instant::now(), spread);
        let protocol = attachment.outbox().protocol();
        if protocol != Protocol::V1 {
            session = session.with_warnings();
        }
        debug!(conn = %attachment.id(), %peer, "connection opened");
        Self {
            shared,
            attachment,
            session,
            decoder: Decoder::new(Role::Server),
            peer_ip: peer.ip(),
            peer_port: peer.port(),
            // A stream says nothing, so its end is not waited for.
            farewell: if protocol == Protocol::Sse { Farewell::Gone } else { Farewell::Awaited },
            is_greeted: false,
            half_read_bytes: 0,
            registering: None,
            handshake,
        }
    }

    /// Takes what the client sent directly after its handshake.
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
            // Closing wakes this task, and the next poll sees a closing connection.
            return Step::Continue(());
        }
        let shared = Arc::clone(&self.shared);
        let (now, wall) = (Instant::now(), shared.wall_clock.now());
        if self.is_paused() {
            // Its pong may be among the bytes that are not read yet.
            self.session.handle_paused(now);
        }
        loop {
            match self.session.poll(&shared.limits, now, wall, written_bytes) {
                Action::Ping => {
                    self.attachment.send(match self.protocol() {
                        Protocol::V1 => &shared.ping,
                        Protocol::V2 => &shared.ping_and_beat,
                        Protocol::Sse => &shared.beat,
                    });
                    if self.protocol() == Protocol::Sse {
                        // No pong can come: a stream lives as long as its bytes are taken.
                        self.session.handle_pong(&shared.limits, now, written_bytes).ok();
                    }
                }
                Action::Warn(left) => {
                    let notice = Notice::Expiring { in_seconds: left.as_secs() };
                    if let Some(said) = self.protocol().say(&notice.encode()) {
                        self.attachment.send(&said);
                    }
                }
                // Another part of the program has registered it meanwhile.
                Action::Close(CloseReason::NotRegistered) if self.attachment.was_registered() => {
                    self.session.handle_registered();
                }
                Action::Close(reason) => {
                    self.attachment.close(reason);
                    return Step::Continue(());
                }
                Action::Terminate => return Step::Break(()),
                Action::Wait(deadline) => {
                    let authentication =
                        self.registering.as_ref().and_then(|registering| registering.deadline());
                    self.attachment.wake_at([deadline, authentication].into_iter().flatten().min());
                    return Step::Continue(());
                }
            }
        }
    }

    /// Our Close is queued: finishes sending it, waits for the peer's, shuts the writing side, and
    /// reads until the peer has shut its own, so that a reset does not destroy what the peer has
    /// not read yet.
    fn poll_closing(&mut self, cx: &mut Context<'_>, reason: CloseReason, flush: Flush) -> Step {
        if let Some(registering) = self.registering.take() {
            // The peer's Close may be among the bytes that are not read yet.
            self.decoder.pass_over(&registering.unread);
        }
        // From here on no payload is kept.
        self.decoder.pass_over(&[]);
        self.count_half_read();
        let socket = self.attachment.outbox().wire();
        self.farewell.poll_read(socket, &mut self.decoder, cx)?;
        let Flush { is_empty: is_flushed, written_bytes, .. } = flush;
        if reason == CloseReason::Shutdown && !is_flushed {
            // Accepted messages may take as long as the drain, which cuts off slower connections.
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
            Action::Terminate | Action::Close(_) | Action::Ping | Action::Warn(_) => true,
        };
        match self.farewell {
            Farewell::Awaited | Farewell::Shut if !is_over => return Step::Continue(()),
            Farewell::Shut => return Step::Break(()),
            Farewell::Awaited | Farewell::Come | Farewell::Gone => {}
        }
        if !is_flushed {
            if is_over {
                // The peer does not read: drop the queue, and let the peer see the end at once.
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

    fn protocol(&self) -> Protocol {
        self.attachment.outbox().protocol()
    }

    fn socket(&self) -> &Socket {
        self.attachment.outbox().wire()
    }

    /// Whether reading waits for registrations: for unread input, or for room among those that
    /// wait.
    fn is_paused(&self) -> bool {
        let is_unread =
            self.registering.as_ref().is_some_and(|registering| !registering.unread.is_empty());
        is_unread || self.is_registering_full()
    }

    /// Decodes `input` until no more registrations may wait; the rest is kept for later.
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
            self.attachment.note_protocol_broken(error);
            self.attachment.close_with(
                close_reason(&error),
                &frame::close(error.close_code(), &error.to_string()),
            );
        } else if self.attachment.outbox().phase() != Phase::Open {
            // The peer's Close may be among what is left.
            self.decoder.pass_over(&input[consumed..]);
        } else if consumed < input.len() && self.is_registering_full() {
            self.registering.get_or_insert_default().unread = input[consumed..].to_vec();
        }
    }

    /// Counts the bytes that are kept of incomplete or waiting messages, and closes the connection
    /// if there is no room for them.
    fn count_half_read(&mut self) {
        let waiting = self.registering.as_ref().map_or(0, |registering| registering.held_bytes());
        let held = u32::try_from(self.decoder.held_bytes() + waiting).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.half_read_bytes, held);
        if held <= before {
            // Nearly every message arrives whole, and all connections share this number.
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
                // The answer repeats the received code (RFC 6455, section 5.5.1).
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
        let pending = match self.protocol() {
            Protocol::V1 => self.register_message(message.as_bytes()),
            Protocol::V2 | Protocol::Sse => self.request(message.as_bytes()),
        };
        let Some(pending) = pending else {
            return if self.attachment.outbox().phase() == Phase::Open {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
        };
        self.registering.get_or_insert_default().pending.push_back(pending);
        // Checked before the next frame: if the authenticator answers at once, the pong for a ping
        // after a registration proves that the registration was taken.
        ControlFlow::Break(())
    }

    fn handle_of(&self) -> Connection {
        Connection::new(self.shared.node.clone(), self.attachment.outbox(), self.peer())
    }

    fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
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
        // A hook that has just panicked is not called again.
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
