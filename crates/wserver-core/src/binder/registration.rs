//! What a binder stores and what it answers: registrations, what became of them, and what names them.
//!
//! There is no index from tokens to connections: it would cost 20 to 30 bytes per registration, only for
//! logouts.

use std::fmt;

use crate::{EventName, UserId};

/// What its owner keeps beside each user of a [`Binder`](super::Binder), whose connections have
/// handles `H`.
///
/// Its methods are called under the user's lock and must not call the binder.
pub trait Lane<H>: Default {
    /// A number to store with a registration that begins now.
    ///
    /// Called at each new registration, so that the owner can tell later whether a member was
    /// registered before or after something it did under the same lock.
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

/// How far a registration was the first of its kind, or the last.
///
/// It is what a group of nodes needs in order to subscribe by interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The first or last of the whole user, and so of the user's event as well.
    User,
    /// The first or last of this event of the user, who has others.
    Event,
    /// One more or one less of this event of the user.
    Connection,
}

/// What became of a registration that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// It is stored.
    New {
        /// What it is the first registration of.
        first_for: Scope,
    },
    /// It was stored before; its token is now the newest one.
    Already,
}

/// Why a registration was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The connection has as many registrations as it may have.
    #[error("the connection already has {max} registrations (bindings_per_connection_max)")]
    TooMany {
        /// The limit (`bindings_per_connection_max`).
        max: usize,
    },
    /// The user has as many connections as it may have, and this is not one of them.
    #[error("the user already has {max} connections (connections_per_user_max)")]
    UserFull {
        /// The limit (`connections_per_user_max`).
        max: usize,
    },
}

/// A user's name with its hash in one [`Binder`](super::Binder), whoever is bound to it meanwhile.
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

/// A registration that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unbound {
    /// Whose it was.
    pub user: UserId,
    /// What it was for.
    pub event: EventName,
    /// What it came with.
    pub token: TokenDigest,
    /// What it was the last registration of.
    pub last_for: Scope,
}

/// A registration of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Registration {
    /// Whose messages the connection wants.
    pub user: UserId,
    /// Which of them.
    pub event: EventName,
    /// The newest token it came with.
    pub token: TokenDigest,
}

/// Says nothing of the hash, which is no one's business outside the process.
impl fmt::Debug for UserKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserKey").field(self.user).finish()
    }
}

/// Says nothing of its value, which is no one's business outside the process.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}
