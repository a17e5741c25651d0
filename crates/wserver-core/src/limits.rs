//! Every bound of the server in one place, and the relations between them.
//!
//! [`LimitSettings`] is what a person writes; [`Limits`] is the proof that it holds together.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bytes a server-side frame head may add to a payload (RFC 6455, section 5.2).
const FRAME_HEAD_BYTES_MAX: usize = 10;

/// Beyond it a deadline might not fit the clock.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Every bound, as a person sets it. [`LimitSettings::build`] checks the relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// How long a connection may stay without a registration; zero means for ever. Default: 30 s.
    pub register_timeout: Duration,
    /// How long an authenticator may take over one registration. Default: 10 s.
    pub authenticate_timeout: Duration,
    /// Time between two pings. Default: 25 s.
    pub ping_interval: Duration,
    /// How long a pong may take, before the allowance for bytes under way. Default: 10 s.
    pub pong_timeout: Duration,
    /// How long a connection that is closing waits for the client's own Close. Default: 5 s.
    pub close_timeout: Duration,
    /// How long a client may take nothing of what is queued for it, before it is closed as too slow.
    /// Default: 60 s.
    pub stall_timeout: Duration,
    /// The largest message a client may send, over all of its fragments. Default: 64 KiB.
    pub inbound_message_bytes_max: usize,
    /// The most fragments of one inbound message. Default: 256.
    pub inbound_fragments_max: usize,
    /// Messages and pings a client may send per second in the long run. Default: 50.
    pub inbound_messages_per_second: u32,
    /// Messages and pings a client may send at once. Default: 200.
    pub inbound_messages_burst: u32,
    /// Registrations that wait behind one that is being authenticated. Default: 8.
    pub registrations_pending_max: usize,
    /// The most (user, event) pairs of one connection. Default: 128.
    pub bindings_per_connection_max: usize,
    /// The most bytes of user ids and events of one connection's registrations. Default: 64 KiB.
    pub names_per_connection_bytes_max: usize,
    /// The same over all connections. A name counts once for each registration, although registrations
    /// of one user share it. Default: 1 GiB.
    pub names_bytes_max: usize,
    /// The most bytes of clients' messages that are half read or wait, over all connections. Default: 256 MiB.
    pub inbound_bytes_max: usize,
    /// The longest user id, event or token, in bytes of UTF-8. Default: 4 KiB.
    pub name_bytes_max: usize,
    /// The largest message of a push, in bytes of UTF-8. Default: 1 MiB.
    pub message_bytes_max: usize,
    /// The largest body of a push request. Default: 8 MiB.
    pub push_body_bytes_max: usize,
    /// How long the whole body of a push may take. Default: 20 s.
    pub push_body_timeout: Duration,
    /// Bytes of push bodies that are held at once, over all requests. Default: 256 MiB.
    pub push_bodies_bytes_max: usize,
    /// The most pushes of one batch, and the most users of one request, over all its pushes. Default: 1,000.
    pub batch_pushes_max: usize,
    /// Bytes of answers that are remembered for requests with an `Idempotency-Key`. Default: 16 MiB.
    pub idempotency_bytes_max: usize,
    /// How long a request head may take, from its first byte or from when its connection was opened,
    /// and a client may take nothing of a reply. Default: 10 s.
    pub header_timeout: Duration,
    /// How long an HTTP connection is kept for its next request; answers say so, in whole seconds.
    /// Default: 75 s, longer than the proxies and balancers in front keep theirs.
    pub http_idle_timeout: Duration,
    /// The largest request head. Default: 16 KiB.
    pub head_bytes_max: usize,
    /// The most bytes queued for one connection. Default: 4 MiB.
    pub outbox_bytes_max: usize,
    /// The most bytes queued over all connections. A message that waits at many connections counts
    /// once for each, although its memory is shared. Default: 2 GiB.
    pub outboxes_bytes_max: usize,
    /// The most bytes of one user's messages that wait for a fan-out under way. Default: 128 KiB.
    pub walk_bytes_max: usize,
    /// The most WebSocket connections at once. Default: 100,000.
    pub connections_max: usize,
    /// The most WebSocket connections from one address (IPv6: one /64); zero means no bound. Default: 0.
    pub connections_per_address_max: usize,
    /// The most connections of one user, those that registered for it; zero means no bound. Default: 0.
    pub connections_per_user_max: usize,
    /// What becomes of one more. Default: it is refused.
    pub connections_per_user_policy: ConnectionsPerUserPolicy,
    /// Handshakes from one address (IPv6: one /64) per second in the long run; zero means no bound.
    /// Default: 0.
    pub handshakes_per_address_per_second: u32,
    /// Handshakes from one address at once, where there is a bound. Default: 50.
    pub handshakes_per_address_burst: u32,
    /// The most plain HTTP connections at once, handshakes included. Default: 4,096.
    pub http_connections_max: usize,
    /// The most of them from one address (IPv6: one /64) that is no trusted proxy; zero means no
    /// bound. Default: 0.
    pub http_connections_per_address_max: usize,
    /// How long a shutdown may take over all of it: the delay, telling everybody, and the queues.
    /// Default: 30 s.
    pub drain_timeout: Duration,
    /// How long a server that is to shut down goes on as before, not ready, so that balancers send
    /// their clients elsewhere. Default: 0.
    pub drain_delay: Duration,
    /// Over how long connections are told to go, so that their clients do not all come back at once;
    /// at most half of what `drain_delay` leaves of `drain_timeout`, and less when there are few of
    /// them. Default: 15 s.
    pub drain_spread: Duration,
    /// Bytes of what is remembered of users and strangers: refusals, drops and ends; zero means
    /// nothing is. At most 64 MiB. Default: 4 MiB.
    pub journal_bytes_max: usize,
    /// The most traces at once. Default: 16.
    pub traces_max: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            register_timeout: Duration::from_secs(30),
            authenticate_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            // As long as a pong may take at most.
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
            push_body_bytes_max: 8 * MIB,
            push_body_timeout: Duration::from_secs(20),
            push_bodies_bytes_max: 256 * MIB,
            batch_pushes_max: 1000,
            idempotency_bytes_max: 16 * MIB,
            header_timeout: Duration::from_secs(10),
            http_idle_timeout: Duration::from_secs(75),
            head_bytes_max: 16 * KIB,
            outbox_bytes_max: 4 * MIB,
            // A thousand connections may wait for the largest message twice.
            outboxes_bytes_max: 2048 * MIB,
            walk_bytes_max: 128 * KIB,
            connections_max: 100_000,
            connections_per_address_max: 0,
            connections_per_user_max: 0,
            connections_per_user_policy: ConnectionsPerUserPolicy::RefuseNew,
            handshakes_per_address_per_second: 0,
            handshakes_per_address_burst: 50,
            http_connections_max: 4096,
            http_connections_per_address_max: 0,
            drain_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            // So 100,000 clients come back at 7,000 a second, which a core that speaks TLS can take.
            drain_spread: Duration::from_secs(15),
            journal_bytes_max: 4 * MIB,
            traces_max: 16,
        }
    }
}

