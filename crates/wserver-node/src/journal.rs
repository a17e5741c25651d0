//! What happened to users and their connections, as far back as memory allows; and who follows it live.
//!
//! Refusals, drops and ends are kept, in rings that are bounded in bytes; registrations and pushes
//! are told to those who trace the user, and to nobody else. It knows neither the binder nor a
//! socket.
//!
//! It does not keep registrations and pushes: a busy user would displace within a second what explains
//! yesterday.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use wserver_core::{ConnectionId, EventName, Limits, UserId};

use crate::entry::{Entry, What};
use crate::trace::{Trace, TraceError, Tracers};

/// Rings of users. Who makes a lot of entries pushes out those of a sixteenth of all others.
const USER_STRIPES: usize = 16;
/// What an entry costs beside its own size and its names: its place in the ring, and what the
/// allocator adds for the entry and for each name.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

/// The journal of one node.
#[derive(Debug)]
pub(crate) struct Journal {
    keys: RandomState,
    /// That of strangers first: what they cause never pushes out an entry of a user.
    /// Written by whoever notes something; each is bounded by `stripe_bytes_max`.
    stripes: Vec<Mutex<Stripe>>,
    stripe_bytes_max: usize,
    tracers: Arc<Tracers>,
}

/// A ring of entries. Each is boxed, so that a ring that grows does not hold twice its bytes.
#[derive(Debug, Default)]
struct Stripe {
    entries: VecDeque<Box<Entry>>,
    /// Invariant: the sum of the entries' [`bytes`].
    bytes: usize,
}

impl Journal {
    pub(crate) fn new(limits: &Limits) -> Self {
        let stripes = if limits.journal_bytes_max == 0 { 0 } else { 1 + USER_STRIPES };
        Self {
            keys: RandomState::new(),
            stripes: (0..stripes).map(|_| Mutex::default()).collect(),
            stripe_bytes_max: limits.journal_bytes_max / (1 + USER_STRIPES),
            tracers: Arc::new(Tracers::new(limits.traces_max)),
        }
    }

    /// Whether anybody would hear of something that is not kept. One relaxed load.
    pub(crate) fn is_traced(&self) -> bool {
        self.tracers.is_any()
    }

    /// Notes what happened. `user` is somebody who was proven, by a token or as the one a publisher
    /// named, never somebody a stranger claims to be.
    pub(crate) fn note(
        &self,
        what: What,
        connection: Option<ConnectionId>,
        user: Option<&UserId>,
        event: Option<&EventName>,
    ) {
        let is_kept = what.is_kept() && !self.stripes.is_empty();
        let is_traced = user.is_some() && self.is_traced();
        if !is_kept && !is_traced {
            return;
        }
        let at = SystemTime::now();
        let entry = Entry { at, connection, user: user.cloned(), event: event.cloned(), what };
        if is_traced {
            self.tracers.tell(&entry);
        }
        if is_kept && let Some(mut stripe) = self.stripe(user) {
            stripe.push(entry, self.stripe_bytes_max);
        }
    }

    /// The newest entries of a user, at most `max`, the oldest of them first.
    pub(crate) fn recent(&self, user: Option<&UserId>, max: usize) -> Vec<Entry> {
        let Some(stripe) = self.stripe(user) else { return Vec::new() };
        let of_user = stripe.entries.iter().rev().filter(|entry| entry.user.as_ref() == user);
        let mut entries: Vec<Entry> = of_user.take(max).map(|entry| (**entry).clone()).collect();
        drop(stripe);
        entries.reverse();
        entries
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).entries.len()).sum()
    }

    /// Bytes that the entries take.
    pub(crate) fn bytes(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).bytes).sum()
    }

    pub(crate) fn trace(&self, user: &UserId) -> Result<Trace, TraceError> {
        Tracers::trace(&self.tracers, user)
    }

    /// Ends every trace; there will be no other.
    pub(crate) fn end_traces(&self) {
        self.tracers.end();
    }

    fn stripe(&self, user: Option<&UserId>) -> Option<MutexGuard<'_, Stripe>> {
        let number = user.map_or(0, |user| {
            let spread = self.keys.hash_one(user.as_str()) % USER_STRIPES as u64;
            1 + usize::try_from(spread).unwrap_or_default()
        });
        self.stripes.get(number).map(lock)
    }
}

impl Stripe {
    fn push(&mut self, entry: Entry, bytes_max: usize) {
        let bytes = bytes(&entry);
        if bytes > bytes_max {
            return;
        }
        while self.bytes + bytes > bytes_max
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= self::bytes(&oldest);
        }
        self.bytes += bytes;
        self.entries.push_back(Box::new(entry));
    }
}

/// What an entry takes. Names are often shared, and counted as if they were not.
fn bytes(entry: &Entry) -> usize {
    let user = entry.user.as_ref().map_or(0, |user| user.as_str().len());
    let event = entry.event.as_ref().map_or(0, |event| event.as_str().len());
    ENTRY_BYTES + user + event
}

fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    // Nothing under this lock panics half-way through a change.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}
