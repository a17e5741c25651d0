//! What a node keeps beside each user: the lane's log, and which members lag behind.
//!
//! The user's lock in the binder guards all of it. It knows frames only as bytes.
//!
//! A chain of log segments that slow readers follow was rejected: a queue of shared runs costs the
//! walker one visit per slow reader, and there is no list to take apart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use wserver_core::EventName;
use wserver_protocol::Protocol;

use crate::message::{KeptMessage, Message, Wanted};
use crate::outbox::Outbox;
use crate::receipt::{PushOptions, PushReceipt};

/// Frames of at least this size are shared as they are instead of being copied into a run.
const SHARE_BYTES_MIN: usize = 16 * 1024;
/// Runs under way at a time: the bits of a mask.
const RUNS_MAX: usize = 64;

/// What a node keeps beside each user. The user's lock in the binder guards all of it.
#[derive(Default)]
pub(crate) struct Lane {
    /// Bytes accepted so far, counting the longest frame of each message: the position of the next
    /// message.
    pub(crate) head: u64,
    /// The number of the walk under way; zero if there is none. A walker that does not find its
    /// number here has lost its lane.
    pub(crate) walk: u32,
    /// How many members do not speak version 1.
    kinds: Kinds,
    /// Only busy lanes and lanes with slow readers have this.
    pub(crate) extra: Option<Box<Extra>>,
}

impl Lane {
    /// Whether every accepted message has been handed to every member.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.walk == 0
    }

    /// Whether a member may come back and ask for what it has missed.
    pub(crate) fn is_resumable(&self) -> bool {
        self.kinds.v2() > 0 || self.kinds.sse() > 0
    }

    /// The protocols that the members of the lane, so many in number, speak.
    pub(crate) fn wanted(&self, members: usize) -> Wanted {
        let (v2, sse) = (self.kinds.v2(), self.kinds.sse());
        let others = (v2 + sse) as usize;
        let v1 = members > others || sse == Kinds::SSE_MAX;
        Wanted { v1, v2: v2 > 0, sse: sse > 0 }
    }
}

/// How many members speak version 2, and how many are streams of events, in four bytes: a count of
/// its own would cost every user eight.
#[derive(Debug, Default, Clone, Copy)]
struct Kinds(u32);

impl Kinds {
    /// From so many streams on their number is not known any more, so that frames may be encoded in
    /// vain.
    const SSE_MAX: u32 = 255;
    const SSE_SHIFT: u32 = 24;

    const fn v2(self) -> u32 {
        self.0 & ((1 << Self::SSE_SHIFT) - 1)
    }

    const fn sse(self) -> u32 {
        self.0 >> Self::SSE_SHIFT
    }

    const fn one_of(self, protocol: Protocol) -> u32 {
        match protocol {
            Protocol::V1 => 0,
            Protocol::V2 => 1,
            Protocol::Sse if self.sse() == Self::SSE_MAX => 0,
            Protocol::Sse => 1 << Self::SSE_SHIFT,
        }
    }
}

impl<W> wserver_core::Lane<Arc<Outbox<W>>> for Lane {
    fn mark(&mut self) -> u64 {
        if let Some(extra) = &mut self.extra {
            extra.is_sealed = true;
            extra.registrations += 1;
        }
        self.head
    }

    fn joined(&mut self, outbox: &Arc<Outbox<W>>) {
        self.kinds.0 += self.kinds.one_of(outbox.protocol());
    }

    fn left(&mut self, outbox: &Arc<Outbox<W>>) {
        self.kinds.0 -= self.kinds.one_of(outbox.protocol());
    }
}

#[derive(Default)]
pub(crate) struct Extra {
    /// Accepted, but not yet taken by the walker. Limited to `walk_bytes_max` plus one frame;
    /// further pushes wait.
    pub(crate) tail: VecDeque<Run>,
    pub(crate) tail_bytes: usize,
    /// Bytes that the walker is handing out.
    pub(crate) segment_bytes: usize,
    /// The next frame starts a new run: a connection registered since the last append, or that run
    /// may not be extended.
    is_sealed: bool,
    /// Counts registrations while this exists.
    pub(crate) registrations: u64,
    /// Pushes that wait for room, first in first out. Each is a caller that waits, so callers bound it.
    pub(crate) waiting: VecDeque<Waiting>,
    /// One bit for each slot, set for members whose queue was not empty at the last write.
    pub(crate) laggards: Vec<u64>,
    /// No listed laggard can exceed its limit before `head` reaches this.
    pub(crate) laggards_safe_until: u64,
}

/// Frames of one event for every member that registered before `start`, except an excluded one.
pub(crate) struct Run {
    pub(crate) event: EventName,
    pub(crate) start: u64,
    /// If any option is set, the run is one frame.
    pub(crate) options: PushOptions,
    /// By protocol; a protocol that no member speaks has none.
    pub(crate) bodies: [Option<RunBody>; 3],
    /// The sum of the longest frames of its messages.
    pub(crate) bytes: usize,
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

    pub(crate) fn freeze(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(buffer) => buffer.freeze(),
        }
    }
}

pub(crate) struct Waiting {
    pub(crate) message: KeptMessage,
    pub(crate) options: PushOptions,
    /// The slot of the excluded connection when there had been `registrations`.
    pub(crate) excluded_slot: Option<usize>,
    pub(crate) registrations: u64,
    pub(crate) accepted: oneshot::Sender<PushReceipt>,
}

