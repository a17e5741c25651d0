//! The end of a node: it accepts no more connections, closes those it has, and finally cuts off the
//! rest.
//!
//! Clients whose connections are closed come back, most of them at once and to another server. So
//! the node closes a few connections at a time, and each Close can say when to come back.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wserver_core::CloseReason;
use wserver_protocol::Protocol;

use crate::lane::Lane;
use crate::node::Node;
use crate::outbox::{Outbox, Wire};
use crate::state::{NodeState, lock};

/// Connections are closed in slots of this length, each at a random moment of its slot, so that
/// servers that are stopped together do not send their clients back in step.
const SLOT: Duration = Duration::from_millis(50);
/// At least so many per slot, 500 a second: fewer clients that come back are no storm, and a server
/// with few connections need not take long.
const SLOT_CONNECTIONS_MIN: usize = 25;

/// How long to wait for connections whose users get pushes without a pause, and how often to look
/// at them.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// The last frames for connections that must close: for each protocol, some runs of whole frames
/// that end with a Close. Each connection gets one run of its protocol, chosen at random; if there
/// is none, it gets the Close of the reason.
#[derive(Debug, Clone, Default)]
pub struct Goodbyes {
    /// For connections of version 1.
    pub v1: Vec<Bytes>,
    /// For connections of version 2.
    pub v2: Vec<Bytes>,
    /// For streams of events.
    pub sse: Vec<Bytes>,
}

impl Goodbyes {
    fn choose(&self, protocol: Protocol) -> Option<&Bytes> {
        let of_it = match protocol {
            Protocol::V1 => &self.v1,
            Protocol::V2 => &self.v2,
            Protocol::Sse => &self.sse,
        };
        of_it.get(random(of_it.len()))
    }
}

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that were closed.
    pub closed: usize,
    /// Connections that had not ended in time, and were cut off.
    pub cut_off: usize,
    /// Bytes that were queued for the connections that were cut off, and were never sent.
    pub bytes_lost: usize,
    /// Pushes that were accepted after the last connection was.
    pub pushes: u64,
    /// Messages of these pushes that a socket or a queue took.
    pub deliveries: u64,
}

impl<W: Wire> Node<W> {
    /// Accepts no more connections, and closes all, evenly spread over `spread` or less. Returns
    /// how many it closed. Pushes continue, to the connections that are left.
    ///
    /// It takes at most half of the time until `deadline`, so that the other half is left for
    /// queues. Each connection gets one of `goodbyes`, after everything that was accepted for it:
    /// if a fan-out is under way to it, it is closed after that, unless pushes to its users come
    /// without a pause for a second.
    ///
    /// # Cancel safety
    /// Connections that were closed stay closed; call [`Node::drain`] for the rest.
    pub async fn dismiss(&self, spread: Duration, deadline: Instant, goodbyes: &Goodbyes) -> usize {
        self.begin_drain();
        let spread = spread.min(deadline.saturating_duration_since(Instant::now()) / 2);
        self.tell_to_go(CloseReason::Shutdown, spread, deadline, goodbyes).await
    }

    /// Closes all current connections, as [`dismiss`](Self::dismiss), but keeps accepting others:
    /// for a node that is temporarily useless to its connections.
    ///
    /// # Cancel safety
    /// Connections that were closed stay closed.
    pub async fn release(&self, spread: Duration, goodbyes: &Goodbyes) -> usize {
        let deadline = Instant::now() + spread + BUSY_TIMEOUT;
        self.tell_to_go(CloseReason::CutOff, spread, deadline, goodbyes).await
    }

