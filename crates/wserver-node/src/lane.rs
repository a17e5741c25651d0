//! What a node keeps beside each user: the lane's log, and who of its members lags behind.
//!
//! All of it is guarded by the user's lock in the binder. It knows frames by their bytes only.
//!
//! A chain of log segments that slow readers follow was rejected: a queue of shared runs costs the
//! walker one visit per slow reader, and there is no list to take apart.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use wserver_core::EventName;

use crate::receipt::{PushOptions, PushReceipt};

/// Frames of at least this size are shared as they are instead of being copied into a run.
const SHARE_BYTES_MIN: usize = 16 * 1024;
/// Runs under way at one time: the bits of a mask.
const RUNS_MAX: usize = 64;

/// What a node keeps beside each user. All of it is guarded by the user's lock in the binder.
#[derive(Default)]
pub(crate) struct Lane {
    /// Bytes ever accepted: the position of the next frame.
    pub(crate) head: u64,
    /// Which walk is under way; zero when none is. A walker whose number is not here has lost its lane.
    pub(crate) walk: u64,
    /// What only busy lanes and lanes with slow readers have.
    pub(crate) extra: Option<Box<Extra>>,
}

impl Lane {
    /// Whether each message that was accepted has been handed to every member.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.walk == 0
    }
}

impl wserver_core::Lane for Lane {
    fn mark(&mut self) -> u64 {
        if let Some(extra) = &mut self.extra {
            extra.is_sealed = true;
            extra.registrations += 1;
        }
        self.head
    }
}

#[derive(Default)]
pub(crate) struct Extra {
    /// Accepted, not yet taken by the walker. Bounded by `walk_bytes_max` and one frame; a push beyond waits.
    pub(crate) tail: VecDeque<Run>,
    pub(crate) tail_bytes: usize,
    /// Bytes that the walker is handing out.
    pub(crate) segment_bytes: usize,
    /// The next frame starts a run: somebody registered since the last append, or that was apart.
    is_sealed: bool,
    /// How often somebody registered while there was this.
    pub(crate) registrations: u64,
    /// Pushes that wait for room, first in first out. Each is a caller that waits, so callers bound it.
    pub(crate) waiting: VecDeque<Waiting>,
    /// Slots of members whose queue was not empty when last written to, a bit each.
    pub(crate) laggards: Vec<u64>,
    /// No listed laggard can pass its bound before the head does.
    pub(crate) laggards_safe_until: u64,
}

/// Frames of one event that every member registered before `start` gets, but for the one that is excluded.
pub(crate) struct Run {
    pub(crate) event: EventName,
    pub(crate) start: u64,
    /// With any of them the run is one frame.
    pub(crate) options: PushOptions,
    pub(crate) body: RunBody,
    /// How many frames there are, and when the first of them was accepted.
    pub(crate) count: u64,
    pub(crate) accepted: Instant,
}

pub(crate) enum RunBody {
    Shared(Bytes),
    Copied(BytesMut),
}

impl RunBody {
    fn append(&mut self, frame: &Bytes) {
        match self {
            Self::Copied(buffer) => buffer.extend_from_slice(frame),
            Self::Shared(first) => {
                let mut buffer = BytesMut::with_capacity((first.len() + frame.len()) * 4);
                buffer.extend_from_slice(first);
                buffer.extend_from_slice(frame);
                *self = Self::Copied(buffer);
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Shared(bytes) => bytes.len(),
            Self::Copied(buffer) => buffer.len(),
        }
    }

    pub(crate) fn freeze(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(buffer) => buffer.freeze(),
        }
    }
}

pub(crate) struct Waiting {
    pub(crate) event: EventName,
    pub(crate) frame: Bytes,
    pub(crate) options: PushOptions,
    /// Where the excluded connection stood among the members, when there had been so many `registrations`.
    pub(crate) excluded_slot: Option<usize>,
    pub(crate) registrations: u64,
    pub(crate) accepted: oneshot::Sender<PushReceipt>,
}

/// Takes as many runs as there is room for when so many are under way.
pub(crate) fn take_runs(extra: &mut Extra, under_way: usize) -> Vec<Run> {
    let count = extra.tail.len().min(RUNS_MAX - under_way);
    let segment: Vec<Run> = extra.tail.drain(..count).collect();
    let bytes: usize = segment.iter().map(|run| run.body.len()).sum();
    extra.tail_bytes -= bytes;
    extra.segment_bytes += bytes;
    segment
}

/// Appends one frame to the lane's log.
pub(crate) fn append(lane: &mut Lane, event: &EventName, frame: &Bytes, options: PushOptions) {
    let start = lane.head;
    lane.head += frame.len() as u64;
    let extra = lane.extra.get_or_insert_with(Box::default);
    extra.tail_bytes += frame.len();
    // Nothing joins a run that is for some of the members, or for some of the time.
    let is_sealed = std::mem::replace(&mut extra.is_sealed, options.is_apart());
    match extra.tail.back_mut() {
        Some(run)
            if !is_sealed
                && !options.is_apart()
                && run.event == *event
                && frame.len() < SHARE_BYTES_MIN =>
        {
            run.body.append(frame);
            run.count += 1;
        }
        _ => extra.tail.push_back(Run {
            event: event.clone(),
            start,
            options,
            body: RunBody::Shared(frame.clone()),
            count: 1,
            accepted: Instant::now(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small frames of one event are copied into one run; a large one is shared as it is.
    #[test]
    fn a_large_frame_is_not_copied() {
        let event = EventName::parse("news", 10).unwrap();
        let mut lane = Lane::default();
        let small = Bytes::from(vec![1; 100]);
        let large = Bytes::from(vec![2; SHARE_BYTES_MIN]);
        for frame in [&small, &small, &large, &large] {
            append(&mut lane, &event, frame, PushOptions::default());
        }
        let mut extra = lane.extra.unwrap();
        assert_eq!(extra.tail_bytes, 200 + 2 * SHARE_BYTES_MIN);
        let runs = take_runs(&mut extra, 0);
        assert_eq!((extra.tail_bytes, extra.segment_bytes), (0, 200 + 2 * SHARE_BYTES_MIN));
        assert_eq!(runs.iter().map(|run| run.count).collect::<Vec<_>>(), [2, 1, 1]);
        for run in runs.into_iter().skip(1) {
            assert_eq!(run.body.freeze().as_ptr(), large.as_ptr());
        }
    }
}
