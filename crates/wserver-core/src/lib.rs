//! The core of wserver: which connections belong to which users, and how one session lives.
//!
//! Synchronous and sans-IO: this crate opens no socket, reads no clock, starts no thread,
//! writes no log and needs no async runtime. Time is a parameter.
//!
//! - [`Binder`] knows which connections a user has and which events each wants. Threads share it by
//!   reference. Any service that has to find somebody's connections can use it; `examples/reuse.rs`
//!   does so with threads and channels.
//! - [`Session`] is the life of one WebSocket as a state machine: heartbeats, the register
//!   deadline, expiry, the flood limit, the close deadline. It takes 56 bytes.
//! - [`Rate`] limits how often something may happen, and [`Generations`] is a map that forgets its
//!   oldest entries: small parts from which several crates build their limits.
//! - [`UserId`], [`EventName`] and [`ConnectionId`] are what both use; [`Limits`] has all limits of
//!   sessions and their node, [`CloseReason`] every way in which a connection ends.
//!
//! ```
//! use wserver_core::{Binder, ConnectionId, EventName, UserId};
//!
//! // The handle is whatever reaches a connection: a sender, an `Arc`, a number.
//! let binder: Binder<&str> = Binder::new(128);
//! let (jack, news) = (UserId::parse("jack", 64)?, EventName::parse("news", 64)?);
//! let token = binder.digest("aaa");
//! binder.bind(ConnectionId::new(1), &"phone", &jack, &news, token)?;
//! binder.bind(ConnectionId::new(2), &"laptop", &jack, &news, token)?;
//!
//! // Under the user's lock, without copying anything.
//! let reached = binder.with_user(&jack, |group| {
//!     let Some(news) = group.members.event(&news) else { return 0 };
//!     group.members.iter().filter(|member| member.registered(news).is_some()).count()
//! });
//! assert_eq!(reached, Some(2));
//!
//! binder.unbind_connection(ConnectionId::new(1));
//! assert_eq!(binder.user_connections(&jack, None), [(ConnectionId::new(2), "laptop")]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What the binder costs
//!
//! | operation | cost | measured |
//! |---|---|---|
//! | `bind` and `unbind` | O(1) | 0.6 µs |
//! | `with_user`, one connection, hot, its handle cloned | O(1) | 42 ns |
//! | the same among a million users at random | O(1) | 0.5 to 0.75 µs; 0.8 µs with the handle |
//! | asking a member for an event | O(log its events) | 1.5 ns |
//! | `unbind_connection` | O(registrations of the connection) | 0.7 µs in a group of 100,000 |
//! | `token_connections` | O(all members) | 14 ns each |
//! | memory of a user with one connection and one event | | 144 bytes, the handle not counted |
//!
//! From `cargo bench -p wserver-core` on two shared cores where one load from uncached memory takes
//! 190 ns (the benchmark measures that too): a million users with ids of 36 bytes, one event. A
//! random look-up is two such loads in sequence, the index and the user; a clone of the handle is
//! one more. In a mass disconnect of 100,000 members of one user, the slowest single call took 0.1
//! to 0.7 ms, including scheduling, which is an upper bound for every lock that it held.

mod words;
mod names;
mod patterns;
mod position;
mod id;
mod binder;
mod expiries;
mod rate;
mod generations;
mod session;
mod limits;
mod close;

pub use binder::{
    BindError, Binder, Bound, Counts, EventRef, Group, Lane, Member, Members, Registration, Scope,
    TokenDigest, Unbound, UserCursor, UserKey,
};
pub use close::CloseReason;
pub use expiries::RegistrationKey;
pub use generations::Generations;
pub use id::{ConnectionId, NoPushId, PushId};
pub use limits::{
    ConnectionsPerUserPolicy, LimitChecks, LimitProblem, LimitSettings, Limits, LimitsError,
    UnknownPolicy,
};
pub use names::{EventName, NameError, UserId};
pub use patterns::Patterns;
pub use position::{LogId, Position};
pub use rate::Rate;
pub use session::{Action, Session};
