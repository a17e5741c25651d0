//! All limits of sessions and of the node that holds them, and the relations between them.
//!
//! A person writes [`LimitSettings`]; [`Limits`] is the proof that they fit together.

mod problem;
#[cfg(test)]
mod tests;

use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

pub use problem::{LimitChecks, LimitProblem, LimitsError};

use crate::patterns::Patterns;
use crate::position::Position;
use crate::words;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bytes a server-side frame head may add to a payload (RFC 6455, section 5.2).
const FRAME_HEAD_BYTES_MAX: usize = 10;
/// What the head of a push holds besides the event's name, for connections of version 2: the id, of
/// at most 64 bytes, JSON around both, and what asks for an acknowledgement.
const PUSH_HEAD_BYTES_MAX: usize = 96;
/// What a position adds to the head of a push that is kept: `,"at":"…"`.
const POSITION_BYTES_MAX: usize = 8 + Position::TEXT_BYTES_MAX;
/// The most bytes that one byte of a name becomes in JSON: `\u001f`.
const JSON_BYTES_MAX: usize = 6;

/// The name of a limit.
macro_rules! name {
    ($field:ident) => {
        $crate::setting_name!(LimitSettings, $field)
    };
}

/// All limits of sessions and their node, as a person sets them. [`LimitSettings::build`] checks
/// the relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// How long a connection may stay without a registration; zero means for ever. Default: 30 s.
    pub register_timeout: Duration,
    /// The maximum duration of the check of one token. Default: 10 s.
    pub authenticate_timeout: Duration,
    /// Time between two pings. Default: 25 s.
    pub ping_interval: Duration,
    /// How long to wait for a pong, not counting the extra time for bytes under way. Default: 10 s.
    pub pong_timeout: Duration,
    /// How long a closing connection waits for the client's own Close. Default: 5 s.
    pub close_timeout: Duration,
    /// How long a client may take nothing of its queue before the server closes it as too slow.
    /// Default: 60 s.
    pub stall_timeout: Duration,
    /// The maximum size of a message from a client, over all its fragments. Default: 64 KiB.
    pub inbound_message_bytes_max: usize,
    /// The maximum number of fragments of one message from a client. Default: 256.
    pub inbound_fragments_max: usize,
    /// Messages and pings that a client may send per second in the long run. Default: 50.
    pub inbound_messages_per_second: u32,
    /// Messages and pings that a client may send at once. Default: 200.
    pub inbound_messages_burst: u32,
    /// The maximum number of registrations that wait behind one whose token is being checked.
    /// Default: 8.
    pub registrations_pending_max: usize,
    /// The maximum number of registrations of one connection. Default: 128.
    pub bindings_per_connection_max: usize,
    /// The maximum bytes of user ids and events in the registrations of one connection. Default: 64
    /// KiB.
    pub names_per_connection_bytes_max: usize,
    /// The same over all connections. A name counts once for each registration, although
    /// registrations of one user share it. Default: 1 GiB.
    pub names_bytes_max: usize,
    /// The maximum bytes of clients' messages that are incomplete or wait, over all connections.
    /// Default: 256 MiB.
    pub inbound_bytes_max: usize,
    /// The maximum length of a user id, an event or a token, in bytes of UTF-8. Default: 4 KiB.
    pub name_bytes_max: usize,
    /// The maximum size of the message of a push, in bytes of UTF-8. Default: 1 MiB.
    pub message_bytes_max: usize,
    /// The maximum bytes queued for one connection. Default: 4 MiB.
    pub outbox_bytes_max: usize,
    /// The maximum bytes queued over all connections. A message that waits at many connections
    /// counts once for each, although its memory is shared. Default: 2 GiB.
    pub outboxes_bytes_max: usize,
    /// The maximum bytes for one user that wait for a fan-out under way. Default: 128 KiB.
    pub walk_bytes_max: usize,
    /// The events whose messages are kept for connections that come back. Default: none.
    pub replay: Patterns,
    /// How long a message is kept. Default: 2 min.
    pub replay_window: Duration,
    /// The maximum bytes of the messages that are kept for one user. Default: 64 KiB.
    pub replay_bytes_per_user_max: usize,
    /// The same over all users, with what keeping them costs. Default: 256 MiB.
    pub replay_bytes_max: usize,
    /// The maximum number of WebSocket connections. Default: 100,000.
    pub connections_max: usize,
    /// The maximum number of connections registered for one user; zero means no limit. Default: 0.
    pub connections_per_user_max: usize,
    /// What to do with one connection more. Default: refuse it.
    pub connections_per_user_policy: ConnectionsPerUserPolicy,
    /// The maximum duration of a whole shutdown: the delay, closing connections, and emptying
    /// queues. Default: 30 s.
    pub drain_timeout: Duration,
    /// How long a shutdown keeps serving, but not ready, so that load balancers notice. Default: 0.
    pub drain_delay: Duration,
    /// The time over which a shutdown closes connections, so that their clients do not all come
    /// back at once; at most half of what `drain_delay` leaves of `drain_timeout`, and less if
    /// there are few connections. Default: 15 s.
    pub drain_spread: Duration,
    /// The maximum bytes of the journal of refusals, drops and ends; zero disables it. At most 64
    /// MiB. Default: 4 MiB.
    pub journal_bytes_max: usize,
    /// The maximum number of traces at once. Default: 16.
    pub traces_max: usize,
    /// The maximum number of push requests that wait for acknowledgements at once. Default: 1,000.
    pub waits_max: usize,
    /// The maximum number of connections whose acknowledgements one request waits for. Default:
    /// 1,000.
    pub wait_connections_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            register_timeout: Duration::from_secs(30),
            authenticate_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            // The longest that the server can wait for a pong.
            stall_timeout: Duration::from_secs(60),
            inbound_message_bytes_max: 64 * KIB,
            inbound_fragments_max: 256,
            inbound_messages_per_second: 50,
            inbound_messages_burst: 200,
            registrations_pending_max: 8,
            bindings_per_connection_max: 128,
            // Half a KiB for each of 128.
            names_per_connection_bytes_max: 64 * KIB,
            names_bytes_max: 1024 * MIB,
            inbound_bytes_max: 256 * MIB,
            name_bytes_max: 4 * KIB,
            message_bytes_max: MIB,
            outbox_bytes_max: 4 * MIB,
            // Enough for a thousand connections that each wait for the largest message twice.
            outboxes_bytes_max: 2048 * MIB,
            walk_bytes_max: 128 * KIB,
            replay: Patterns::default(),
            replay_window: Duration::from_secs(120),
            replay_bytes_per_user_max: 64 * KIB,
            replay_bytes_max: 256 * MIB,
            connections_max: 100_000,
            connections_per_user_max: 0,
            connections_per_user_policy: ConnectionsPerUserPolicy::RefuseNew,
            drain_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            // At this spread, 100,000 clients come back at 7,000 a second, which one core with TLS
            // can handle.
            drain_spread: Duration::from_secs(15),
            journal_bytes_max: 4 * MIB,
            traces_max: 16,
            waits_max: 1000,
            wait_connections_max: 1000,
        }
    }
}

