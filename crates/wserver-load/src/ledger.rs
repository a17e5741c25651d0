//! The ledger: which connection got which messages, and so which were lost, duplicated or out of
//! order.
//!
//! It knows stamps and numbers of connections, but neither sockets nor time.

use std::collections::HashMap;
use std::ops::Range;

use crate::stamp::{PROBE_STREAM, SEQUENCE_MAX, Stamp, after};

/// The connection has seen nothing of the stream, and takes its first message as the start.
const UNSTARTED: u32 = u32::MAX;

/// Gaps to remember for each connection and stream, to distinguish a late message from a duplicate.
const GAPS_MAX: usize = 1024;

/// The findings so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Frames with a stamp, probes included.
    pub(crate) received: u64,
    /// Missing, as the numbers of later messages show, or [`Ledger::close`].
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// Arrived after a message that was sent later.
    pub(crate) disordered: u64,
    /// Messages without a stamp, of an unknown stream or with another length, and probes for other
    /// users.
    pub(crate) foreign: u64,
}

/// The records of all connections.
#[derive(Debug)]
pub(crate) struct Ledger {
    streams: usize,
    payload_len: u64,
    findings: Findings,
    /// The number at which each connection's streams start; it distinguishes its messages from those
    /// of other users.
    first: Vec<u32>,
    /// The number that each connection expects next in each stream; one row for each connection.
    next: Vec<u32>,
    /// The order in which a connection got its messages, as a number.
    digests: Vec<u64>,
    /// Messages that each connection got, without probes.
    received: Vec<u64>,
    gaps: HashMap<usize, Vec<Range<u32>>>,
}

impl Ledger {
    pub(crate) fn new(streams: usize, payload_len: usize) -> Self {
        Self {
            streams,
            payload_len: payload_len as u64,
            findings: Findings::default(),
            first: Vec::new(),
            next: Vec::new(),
            digests: Vec::new(),
            received: Vec::new(),
            gaps: HashMap::new(),
        }
    }

    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    pub(crate) fn received(&self) -> u64 {
        self.findings.received
    }

    /// Grows with every message of any kind.
    pub(crate) fn seen(&self) -> u64 {
        self.findings.received + self.findings.foreign
    }

    /// Adds the next connection, which must get every message from now on; the numbers of each stream
    /// start at `first`.
    pub(crate) fn open(&mut self, first: u32) {
        self.first.push(first);
        self.next.resize(self.next.len() + self.streams, first);
        self.digests.push(0);
        self.received.push(0);
    }

    /// Starts the records of a connection again that reconnects, or joins in the middle.
    pub(crate) fn reopen(&mut self, connection: usize) {
        let row = connection * self.streams;
        self.next[row..row + self.streams].fill(UNSTARTED);
        for cell in row..row + self.streams {
            self.gaps.remove(&cell);
        }
    }

