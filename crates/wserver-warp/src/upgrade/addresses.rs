//! The limits of one address: connections at once, and handshakes per second. An address is one
//! subscriber.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, IntoValues};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wserver_api::HttpLimits;
use wserver_core::{Generations, Rate};
use wserver_node::Counter;

use crate::http::refused::Refused;

/// Live WebSockets by address, kept only if there is a limit.
#[derive(Debug)]
pub(crate) struct Addresses {
    max: usize,
    /// Written at the beginning and the end of each connection; each entry has a live connection,
    /// so connections limit it.
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// One place of an address; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct AddressPermit {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, counts: Mutex::default() }
    }

    /// Takes a place for a connection from `peer`; `None` if there is no limit.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        peer: SocketAddr,
    ) -> Result<Option<AddressPermit>, Refused> {
        if self.max == 0 {
            return Ok(None);
        }
        let address = subscriber(peer.ip());
        let mut counts = self.lock();
        let count = counts.entry(address).or_insert(0);
        if *count >= self.max {
            return Err(Refused::AddressFull { max: self.max });
        }
        *count += 1;
        Ok(Some(AddressPermit { addresses: Arc::clone(self), address }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = self.addresses.lock();
        if let Entry::Occupied(mut count) = counts.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        // A table never shrinks by itself, so it would stay as large as a past wave of connections
        // made it.
        let (len, capacity) = (counts.len(), counts.capacity());
        if capacity > 256 && len < capacity / 8 {
            counts.shrink_to(len * 2);
        }
    }
}

/// Addresses in one generation; the two generations take 4 MiB at most.
const GENERATION_MAX: usize = 32 * 1024;

/// Handshakes by address, with a token bucket for each.
#[derive(Debug)]
pub(crate) struct HandshakeRates {
    per_second: u32,
    rate: Rate,
    origin: Instant,
    buckets: Mutex<Buckets>,
}

/// The buckets that are not full, and some that are.
///
/// The older addresses are dropped when a new generation begins. Usually that is after the time to
/// fill a bucket, when their buckets are full and nothing is lost. If there are too many addresses,
/// it is earlier: those that were seen longest ago are dropped, so that addresses with too many
/// handshakes stay known, and a counter counts them.
#[derive(Debug)]
struct Buckets {
    /// When each bucket is full, in nanoseconds since the origin. Written at each handshake.
    full_at: Generations<IpAddr, u64>,
    /// When the newer generation began.
    since: Instant,
}

impl HandshakeRates {
    /// `None` if there is no limit.
    pub(crate) fn new(limits: &HttpLimits) -> Option<Self> {
        let per_second = limits.handshakes_per_address_per_second;
        if per_second == 0 {
            return None;
        }
        let origin = Instant::now();
        let full_at = Generations::new(GENERATION_MAX);
        Some(Self {
            per_second,
            rate: Rate::new(per_second, limits.handshakes_per_address_burst),
            origin,
            buckets: Mutex::new(Buckets { full_at, since: origin }),
        })
    }

    /// Takes one token of an address, or returns when there will be one.
    pub(crate) fn acquire(
        &self,
        address: IpAddr,
        now: Instant,
        evicted: &Counter,
    ) -> Result<(), Refused> {
        let address = subscriber(address);
        let nanoseconds = now.saturating_duration_since(self.origin).as_nanos();
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { full_at, since } = &mut *buckets;
        let is_old = now.saturating_duration_since(*since) >= self.rate.time_to_fill();
        let mut begin = |forgotten: IntoValues<IpAddr, u64>| {
            *since = now;
            evicted.add(forgotten.filter(|full_at| *full_at > nanoseconds).count() as u64);
        };
        if is_old {
            begin(full_at.turn());
        }
        let (full_at, forgotten) = full_at.renew(address, || nanoseconds);
        if let Some(forgotten) = forgotten {
            begin(forgotten);
        }
        if let Some(full_then) = self.rate.take(*full_at, nanoseconds, 1) {
            *full_at = full_then;
            return Ok(());
        }
        let wait = self.rate.wait(*full_at, nanoseconds, 1);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Err(Refused::HandshakeRate { per_second: self.per_second, seconds })
    }
}

/// The addresses of one subscriber: an IPv4 address, or an IPv6 /64 (RFC 6177).
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & 0xFFFF_FFFF_FFFF_FFFF_0000_0000_0000_0000,
        )),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wserver_api::HttpLimitSettings;
    use wserver_core::LimitSettings;

    use super::*;

    #[test]
    fn an_ipv6_subscriber_is_a_64() {
        let addresses = Arc::new(Addresses::new(1));
        let first = addresses.acquire("[2001:db8::1]:1".parse().unwrap()).unwrap();
        assert!(addresses.acquire("[2001:db8::ffff:2]:1".parse().unwrap()).is_err());
        let _other = addresses.acquire("[2001:db8:0:1::1]:1".parse().unwrap()).unwrap();
        drop(first);
        let again = addresses.acquire("[2001:db8::3]:1".parse().unwrap()).unwrap();
        assert!(again.is_some());
        drop((again, _other));
        assert!(addresses.lock().is_empty());
    }

    fn built(limits: HttpLimitSettings) -> HttpLimits {
        limits.build(&LimitSettings::default()).unwrap()
    }

    fn rates(per_second: u32, burst: u32) -> HandshakeRates {
        let limits = HttpLimitSettings {
            handshakes_per_address_per_second: per_second,
            handshakes_per_address_burst: burst,
            ..HttpLimitSettings::default()
        };
        HandshakeRates::new(&built(limits)).unwrap()
    }

    #[test]
    fn a_burst_of_handshakes_and_then_a_rate() {
        let (rates, evicted, start) = (rates(2, 3), Counter::default(), Instant::now());
        let jack = "192.0.2.1".parse().unwrap();
        let rose = "192.0.2.2".parse().unwrap();
        for (millis, address, seconds) in [
            (0, jack, 0),
            (0, jack, 0),
            (0, jack, 0),
            (0, jack, 1),
            (0, rose, 0),
            (499, jack, 1),
            // A token comes in half a second, and refused handshakes took none.
            (500, jack, 0),
            (500, jack, 1),
            (2000, jack, 0),
            (2000, jack, 0),
            (2000, jack, 0),
            (2000, jack, 1),
            (60_000, jack, 0),
            (60_000, jack, 0),
            (60_000, jack, 0),
            (60_000, jack, 1),
        ] {
            let now = start + Duration::from_millis(millis);
            let expected = if seconds == 0 {
                Ok(())
            } else {
                Err(Refused::HandshakeRate { per_second: 2, seconds })
            };
            assert_eq!(rates.acquire(address, now, &evicted), expected, "{millis} {address}");
        }
        assert_eq!(evicted.value(), 0, "who is forgotten in time is none");
    }

    #[test]
    fn addresses_are_bounded_and_who_goes_on_stays_known() {
        let (rates, evicted, now) = (rates(1, 2), Counter::default(), Instant::now());
        let jack = "192.0.2.1".parse().unwrap();
        rates.acquire(jack, now, &evicted).unwrap();
        rates.acquire(jack, now, &evicted).unwrap();
        let others = u32::try_from(GENERATION_MAX * 3).unwrap();
        for other in 0..others {
            let other = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0A00_0000 + other));
            rates.acquire(other, now, &evicted).unwrap();
            if other.to_string().ends_with(".0") {
                assert!(rates.acquire(jack, now, &evicted).is_err());
            }
        }
        assert!(rates.buckets.lock().unwrap().full_at.len() <= 2 * GENERATION_MAX);
        assert!(evicted.value() >= GENERATION_MAX as u64, "{}", evicted.value());
    }

    /// Who has not come back until its bucket was full again is not known any more.
    #[test]
    fn addresses_are_forgotten_in_time() {
        let (rates, evicted, start) = (rates(1, 2), Counter::default(), Instant::now());
        let jack = "192.0.2.1".parse().unwrap();
        for other in 0..100 {
            let other = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0A00_0000 + other));
            rates.acquire(other, start, &evicted).unwrap();
        }
        for seconds in [2, 4] {
            rates.acquire(jack, start + Duration::from_secs(seconds), &evicted).unwrap();
        }
        assert_eq!(rates.buckets.lock().unwrap().full_at.len(), 1);
        assert_eq!(evicted.value(), 0);
    }

    #[test]
    fn no_rate_is_kept_unless_there_is_a_bound() {
        assert!(HandshakeRates::new(&built(HttpLimitSettings::default())).is_none());
    }

    #[test]
    fn an_ipv4_address_is_the_same_mapped_into_ipv6() {
        let addresses = Arc::new(Addresses::new(1));
        let _first = addresses.acquire("192.0.2.1:1".parse().unwrap()).unwrap();
        assert!(addresses.acquire("[::ffff:192.0.2.1]:2".parse().unwrap()).is_err());
    }

    #[test]
    fn a_wave_of_addresses_leaves_no_large_table() {
        let addresses = Arc::new(Addresses::new(1));
        let peer = |number: u32| SocketAddr::new(std::net::Ipv4Addr::from(number).into(), 80);
        let mut permits: Vec<_> =
            (0..10_000).map(|number| addresses.acquire(peer(number)).unwrap()).collect();
        permits.truncate(10);
        assert_eq!(addresses.lock().len(), 10);
        assert!(addresses.lock().capacity() < 1000, "{}", addresses.lock().capacity());
    }
}