/// Takes as many runs as there is room for when `under_way` are under way.
pub(crate) fn take_runs(extra: &mut Extra, under_way: usize) -> Vec<Run> {
    let count = extra.tail.len().min(RUNS_MAX - under_way);
    let segment: Vec<Run> = extra.tail.drain(..count).collect();
    let bytes: usize = segment.iter().map(|run| run.bytes).sum();
    extra.tail_bytes -= bytes;
    extra.segment_bytes += bytes;
    segment
}

/// Appends one message to the lane's log, for the protocols that members speak.
///
/// A connection that registers later begins a new run, so a run has a body for each of its members.
/// A protocol that no member speaks any more is left out from then on.
pub(crate) fn append(
    lane: &mut Lane,
    message: &mut Message<'_>,
    wanted: Wanted,
    options: PushOptions,
) {
    let start = lane.head;
    let bytes = message.bytes(wanted);
    lane.head += bytes as u64;
    let extra = lane.extra.get_or_insert_with(Box::default);
    extra.tail_bytes += bytes;
    // A run for only some members, or for a limited time, cannot be extended.
    let is_sealed = std::mem::replace(&mut extra.is_sealed, options.is_apart());
    match extra.tail.back_mut() {
        Some(run)
            if !is_sealed
                && !options.is_apart()
                && run.event == *message.event()
                && bytes < SHARE_BYTES_MIN =>
        {
            for (protocol, body) in Protocol::ALL.into_iter().zip(&mut run.bodies) {
                if let Some(body) = body
                    && wanted.is(protocol)
                {
                    body.append(message.frame(protocol));
                }
            }
            run.bytes += bytes;
            run.count += 1;
        }
        _ => extra.tail.push_back(Run {
            event: message.event().clone(),
            start,
            options,
            bodies: Protocol::ALL.map(|protocol| {
                wanted.is(protocol).then(|| RunBody::Shared(message.frame(protocol).clone()))
            }),
            bytes,
            count: 1,
            accepted: Instant::now(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use wserver_core::PushId;

    use super::*;

    #[test]
    fn members_of_each_kind_are_counted_in_four_bytes() {
        let mut kinds = Kinds::default();
        for _ in 0..2 {
            for protocol in [Protocol::V1, Protocol::V2, Protocol::Sse] {
                kinds.0 += kinds.one_of(protocol);
            }
        }
        assert_eq!((kinds.v2(), kinds.sse()), (2, 2));
        kinds.0 -= kinds.one_of(Protocol::Sse);
        assert_eq!((kinds.v2(), kinds.sse()), (2, 1));
        for _ in 0..1000 {
            kinds.0 += kinds.one_of(Protocol::Sse);
        }
        assert_eq!((kinds.v2(), kinds.sse()), (2, Kinds::SSE_MAX), "from here on unknown");
        kinds.0 -= kinds.one_of(Protocol::Sse);
        assert_eq!(kinds.sse(), Kinds::SSE_MAX);
    }

    /// Small frames of one event are copied into one run; a large one is shared as it is.
    #[test]
    fn a_large_frame_is_not_copied() {
        let event = EventName::parse("news", 10).unwrap();
        let mut lane = Lane::default();
        let (small, large) = ("s".repeat(98), "l".repeat(SHARE_BYTES_MIN - 4));
        let mut small = Message::new(&event, PushId::new(0, 1), &small);
        let mut large = Message::new(&event, PushId::new(0, 2), &large);
        let wanted = Wanted { v1: true, v2: false, sse: false };
        for is_large in [false, false, true, true] {
            let message = if is_large { &mut large } else { &mut small };
            append(&mut lane, message, wanted, PushOptions::default());
        }
        let mut extra = lane.extra.unwrap();
        assert_eq!(extra.tail_bytes, 200 + 2 * SHARE_BYTES_MIN);
        let runs = take_runs(&mut extra, 0);
        assert_eq!((extra.tail_bytes, extra.segment_bytes), (0, 200 + 2 * SHARE_BYTES_MIN));
        assert_eq!(runs.iter().map(|run| run.count).collect::<Vec<_>>(), [2, 1, 1]);
        for run in runs.into_iter().skip(1) {
            let [Some(v1), None, None] = run.bodies else { panic!("version 1 alone was wanted") };
            assert_eq!(v1.freeze().as_ptr(), large.frame(Protocol::V1).as_ptr());
        }
    }

    /// Each protocol has its own frames of a message, and the longest counts.
    #[test]
    fn a_run_has_a_body_for_each_protocol_that_is_spoken() {
        let event = EventName::parse("news", 10).unwrap();
        let mut lane = Lane::default();
        let both = Wanted { v1: true, v2: true, sse: false };
        for (number, text) in [(1, "one"), (2, "two")] {
            let mut message = Message::new(&event, PushId::new(0, number), text);
            append(&mut lane, &mut message, both, PushOptions::default());
        }
        // The last member that spoke version 1 has gone.
        let mut last = Message::new(&event, PushId::new(0, 3), "three");
        let v2 = Wanted { v1: false, v2: true, sse: false };
        append(&mut lane, &mut last, v2, PushOptions::default());
        assert!(last.clone().frame(Protocol::V1) != last.frame(Protocol::V2));
        let mut extra = lane.extra.unwrap();
        let bytes = extra.tail_bytes;
        let mut runs = take_runs(&mut extra, 0);
        let Some(Run { bodies: [Some(v1), Some(v2), None], count: 3, .. }) = runs.pop() else {
            panic!("one run of three")
        };
        assert_eq!(&v1.freeze()[..], b"\x81\x03one\x81\x03two");
        let v2 = v2.freeze();
        assert_eq!(v2.len(), bytes);
        assert!(v2.ends_with(b"{\"event\":\"news\",\"id\":\"00000000-3\"}\nthree"));
    }
}