impl LimitSettings {
    /// Checks every limit and every relation between two of them.
    ///
    /// # Errors
    /// [`LimitsError`] with all problems, not only the first.
    pub fn build(self) -> Result<Limits, LimitsError> {
        let mut checks = LimitChecks::default();
        for (name, value) in [
            (name!(authenticate_timeout), self.authenticate_timeout),
            (name!(ping_interval), self.ping_interval),
            (name!(pong_timeout), self.pong_timeout),
            (name!(close_timeout), self.close_timeout),
            (name!(stall_timeout), self.stall_timeout),
            (name!(drain_timeout), self.drain_timeout),
            (name!(replay_window), self.replay_window),
        ] {
            checks.time(name, value);
        }
        for (name, value) in [
            (name!(register_timeout), self.register_timeout),
            (name!(drain_delay), self.drain_delay),
            (name!(drain_spread), self.drain_spread),
        ] {
            checks.time_or_zero(name, value);
        }
        for (name, value) in [
            (name!(inbound_fragments_max), self.inbound_fragments_max),
            (name!(registrations_pending_max), self.registrations_pending_max),
            (name!(bindings_per_connection_max), self.bindings_per_connection_max),
            (name!(name_bytes_max), self.name_bytes_max),
            (name!(message_bytes_max), self.message_bytes_max),
            (name!(walk_bytes_max), self.walk_bytes_max),
            (name!(connections_max), self.connections_max),
            (name!(replay_bytes_per_user_max), self.replay_bytes_per_user_max),
            (name!(inbound_messages_per_second), self.inbound_messages_per_second as usize),
            (name!(inbound_messages_burst), self.inbound_messages_burst as usize),
        ] {
            checks.at_least_one(name, value);
        }
        for (name, value) in [
            (name!(inbound_message_bytes_max), self.inbound_message_bytes_max),
            (name!(names_per_connection_bytes_max), self.names_per_connection_bytes_max),
            (name!(message_bytes_max), self.message_bytes_max),
            (name!(outbox_bytes_max), self.outbox_bytes_max),
            (name!(walk_bytes_max), self.walk_bytes_max),
            (name!(replay_bytes_per_user_max), self.replay_bytes_per_user_max),
        ] {
            checks.at_most(name, value, 1024 * MIB);
        }
        checks.shorter(
            name!(drain_delay),
            self.drain_delay,
            name!(drain_timeout),
            self.drain_timeout,
        );
        // A part of the journal is searched under a lock.
        checks.at_most(name!(journal_bytes_max), self.journal_bytes_max, 64 * MIB);
        checks.at_least(
            name!(inbound_message_bytes_max),
            self.inbound_message_bytes_max,
            self.name_bytes_max.saturating_mul(2).saturating_add(64),
            &[name!(name_bytes_max)],
            "a register message contains a token and an event of up to name_bytes_max each",
        );
        checks.at_least(
            name!(names_per_connection_bytes_max),
            self.names_per_connection_bytes_max,
            self.name_bytes_max.saturating_mul(2),
            &[name!(name_bytes_max)],
            "a registration has a user id and an event of up to name_bytes_max each",
        );
        checks.at_least(
            name!(names_bytes_max),
            self.names_bytes_max,
            self.names_per_connection_bytes_max,
            &[name!(names_per_connection_bytes_max)],
            "it must hold the names of at least one connection",
        );
        checks.at_least(
            name!(inbound_bytes_max),
            self.inbound_bytes_max,
            self.inbound_message_bytes_max.saturating_mul(2),
            &[name!(inbound_message_bytes_max)],
            "a message of inbound_message_bytes_max takes up to twice its length while it arrives",
        );
        // A reader that was within its limit when a message was accepted for it must still be
        // within it when that message arrives: one segment on its way, one waiting, each ended by a
        // message that was accepted just below walk_bytes_max. Otherwise a count could be wrong.
        // Connections of version 2 get the event's name before the message, as JSON.
        let name = self.name_bytes_max.saturating_mul(JSON_BYTES_MAX);
        let head = FRAME_HEAD_BYTES_MAX + PUSH_HEAD_BYTES_MAX;
        let frame = self.message_bytes_max.saturating_add(head).saturating_add(name);
        checks.at_least(
            name!(outbox_bytes_max),
            self.outbox_bytes_max,
            self.walk_bytes_max.saturating_add(frame).saturating_mul(2),
            &[name!(walk_bytes_max), name!(message_bytes_max), name!(name_bytes_max)],
            "it must hold twice the sum of walk_bytes_max, the largest message, and the longest \
             event with each byte escaped",
        );
        if !self.replay.is_empty() {
            self.check_replay(&mut checks, frame);
        }
        checks.at_least(
            name!(outboxes_bytes_max),
            self.outboxes_bytes_max,
            self.outbox_bytes_max,
            &[name!(outbox_bytes_max)],
            "it must hold at least one queue of outbox_bytes_max",
        );
        checks.finish().map(|()| Limits(self))
    }

