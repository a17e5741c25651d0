//! The limits of HTTP: of requests, and of the connections that carry them.
//!
//! `wserver_core::LimitSettings` has the limits of sessions and their node. Relations between both
//! sets are checked here, because only this crate knows both.

use std::ops::Deref;
use std::time::Duration;

use wserver_core::{LimitChecks, LimitSettings, LimitsError, setting_name};
use wserver_protocol::v2::LIST_ITEMS_MAX;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The name of a limit.
macro_rules! name {
    ($field:ident) => {
        setting_name!(HttpLimitSettings, $field)
    };
}

/// All limits of HTTP as set by a person. [`HttpLimitSettings::build`] checks their relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimitSettings {
    /// The maximum size of the body of a push. Default: 8 MiB.
    pub push_body_bytes_max: usize,
    /// The maximum time for the whole body of a push to arrive. Default: 20 s.
    pub push_body_timeout: Duration,
    /// The maximum bytes of push bodies held at once, over all requests. Default: 256 MiB.
    pub push_bodies_bytes_max: usize,
    /// The maximum number of pushes in one batch, and of users in one request, over all its pushes.
    /// Default: 1,000.
    pub batch_pushes_max: usize,
    /// The maximum bytes of answers to remember for requests with an `Idempotency-Key`. Default: 16
    /// MiB.
    pub idempotency_bytes_max: usize,
    /// The maximum time for a request head to arrive, counted from its first byte or from the
    /// opening of its connection, and for a client to take nothing of a reply. Default: 10 s.
    pub header_timeout: Duration,
    /// How long to keep an HTTP connection for its next request; answers state it in whole seconds.
    /// Default: 75 s, which is longer than proxies and load balancers keep their connections.
    pub http_idle_timeout: Duration,
    /// The maximum size of a request head. Default: 16 KiB.
    pub head_bytes_max: usize,
    /// The maximum number of WebSocket connections from one address (IPv6: one /64); 0 means no
    /// limit. Default: 0.
    pub connections_per_address_max: usize,
    /// Handshakes from one address (IPv6: one /64) per second in the long run; 0 means no limit.
    /// Default: 0.
    pub handshakes_per_address_per_second: u32,
    /// Handshakes from one address at once, if there is a limit. Default: 50.
    pub handshakes_per_address_burst: u32,
    /// The maximum number of HTTP connections of a listener, including handshakes. Default: 4,096.
    pub http_connections_max: usize,
    /// The maximum number of them from one address (IPv6: one /64) that is not a trusted proxy; 0
    /// means no limit. Default: 0.
    pub http_connections_per_address_max: usize,
}

impl Default for HttpLimitSettings {
    fn default() -> Self {
        Self {
            push_body_bytes_max: 8 * MIB,
            push_body_timeout: Duration::from_secs(20),
            push_bodies_bytes_max: 256 * MIB,
            batch_pushes_max: 1000,
            idempotency_bytes_max: 16 * MIB,
            header_timeout: Duration::from_secs(10),
            http_idle_timeout: Duration::from_secs(75),
            head_bytes_max: 16 * KIB,
            connections_per_address_max: 0,
            handshakes_per_address_per_second: 0,
            handshakes_per_address_burst: 50,
            http_connections_max: 4096,
            http_connections_per_address_max: 0,
        }
    }
}

impl HttpLimitSettings {
    /// Checks every limit, the relations between limits, and their relations to the `limits` of
    /// sessions.
    ///
    /// # Errors
    /// [`LimitsError`] with all problems, not only the first.
    pub fn build(self, limits: &LimitSettings) -> Result<HttpLimits, LimitsError> {
        let mut checks = LimitChecks::default();
        for (name, value) in [
            (name!(push_body_timeout), self.push_body_timeout),
            (name!(header_timeout), self.header_timeout),
            (name!(http_idle_timeout), self.http_idle_timeout),
        ] {
            checks.time(name, value);
        }
        for (name, value) in [
            (name!(batch_pushes_max), self.batch_pushes_max),
            (name!(http_connections_max), self.http_connections_max),
            (name!(handshakes_per_address_burst), self.handshakes_per_address_burst as usize),
        ] {
            checks.at_least_one(name, value);
        }
        for (name, value) in [
            (name!(push_body_bytes_max), self.push_body_bytes_max),
            (name!(push_bodies_bytes_max), self.push_bodies_bytes_max),
            (name!(idempotency_bytes_max), self.idempotency_bytes_max),
        ] {
            checks.at_most(name, value, 1024 * MIB);
        }
        checks.at_most(name!(batch_pushes_max), self.batch_pushes_max, LIST_ITEMS_MAX);
        // The HTTP library needs 8 KiB for its read buffer.
        checks.at_least(
            name!(head_bytes_max),
            self.head_bytes_max,
            8 * KIB,
            &[],
            "an ordinary request head needs up to 8 KiB",
        );
        checks.at_least(
            name!(push_body_bytes_max),
            self.push_body_bytes_max,
            limits.message_bytes_max.saturating_mul(6).saturating_add(64 * KIB),
            &[setting_name!(LimitSettings, message_bytes_max)],
            "JSON can write each byte of message_bytes_max as six",
        );
        checks.at_least(
            name!(push_bodies_bytes_max),
            self.push_bodies_bytes_max,
            self.push_body_bytes_max,
            &[name!(push_body_bytes_max)],
            "it must hold at least one body of push_body_bytes_max",
        );
        checks.at_least(
            name!(idempotency_bytes_max),
            self.idempotency_bytes_max,
            MIB,
            &[],
            "a few thousand answers need 1 MiB",
        );
        checks.finish().map(|()| HttpLimits(self))
    }
}

