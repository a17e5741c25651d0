//! Places for calls to the backend, shared fairly among the addresses that ask.
//!
//! Each address has its own queue of registrations, and free places go to the addresses in turn: an
//! address that makes up tokens delays only itself. This file knows no clock and no token.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// What counts as one address: an IPv4 address, or an IPv6 network, because a client usually
/// controls all addresses of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    pub(crate) fn of(address: IpAddr) -> Self {
        const NETWORK: u128 = u128::MAX << 64;
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Permits {
    calls_max: usize,
    /// The most calls of one address, so that slow answers to one leave some calls to the others.
    calls_per_peer_max: usize,
    waiting_max: usize,
    /// Written when a registration arrives, gets a place and leaves; nothing waits while the lock
    /// is held.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// At most `calls_max`.
    calls: usize,
    /// At most `waiting_max`.
    waiting: usize,
    /// The addresses that call or wait.
    peers: HashMap<Peer, Asking>,
    /// The addresses that wait, each once, in the order in which they get places.
    round: VecDeque<Peer>,
    next: u64,
}

#[derive(Debug, Default)]
struct Asking {
    calls: usize,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// There is no place, and either the queue is full or none came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// Permission for a call, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    permits: &'a Permits,
    peer: Peer,
}

/// A waiting registration; dropping it ends the wait.
struct Waiting<'a> {
    permits: &'a Permits,
    peer: Peer,
    number: u64,
    go: oneshot::Receiver<()>,
    has_permit: bool,
}

impl Permits {
    pub(crate) fn new(calls_max: usize, waiting_max: usize) -> Self {
        let calls_per_peer_max = calls_max - calls_max / 4;
        Self { calls_max, calls_per_peer_max, waiting_max, state: Mutex::default() }
    }

