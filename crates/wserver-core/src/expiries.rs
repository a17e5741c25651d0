//! The expiry of each registration of one connection.
//!
//! It knows a registration by its key, and a time by the number that its owner counts.

use smallvec::SmallVec;

/// Stands for one (user, event) of a connection; see [`Binder::registration_key`].
///
/// [`Binder::registration_key`]: crate::Binder::registration_key
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegistrationKey(u64);

impl RegistrationKey {
    /// The key of the registration with this number, which its owner assigns.
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
    /// When to warn the peer of the earliest expiry: zero until that is known, and the latest
    /// possible time after the warning.
    warn_at: u64,
}

impl Expiries {
    /// Replaces the expiry of a registration; `None` means never.
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

    /// How long to wait before the warning of the earliest expiry, which comes `until` from `now`;
    /// zero, once, when the warning is due. It is due `lead_max` before the expiry, or when half of
    /// a shorter time has passed.
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
