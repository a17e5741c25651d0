//! What a binder stores and what it answers: registrations, what became of them, and what names them.
//!
//! There is no index from tokens to connections: it would cost 20 to 30 bytes per registration, only for
//! logouts.

use std::fmt;

use crate::{EventName, UserId};

/// What the owner keeps beside each user of a [`Binder`](super::Binder) whose connections have
/// handles `H`.
///
/// Its methods are called under the user's lock and must not call the binder.
pub trait Lane<H>: Default {
    /// A number to store with a registration that begins now.
    ///
    /// Called for each new registration, so that the owner can tell later whether a member was
    /// registered before or after something that it did under the same lock.
    fn mark(&mut self) -> u64;

    /// A connection becomes a member, by its first registration. Called after [`mark`](Self::mark).
    fn joined(&mut self, _handle: &H) {}

    /// A member's last registration has ended, and the user has other members. A lane whose last
    /// member leaves is dropped instead.
    fn left(&mut self, _handle: &H) {}
}

/// No lane: the owner keeps nothing beside a user.
impl<H> Lane<H> for () {
    fn mark(&mut self) -> u64 {
        0
    }
}

/// Stands for a token within one [`Binder`](super::Binder), which never stores the token.
///
/// Keyed with a secret of the binder and 64 bits wide: two tokens of a million share one with a
/// probability below 10⁻⁷.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest(u64);

impl TokenDigest {
    pub(super) const fn new(digest: u64) -> Self {
        Self(digest)
    }
}

/// The widest scope in which a registration was the first, or the last.
///
/// A group of nodes needs it to subscribe by interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The first or last of the whole user, and so of the user's event too.
    User,
    /// The first or last of this event of the user, which has other events.
    Event,
    /// One of several for this event of the user.
    Connection,
}

/// The result of binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// It is stored.
    New {
        /// The scope in which it is the first registration.
        first_for: Scope,
    },
    /// It was stored before; its token is now the newest.
    Already,
}

/// Why a registration was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The connection has reached its limit of registrations.
    #[error("the connection already has {max} registrations (bindings_per_connection_max)")]
    TooMany {
        /// The limit (`bindings_per_connection_max`).
        max: usize,
    },
    /// The user has reached its limit of connections, and this is not one of them.
    #[error("the user already has {max} connections (connections_per_user_max)")]
    UserFull {
        /// The limit (`connections_per_user_max`).
        max: usize,
    },
}

/// A user's name with its hash in one [`Binder`](super::Binder), whichever connections are bound to
/// it.
#[derive(Clone, Copy)]
pub struct UserKey<'u> {
    pub(super) user: &'u UserId,
    pub(super) hash: u64,
}

impl<'u> UserKey<'u> {
    pub(super) const fn new(user: &'u UserId, hash: u64) -> Self {
        Self { user, hash }
    }

    /// Whose key it is.
    #[must_use]
    pub const fn user(self) -> &'u UserId {
        self.user
    }
}

/// A registration that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unbound {
    /// Its user.
    pub user: UserId,
    /// Its event.
    pub event: EventName,
    /// Its token.
    pub token: TokenDigest,
    /// The scope in which it was the last registration.
    pub last_for: Scope,
}

/// A registration of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registration {
    /// The user whose messages the connection wants.
    pub user: UserId,
    /// The event of these messages.
    pub event: EventName,
    /// The newest token.
    pub token: TokenDigest,
}

/// Hides the hash, which must not leave the process.
impl fmt::Debug for UserKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserKey").field(self.user).finish()
    }
}

/// Hides the value, which must not leave the process.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}
