//! The HTTP connections of one listener: their limit, and which one is closed for a new one.
//!
//! A connection that waits for a request does not need its place. So when all places are taken, the
//! one that has waited longest is closed: connections that have not pushed go first, and among them
//! those of the address that holds the most. So strangers that open connections to hold them only
//! displace each other. When every place has a request under way, a few more connections are
//! accepted, which get only the server's health.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use tokio::sync::Notify;

/// Additional places, at which only the server's health can be asked.
const RESERVED: usize = 8;
/// Connections that are being closed. They hold descriptors beyond the limit.
const LEAVING_MAX: usize = 24;
/// How long a new connection waits for one of them to end.
const LEAVING_TIMEOUT: Duration = Duration::from_millis(50);
/// How many places to look at before deciding which connection to close; more if none of them may
/// be closed.
const LOOKED_AT: usize = 64;

/// The places of one listener.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    /// The limit of one address; zero means no limit.
    per_address_max: usize,
    opened_at: Instant,
    /// Notified when a connection has gone.
    left: Notify,
    /// Written when a connection comes and when it goes.
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By number; as many as there have ever been at once.
    seats: Vec<Option<Arc<Seat>>>,
    free: Vec<usize>,
    ordinary: Count,
    reserved: Count,
    /// An entry is one address with a live connection.
    of_address: HashMap<IpAddr, usize>,
    /// Where the next search begins.
    next: usize,
}

/// The order in which connections are closed: whether it has pushed, how many its address has,
/// since when it waits.
type Rank = (bool, Reverse<usize>, u64);

/// Connections of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    all: usize,
    /// Those that are being closed.
    leaving: usize,
}

impl Count {
    fn staying(&self) -> usize {
        self.all - self.leaving
    }
}

/// What the listener and a connection share.
#[derive(Debug)]
pub(crate) struct Seat {
    opened_at: Instant,
    /// `None` if the limit of addresses does not apply.
    address: Option<IpAddr>,
    /// Only the server's health is served here.
    pub(crate) is_reserved: bool,
    /// Milliseconds from `opened_at` until it began to wait for a request, plus one; zero while a
    /// request is under way.
    waiting_since: AtomicU64,
    has_pushed: AtomicBool,
    is_over: AtomicBool,
    waker: AtomicWaker,
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    number: usize,
    pub(crate) seat: Arc<Seat>,
}

/// A place, or why there is none.
#[derive(Debug)]
pub(crate) enum Found {
    Place {
        place: Place,
        /// Another connection is closed for it.
        is_evicting: bool,
    },
    AllBusy,
    AddressFull,
    /// So many are being closed that no further one is closed yet.
    Leaving,
}