impl LimitSettings {
    /// Checks every bound and every relation between two of them.
    ///
    /// # Errors
    /// [`LimitsError`] with all that is wrong, not only the first.
    pub fn build(self) -> Result<Limits, LimitsError> {
        let mut problems = Vec::new();
        for (name, value) in [
            ("register_timeout", self.register_timeout),
            ("authenticate_timeout", self.authenticate_timeout),
            ("ping_interval", self.ping_interval),
            ("pong_timeout", self.pong_timeout),
            ("close_timeout", self.close_timeout),
            ("stall_timeout", self.stall_timeout),
            ("push_body_timeout", self.push_body_timeout),
            ("header_timeout", self.header_timeout),
            ("http_idle_timeout", self.http_idle_timeout),
            ("drain_timeout", self.drain_timeout),
            ("drain_delay", self.drain_delay),
            ("drain_spread", self.drain_spread),
        ] {
            let may_be_zero = ["register_timeout", "drain_delay", "drain_spread"].contains(&name);
            if value.is_zero() && !may_be_zero {
                problems.push(format!("{name} must be longer than zero"));
            }
            if value > TIME_MAX {
                problems.push(format!("{name} must be at most a year"));
            }
        }
        for (name, value) in [
            ("inbound_fragments_max", self.inbound_fragments_max),
            ("registrations_pending_max", self.registrations_pending_max),
            ("bindings_per_connection_max", self.bindings_per_connection_max),
            ("name_bytes_max", self.name_bytes_max),
            ("message_bytes_max", self.message_bytes_max),
            ("walk_bytes_max", self.walk_bytes_max),
            ("batch_pushes_max", self.batch_pushes_max),
            ("connections_max", self.connections_max),
            ("http_connections_max", self.http_connections_max),
            ("inbound_messages_per_second", self.inbound_messages_per_second as usize),
            ("inbound_messages_burst", self.inbound_messages_burst as usize),
            ("handshakes_per_address_burst", self.handshakes_per_address_burst as usize),
        ] {
            if value == 0 {
                problems.push(format!("{name} must be at least 1"));
            }
        }
        for (name, value) in [
            ("inbound_message_bytes_max", self.inbound_message_bytes_max),
            ("names_per_connection_bytes_max", self.names_per_connection_bytes_max),
            ("message_bytes_max", self.message_bytes_max),
            ("push_body_bytes_max", self.push_body_bytes_max),
            ("push_bodies_bytes_max", self.push_bodies_bytes_max),
            ("outbox_bytes_max", self.outbox_bytes_max),
            ("walk_bytes_max", self.walk_bytes_max),
            ("idempotency_bytes_max", self.idempotency_bytes_max),
        ] {
            if value > 1024 * MIB {
                problems.push(format!("{name} is {value}, but must be at most 1 GiB"));
            }
        }
        if self.drain_delay >= self.drain_timeout {
            problems.push(format!(
                "drain_delay is {:?}, but must be shorter than drain_timeout, {:?}",
                self.drain_delay, self.drain_timeout
            ));
        }
        // A part of it is searched under a lock.
        let bytes = self.journal_bytes_max;
        if bytes > 64 * MIB {
            problems.push(format!("journal_bytes_max is {bytes}, but must be at most 64 MiB"));
        }
        let mut at_least = |name: &str, value: usize, least: usize, why: &str| {
            if value < least {
                problems.push(format!("{name} is {value}, but must be at least {least}: {why}"));
            }
        };
        // 8 KiB is what the HTTP library needs for its own read buffer.
        at_least(
            "head_bytes_max",
            self.head_bytes_max,
            8 * KIB,
            "an ordinary request head needs up to 8 KiB",
        );
        at_least(
            "inbound_message_bytes_max",
            self.inbound_message_bytes_max,
            self.name_bytes_max.saturating_mul(2).saturating_add(64),
            "a register message contains a token and an event of up to name_bytes_max each",
        );
        at_least(
            "names_per_connection_bytes_max",
            self.names_per_connection_bytes_max,
            self.name_bytes_max.saturating_mul(2),
            "a registration has a user id and an event of up to name_bytes_max each",
        );
        at_least(
            "names_bytes_max",
            self.names_bytes_max,
            self.names_per_connection_bytes_max,
            "it must hold the names of at least one connection",
        );
        at_least(
            "inbound_bytes_max",
            self.inbound_bytes_max,
            self.inbound_message_bytes_max.saturating_mul(2),
            "a message of inbound_message_bytes_max takes up to twice its length while it arrives",
        );
        at_least(
            "push_body_bytes_max",
            self.push_body_bytes_max,
            self.message_bytes_max.saturating_mul(6).saturating_add(64 * KIB),
            "JSON can write each byte of message_bytes_max as six",
        );
        at_least(
            "push_bodies_bytes_max",
            self.push_bodies_bytes_max,
            self.push_body_bytes_max,
            "it must hold at least one body of push_body_bytes_max",
        );
        at_least(
            "idempotency_bytes_max",
            self.idempotency_bytes_max,
            MIB,
            "a few thousand answers need 1 MiB",
        );
        // A reader that was within its bound when a message was accepted for it must still be so
        // when that message reaches it: one segment on its way, one waiting, each ended by a
        // message that was let in just below walk_bytes_max. Otherwise a count could be untrue.
        let frame = self.message_bytes_max.saturating_add(FRAME_HEAD_BYTES_MAX);
        at_least(
            "outbox_bytes_max",
            self.outbox_bytes_max,
            self.walk_bytes_max.saturating_add(frame).saturating_mul(2),
            "it must hold twice the sum of walk_bytes_max and the largest message",
        );
        at_least(
            "outboxes_bytes_max",
            self.outboxes_bytes_max,
            self.outbox_bytes_max,
            "it must hold at least one queue of outbox_bytes_max",
        );
        if problems.is_empty() { Ok(Limits(self)) } else { Err(LimitsError(problems)) }
    }
}

