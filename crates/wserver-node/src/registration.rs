//! Binds a connection to a user and an event within limits, and unbinds it again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wserver_core::{
    BindError, Bound, CloseReason, ConnectionId, ConnectionsPerUserPolicy, EventName, Scope,
    TokenDigest, Unbound, UserId,
};

use crate::entry::What;
use crate::outbox::{Outbox, Phase, Wire};
use crate::state::NodeState;

/// Why a registration was not bound: a closed list, which counters and answers follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The connection has reached its limit of registrations (`bindings_per_connection_max`).
    #[error("the connection already has {max} registrations (bindings_per_connection_max)")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The user has reached its limit of connections (`connections_per_user_max`), so this one is
    /// closed.
    #[error("the user already has {max} connections (connections_per_user_max)")]
    UserFull {
        /// The limit.
        max: usize,
    },
    /// The names of the connection's registrations would exceed their limit
    /// (`names_per_connection_bytes_max`).
    #[error(
        "the names of the connection's registrations would exceed {max} bytes \
             (names_per_connection_bytes_max)"
    )]
    NamesTooLong {
        /// The limit.
        max: usize,
    },
    /// The names of all registrations would exceed their limit (`names_bytes_max`).
    #[error("the names of all registrations would exceed {max} bytes (names_bytes_max)")]
    NamesFull {
        /// The limit.
        max: usize,
    },
    /// The connection is ending.
    #[error("the connection is ending")]
    Ending,
}

impl RegisterError {
    /// A fixed `snake_case` label for logs and the journal.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "too_many_registrations",
            Self::UserFull { .. } => "user_full",
            Self::NamesTooLong { .. } => "names_too_long",
            Self::NamesFull { .. } => "names_full",
            Self::Ending => "connection_ending",
        }
    }
}

impl<W: Wire> NodeState<W> {
    /// Binds a connection, on behalf of any caller; notes it, or why it was refused.
    pub(crate) fn bind(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        let bound = self.bind_quietly(outbox, user, event, token);
        match &bound {
            Ok(_) => {
                self.counters.registrations_bound_total.increment();
                if self.journal.is_traced() {
                    self.journal.note(What::Registered, Some(outbox.id()), Some(user), Some(event));
                }
            }
            Err(error) => {
                let what = What::RegistrationRefused { reason: error.as_str() };
                self.journal.note(what, Some(outbox.id()), Some(user), Some(event));
            }
        }
        bound
    }

    /// As [`bind`](Self::bind), on behalf of the connection itself, which is closed if its user has
    /// too many.
    pub(crate) fn bind_or_close(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        let bound = self.bind(outbox, user, event, token);
        if let Err(RegisterError::UserFull { .. }) = bound {
            self.close(outbox, CloseReason::UserFull);
        }
        bound
    }

    fn bind_quietly(
        &self,
        outbox: &Arc<Outbox<W>>,
        user: &UserId,
        event: &EventName,
        token: TokenDigest,
    ) -> Result<Bound, RegisterError> {
        let bound =
            self.binder.bind(outbox.id(), outbox, user, event, token).map_err(
                |error| match error {
                    BindError::TooMany { max } => RegisterError::TooMany { max },
                    BindError::UserFull { max } => RegisterError::UserFull { max },
                    _ => RegisterError::Ending,
                },
            )?;
        if let (Bound::New { first_for: Scope::User }, Some(interest)) = (bound, &self.interest) {
            interest.came(user);
        }
        if bound != Bound::Already {
            self.charge_names(outbox, user, event)?;
            self.close_oldest(user);
        }
        // Code that closes a connection first marks it and then unbinds it, so one of the two
        // notices the other.
        if outbox.mark_bound() != Phase::Open {
            self.unbind(outbox);
            return Err(RegisterError::Ending);
        }
        Ok(bound)
    }