    /// `frame` is the largest frame of a push.
    fn check_replay(&self, checks: &mut LimitChecks, frame: usize) {
        checks.at_least(
            name!(replay_bytes_max),
            self.replay_bytes_max,
            self.replay_bytes_per_user_max,
            &[name!(replay_bytes_per_user_max)],
            "it must hold what is kept for at least one user",
        );
        // What is replayed to a connection is queued before the messages that are pushed meanwhile.
        checks.at_least(
            name!(outbox_bytes_max),
            self.outbox_bytes_max,
            self.walk_bytes_max
                .saturating_add(frame)
                .saturating_add(POSITION_BYTES_MAX)
                .saturating_mul(2)
                .saturating_add(self.replay_bytes_per_user_max),
            &[
                name!(replay_bytes_per_user_max),
                name!(walk_bytes_max),
                name!(message_bytes_max),
                name!(name_bytes_max),
            ],
            "with replay it must hold replay_bytes_per_user_max besides twice the sum of \
             walk_bytes_max, the largest message, and the longest event with each byte escaped",
        );
    }
}

words! {
    /// What to do with one connection more of a user that has `connections_per_user_max`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum ConnectionsPerUserPolicy {
        /// Close the connection that registers.
        #[default]
        RefuseNew = "refuse_new",
        /// Close the connections that were opened first, so that the user keeps the newest.
        CloseOldest = "close_oldest",
    }
}

/// The word does not name a [`ConnectionsPerUserPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy: write refuse_new or close_oldest")]
pub struct UnknownPolicy;

impl FromStr for ConnectionsPerUserPolicy {
    type Err = UnknownPolicy;

    fn from_str(word: &str) -> Result<Self, UnknownPolicy> {
        Self::from_word(word).ok_or(UnknownPolicy)
    }
}

/// Limits whose relations hold. Read them as fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits(LimitSettings);

impl Default for Limits {
    fn default() -> Self {
        LimitSettings::default().build().expect("the defaults hold together, a test builds them")
    }
}

impl Deref for Limits {
    type Target = LimitSettings;

    fn deref(&self) -> &LimitSettings {
        &self.0
    }
}
