//! A connection's bounded way out: every byte that a connection is sent passes here, under one lock.
//!
//! A write goes straight to the socket while nothing is queued; what the socket does not take is
//! queued (shared, not copied) and the connection's own task is woken to finish it. It knows
//! nothing of users and events; it knows of frames only where they end.
//!
//! Long because all of it happens under one lock: what holds there is read in one piece.
//!
//! Messages that expire in a queue are dropped when they reach its front. Searching the queue was
//! rejected: a reader that takes a byte at a time would have a long queue searched again and again.
//! The client's address is not kept here either: it would cost 24 bytes per connection, and the kernel
//! knows the peer.

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

/// Buffers handed to one vectored write.
const WRITE_BUFFERS_MAX: usize = 64;
/// In `Outbox::alive_at`: the connection speaks version 2. A byte of its own would cost every
/// connection eight, and a node's clock needs 68 years to reach this bit.
const IS_V2: u32 = 1 << 31;
/// Buffers of most writes that have more than one.
const FEW_BUFFERS: usize = 8;

/// What became of bytes given to an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The socket took all of them.
    Written,
    /// They wait in the queue.
    Queued,
    /// The connection is ending, or failed now; nothing more will reach it.
    Ended,
    /// The queue would have passed its bound; the connection is now closing as too slow.
    Overflow,
    /// All queues together would have passed their bound, and none has more queued; the connection is
    /// now closing as too slow.
    NoRoom,
}

impl Sent {
    /// Whether the socket or the queue took the bytes.
    #[must_use]
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Written | Self::Queued)
    }
}

/// Where a connection stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Messages are taken.
    Open,
    /// A Close is queued or sent; only it and what stands before it is still written.
    Closing(CloseReason),
    /// The socket failed or the task ended.
    Ended(CloseReason),
}

/// What a connection's task learns from [`Attachment::poll_flush`](crate::Attachment::poll_flush).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flush {
    /// Where the connection stands.
    pub phase: Phase,
    /// Whether nothing is queued, and nothing held by the wire.
    pub is_empty: bool,
    /// Bytes the wire has taken since it opened.
    pub written_bytes: u64,
}

struct State {
    /// Written by whoever holds the lock; bounded by `OutboxRules::bytes_max`. Allocated while something waits.
    /// Invariant: `None` or not empty; the sum of the rests is `Outbox::queued`.
    queue: Option<Box<Queue>>,
    /// The connection's task, as of its last poll.
    waker: Option<Waker>,
    phase: Phase,
    /// It has been somebody's connection; then its end is noted by whoever unbinds it.
    was_bound: bool,
    /// When it was opened, in seconds of its node's clock.
    opened_at: u32,
    written: u64,
}

/// A connection's way out. Shared by its task and by everyone who sends to it.
pub struct Outbox<W> {
    id: ConnectionId,
    wire: W,
    /// Bytes queued; written under the lock, read without it. At most 1 GiB, which `Limits` sees
    /// to, a frame and a Close.
    queued: AtomicU32,
    /// When the task wants to be woken next, in milliseconds of its node's clock. Written by the task, read by the sweep.
    wake_at: AtomicU64,
    /// When its peer was last heard of, in seconds of its node's clock, beside [`IS_V2`]. Written by the
    /// task.
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
    /// Which version of the protocol the connection speaks.
    pub fn protocol(&self) -> Protocol {
        if self.alive_at.load(Ordering::Relaxed) & IS_V2 == 0 { Protocol::V1 } else { Protocol::V2 }
    }
}