    /// Counts the names of a new registration, or ends the registration if they exceed a limit.
    ///
    /// It counts after binding, because only then it is known whether the registration is new.
    fn charge_names(
        &self,
        outbox: &Outbox<W>,
        user: &UserId,
        event: &EventName,
    ) -> Result<(), RegisterError> {
        let bytes = name_bytes(user, event);
        // A stored sum would cost every connection eight bytes, and few have more than one
        // registration.
        let registrations = self.binder.registrations(outbox.id());
        let own: usize = registrations.iter().map(|it| name_bytes(&it.user, &it.event)).sum();
        let all = self.name_bytes.fetch_add(bytes.cast_signed(), Ordering::Relaxed);
        let own_max = self.limits.names_per_connection_bytes_max;
        let all_max = self.limits.names_bytes_max;
        let error = if own > own_max {
            RegisterError::NamesTooLong { max: own_max }
        } else if usize::try_from(all.saturating_add_unsigned(bytes)).is_ok_and(|it| it > all_max) {
            RegisterError::NamesFull { max: all_max }
        } else {
            return Ok(());
        };
        self.let_go(self.binder.unbind(outbox.id(), user, event).as_slice());
        Err(error)
    }

    /// Closes the surplus connections of a user, those that were opened first.
    ///
    /// The surplus is computed under the user's lock, after each registration, from the connections
    /// bound at that moment. Closing a connection twice does nothing, so if several register at
    /// once, exactly the permitted number remains. O(connections of the user) if there is a
    /// surplus, O(1) otherwise.
    pub(crate) fn close_oldest(&self, user: &UserId) {
        let max = self.limits.connections_per_user_max;
        let is_bounded =
            self.limits.connections_per_user_policy == ConnectionsPerUserPolicy::CloseOldest;
        if max == 0 || !is_bounded {
            return;
        }
        let surplus = self.binder.with_user(user, |group| {
            let surplus = group.members.len().saturating_sub(max);
            if surplus == 0 {
                return Vec::new();
            }
            let mut members: Vec<_> =
                group.members.iter().map(|member| (member.id(), member.handle())).collect();
            // Ids are assigned in ascending order.
            members.select_nth_unstable_by_key(surplus - 1, |(id, _)| *id);
            members[..surplus].iter().map(|(_, outbox)| Arc::clone(outbox)).collect()
        });
        for outbox in surplus.unwrap_or_default() {
            self.close(&outbox, CloseReason::Replaced);
        }
    }

    /// Ends one registration of a connection, and notes it; returns false if it does not exist.
    pub(crate) fn unregister(&self, id: ConnectionId, user: &UserId, event: &EventName) -> bool {
        let unbound = self.binder.unbind(id, user, event);
        self.let_go(unbound.as_slice());
        let is_ended = unbound.is_some();
        if is_ended && self.journal.is_traced() {
            self.journal.note(What::Unregistered, Some(id), Some(user), Some(event));
        }
        is_ended
    }

    /// Unbinds a connection that is ending, and notes that under each of its users. Of several
    /// callers only the one that finds it bound does so; returns whether it was this one.
    pub(crate) fn unbind(&self, outbox: &Outbox<W>) -> bool {
        let unbound = self.binder.unbind_connection(outbox.id());
        self.acks.ended(outbox.id());
        self.let_go(&unbound);
        let (Phase::Closing(reason) | Phase::Ended(reason)) = outbox.phase() else { return false };
        self.note_closed(outbox.id(), reason, &unbound);
        !unbound.is_empty()
    }

    /// Notes the end of a connection under each user from which it was unbound.
    pub(crate) fn note_closed(&self, id: ConnectionId, reason: CloseReason, unbound: &[Unbound]) {
        // Registrations of one user are adjacent.
        for of_user in unbound.chunk_by(|one, next| one.user == next.user) {
            let user = of_user.first().map(|registration| &registration.user);
            self.journal.note(What::Closed { reason }, Some(id), user, None);
        }
    }

    /// Gives back the room for the names of ended registrations, and reports the users that have no
    /// registration left.
    pub(crate) fn let_go(&self, unbound: &[Unbound]) {
        if unbound.is_empty() {
            return;
        }
        let bytes = unbound.iter().map(|it| name_bytes(&it.user, &it.event)).sum::<usize>();
        self.name_bytes.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
        let Some(interest) = &self.interest else { return };
        for registration in
            unbound.iter().filter(|registration| registration.last_for == Scope::User)
        {
            interest.left(&registration.user);
        }
    }
}

/// The bytes of names for which a registration counts.
fn name_bytes(user: &UserId, event: &EventName) -> usize {
    user.as_str().len() + event.as_str().len()
}
