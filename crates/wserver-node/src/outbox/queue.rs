//! What waits for one socket: runs of whole frames, in order, the first perhaps begun.
//!
//! It counts no bytes over all queues and knows no socket.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use wserver_protocol::frame;

/// A run of whole frames on its way into an outbox. One that expires is a single frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) frames: &'a Bytes,
    pub(crate) expires_at: Option<Instant>,
}

impl<'a> Run<'a> {
    /// One that does not expire.
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

    /// What the socket has begun to take is no longer ours to leave out.
    pub(super) fn is_expired(&self, now: Option<Instant>) -> bool {
        // Without a clock there is nothing that expires.
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
    /// What `State::written` will be when the pong among them has left.
    pub(super) pong_end: Option<u64>,
    /// What `State::written` was when it was looked at last and had changed, and when that was.
    pub(super) progress: Option<(u64, u64)>,
}

impl Queue {
    /// Adds a run without its first `offset` bytes; says how many there are then.
    pub(super) fn append(&mut self, run: Run<'_>, offset: usize) -> usize {
        let rest = run.frames.len() - offset;
        if rest > 0 {
            self.may_expire |= run.expires_at.is_some();
            let (run, expires_at) = (run.frames.clone(), run.expires_at);
            self.runs.push_back(Queued { run, offset, expires_at });
        }
        rest
    }

    /// Lets go of the frames at the front whose time is over; says how many, and of how many bytes.
    ///
    /// One further back waits for its turn, so that a long queue is not searched again and again.
    pub(super) fn drop_expired(&mut self, now: Option<Instant>) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        while let Some(first) = self.runs.front().filter(|first| first.is_expired(now)) {
            count += 1;
            bytes += first.run.len();
            self.runs.pop_front();
        }
        // The pong stands behind them, and leaves earlier by as much.
        self.pong_end = self.pong_end.map(|end| end - bytes as u64);
        (count, bytes)
    }

    /// Lets go of `count` bytes that the socket has taken, `written` in all; says whether that was all.
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

    /// Lets go of all behind the frame that is on its way; says how many bytes of that are left.
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
