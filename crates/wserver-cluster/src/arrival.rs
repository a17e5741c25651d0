//! What comes by one channel of one other node: in its order, once, with an age and in whole bodies.
//!
//! It knows one node's numbers and clock, and not who the nodes are.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::envelope::Part;
use crate::sequence::JUMP;

/// How long the fastest transit of a message counts as the minimum. The last two windows are used,
/// so that the minimum follows clocks that drift, or stop while a machine sleeps.
const WINDOW: Duration = Duration::from_secs(10);

/// How far a message may be ahead of the fastest recent ones of its node. An honest message is
/// further ahead only if this machine's clock stopped; its node is then heard again after a lease.
const AHEAD_MS_MAX: i64 = 60_000;

/// Two messages of a node that were sent within this time of each other may be numbered in the
/// other order.
const NUMBERED_WITHIN_MS: u64 = 1000;

/// One channel of one origin.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    sequence: u64,
    /// When the last one was sent, by its node's clock.
    sent_ms: u64,
    /// The parts of a body that have arrived, and how many have not.
    parts: BytesMut,
    parts_left: u32,
}

/// The offset of an origin's clock: the smallest difference seen, which is that of a message
/// without delay.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The last window, and the current one.
    least: [i64; 2],
    since: Instant,
}

/// The result of an arrived part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A whole body, its time in transit beyond the minimum, and how many messages before it were
    /// lost.
    Body { body: Bytes, age: Duration, lost: u64 },
    /// A part of a body that is not complete.
    Part { lost: u64 },
    /// A duplicate, or a message that a later one has overtaken.
    Late,
    /// A body with too many parts, or with parts of different bodies.
    Broken,
    /// A message that its node cannot have sent.
    Implausible,
}

impl Clock {
    /// One of which nothing is known.
    pub(crate) fn new(now: Instant) -> Self {
        Self { least: [i64::MAX; 2], since: now }
    }

    /// Whether a message claims to be sent in the future, as far as can be known.
    fn is_ahead(&self, sent_ms: u64, now_ms: u64) -> bool {
        let difference = now_ms.cast_signed().saturating_sub(sent_ms.cast_signed());
        let least = self.least[0].min(self.least[1]);
        least != i64::MAX && difference < least.saturating_sub(AHEAD_MS_MAX)
    }

    /// The time of a message in transit, beyond the recent minimum.
    fn age(&mut self, sent_ms: u64, now_ms: u64, now: Instant) -> Duration {
        let difference = now_ms.cast_signed().saturating_sub(sent_ms.cast_signed());
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.least = [self.least[1], i64::MAX];
            self.since = now;
        }
        self.least[1] = self.least[1].min(difference);
        let least = self.least[0].min(self.least[1]);
        Duration::from_millis(difference.saturating_sub(least).unsigned_abs())
    }
}

impl Arrival {
    /// Whether it shows that its node lives: not what is let go for its number or its time.
    pub(crate) const fn is_sign_of_life(&self) -> bool {
        match self {
            Self::Body { .. } | Self::Part { .. } | Self::Broken => true,
            Self::Late | Self::Implausible => false,
        }
    }
}

