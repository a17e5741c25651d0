//! A connection's bounded queue: every byte to a connection passes through it, under one lock.
//!
//! A write goes straight to the socket if nothing is queued. Bytes that the socket does not take
//! are queued (shared, not copied), and the connection's own task is woken to write them. The
//! outbox knows nothing of users and events; of frames it knows only where they end.
//!
//! Long because one lock guards all of it, and code under one lock is best read in one piece.
//!
//! Messages that expire in a queue are dropped when they reach its front. Searching the queue was
//! rejected, because a long queue would be searched again for each byte that a slow reader takes.
//! The outbox does not store the client's address either: it would cost 24 bytes per connection,
//! and the kernel knows the peer.

mod queue;
mod rules;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use wserver_core::{CloseReason, ConnectionId};
use wserver_protocol::Protocol;

pub(crate) use queue::Run;
pub use rules::CloseFrame;
pub(crate) use rules::{NoRoom, OutboxRules};
pub use wire::Wire;

use queue::Queue;

/// Maximum number of buffers in one vectored write.
const WRITE_BUFFERS_MAX: usize = 64;
/// The bits of `Outbox::alive_at` for what the connection speaks. A byte of its own would cost every
/// connection eight, and a node's clock reaches these bits only after 34 years.
const PROTOCOL: u32 = 0b11 << PROTOCOL_SHIFT;
const PROTOCOL_SHIFT: u32 = 30;
/// Enough buffers for most writes that have more than one.
const FEW_BUFFERS: usize = 8;

/// What became of bytes for an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The socket took all of them.
    Written,
    /// They wait in the queue.
    Queued,
    /// The connection is ending, or failed now; nothing more will reach it.
    Ended,
    /// The queue would have exceeded its limit; the connection now closes as too slow.
    Overflow,
    /// All queues together would have exceeded their limit, and no other connection has more
    /// queued; this one now closes as too slow.
    NoRoom,
}

impl Sent {
    /// Whether the socket or the queue took the bytes.
    #[must_use]
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Written | Self::Queued)
    }
}

/// The phase of a connection's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes messages.
    Open,
    /// A Close is queued or sent; only the Close and what is queued before it are still written.
    Closing(CloseReason),
    /// The socket failed or the task ended.
    Ended(CloseReason),
}

/// What a connection's task learns from [`Attachment::poll_flush`](crate::Attachment::poll_flush).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flush {
    /// The phase of the connection.
    pub phase: Phase,
    /// Whether the queue and the wire are both empty.
    pub is_empty: bool,
    /// Bytes the wire has taken since it opened.
    pub written_bytes: u64,
}

struct State {
    /// Written under the lock; limited by `OutboxRules::bytes_max`. Allocated only while something
    /// waits. Invariant: `None`, held, or not empty; the sum of the unsent bytes is `Outbox::queued`.
    queue: Option<Box<Queue>>,
    /// The connection's task, from its last poll.
    waker: Option<Waker>,
    phase: Phase,
    /// It has been registered; its end is noted by the code that unbinds it.
    was_bound: bool,
    /// When it was opened, in seconds of its node's clock.
    opened_at: u32,
    written: u64,
}

/// The bounded queue of a connection. Its task and all senders share it.
pub struct Outbox<W> {
    id: ConnectionId,
    wire: W,
    /// Bytes queued; written under the lock, read without it. At most 1 GiB, which `Limits`
    /// ensures, plus a frame and a Close.
    queued: AtomicU32,
    /// When the task wants to be woken next, in milliseconds of its node's clock. Written by the task, read by the sweep.
    wake_at: AtomicU64,
    /// The peer's last sign of life, in seconds of its node's clock, together with what it speaks.
    /// Written by the task.
    alive_at: AtomicU32,
    state: Mutex<State>,
}

