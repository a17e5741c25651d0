//! The queue of one socket: runs of whole frames, in order, of which the first may be partly sent.
//!
//! It does not count the bytes of all queues, and knows no socket.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use wserver_protocol::frame;

/// A run of whole frames for an outbox. A run that expires is a single frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) frames: &'a Bytes,
    pub(crate) expires_at: Option<Instant>,
}

impl<'a> Run<'a> {
    /// A run that does not expire.
    pub(crate) const fn lasting(frames: &'a Bytes) -> Self {
        Self { frames, expires_at: None }
    }
}

/// A run of whole frames, and how much of it the socket has taken.
pub(super) struct Queued {
    run: Bytes,
    offset: usize,
    expires_at: Option<Instant>,
}

impl Queued {
    pub(super) fn rest(&self) -> &[u8] {
        &self.run[self.offset..]
    }

    /// A frame of which the socket has taken a part cannot be left out any more.
    pub(super) fn is_expired(&self, now: Option<Instant>) -> bool {
        // Without a clock, nothing expires.
        let is_over = |now| self.expires_at.is_some_and(|at| at <= now);
        self.offset == 0 && now.is_some_and(is_over)
    }
}

/// What waits for the socket.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) runs: VecDeque<Queued>,
    /// Whether the clock must be asked before a write.
    pub(super) may_expire: bool,
    /// The value of `State::written` at which the queued pong will be sent.
    pub(super) pong_end: Option<u64>,
    /// Nothing is written until the queue is released; what then comes before the rest goes behind
    /// so many runs.
    pub(super) held: Option<usize>,
    /// The last observed change of `State::written`: its value and when it was seen.
    pub(super) progress: Option<(u64, u64)>,
}

impl Queue {
    /// Adds a run without its first `offset` bytes; returns the number of bytes added.
    pub(super) fn append(&mut self, run: Run<'_>, offset: usize) -> usize {
        let rest = run.frames.len() - offset;
        if rest > 0 {
            self.may_expire |= run.expires_at.is_some();
            let (run, expires_at) = (run.frames.clone(), run.expires_at);
            self.runs.push_back(Queued { run, offset, expires_at });
        }
        rest
    }

    /// Whether the outbox may forget it.
    pub(super) fn is_over(&self) -> bool {
        self.runs.is_empty() && self.held.is_none()
    }

    /// Ends the hold, and puts these frames before everything that was queued since it began.
    /// Returns their bytes.
    pub(super) fn release(&mut self, frames: &[Bytes]) -> usize {
        let Some(at) = self.held.take() else { return 0 };
        let rest = self.runs.split_off(at.min(self.runs.len()));
        let queued = |run: &Bytes| Queued { run: run.clone(), offset: 0, expires_at: None };
        self.runs.extend(frames.iter().map(queued));
        self.runs.extend(rest);
        let bytes = frames.iter().map(Bytes::len).sum();
        self.pong_end = self.pong_end.map(|end| end + bytes as u64);
        bytes
    }

    /// Drops the frames at the front that have expired; returns their number and their bytes.
    ///
    /// Frames further back wait until they reach the front, so that a long queue is not searched
    /// repeatedly.
    pub(super) fn drop_expired(&mut self, now: Option<Instant>) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(first) = self.runs.front().filter(|first| first.is_expired(now)) {
            count += 1;
            bytes += first.run.len();
            self.runs.pop_front();
        }
        // The pong is queued after them, and so moves up by as many bytes.
        self.pong_end = self.pong_end.map(|end| end - bytes as u64);
        (count, bytes)
    }

    /// Removes `count` bytes that the socket has taken, `written` in total; returns whether the
    /// queue is now empty.
    pub(super) fn advance(&mut self, mut count: usize, written: u64) -> bool {
        self.pong_end = self.pong_end.filter(|end| *end > written);
        while let Some(first) = self.runs.front_mut() {
            let rest = first.run.len() - first.offset;
            if count < rest {
                first.offset += count;
                return false;
            }
            count -= rest;
            self.runs.pop_front();
        }
        true
    }

    /// Drops everything after the frame that is partly sent; returns how many bytes of that frame
    /// are left.
    pub(super) fn cut(&mut self) -> usize {
        self.runs.truncate(1);
        self.pong_end = None;
        self.runs.front_mut().map_or(0, |first| {
            let end = frame::boundary_after(&first.run, first.offset);
            first.run.truncate(end);
            first.rest().len()
        })
    }
}