impl Incoming {
    /// Takes in the next part that came by this channel, from a node with this clock.
    pub(crate) fn take(
        &mut self,
        part: Part,
        clock: &mut Clock,
        now_ms: u64,
        now: Instant,
        bytes_max: usize,
    ) -> Arrival {
        if clock.is_ahead(part.sent_ms, now_ms) {
            return Arrival::Implausible;
        }
        let age = clock.age(part.sent_ms, now_ms, now);
        if part.sequence <= self.sequence {
            // A node numbers its messages in the order of its clock. If a lower number was sent
            // later, the higher one was not its own; otherwise all its further messages would be
            // ignored.
            let is_forged = part.sent_ms > self.sent_ms + NUMBERED_WITHIN_MS
                || clock.is_ahead(self.sent_ms, now_ms);
            if is_forged {
                let (sequence, sent_ms) = (part.sequence, part.sent_ms);
                *self = Self { sequence, sent_ms, ..Self::default() };
                return Arrival::Implausible;
            }
            return Arrival::Late;
        }
        self.sent_ms = part.sent_ms;
        let gap = part.sequence - self.sequence - 1;
        // For a new channel, the number of earlier messages is unknown.
        let lost = if self.sequence == 0 || gap >= JUMP { 0 } else { gap };
        self.sequence = part.sequence;
        if gap > 0 {
            (self.parts, self.parts_left) = (BytesMut::new(), 0);
        }
        if part.parts_left == 0 && part.parts_before == 0 && self.parts.is_empty() {
            return Arrival::Body { body: part.body, age, lost };
        }
        let is_begun = !self.parts.is_empty();
        let fits = self.parts.len() + part.body.len() <= bytes_max;
        let is_next = if is_begun {
            part.parts_before > 0 && self.parts_left == part.parts_left.saturating_add(1)
        } else {
            part.parts_before == 0
        };
        if !fits || !is_next {
            (self.parts, self.parts_left) = (BytesMut::new(), 0);
            return Arrival::Broken;
        }
        self.parts.extend_from_slice(&part.body);
        self.parts_left = part.parts_left;
        if part.parts_left > 0 {
            return Arrival::Part { lost };
        }
        Arrival::Body { body: std::mem::take(&mut self.parts).freeze(), age, lost }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    struct Channel {
        incoming: Incoming,
        clock: Clock,
    }

    impl Channel {
        fn new() -> Self {
            Self { incoming: Incoming::default(), clock: Clock::new(Instant::now()) }
        }

        fn arrive(&mut self, part: Part, now_ms: u64) -> Arrival {
            self.incoming.take(part, &mut self.clock, now_ms, Instant::now(), 100)
        }
    }

    pub(crate) fn part(sequence: u64, sent_ms: u64, parts_left: u32, body: &'static str) -> Part {
        let body = Bytes::from_static(body.as_bytes());
        Part { origin: 1, sequence, sent_ms, parts_left, body, ..Part::default() }
    }

    /// One that is not the first of its body.
    fn later(sequence: u64, parts_left: u32, body: &'static str) -> Part {
        Part { parts_before: 1, ..part(sequence, 0, parts_left, body) }
    }

    pub(crate) fn whole(body: &'static str, age_ms: u64, lost: u64) -> Arrival {
        let age = Duration::from_millis(age_ms);
        Arrival::Body { body: Bytes::from_static(body.as_bytes()), age, lost }
    }

    #[test]
    fn what_follows_a_lost_part_is_no_body() {
        let mut channel = Channel::new();
        assert_eq!(channel.arrive(part(1, 0, 0, "a"), 0), whole("a", 0, 0));
        // Number 2, the first of three, never comes.
        assert_eq!(channel.arrive(later(3, 1, "b"), 0), Arrival::Broken);
        assert_eq!(channel.arrive(later(4, 0, "c"), 0), Arrival::Broken);
        assert_eq!(channel.arrive(part(5, 0, 0, "d"), 0), whole("d", 0, 0));
    }

    #[test]
    fn nothing_comes_twice_or_late_and_what_is_missing_is_counted() {
        let mut channel = Channel::new();
        assert_eq!(channel.arrive(part(7, 0, 0, "a"), 1000), whole("a", 0, 0));
        assert_eq!(channel.arrive(part(8, 10, 0, "b"), 1010), whole("b", 0, 0));
        assert_eq!(channel.arrive(part(8, 10, 0, "b"), 1010), Arrival::Late);
        assert_eq!(channel.arrive(part(12, 20, 0, "c"), 1020), whole("c", 0, 3));
        assert_eq!(channel.arrive(part(9, 15, 0, "x"), 1021), Arrival::Late);
        let beginning = part(12 + 2 * JUMP, 30, 0, "d");
        assert_eq!(channel.arrive(beginning, 1030), whole("d", 0, 0), "no loss but a beginning");
    }

    #[test]
    fn a_forged_jump_does_not_silence_a_node() {
        let mut channel = Channel::new();
        assert_eq!(channel.arrive(part(7, 5000, 0, "a"), 9000), whole("a", 0, 0));
        // As high as may be, sent when nobody can know better: the node's next one shows it.
        assert_eq!(channel.arrive(part(9000 << 16, 6000, 0, "x"), 10_000), whole("x", 0, 0));
        assert_eq!(channel.arrive(part(8, 6500, 0, "b"), 10_500), Arrival::Late);
        assert_eq!(channel.arrive(part(9, 7500, 0, "c"), 11_500), Arrival::Implausible);
        assert_eq!(channel.arrive(part(10, 7501, 0, "d"), 11_501), whole("d", 0, 0));
        assert_eq!(channel.arrive(part(10, 7501, 0, "d"), 11_501), Arrival::Late);
        // One that was sent in a time to come is none of its own, whatever its number.
        let ahead = part(1 << 50, 1 << 35, 0, "x");
        assert_eq!(channel.arrive(ahead, 11_502), Arrival::Implausible);
        assert_eq!(channel.arrive(part(11, 7503, 0, "e"), 11_503), whole("e", 0, 0));
    }

    #[test]
    fn parts_make_a_body_or_none() {
        let mut channel = Channel::new();
        assert_eq!(channel.arrive(part(1, 0, 2, "a"), 0), Arrival::Part { lost: 0 });
        assert_eq!(channel.arrive(later(2, 1, "b"), 0), Arrival::Part { lost: 0 });
        assert_eq!(channel.arrive(later(3, 0, "c"), 0), whole("abc", 0, 0));
        // One in the middle is lost, and a whole one comes next.
        assert_eq!(channel.arrive(part(4, 0, 2, "a"), 0), Arrival::Part { lost: 0 });
        assert_eq!(channel.arrive(part(6, 0, 0, "c"), 0), whole("c", 0, 1));
        assert_eq!(channel.arrive(part(7, 0, 2, "a"), 0), Arrival::Part { lost: 0 });
        assert_eq!(channel.arrive(part(8, 0, 0, "c"), 0), Arrival::Broken);
        let long = "x".repeat(60).leak();
        assert_eq!(channel.arrive(part(9, 0, 2, long), 0), Arrival::Part { lost: 0 });
        assert_eq!(channel.arrive(later(10, 1, long), 0), Arrival::Broken, "too large");
    }

    #[test]
    fn the_age_of_a_message_needs_no_clock_in_common() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let mut age = |sent, now_ms, seconds: u64| {
            clock.age(sent, now_ms, start + Duration::from_secs(seconds)).as_millis()
        };
        assert_eq!(age(1_000_000, 5, 0), 0, "the first is the measure");
        assert_eq!(age(1_000_010, 12, 0), 0, "quicker");
        assert_eq!(age(1_000_020, 30, 0), 8);
        assert_eq!(age(1_004_000, 9000, 9), 4998, "a broker that stood still");
        assert_eq!(age(1_005_000, 35_000, 35), 29_998, "however long");
        assert_eq!(age(1_016_000, 46_000, 46), 0, "a clock that was stopped is caught up with");
    }