impl<W: Wire> Outbox<W> {
    pub(crate) fn new(id: ConnectionId, wire: W, protocol: Protocol, opened_at: u32) -> Self {
        Self {
            id,
            wire,
            queued: AtomicU32::new(0),
            wake_at: AtomicU64::new(0),
            alive_at: AtomicU32::new(match protocol {
                Protocol::V1 => opened_at & !IS_V2,
                Protocol::V2 => opened_at | IS_V2,
            }),
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

    /// Whose outbox it is.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The socket, for its reader. Writing past the outbox would tear frames.
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

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Remembers that it is somebody's connection; tells where it stands then.
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
                        // Taken, but not gone: the task sees it out, or sees why that failed.
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
            // The torn frame must be whole before anything can follow it.
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

    /// Answers a ping, unless an answer is waiting already (RFC 6455, section 5.5.3) or there is no
    /// room for one.
    pub(crate) fn send_pong(&self, rules: &OutboxRules, pong: &Bytes) -> Option<Sent> {
        if self.lock().queue.as_ref().is_some_and(|queue| queue.pong_end.is_some()) {
            return None;
        }
        let sent = match self.send(rules, &[Run::lasting(pong)]) {
            Ok(sent) => sent,
            // A peer that does not read needs none, and makes nobody go for it.
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

    /// Ends the connection with the Close of `reason`. The first reason given stands; says whether it was this one.
    ///
    /// What is queued is still sent before the Close, except to a reader that is too slow or a
    /// peer that has closed: they lose what waits, at a whole frame.
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

    /// Marks the connection ended: its task is over, nothing is written any more. Returns the reason that stands.
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

    /// Ends the connection without a word more, and wakes its task to see it.
    pub(crate) fn cut_off(&self, rules: &OutboxRules, reason: CloseReason) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing(reason);
        }
        self.set_failed(rules, &mut state);
        wake(state);
    }

    /// Writes what is queued as far as the socket takes it, and registers the task to be woken
    /// when there is more to do: bytes to write, or a change of phase.
    ///
    /// Also says how many frames it let go of because their time is over.
    pub(crate) fn poll_flush(&self, rules: &OutboxRules, cx: &mut Context<'_>) -> (Flush, usize) {
        let mut state = self.lock();
        let mut expired = 0;
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        let mut is_empty = false;
        while !is_empty && !matches!(state.phase, Phase::Ended(_)) {
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

    /// Whether the wire has taken nothing of what waits for it for `timeout`, as far as those who ask
    /// can tell; both in milliseconds of the node's clock.
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
        let protocol = self.alive_at.load(Ordering::Relaxed) & IS_V2;
        self.alive_at.store(at & !IS_V2 | protocol, Ordering::Relaxed);
    }

    pub(crate) fn alive_at(&self) -> u32 {
        self.alive_at.load(Ordering::Relaxed) & !IS_V2
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        wake(self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way through a change; a poisoned lock still guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `runs` once; what the socket took, or the error that ends it.
    fn write(&self, state: &mut State, runs: &[Run<'_>]) -> io::Result<usize> {
        match runs.len() {
            // Nearly every write; filling the largest array would be half of its cost.
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

    /// Lets go of the frames at the front whose time is over; says how many.
    ///
    /// One further back waits for its turn, so that a long queue is not searched again and again.
    fn drop_expired(&self, rules: &OutboxRules, state: &mut State, now: Option<Instant>) -> usize {
        let Some(queue) = &mut state.queue else { return 0 };
        let (count, bytes) = queue.drop_expired(now);
        if queue.runs.is_empty() {
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

    /// Queues `runs` without their first `taken` bytes, for which room was taken.
    fn enqueue(&self, state: &mut State, runs: &[Run<'_>], mut taken: usize) {
        let queue = state.queue.get_or_insert_with(Box::default);
        let mut bytes = 0;
        for run in runs {
            let offset = taken.min(run.frames.len());
            taken -= offset;
            bytes += queue.append(*run, offset);
        }
        if queue.runs.is_empty() {
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

    /// Drops what is queued behind the frame that is on its way.
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
        // Hardly any connection ends with a queue, and all of them share this number.
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

/// Of bytes in one queue.
fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a queue is bounded far below 4 GiB")
}

/// Wakes the task after the lock is released, so that it does not run into it.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}