impl Places {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        let opened_at = Instant::now();
        Arc::new(Self {
            max,
            per_address_max,
            opened_at,
            left: Notify::new(),
            taken: Mutex::default(),
        })
    }

    /// Finds a place for a connection from `address`; `None` if the limit of addresses does not
    /// apply.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn find(self: &Arc<Self>, address: Option<IpAddr>) -> Found {
        match self.try_find(address) {
            Found::Leaving => {
                let _ = tokio::time::timeout(LEAVING_TIMEOUT, self.left.notified()).await;
                self.try_find(address)
            }
            found => found,
        }
    }

    fn try_find(self: &Arc<Self>, address: Option<IpAddr>) -> Found {
        let mut taken = self.lock();
        let of_address = address.and_then(|it| taken.of_address.get(&it)).copied().unwrap_or(0);
        if self.per_address_max > 0 && of_address >= self.per_address_max {
            return Found::AddressFull;
        }
        let mut is_evicting = false;
        let mut is_reserved = false;
        if taken.ordinary.staying() >= self.max {
            if taken.ordinary.leaving + taken.reserved.leaving >= LEAVING_MAX {
                return Found::Leaving;
            }
            is_evicting = taken.end_one(false);
            is_reserved = !is_evicting;
        }
        if is_reserved && taken.reserved.staying() >= RESERVED {
            is_evicting = taken.end_one(true);
            if !is_evicting {
                return Found::AllBusy;
            }
        }
        let seat = Arc::new(Seat {
            opened_at: self.opened_at,
            address,
            is_reserved,
            waiting_since: AtomicU64::default(),
            has_pushed: AtomicBool::default(),
            is_over: AtomicBool::default(),
            waker: AtomicWaker::new(),
        });
        seat.wait(Instant::now());
        if let Some(address) = address {
            *taken.of_address.entry(address).or_insert(0) += 1;
        }
        let number = taken.free.pop().unwrap_or(taken.seats.len());
        if number == taken.seats.len() {
            taken.seats.push(None);
        }
        taken.seats[number] = Some(Arc::clone(&seat));
        taken.count(is_reserved).all += 1;
        let place = Place { places: Arc::clone(self), number, seat };
        Found::Place { place, is_evicting }
    }

    /// Ends every connection that waits for a request, the others after their answer.
    pub(crate) fn end(&self) {
        self.lock().seats.iter().flatten().for_each(|seat| seat.end());
    }

    /// Ready when no connection is left. For one caller, after the last search for a place.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn emptied(&self) {
        while {
            let taken = self.lock();
            taken.ordinary.all + taken.reserved.all > 0
        } {
            self.left.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn count(&mut self, is_reserved: bool) -> &mut Count {
        if is_reserved { &mut self.reserved } else { &mut self.ordinary }
    }

    /// Closes one connection; returns false if none may be closed.
    fn end_one(&mut self, is_reserved: bool) -> bool {
        let Some(seat) = self.longest_waiting(is_reserved) else { return false };
        seat.end();
        self.count(is_reserved).leaving += 1;
        true
    }

    /// The next connection to close, if one may be closed.
    fn longest_waiting(&mut self, is_reserved: bool) -> Option<Arc<Seat>> {
        let all = self.seats.len();
        let mut found: Option<(Rank, &Arc<Seat>)> = None;
        let mut looked_at = 0;
        while looked_at < all && (found.is_none() || looked_at < LOOKED_AT) {
            let number = (self.next + looked_at) % all;
            looked_at += 1;
            let Some(seat) = &self.seats[number] else { continue };
            let since = seat.waiting_since.load(Ordering::Relaxed);
            if since == 0 || seat.is_over() || seat.is_reserved != is_reserved {
                continue;
            }
            let of_address = seat.address.and_then(|it| self.of_address.get(&it));
            let of_address = Reverse(of_address.copied().unwrap_or(0));
            let rank = (seat.has_pushed.load(Ordering::Relaxed), of_address, since);
            if found.as_ref().is_none_or(|(first, _)| rank < *first) {
                found = Some((rank, seat));
            }
        }
        let found = found.map(|(_, seat)| Arc::clone(seat));
        self.next = (self.next + looked_at) % all.max(1);
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.seats[self.number] = None;
        taken.free.push(self.number);
        let count = taken.count(self.seat.is_reserved);
        count.all -= 1;
        if self.seat.is_over() {
            // When the server ends, connections are not counted one by one as leaving.
            count.leaving = count.leaving.saturating_sub(1);
        }
        if let Some(address) = self.seat.address
            && let Entry::Occupied(mut count) = taken.of_address.entry(address)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        drop(taken);
        self.places.left.notify_one();
    }
}

impl Seat {
    /// Nothing is under way from `now` on.
    pub(crate) fn wait(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.opened_at).as_millis();
        self.waiting_since
            .store(u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
    }

    /// A request is under way.
    pub(crate) fn begin(&self) {
        self.waiting_since.store(0, Ordering::Relaxed);
    }

    /// The client has pushed, so it is no longer a stranger.
    pub(crate) fn pushed(&self) {
        self.has_pushed.store(true, Ordering::Relaxed);
    }

    /// Whether the connection must end as soon as no request is under way.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Ready when the connection must end. For one task.
    pub(crate) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn place(places: &Arc<Places>, address: u8) -> (Place, bool) {
        match places.try_find(Some([192, 0, 2, address].into())) {
            Found::Place { place, is_evicting } => (place, is_evicting),
            other => panic!("{other:?}"),
        }
    }

    fn after(places: &Places, seconds: u64) -> Instant {
        places.opened_at + Duration::from_secs(seconds)
    }

