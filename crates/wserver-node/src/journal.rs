//! Recent events of users and their connections, within a limit of memory; and those who follow
//! them live.
//!
//! The journal keeps refusals, drops and ends, in rings that are limited in bytes. Registrations
//! and pushes go only to the traces of the user. It knows neither the binder nor sockets.
//!
//! It does not keep registrations and pushes, because those of a busy user would displace within a
//! second the entries that explain yesterday.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use wserver_core::{ConnectionId, EventName, Limits, UserId};

use crate::entry::{Entry, What};
use crate::trace::{Trace, TraceError, Tracers};

/// Rings of users. A user with many entries displaces those of a sixteenth of all other users.
const USER_STRIPES: usize = 16;
/// What an entry costs besides its own size and its names: its slot in the ring, and the
/// allocator's overhead for the entry and for each name.
const ENTRY_BYTES: usize = size_of::<Entry>() + 64;

/// The journal of one node.
#[derive(Debug)]
pub(crate) struct Journal {
    keys: RandomState,
    /// The ring of strangers comes first; their entries never displace an entry of a user. Written
    /// by all code that notes something; each ring is limited by `stripe_bytes_max`.
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

    /// Whether anybody would get an entry that is not kept. One relaxed load.
    pub(crate) fn is_traced(&self) -> bool {
        self.tracers.is_any()
    }

    /// Notes what happened. `user` was proven by a token, or named by a publisher that may; it is
    /// never just a stranger's claim.
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
            stripe.append(entry, self.stripe_bytes_max);
        }
    }

    /// The newest entries of a user, at most `max`, in order of time.
    pub(crate) fn recent(&self, user: Option<&UserId>, max: usize) -> Vec<Entry> {
        let Some(stripe) = self.stripe(user) else { return Vec::new() };
        let of_user = stripe.entries.iter().rev().filter(|entry| entry.user.as_ref() == user);
        let mut entries: Vec<Entry> = of_user.take(max).map(|entry| (**entry).clone()).collect();
        drop(stripe);
        entries.reverse();
        entries
    }

    /// The number of entries.
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

    /// Ends every trace; no other can begin.
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
    fn append(&mut self, entry: Entry, bytes_max: usize) {
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

/// The bytes that an entry takes. Names are often shared, but count in full.
fn bytes(entry: &Entry) -> usize {
    let user = entry.user.as_ref().map_or(0, |user| user.as_str().len());
    let event = entry.event.as_ref().map_or(0, |event| event.as_str().len());
    ENTRY_BYTES + user + event
}

fn lock(stripe: &Mutex<Stripe>) -> MutexGuard<'_, Stripe> {
    // No code under this lock can panic in the middle of a change.
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}
