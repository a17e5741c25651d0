//! When a peer counts as stalled, by a clock that the tests set.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use wserver_core::{CloseReason, ConnectionId, Limits};
use wserver_protocol::Protocol;

use super::{Outbox, OutboxRules, Run, Sent, Wire};

/// A socket that takes so many bytes.
struct Room(AtomicUsize);

impl Wire for Room {
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let offered: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let room = self.0.load(Ordering::Relaxed);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = offered.min(room);
        self.0.fetch_sub(taken, Ordering::Relaxed);
        Ok(taken)
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.load(Ordering::Relaxed) {
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

const TIMEOUT: u64 = 400;

/// The time counts from the first look that saw no progress, and starts again whenever the socket
/// has taken some bytes.
#[test]
fn a_peer_has_stalled_when_it_has_taken_nothing_for_the_whole_time() {
    let rules = OutboxRules::new(&Limits::default(), |_, _| None);
    let outbox = Outbox::new(ConnectionId::new(1), Room(AtomicUsize::new(10)), Protocol::V1, 0);
    let is_stalled = |now| outbox.is_stalled(now, TIMEOUT);
    let take = |bytes| {
        outbox.wire().0.store(bytes, Ordering::Relaxed);
        let _ = outbox.poll_flush(&rules, &mut Context::from_waker(Waker::noop()));
    };
    assert!(!is_stalled(0), "nothing waits");
    let frame = Bytes::from(vec![7; 100]);
    assert_eq!(outbox.send(&rules, &[Run::lasting(&frame)]), Ok(Sent::Queued));
    assert!(!is_stalled(1000) && !is_stalled(1399));
    assert!(is_stalled(1400));
    take(1);
    assert!(!is_stalled(1500) && !is_stalled(1899));
    assert!(is_stalled(1900));
    take(89);
    assert!(!is_stalled(9000), "nothing waits any more");
    assert_eq!(outbox.send(&rules, &[Run::lasting(&frame)]), Ok(Sent::Queued));
    assert!(!is_stalled(9100), "what waits now has its own time");
    assert!(outbox.close(&rules, CloseReason::Disconnected));
    assert!(!is_stalled(10_000), "a close has a time of its own");
}