    /// Notes one message.
    #[inline]
    pub(crate) fn record(&mut self, connection: usize, stamp: Stamp, payload_len: u64) {
        self.findings.received += 1;
        let stream = usize::from(stamp.stream);
        if stream >= self.streams || payload_len != self.payload_len {
            // A probe has the number of its user's first message.
            let is_probe = stamp.stream == PROBE_STREAM
                && stamp.sequence == self.first[connection]
                && payload_len == self.payload_len;
            if !is_probe {
                self.findings.foreign += 1;
            }
            return;
        }
        let cell = connection * self.streams + stream;
        let next = self.next[cell];
        if stamp.sequence == next || next == UNSTARTED {
            self.next[cell] = after(stamp.sequence);
        } else {
            self.surprise(cell, next, stamp.sequence);
        }
        self.received[connection] += 1;
        let id = u64::from(stamp.stream) << 24 | u64::from(stamp.sequence);
        let digest = &mut self.digests[connection];
        *digest = digest.wrapping_add(id).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    /// Notes a message without a stamp.
    pub(crate) fn record_foreign(&mut self) {
        self.findings.foreign += 1;
    }

    #[cold]
    fn surprise(&mut self, cell: usize, next: u32, sequence: u32) {
        let ahead = sequence.wrapping_sub(next) & SEQUENCE_MAX;
        let gaps = self.gaps.entry(cell).or_default();
        if ahead <= SEQUENCE_MAX / 2 {
            self.findings.lost += u64::from(ahead);
            if gaps.len() < GAPS_MAX {
                gaps.push(next..sequence);
            }
            self.next[cell] = after(sequence);
            return;
        }
        let Some(at) = gaps.iter().position(|gap| gap.contains(&sequence)) else {
            self.findings.duplicated += 1;
            return;
        };
        self.findings.lost -= 1;
        self.findings.disordered += 1;
        let gap = gaps.swap_remove(at);
        gaps.extend(
            [gap.start..sequence, sequence + 1..gap.end].into_iter().filter(|it| !it.is_empty()),
        );
    }

    /// Records what a live connection should have got and did not: `sent` messages of the stream,
    /// counted from its first.
    pub(crate) fn close(&mut self, connection: usize, stream: usize, sent: u32) {
        let cell = connection * self.streams + stream;
        let first = self.first[connection];
        let next = if self.next[cell] == UNSTARTED { first } else { self.next[cell] };
        let end = first.wrapping_add(sent) & SEQUENCE_MAX;
        let ahead = end.wrapping_sub(next) & SEQUENCE_MAX;
        if ahead <= SEQUENCE_MAX / 2 {
            self.findings.lost += u64::from(ahead);
        }
        self.next[cell] = end;
    }

    /// How many of `connections` saw another order of messages than the first of them, over all
    /// streams.
    pub(crate) fn dissenters(&self, connections: &[usize]) -> usize {
        let Some((&first, others)) = connections.split_first() else { return 0 };
        let view = |connection: usize| (self.digests[connection], self.received[connection]);
        others.iter().filter(|&&other| view(other) != view(first)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::first_of;

    /// The findings after one connection got these numbers of one stream, counted from `first`;
    /// `sent` were sent.
    fn found(first: u32, numbers: &[u32], sent: u32) -> (u64, u64, u64) {
        let mut ledger = Ledger::new(1, 16);
        ledger.open(first);
        for number in numbers {
            let sequence = first + number;
            ledger.record(0, Stamp { stream: 0, sequence, micros: 0 }, 16);
        }
        ledger.close(0, 0, sent);
        let Findings { lost, duplicated, disordered, .. } = *ledger.findings();
        assert_eq!(ledger.received(), numbers.len() as u64);
        (lost, duplicated, disordered)
    }

    #[test]
    fn the_books_tell_what_happened() {
        for (numbers, sent, expected) in [
            (&[0, 1, 2, 3][..], 4, (0, 0, 0)),
            (&[], 0, (0, 0, 0)),
            (&[], 3, (3, 0, 0)),
            (&[0, 1, 3], 4, (1, 0, 0)),
            (&[1, 2, 3], 4, (1, 0, 0)),
            (&[0, 1, 2], 4, (1, 0, 0)),
            (&[0, 1, 1, 2], 3, (0, 1, 0)),
            (&[0, 0], 1, (0, 1, 0)),
            (&[0, 2, 1, 3], 4, (0, 0, 1)),
            (&[0, 3, 2, 1, 4], 5, (0, 0, 2)),
            (&[0, 3, 2, 2, 4], 5, (1, 1, 1)),
        ] {
            for first in [0, 1000, SEQUENCE_MAX - 10] {
                let found = found(first, numbers, sent);
                assert_eq!(found, expected, "{numbers:?} of {sent} from {first} on");
            }
        }
    }

    #[test]
    fn numbers_wrap() {
        let mut ledger = Ledger::new(1, 16);
        ledger.open(SEQUENCE_MAX - 1);
        for sequence in [SEQUENCE_MAX - 1, SEQUENCE_MAX, 0, 2] {
            ledger.record(0, Stamp { stream: 0, sequence, micros: 0 }, 16);
        }
        ledger.close(0, 0, 5);
        assert_eq!(ledger.findings(), &Findings { received: 4, lost: 1, ..Findings::default() });
    }

    #[test]
    fn who_comes_in_the_middle_has_lost_nothing_before() {
        let mut ledger = Ledger::new(1, 16);
        ledger.open(10);
        ledger.reopen(0);
        for sequence in [15, 16, 18] {
            ledger.record(0, Stamp { stream: 0, sequence, micros: 0 }, 16);
        }
        ledger.close(0, 0, 9);
        assert_eq!(ledger.findings(), &Findings { received: 3, lost: 1, ..Findings::default() });
    }

    #[test]
    fn messages_of_another_user_are_seen() {
        let probe = |user| Stamp { stream: PROBE_STREAM, sequence: first_of(user), micros: 0 };
        let message = |user, number| {
            let sequence = (first_of(user) + number) & SEQUENCE_MAX;
            Stamp { stream: 0, sequence, micros: 0 }
        };
        for (one, other) in [(0, 1), (1, 0), (1, 2), (998, 999)] {
            let mut ledger = Ledger::new(1, 16);
            ledger.open(first_of(one));
            ledger.record(0, probe(one), 16);
            ledger.record(0, message(one, 0), 16);
            ledger.record(0, message(one, 1), 16);
            assert_eq!(ledger.findings(), &Findings { received: 3, ..Findings::default() });
            ledger.record(0, probe(other), 16);
            assert_eq!(ledger.findings().foreign, 1, "{other} for {one}");
            // The number and the order of messages fit, but one of them is another user's.
            ledger.record(0, message(other, 2), 16);
            ledger.record(0, message(one, 3), 16);
            ledger.close(0, 0, 4);
            let Findings { lost, duplicated, disordered, .. } = *ledger.findings();
            assert!(lost + duplicated + disordered > 0, "{other} for {one}");
        }
    }

    #[test]
    fn streams_and_connections_are_told_apart() {
        let mut ledger = Ledger::new(2, 16);
        ledger.open(0);
        ledger.open(0);
        ledger.open(0);
        let orders = [[(0, 0), (1, 0), (0, 1)], [(0, 0), (1, 0), (0, 1)], [(1, 0), (0, 0), (0, 1)]];
        for (connection, order) in orders.iter().enumerate() {
            for &(stream, sequence) in order {
                ledger.record(connection, Stamp { stream, sequence, micros: 0 }, 16);
            }
        }
        assert_eq!(ledger.findings(), &Findings { received: 9, ..Findings::default() });
        assert_eq!(ledger.dissenters(&[0, 1]), 0);
        assert_eq!(ledger.dissenters(&[0, 1, 2]), 1);
        ledger.record(0, Stamp { stream: 2, sequence: 0, micros: 0 }, 16);
        ledger.record(0, Stamp { stream: 0, sequence: 2, micros: 0 }, 17);
        ledger.record(0, Stamp { stream: PROBE_STREAM, sequence: 0, micros: 0 }, 16);
        assert_eq!(ledger.findings().foreign, 2);
        ledger.record(0, Stamp { stream: PROBE_STREAM, sequence: 0, micros: 0 }, 17);
        assert_eq!(ledger.findings().foreign, 3);
    }
}