/// What becomes of one more connection of a user who has `connections_per_user_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConnectionsPerUserPolicy {
    /// The connection that registers is closed.
    #[default]
    RefuseNew,
    /// Those that were opened first are closed, so that the user keeps the ones opened last.
    CloseOldest,
}

impl ConnectionsPerUserPolicy {
    /// The word for it in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RefuseNew => "refuse_new",
            Self::CloseOldest => "close_oldest",
        }
    }
}

impl fmt::Display for ConnectionsPerUserPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no [`ConnectionsPerUserPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy: write refuse_new or close_oldest")]
pub struct UnknownPolicy;

impl FromStr for ConnectionsPerUserPolicy {
    type Err = UnknownPolicy;

    fn from_str(word: &str) -> Result<Self, UnknownPolicy> {
        [Self::RefuseNew, Self::CloseOldest]
            .into_iter()
            .find(|policy| policy.as_str() == word)
            .ok_or(UnknownPolicy)
    }
}

/// Bounds whose relations hold. Read them as fields.
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

/// All that is wrong with a set of limits, each problem naming the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsError(Vec<String>);

impl LimitsError {
    /// The problems, one sentence each.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for LimitsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_together() {
        let _ = Limits::default();
    }

    #[test]
    fn policies_are_written_as_they_are_read() {
        for policy in [ConnectionsPerUserPolicy::RefuseNew, ConnectionsPerUserPolicy::CloseOldest] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("oldest".parse::<ConnectionsPerUserPolicy>(), Err(UnknownPolicy));
    }

    #[test]
    fn no_time_is_too_long_for_the_clock() {
        let settings = LimitSettings {
            drain_timeout: Duration::MAX,
            register_timeout: Duration::MAX,
            ..LimitSettings::default()
        };
        assert_eq!(settings.build().unwrap_err().problems().len(), 2);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let settings = LimitSettings {
            ping_interval: Duration::ZERO,
            outbox_bytes_max: MIB,
            push_body_bytes_max: MIB,
            ..LimitSettings::default()
        };
        let error = settings.build().unwrap_err();
        let text = error.to_string();
        assert_eq!(error.problems().len(), 3, "{text}");
        for name in ["ping_interval", "outbox_bytes_max", "push_body_bytes_max"] {
            assert!(text.contains(name), "{text}");
        }
    }
}