impl<W> fmt::Debug for Outbox<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("id", &self.id)
            .field("queued", &self.queued.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl<W> Outbox<W> {
    /// What the connection speaks.
    pub fn protocol(&self) -> Protocol {
        match self.alive_at.load(Ordering::Relaxed) >> PROTOCOL_SHIFT {
            0 => Protocol::V1,
            1 => Protocol::V2,
            _ => Protocol::Sse,
        }
    }
}

impl<W: Wire> Outbox<W> {
    pub(crate) fn new(id: ConnectionId, wire: W, protocol: Protocol, opened_at: u32) -> Self {
        Self {
            id,
            wire,
            queued: AtomicU32::new(0),
            wake_at: AtomicU64::new(0),
            alive_at: AtomicU32::new(opened_at & !PROTOCOL | (protocol as u32) << PROTOCOL_SHIFT),
            state: Mutex::new(State {
                queue: None,
                waker: None,
                phase: Phase::Open,
                was_bound: false,
                opened_at,
                written: 0,
            }),
        }
    }

    /// The id of the connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The socket, for its reader. Writing to it directly would tear frames.
    pub fn wire(&self) -> &W {
        &self.wire
    }

    /// Bytes that wait for the socket.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed) as usize
    }

    /// Bytes the wire has taken since it opened.
    pub fn written_bytes(&self) -> u64 {
        self.lock().written
    }

    /// The phase of the connection.
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Notes that it has been registered; returns its phase.
    pub(crate) fn mark_bound(&self) -> Phase {
        let mut state = self.lock();
        state.was_bound = true;
        state.phase
    }

    pub(crate) fn was_bound(&self) -> bool {
        self.lock().was_bound
    }

    /// Sends runs of whole frames, in order and all or nothing.
    pub(crate) fn send(&self, rules: &OutboxRules, runs: &[Run<'_>]) -> Result<Sent, NoRoom> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Ok(Sent::Ended);
        }
        let bytes: usize = runs.iter().map(|run| run.frames.len()).sum();
        let mut taken = 0;
        if state.queue.is_none() {
            taken = match self.write(&mut state, runs) {
                Ok(taken) if taken == bytes => {
                    if self.wire.try_flush().is_err() {
                        // Taken, but not sent: the task will send it, or see why that failed.
                        wake(state);
                    }
                    return Ok(Sent::Written);
                }
                Ok(taken) => taken,
                Err(_) => return Ok(self.fail(rules, state)),
            };
        }
        let rest = bytes - taken;
        let is_over = self.queued_bytes() + rest > rules.bytes_max;
        let has_room = !is_over && rules.reserve(rest);
        if !has_room && taken > 0 {
            // The torn frame must be complete before anything can follow it.
            rules.charge(rest);
        }
        if is_over {
            if taken > 0 {
                self.enqueue(&mut state, runs, taken);
            }
            self.begin_close(&mut state, rules, CloseReason::Slow);
            wake(state);
            return Ok(Sent::Overflow);
        }
        if !has_room && taken == 0 {
            return Err(NoRoom::Refused { bytes: rest });
        }
        let was_empty = state.queue.is_none();
        self.enqueue(&mut state, runs, taken);
        if was_empty {
            wake(state);
        }
        if has_room { Ok(Sent::Queued) } else { Err(NoRoom::Partial) }
    }

    /// Queues whole frames for the task to write, whatever room there is: the caller has looked for
    /// it. Returns false if the connection is ending.
    pub(crate) fn queue(&self, rules: &OutboxRules, frames: &[Bytes]) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return false;
        }
        let runs: Vec<Run<'_>> = frames.iter().map(Run::lasting).collect();
        rules.charge(frames.iter().map(Bytes::len).sum());
        self.enqueue(&mut state, &runs, 0);
        wake(state);
        true
    }

    /// Holds back whatever is sent from now on, until [`release`](Self::release) or the end of the
    /// connection.
    pub(crate) fn hold(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            let queue = state.queue.get_or_insert_with(Box::default);
            queue.held = Some(queue.runs.len());
        }
    }

    /// Sends these frames and then what was held back; the caller has looked for room. Returns
    /// false if the connection is ending.
    pub(crate) fn release(&self, rules: &OutboxRules, frames: &[Bytes]) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return false;
        }
        if let Some(queue) = &mut state.queue {
            let bytes = queue.release(frames);
            rules.charge(bytes);
            self.queued.fetch_add(to_u32(bytes), Ordering::Relaxed);
            if queue.is_over() {
                state.queue = None;
            }
        }
        wake(state);
        true
    }

    /// Answers a ping, unless an answer is already waiting (RFC 6455, section 5.5.3) or there is no
    /// room for one.
    pub(crate) fn send_pong(&self, rules: &OutboxRules, pong: &Bytes) -> Option<Sent> {
        if self.lock().queue.as_ref().is_some_and(|queue| queue.pong_end.is_some()) {
            return None;
        }
        let sent = match self.send(rules, &[Run::lasting(pong)]) {
            Ok(sent) => sent,
            // A peer that does not read needs no answer, and no other connection is closed for it.
            Err(NoRoom::Refused { .. }) => return None,
            Err(NoRoom::Partial) => Sent::Queued,
        };
        if sent == Sent::Queued {
            let mut state = self.lock();
            let pong_end = state.written + self.queued_bytes() as u64;
            if let Some(queue) = &mut state.queue {
                queue.pong_end = Some(pong_end);
            }
        }
        Some(sent)
    }

    /// Ends the connection with the Close of `reason`. Only the first reason counts; returns
    /// whether it was this one.
    ///
    /// Queued frames are still sent before the Close, except to a reader that is too slow or a peer
    /// that has closed: they lose what waits, from the next whole frame on.
    pub(crate) fn close(&self, rules: &OutboxRules, reason: CloseReason) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return false;
        }
        self.begin_close(&mut state, rules, reason);
        wake(state);
        true
    }

    /// As [`Outbox::close`], with a Close frame of the caller's.
    pub(crate) fn close_with(
        &self,
        rules: &OutboxRules,
        reason: CloseReason,
        frame: &Bytes,
    ) -> bool {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return false;
        }
        self.begin_close_with(&mut state, rules, reason, Some(frame));
        wake(state);
        true
    }

    /// Marks the connection ended: its task is over, and nothing more is written. Returns the
    /// reason that counts.
    pub(crate) fn end(&self, rules: &OutboxRules, reason: CloseReason) -> CloseReason {
        let mut state = self.lock();
        let reason = match state.phase {
            Phase::Open => reason,
            Phase::Closing(first) | Phase::Ended(first) => first,
        };
        state.phase = Phase::Ended(reason);
        state.waker = None;
        self.drop_queue(rules, &mut state);
        reason
    }

    /// Ends the connection without sending anything more, and wakes its task.
    pub(crate) fn cut_off(&self, rules: &OutboxRules, reason: CloseReason) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing(reason);
        }
        self.set_failed(rules, &mut state);
        wake(state);
    }

    /// Writes as much of the queue as the socket takes, and registers the task to be woken when
    /// there is more to do: bytes to write, or a change of phase.
    ///
    /// Also returns how many frames it dropped because they have expired.
    pub(crate) fn poll_flush(&self, rules: &OutboxRules, cx: &mut Context<'_>) -> (Flush, usize) {
        let mut state = self.lock();
        let mut expired = 0;
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        let mut is_empty = false;
        while !is_empty && !matches!(state.phase, Phase::Ended(_)) {
            if state.queue.as_ref().is_some_and(|queue| queue.held.is_some()) {
                break;
            }
            let may_expire = state.queue.as_ref().is_some_and(|queue| queue.may_expire);
            let now = may_expire.then(Instant::now);
            expired += self.drop_expired(rules, &mut state, now);
            let written = if state.queue.is_some() {
                self.write_queue(rules, &mut state, now)
            } else {
                self.wire.try_flush().map(|()| is_empty = true)
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.wire.poll_write_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => self.set_failed(rules, &mut state),
                        Poll::Pending => break,
                    }
                }
                Err(_) => self.set_failed(rules, &mut state),
            }
        }
        (Flush { phase: state.phase, is_empty, written_bytes: state.written }, expired)
    }

    /// Whether the wire has taken nothing of its queue for `timeout`, as far as its callers can
    /// tell; both times in milliseconds of the node's clock.
    pub(crate) fn is_stalled(&self, now: u64, timeout: u64) -> bool {
        let mut state = self.lock();
        let written = state.written;
        if state.phase != Phase::Open {
            return false;
        }
        let Some(queue) = &mut state.queue else { return false };
        let (seen, since) = *queue.progress.get_or_insert((written, now));
        if seen != written {
            queue.progress = Some((written, now));
        }
        seen == written && now.saturating_sub(since) >= timeout
    }

    /// Sets when the sweep wakes the task, in milliseconds of the node's clock.
    pub(crate) fn set_wake_at(&self, at: u64) {
        self.wake_at.store(at, Ordering::Relaxed);
    }

    pub(crate) fn wake_at(&self) -> u64 {
        self.wake_at.load(Ordering::Relaxed)
    }

    pub(crate) fn opened_at(&self) -> u32 {
        self.lock().opened_at
    }

    pub(crate) fn set_alive_at(&self, at: u32) {
        let protocol = self.alive_at.load(Ordering::Relaxed) & PROTOCOL;
        self.alive_at.store(at & !PROTOCOL | protocol, Ordering::Relaxed);
    }

    pub(crate) fn alive_at(&self) -> u32 {
        self.alive_at.load(Ordering::Relaxed) & !PROTOCOL
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        wake(self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic in the middle of a change, so even a poisoned lock
        // guards a complete state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `runs` once; returns the number of bytes that the socket took, or the error that ends
    /// it.
    fn write(&self, state: &mut State, runs: &[Run<'_>]) -> io::Result<usize> {
        match runs.len() {
            // Nearly every write has one buffer; filling the largest array would be half of its
            // cost.
            0..=1 => return self.write_part::<1>(state, runs),
            2..=FEW_BUFFERS => return self.write_part::<FEW_BUFFERS>(state, runs),
            _ => {}
        }
        let mut taken = 0;
        for part in runs.chunks(WRITE_BUFFERS_MAX) {
            let bytes: usize = part.iter().map(|run| run.frames.len()).sum();
            let written = self.write_part::<WRITE_BUFFERS_MAX>(state, part)?;
            taken += written;
            if written < bytes {
                break;
            }
        }
        Ok(taken)
    }

    /// Writes up to `MAX` runs in one call.
    fn write_part<const MAX: usize>(
        &self,
        state: &mut State,
        runs: &[Run<'_>],
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX];
        for (slice, run) in slices.iter_mut().zip(runs) {
            *slice = IoSlice::new(run.frames);
        }
        self.write_slices(state, &slices[..runs.len()])
    }

    fn write_slices(&self, state: &mut State, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.wire.try_write(slices) {
            Ok(written) => {
                state.written += written as u64;
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Drops the frames at the front that have expired; returns their number.
    ///
    /// Frames further back wait until they reach the front, so that a long queue is not searched
    /// repeatedly.
    fn drop_expired(&self, rules: &OutboxRules, state: &mut State, now: Option<Instant>) -> usize {
        let Some(queue) = &mut state.queue else { return 0 };
        let (count, bytes) = queue.drop_expired(now);
        if queue.is_over() {
            state.queue = None;
        }
        if count > 0 {
            self.subtract_queued(rules, bytes);
        }
        count
    }

    /// Writes from the queue once.
    fn write_queue(
        &self,
        rules: &OutboxRules,
        state: &mut State,
        now: Option<Instant>,
    ) -> io::Result<()> {
        let Some(queue) = &mut state.queue else { return Ok(()) };
        let mut slices = [IoSlice::new(&[]); WRITE_BUFFERS_MAX];
        let mut count = 0;
        let fresh = queue.runs.iter().take_while(|queued| !queued.is_expired(now));
        for (slice, queued) in slices.iter_mut().zip(fresh) {
            *slice = IoSlice::new(queued.rest());
            count += 1;
        }
        let written = self.wire.try_write(&slices[..count])?;
        state.written += written as u64;
        if queue.advance(written, state.written) {
            state.queue = None;
        }
        self.subtract_queued(rules, written);
        Ok(())
    }

    /// Queues `runs` without their first `taken` bytes; the room for them is already taken.
    fn enqueue(&self, state: &mut State, runs: &[Run<'_>], mut taken: usize) {
        let queue = state.queue.get_or_insert_with(Box::default);
        let mut bytes = 0;
        for run in runs {
            let offset = taken.min(run.frames.len());
            taken -= offset;
            bytes += queue.append(*run, offset);
        }
        if queue.is_over() {
            state.queue = None;
        }
        self.queued.fetch_add(to_u32(bytes), Ordering::Relaxed);
    }

    fn begin_close(&self, state: &mut State, rules: &OutboxRules, reason: CloseReason) {
        let frame = (rules.close_frame)(reason, self.protocol());
        self.begin_close_with(state, rules, reason, frame.as_ref());
    }

    fn begin_close_with(
        &self,
        state: &mut State,
        rules: &OutboxRules,
        reason: CloseReason,
        frame: Option<&Bytes>,
    ) {
        if matches!(reason, CloseReason::Slow | CloseReason::PeerClosed)
            || self.queued_bytes() > rules.bytes_max
        {
            self.cut_queue(rules, state);
        }
        state.phase = Phase::Closing(reason);
        if let Some(queue) = &mut state.queue {
            queue.held = None;
            if queue.is_over() {
                state.queue = None;
            }
        }
        let Some(frame) = frame else { return };
        let mut taken = 0;
        if state.queue.is_none() {
            match self.write(state, &[Run::lasting(frame)]) {
                Ok(written) => taken = written,
                Err(_) => return self.set_failed(rules, state),
            }
        }
        if taken < frame.len() {
            rules.charge(frame.len() - taken);
            self.enqueue(state, &[Run::lasting(frame)], taken);
        }
    }

    /// Drops the queue after the frame that is partly sent.
    fn cut_queue(&self, rules: &OutboxRules, state: &mut State) {
        let Some(queue) = &mut state.queue else { return };
        let rest = queue.cut();
        if rest == 0 {
            state.queue = None;
        }
        rules.release(self.queued.swap(to_u32(rest), Ordering::Relaxed) as usize - rest);
    }

    fn subtract_queued(&self, rules: &OutboxRules, bytes: usize) {
        self.queued.fetch_sub(to_u32(bytes), Ordering::Relaxed);
        rules.release(bytes);
    }

    fn drop_queue(&self, rules: &OutboxRules, state: &mut State) {
        state.queue = None;
        let queued = self.queued.swap(0, Ordering::Relaxed) as usize;
        // Hardly any connection ends with a queue, and all connections share this number.
        if queued > 0 {
            rules.release(queued);
        }
    }

    fn set_failed(&self, rules: &OutboxRules, state: &mut State) {
        let reason = match state.phase {
            Phase::Open => CloseReason::PeerGone,
            Phase::Closing(first) | Phase::Ended(first) => first,
        };
        state.phase = Phase::Ended(reason);
        self.drop_queue(rules, state);
    }

    fn fail(&self, rules: &OutboxRules, mut state: MutexGuard<'_, State>) -> Sent {
        self.set_failed(rules, &mut state);
        wake(state);
        Sent::Ended
    }
}

/// Converts the bytes of one queue.
fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a queue is bounded far below 4 GiB")
}

/// Wakes the task after releasing the lock, so that the task does not wait for it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