    async fn tell_to_go(
        &self,
        reason: CloseReason,
        spread: Duration,
        deadline: Instant,
        goodbyes: &Goodbyes,
    ) -> usize {
        let state = &self.state;
        // Ids are assigned to the shards in turn, so connections that were opened together are
        // closed apart.
        let outboxes = self.outboxes();
        let start = Instant::now();
        let slots = (spread.as_millis() / SLOT.as_millis()).max(1);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        let in_slot = outboxes.len().div_ceil(slots).max(SLOT_CONNECTIONS_MIN);
        let mut closed = 0;
        let mut busy = Vec::new();
        let mut tell = |outbox: &Arc<Outbox<W>>, is_patient: bool| {
            if is_patient && !state.leave_at_rest(outbox, reason) {
                return false;
            }
            let is_first = match goodbyes.choose(outbox.protocol()) {
                Some(goodbye) => state.close_with(outbox, reason, goodbye),
                None => state.close(outbox, reason),
            };
            closed += usize::from(is_first);
            true
        };
        for (slot, outboxes) in (0_u32..).zip(outboxes.chunks(in_slot)) {
            if slot > 0 {
                let part = random(1024) as f64 / 1024.0;
                tokio::time::sleep_until(start + SLOT * slot + SLOT.mul_f64(part)).await;
            }
            busy.retain(|outbox| !tell(outbox, true));
            busy.extend(outboxes.iter().filter(|outbox| !tell(outbox, true)).cloned());
        }
        let give_up = deadline.min(Instant::now() + BUSY_TIMEOUT);
        while !busy.is_empty() {
            let is_patient = Instant::now() < give_up;
            busy.retain(|outbox| !tell(outbox, is_patient));
            if !busy.is_empty() {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
        }
        closed
    }

    /// Accepts no more connections, closes all at once, waits for queues, and at `deadline` cuts
    /// off the connections that have not ended.
    ///
    /// # Cancel safety
    /// What was done stays done; call it again to wait for the end.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        let state = &self.state;
        let (pushes, deliveries) = self.begin_drain();
        let outboxes = self.outboxes();
        let closed = outboxes.iter().filter(|it| state.close(it, CloseReason::Shutdown)).count();
        drop(outboxes);
        loop {
            let gone = state.connections_gone.notified();
            if self.connections_open() == 0 {
                break;
            }
            if tokio::time::timeout_at(deadline, gone).await.is_err() {
                break;
            }
        }
        let (cut_off, bytes_lost) = self.cut_off_rest();
        let counters = &state.counters;
        Drained {
            closed,
            cut_off,
            bytes_lost,
            pushes: counters.pushes_total.value() - pushes,
            deliveries: counters.deliveries_total.value() - deliveries,
        }
    }

    /// Ends the node at once: accepts no new connection, sends each open one the Close of a
    /// shutdown if its socket takes it without waiting, cuts all of them off, and tells every task
    /// to stop.
    ///
    /// This is for an owner that has no time for [`dismiss`](Self::dismiss) and
    /// [`drain`](Self::drain); after these it changes nothing.
    pub fn end(&self) {
        self.begin_drain();
        for outbox in self.outboxes() {
            self.state.close(&outbox, CloseReason::Shutdown);
        }
        self.cut_off_rest();
        self.tasks().stop();
    }

    /// Cuts off every connection that is left. Returns their number, and the bytes queued for them.
    fn cut_off_rest(&self) -> (usize, usize) {
        let state = &self.state;
        let outboxes = self.outboxes();
        let mut bytes_lost = 0;
        for outbox in &outboxes {
            bytes_lost += outbox.queued_bytes();
            outbox.cut_off(&state.outbox_rules, CloseReason::Shutdown);
        }
        state.journal.end_traces();
        state.is_drained.store(true, Ordering::Relaxed);
        (outboxes.len(), bytes_lost)
    }

    /// Accepts no connections from now on; returns the pushes and deliveries until then.
    fn begin_drain(&self) -> (u64, u64) {
        let counters = &self.state.counters;
        *self
            .state
            .drain_began
            .get_or_init(|| (counters.pushes_total.value(), counters.deliveries_total.value()))
    }

    /// All current connections. A connection that comes too late for this list finds that the drain
    /// has begun.
    fn outboxes(&self) -> Vec<Arc<Outbox<W>>> {
        let shards = self.state.connections.iter();
        shards.flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect()
    }
}

impl<W: Wire> NodeState<W> {
    /// Unbinds a connection from those of its users for which no fan-out is under way. Returns
    /// whether those were all of its users, so that nothing that was counted for it is still to
    /// come.
    fn leave_at_rest(&self, outbox: &Outbox<W>, reason: CloseReason) -> bool {
        let (unbound, is_gone) = self.binder.unbind_at_rest(outbox.id(), Lane::is_at_rest);
        self.let_go(&unbound);
        self.note_closed(outbox.id(), reason, &unbound);
        is_gone
    }
}

/// A random number below `bound`, or 0. New hash keys are the only randomness in the standard
/// library.
#[expect(clippy::cast_possible_truncation, reason = "below the bound, which is a usize")]
fn random(bound: usize) -> usize {
    if bound == 0 {
        return 0;
    }
    (RandomState::new().hash_one(0) % bound as u64) as usize
}