/// Limits of HTTP whose relations hold. Read them as fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits(HttpLimitSettings);

impl Deref for HttpLimits {
    type Target = HttpLimitSettings;

    fn deref(&self) -> &HttpLimitSettings {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use wserver_core::LimitProblem;

    use super::*;

    #[test]
    fn the_defaults_hold_together() {
        assert!(HttpLimitSettings::default().build(&LimitSettings::default()).is_ok());
    }

    #[test]
    fn every_problem_is_found_at_once_by_its_setting() {
        let settings = HttpLimitSettings {
            header_timeout: Duration::ZERO,
            batch_pushes_max: LIST_ITEMS_MAX + 1,
            push_bodies_bytes_max: MIB,
            ..HttpLimitSettings::default()
        };
        // A limit that depends on one of the core.
        let limits = LimitSettings { message_bytes_max: 2 * MIB, ..LimitSettings::default() };
        let error = settings.build(&limits).unwrap_err();
        let found: Vec<_> = error.problems().iter().map(LimitProblem::settings).collect();
        assert_eq!(
            found,
            [
                &["header_timeout"][..],
                &["batch_pushes_max"],
                &["push_body_bytes_max", "message_bytes_max"],
                &["push_bodies_bytes_max", "push_body_bytes_max"],
            ],
            "{error}"
        );
    }

    /// The problems of the defaults after a change.
    fn problems(change: impl FnOnce(&mut HttpLimitSettings)) -> Vec<String> {
        let mut settings = HttpLimitSettings::default();
        change(&mut settings);
        let built = settings.build(&LimitSettings::default());
        built.map_or_else(
            |error| error.problems().iter().map(ToString::to_string).collect(),
            |_| Vec::new(),
        )
    }

    /// The values at each limit: the last that is accepted, and the first that is refused.
    #[test]
    fn bounds_and_relations_hold_to_the_unit() {
        type Time = fn(&mut HttpLimitSettings) -> &mut Duration;
        let times: [(&str, Time); 3] = [
            ("push_body_timeout", |it| &mut it.push_body_timeout),
            ("header_timeout", |it| &mut it.header_timeout),
            ("http_idle_timeout", |it| &mut it.http_idle_timeout),
        ];
        let (nanosecond, year) = (Duration::from_nanos(1), Duration::from_secs(365 * 24 * 60 * 60));
        for (name, time) in times {
            let of = |value| problems(|it| *time(it) = value);
            assert_eq!(of(Duration::ZERO), [format!("{name} must be longer than zero")]);
            assert_eq!([of(nanosecond), of(year)], [[""; 0], [""; 0]], "{name}");
            assert_eq!(of(year + nanosecond), [format!("{name} must be at most a year")]);
        }

        type Count = fn(&mut HttpLimitSettings, u32);
        let counts: [(&str, Count); 3] = [
            ("batch_pushes_max", |it, count| it.batch_pushes_max = count as usize),
            ("http_connections_max", |it, count| it.http_connections_max = count as usize),
            ("handshakes_per_address_burst", |it, count| it.handshakes_per_address_burst = count),
        ];
        for (name, set) in counts {
            assert_eq!(problems(|it| set(it, 0)), [format!("{name} must be at least 1")]);
            assert_eq!(problems(|it| set(it, 1)), [""; 0], "{name}");
        }

        type Size = fn(&mut HttpLimitSettings) -> &mut usize;
        let least: [(&str, Size, usize); 4] = [
            ("head_bytes_max", |it| &mut it.head_bytes_max, 8 * KIB),
            ("push_body_bytes_max", |it| &mut it.push_body_bytes_max, 6 * MIB + 64 * KIB),
            ("push_bodies_bytes_max", |it| &mut it.push_bodies_bytes_max, 8 * MIB),
            ("idempotency_bytes_max", |it| &mut it.idempotency_bytes_max, MIB),
        ];
        let most: [(&str, Size, usize); 4] = [
            ("push_body_bytes_max", |it| &mut it.push_body_bytes_max, 1024 * MIB),
            ("push_bodies_bytes_max", |it| &mut it.push_bodies_bytes_max, 1024 * MIB),
            ("idempotency_bytes_max", |it| &mut it.idempotency_bytes_max, 1024 * MIB),
            ("batch_pushes_max", |it| &mut it.batch_pushes_max, LIST_ITEMS_MAX),
        ];
        // A large size can require another large size.
        let is_refused = |name: &str, size: Size, value, bound: &str| {
            let problem = format!("{name} is {value}, but must be {bound}");
            problems(|it| *size(it) = value).iter().any(|found| found.starts_with(&problem))
        };
        for (name, size, least) in least {
            let bound = format!("at least {least}: ");
            assert!(is_refused(name, size, least - 1, &bound), "{name}");
            assert!(!is_refused(name, size, least, "at least"), "{name}");
        }
        for (name, size, most) in most {
            assert!(is_refused(name, size, most + 1, "at most"), "{name}");
            assert!(!is_refused(name, size, most, "at most"), "{name}");
        }
    }
}
