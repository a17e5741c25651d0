//! How the messages of one channel are numbered: from a moment on, one by one.
//!
//! A number tells a receiver what is lost, late or twice, and by itself whether a node can have
//! given it at the time it names.

/// A gap in a channel's numbers that means a new beginning, and not a loss.
pub(crate) const JUMP: u64 = 1 << 16;

/// The first number of a channel. Other nodes may remember the numbers from before a node was
/// forgotten, and these are beyond them.
pub(crate) const fn first(sent_ms: u64) -> u64 {
    sent_ms << JUMP.ilog2()
}

/// Whether a channel can have come to this number by then.
///
/// Numbers begin at the time when their channel does, and nobody writes as many messages in a
/// millisecond as lie between two such beginnings: both are of the same clock.
pub(crate) const fn is_plausible(sequence: u64, sent_ms: u64) -> bool {
    sent_ms < SENT_MS_MAX && sequence <= first(sent_ms + 1)
}

/// No node has run for this many milliseconds: 34 years.
const SENT_MS_MAX: u64 = 1 << 40;