    #[test]
    fn a_body_may_be_as_large_as_the_limit() {
        let mut channel = Channel::new();
        let (start, rest) = ("x".repeat(60).leak(), "y".repeat(40).leak());
        assert_eq!(channel.arrive(part(1, 0, 1, start), 0), Arrival::Part { lost: 0 });
        let body = format!("{start}{rest}").leak();
        assert_eq!(channel.arrive(later(2, 0, rest), 0), whole(body, 0, 0));
    }

    /// The first message of a node may be forged: its clock is known only afterwards.
    #[test]
    fn a_forged_first_message_does_not_silence_a_node_for_longer_than_its_clock_is_unknown() {
        let start = Instant::now();
        let (mut incoming, mut clock) = (Incoming::default(), Clock::new(start));
        let mut arrive = |part: Part, now_ms: u64| {
            incoming.take(part, &mut clock, now_ms, start + Duration::from_millis(now_ms), 100)
        };
        let forged = part(1 << 40, 1_000_000, 0, "x");
        assert_eq!(arrive(forged, 5), whole("x", 0, 0));
        assert_eq!(arrive(part(7, 11_000, 0, "a"), 11_000), Arrival::Late);
        assert_eq!(arrive(part(8, 22_000, 0, "b"), 22_000), Arrival::Implausible);
        assert_eq!(arrive(part(9, 22_001, 0, "c"), 22_001), whole("c", 0, 0));
    }
}