    #[test]
    fn the_longest_waiting_goes_and_of_whoever_holds_the_most() {
        let places = Places::new(4, 0);
        let publisher = place(&places, 1).0;
        publisher.seat.pushed();
        publisher.seat.wait(after(&places, 1));
        let lone = place(&places, 2).0;
        lone.seat.wait(after(&places, 2));
        let flood = [place(&places, 3).0, place(&places, 3).0];
        flood[0].seat.wait(after(&places, 4));
        flood[1].seat.wait(after(&places, 3));
        let (third, is_evicting) = place(&places, 3);
        third.seat.wait(after(&places, 5));
        assert!(is_evicting && flood[1].seat.is_over() && !flood[0].seat.is_over());
        // A connection with a request under way is not closed.
        flood[0].seat.begin();
        let fourth = place(&places, 4).0;
        assert!(third.seat.is_over() && !lone.seat.is_over());
        // Connections that have pushed are closed last.
        fourth.seat.begin();
        let fifth = place(&places, 5).0;
        fifth.seat.begin();
        assert!(lone.seat.is_over() && !publisher.seat.is_over());
        let _sixth = place(&places, 6).0;
        assert!(publisher.seat.is_over());
    }

    #[test]
    fn when_all_are_busy_the_health_has_places_left() {
        let places = Places::new(2, 0);
        let busy = [place(&places, 1).0, place(&places, 2).0];
        busy.iter().for_each(|it| it.seat.begin());
        let mut reserved: Vec<Place> = (0..RESERVED).map(|_| place(&places, 3).0).collect();
        assert!(reserved.iter().all(|it| it.seat.is_reserved));
        // The additional places are limited like the others.
        reserved.push(place(&places, 3).0);
        assert_eq!(reserved.iter().filter(|it| it.seat.is_over()).count(), 1);
        reserved.retain(|it| !it.seat.is_over());
        reserved.iter().for_each(|it| it.seat.begin());
        assert!(matches!(places.try_find(None), Found::AllBusy));
        drop(busy);
        assert!(!place(&places, 3).0.seat.is_reserved);
        drop(reserved);
        let taken = places.lock();
        assert_eq!((&taken.ordinary, &taken.reserved), (&Count::default(), &Count::default()));
        assert!(taken.of_address.is_empty());
    }

    #[tokio::test]
    async fn who_was_told_to_go_is_waited_for() {
        let places = Places::new(LEAVING_MAX, 0);
        let mut held: Vec<Place> = (0..2 * LEAVING_MAX).map(|_| place(&places, 1).0).collect();
        assert!(matches!(places.try_find(None), Found::Leaving));
        held.retain(|it| !it.seat.is_over());
        assert!(matches!(places.find(None).await, Found::Place { is_evicting: true, .. }));
        assert_eq!(held.iter().filter(|it| it.seat.is_over()).count(), 1);
    }

    /// A new connection and the end of the listener wait only until a place is given back.
    #[tokio::test]
    async fn whoever_leaves_is_noticed_at_once() {
        let places = Places::new(LEAVING_MAX, 0);
        let mut held: Vec<Place> = (0..2 * LEAVING_MAX).map(|_| place(&places, 1).0).collect();
        let mut finding = std::pin::pin!(places.find(None));
        assert!(finding.as_mut().now_or_never().is_none());
        held.retain(|it| !it.seat.is_over());
        let Some(Found::Place { place, .. }) = finding.as_mut().now_or_never() else {
            panic!("there is a place");
        };
        let mut emptied = std::pin::pin!(places.emptied());
        held.clear();
        // This poll uses up the notice of those that have gone.
        assert!(emptied.as_mut().now_or_never().is_none());
        drop(place);
        assert!(emptied.as_mut().now_or_never().is_some());
    }

    /// A search costs the same however many places there are, and the next goes on from there.
    #[test]
    fn a_search_looks_at_a_part_of_the_places() {
        let all = 3 * LOOKED_AT;
        let places = Places::new(all, 0);
        let held: Vec<Place> = (0..all).map(|_| place(&places, 1).0).collect();
        for (number, place) in held.iter().enumerate() {
            // The longer a place is held, the later it stands.
            place.seat.wait(after(&places, (all - number) as u64));
        }
        let mut new = Vec::new();
        let mut goes = || {
            let (place, is_evicting) = place(&places, 2);
            assert!(is_evicting);
            new.push(place);
            let gone = held.iter().enumerate().filter(|(_, it)| it.seat.is_over());
            gone.map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(goes(), [LOOKED_AT - 1]);
        assert_eq!(goes(), [LOOKED_AT - 1, 2 * LOOKED_AT - 1]);
    }

    #[test]
    fn an_address_has_no_more_than_its_share() {
        let places = Places::new(4, 1);
        let first = place(&places, 1).0;
        assert!(matches!(places.try_find(first.seat.address), Found::AddressFull));
        assert!(matches!(places.try_find(None), Found::Place { .. }));
        drop(first);
        let _again = place(&places, 1);
    }
}