    /// Returns a place at once, or when it is the turn of `peer`.
    ///
    /// Dropping the future gives up the wait and the place.
    ///
    /// # Errors
    /// If no place came free in time, or if too many registrations wait already and no other
    /// address has more of them than `peer`; otherwise the address with the most loses one.
    pub(crate) async fn take(&self, peer: Peer, wait_max: Duration) -> Result<Permit<'_>, Busy> {
        let mut waiting = match self.enter(peer)? {
            Ok(permit) => return Ok(permit),
            Err(waiting) => waiting,
        };
        match tokio::time::timeout(wait_max, &mut waiting.go).await {
            Ok(Ok(())) => {
                waiting.has_permit = true;
                Ok(Permit { permits: self, peer })
            }
            Ok(Err(_gave_way)) => Err(Busy),
            Err(_elapsed) => Err(Busy),
        }
    }

    fn enter(&self, peer: Peer) -> Result<Result<Permit<'_>, Waiting<'_>>, Busy> {
        let mut state = self.lock();
        let State { calls, waiting, .. } = *state;
        let held = state.peers.get(&peer).map_or(0, |asking| asking.calls);
        // A registration that waits although there is room belongs to an address that has all the
        // calls it may have.
        if calls < self.calls_max && held < self.calls_per_peer_max {
            state.calls += 1;
            state.peers.entry(peer).or_default().calls += 1;
            return Ok(Ok(Permit { permits: self, peer }));
        }
        if waiting >= self.waiting_max {
            state.give_way(peer)?;
        }
        let (sender, go) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.waiting += 1;
        let asking = state.peers.entry(peer).or_default();
        let is_first = asking.waiting.is_empty();
        asking.waiting.push_back((number, sender));
        if is_first {
            state.round.push_back(peer);
        }
        Ok(Err(Waiting { permits: self, peer, number, go, has_permit: false }))
    }

    fn release(&self, peer: Peer) {
        let mut state = self.lock();
        state.calls -= 1;
        if let Some(asking) = state.peers.get_mut(&peer) {
            asking.calls -= 1;
        }
        state.forget_if_idle(peer);
        while state.calls < self.calls_max && state.let_in(self.calls_per_peer_max) {}
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Refuses the last registration of the address with the most waiting, if that is more than
    /// `peer` has.
    fn give_way(&mut self, peer: Peer) -> Result<(), Busy> {
        let count = |asking: &Asking| asking.waiting.len();
        let own = self.peers.get(&peer).map_or(0, count);
        let most = self.peers.iter().max_by_key(|(_, asking)| asking.waiting.len());
        let most = most.filter(|(_, asking)| count(asking) > own + 1).map(|(peer, _)| *peer);
        let most = most.ok_or(Busy)?;
        // The address has another waiting registration, so it keeps its turn.
        self.peers.get_mut(&most).and_then(|asking| asking.waiting.pop_back()).ok_or(Busy)?;
        self.waiting -= 1;
        Ok(())
    }

    /// Gives a free place to the address whose turn it is; returns whether there was one that could
    /// use it.
    fn let_in(&mut self, calls_per_peer_max: usize) -> bool {
        for _ in 0..self.round.len() {
            let Some(peer) = self.round.pop_front() else { return false };
            let Some(asking) = self.peers.get_mut(&peer) else { continue };
            if asking.calls >= calls_per_peer_max {
                self.round.push_back(peer);
                continue;
            }
            let Some((_, go)) = asking.waiting.pop_front() else { continue };
            asking.calls += 1;
            self.calls += 1;
            self.waiting -= 1;
            if !asking.waiting.is_empty() {
                self.round.push_back(peer);
            }
            // If the receiver is going away just now, its drop finds the place.
            let _ = go.send(());
            return true;
        }
        false
    }

    fn forget_if_idle(&mut self, peer: Peer) {
        if self.peers.get(&peer).is_some_and(|it| it.calls == 0 && it.waiting.is_empty()) {
            self.peers.remove(&peer);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.permits.release(self.peer);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.has_permit {
            return;
        }
        let mut state = self.permits.lock();
        let asking = state.peers.get_mut(&self.peer);
        let found = asking.and_then(|asking| {
            let at = asking.waiting.iter().position(|(number, _)| *number == self.number)?;
            asking.waiting.remove(at).map(|_| asking.waiting.is_empty())
        });
        if let Some(was_last) = found {
            state.waiting -= 1;
            if was_last {
                state.round.retain(|peer| *peer != self.peer);
            }
            state.forget_if_idle(self.peer);
        }
        drop(state);
        // It got a place at the very moment it went away.
        if self.go.try_recv().is_ok() {
            self.permits.release(self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn peer(last: u8) -> Peer {
        Peer::of(IpAddr::from([192, 0, 2, last]))
    }

    type Taking<'a> = Pin<Box<dyn Future<Output = Result<Permit<'a>, Busy>> + 'a>>;

    /// Asks once, and is polled as far as it goes.
    fn asks(permits: &Permits, peer: Peer) -> (Taking<'_>, Poll<Result<Permit<'_>, Busy>>) {
        let mut taking: Taking<'_> = Box::pin(permits.take(peer, LONG));
        let polled = look(&mut taking);
        (taking, polled)
    }

    fn look<'a>(taking: &mut Taking<'a>) -> Poll<Result<Permit<'a>, Busy>> {
        taking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_empty(permits: &Permits) -> bool {
        let state = permits.lock();
        state.calls == 0 && state.waiting == 0 && state.peers.is_empty() && state.round.is_empty()
    }

    #[tokio::test]
    async fn free_places_go_round_the_addresses() {
        let permits = Permits::new(1, 100);
        let (_, first) = asks(&permits, peer(1));
        let mut crowd: Vec<_> = (0..50).map(|_| asks(&permits, peer(1)).0).collect();
        let (mut good, waits) = asks(&permits, peer(2));
        assert!(waits.is_pending());
        // One of the crowd, which came first, and then the other address.
        drop(first);
        let Poll::Ready(Ok(permit)) = look(&mut crowd[0]) else { panic!("its turn") };
        assert!(look(&mut good).is_pending());
        drop(permit);
        assert!(look(&mut crowd[1]).is_pending());
        assert!(matches!(look(&mut good), Poll::Ready(Ok(_))));
        drop((crowd, good));
        assert!(is_empty(&permits));
    }

    #[tokio::test]
    async fn one_address_holds_no_more_than_its_share() {
        let permits = Permits::new(4, 100);
        let crowd: Vec<_> = (0..10).map(|_| asks(&permits, peer(1))).collect();
        let calling = crowd.iter().filter(|(_, polled)| polled.is_ready()).count();
        assert_eq!(calling, 3, "three quarters");
        assert!(matches!(asks(&permits, peer(2)).1, Poll::Ready(Ok(_))));
        drop(crowd);
        assert!(is_empty(&permits));
    }

    #[tokio::test]
    async fn who_has_most_gives_way_where_too_many_wait() {
        let permits = Permits::new(1, 4);
        let (_, calling) = asks(&permits, peer(1));
        let mut crowd: Vec<_> = (0..4).map(|_| asks(&permits, peer(1)).0).collect();
        assert_eq!(asks(&permits, peer(1)).1.map(|it| it.map(|_| ())), Poll::Ready(Err(Busy)));
        let others: Vec<_> = (2..4).map(|last| asks(&permits, peer(last))).collect();
        assert!(others.iter().all(|(_, polled)| polled.is_pending()), "both wait");
        let looked = crowd.iter_mut().map(|it| matches!(look(it), Poll::Ready(Err(Busy))));
        assert_eq!(looked.filter(|gave_way| *gave_way).count(), 2);
        assert_eq!(permits.lock().waiting, 4);
        // Whoever has as many gains nothing by another one.
        assert!(matches!(asks(&permits, peer(2)).1, Poll::Ready(Err(Busy))));
        drop((crowd, others, calling));
        assert!(is_empty(&permits));
    }

    #[tokio::test]
    async fn who_goes_leaves_its_place_to_others() {
        let permits = Permits::new(1, 4);
        let (_, calling) = asks(&permits, peer(1));
        let (gone, _) = asks(&permits, peer(2));
        let (chosen, _) = asks(&permits, peer(3));
        let (mut last, _) = asks(&permits, peer(4));
        drop(gone);
        // Its permit is given to it, and it goes without having looked.
        drop(calling);
        drop(chosen);
        assert!(matches!(look(&mut last), Poll::Ready(Ok(_))));
        drop(last);
        assert!(is_empty(&permits));
    }

    #[test]
    fn a_network_is_one_address() {
        let peer = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
