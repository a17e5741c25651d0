//! When the registrations of one connection expire, each on its own.
//!
//! It knows a registration by its key and a time by the owner's count.

use smallvec::SmallVec;

/// Stands for one (user, event) of a connection; see [`Binder::registration_key`].
///
/// [`Binder::registration_key`]: crate::Binder::registration_key
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegistrationKey(u64);

impl RegistrationKey {
    /// The key of the registration that its owner counts as `number`.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// The registrations that expire. Few connections have any, so it is kept behind a lazy box; one
/// registration needs no second allocation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expiries {
    /// Invariant: no key twice, the earliest first. As many as there are registrations at most.
    by_time: SmallVec<[(RegistrationKey, u64); 1]>,
    /// When the peer is to be told of the earliest: zero until that is known, the last moment there is
    /// once it has been told.
    warn_at: u64,
}

impl Expiries {
    /// Replaces what was told of a registration before; `None` is never.
    pub(crate) fn set(&mut self, registration: RegistrationKey, at: Option<u64>) {
        let earliest = self.earliest();
        self.by_time.retain(|(known, _)| *known != registration);
        if let Some(at) = at {
            let place = self.by_time.partition_point(|(_, earlier)| *earlier <= at);
            self.by_time.insert(place, (registration, at));
        }
        if self.earliest() != earliest {
            self.warn_at = 0;
        }
    }

    /// How long the peer is not to be told of the earliest, which comes `until` from `now`; zero once,
    /// when it is to be told. It is told `lead_max` before, or when half of a shorter time is over.
    pub(crate) fn until_warning(&mut self, now: u64, until: u64, lead_max: u64) -> Option<u64> {
        if self.warn_at == 0 {
            self.warn_at = now.saturating_add(until - lead_max.min(until / 2));
        }
        match self.warn_at {
            u64::MAX => None,
            at if at > now => Some(at - now),
            _ => {
                self.warn_at = u64::MAX;
                Some(0)
            }
        }
    }

    /// When the first of them expires.
    pub(crate) fn earliest(&self) -> Option<u64> {
        self.by_time.first().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expiry_is_four_words() {
        assert_eq!(size_of::<Expiries>(), 32);
    }
}
