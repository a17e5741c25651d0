//! The life of one WebSocket as a state machine: heartbeats, deadlines, the flood bound.
//!
//! Something happened: call a `handle_*`. What now: call [`Session::poll`]. It knows no socket,
//! no clock and no frame, and decides nothing about what is sent.

use std::time::{Duration, Instant, SystemTime};

use crate::expiries::Expiries;
use crate::rate::Rate;
use crate::{CloseReason, Limits, RegistrationKey};

/// Bytes written for which a pong may take one second longer, since the ping waits behind them.
const BYTES_PER_SECOND_OF_PATIENCE: u64 = 32 * 1024;

/// The longest wait for a pong, unless `pong_timeout` itself is longer.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// What the owner of a [`Session`] must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing until then, or until something happens; `None` is for ever.
    Wait(Option<Instant>),
    /// Send a ping. The session counts it as sent.
    Ping,
    /// Send a Close, tell the session by [`handle_closing`](Session::handle_closing).
    Close(CloseReason),
    /// The peer had its time to close: end the socket.
    Terminate,
}

/// One WebSocket from its upgrade to its end.
///
/// Small, without a clock, and without an allocation as long as no registration expires: each call
/// is told the time and the bounds, and each but [`handle_expiry`](Self::handle_expiry) is O(1).
/// Times count in nanoseconds since the socket was opened. Expiries alone are moments of the wall
/// clock, which may be set at any time, so they stay such and are compared at each poll.
///
/// ```
/// use std::time::{Duration, Instant, SystemTime};
/// use wserver_core::{Action, CloseReason, Limits, Session};
///
/// let limits = Limits::default();
/// // The opening; a program takes it from its clock.
/// # #[expect(clippy::disallowed_methods, reason = "an example is a program")]
/// let opened = Instant::now();
/// let wall = SystemTime::UNIX_EPOCH;
/// let mut session = Session::new(&limits, opened, 7);
///
/// // Nothing was registered for too long.
/// let late = opened + limits.register_timeout;
/// assert_eq!(session.poll(&limits, late, wall, 0), Action::Close(CloseReason::NotRegistered));
/// session.handle_closing(&limits, late);
/// assert_eq!(session.poll(&limits, late, wall, 0), Action::Wait(Some(late + limits.close_timeout)));
/// assert_eq!(session.poll(&limits, late + limits.close_timeout, wall, 0), Action::Terminate);
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    opened: Instant,
    phase: Phase,
    registered: Registered,
    /// The registrations that expire, if any does.
    expiries: Option<Box<Expiries>>,
    /// When the bucket of the peer's messages is full again.
    bucket_full: u64,
    /// Bytes the socket had taken when the last pong came.
    written_at_pong: u64,
    /// What `phase` waits for or counts from.
    at: u64,
}

/// What `at` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The next ping is due at `at`.
    Alive,
    /// A ping was sent and no pong has come; the last sign of life, or else that ping, was `at`.
    Pinged,
    /// Our Close is queued; the peer has until `at`.
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registered {
    NotYet,
    Yes,
}

/// A time that does not come: the process would have to run for 584 years.
const NEVER: u64 = u64::MAX;

impl Session {
    /// A socket that was opened at `now`.
    ///
    /// `spread` places the first ping within the second half of the first interval, so that
    /// sockets opened together are not pinged together. A random number will do, and so will a
    /// running one: it is mixed.
    #[must_use]
    pub fn new(limits: &Limits, now: Instant, spread: u32) -> Self {
        let interval = nanos(limits.ping_interval);
        let share = u128::from(spread.wrapping_mul(0x9E37_79B9));
        let part = (u128::from(interval / 2) * share) >> 32;
        // The share is below one, so the part is below half of the interval.
        let part = u64::try_from(part).unwrap_or_default();
        Self {
            opened: now,
            phase: Phase::Alive,
            registered: Registered::NotYet,
            expiries: None,
            bucket_full: 0,
            written_at_pong: 0,
            at: (interval - interval / 2).saturating_add(part),
        }
    }

    /// A whole text or binary message came: a sign of life.
    ///
    /// # Errors
    /// [`CloseReason::Flood`] when the peer is beyond its allowance; the message is to be
    /// ignored, and the connection closed.
    pub fn handle_message(&mut self, limits: &Limits, now: Instant) -> Result<(), CloseReason> {
        self.take_token(limits, now)?;
        if self.phase == Phase::Pinged {
            // The pong is still owed, and no second ping is sent before it; the peer has the
            // whole time for it anew.
            self.at = self.nanos_at(now);
        }
        Ok(())
    }

    /// Reading stands still for a reason of the owner's own: silence says nothing about the peer,
    /// which has the whole time for its pong anew.
    pub fn handle_paused(&mut self, now: Instant) {
        if self.phase == Phase::Pinged {
            self.at = self.nanos_at(now);
        }
    }

    /// A ping came. Whoever only pings is not a reader, so it is no sign of life.
    ///
    /// # Errors
    /// [`CloseReason::Flood`] as for a message.
    pub fn handle_ping(&mut self, limits: &Limits, now: Instant) -> Result<(), CloseReason> {
        self.take_token(limits, now)
    }

    /// A pong came, an answer or not: a sign of life. `bytes_written` as in [`Self::poll`].
    ///
    /// # Errors
    /// [`CloseReason::Flood`] as for a message.
    pub fn handle_pong(
        &mut self,
        limits: &Limits,
        now: Instant,
        bytes_written: u64,
    ) -> Result<(), CloseReason> {
        self.take_token(limits, now)?;
        self.written_at_pong = bytes_written;
        if self.phase == Phase::Pinged {
            self.phase = Phase::Alive;
            self.at = self.at.saturating_add(nanos(limits.ping_interval));
        }
        Ok(())
    }

    /// Something was registered: the register deadline is over.
    pub const fn handle_registered(&mut self) {
        self.registered = Registered::Yes;
    }

    /// A registration was made, or made anew, with an identity that expires then by the wall clock;
    /// `None` is never.
    ///
    /// Each registration has the expiry of its newest identity, and the session closes when the
    /// first of them has come: a connection is never left with some of its registrations. It lives
    /// on when each has been renewed in time. O(registrations that expire).
    pub fn handle_expiry(&mut self, registration: RegistrationKey, at: Option<SystemTime>) {
        if at.is_none() && self.expiries.is_none() {
            return;
        }
        let at = at.map(since_1970).filter(|at| *at != NEVER);
        let expiries = self.expiries.get_or_insert_default();
        expiries.set(registration, at);
        if expiries.earliest().is_none() {
            self.expiries = None;
        }
    }

    /// Whether a registration of it expires, so that each further one has to be told of.
    #[must_use]
    pub const fn has_expiry(&self) -> bool {
        self.expiries.is_some()
    }

    /// Whether a registration has expired when the wall clock says `wall`.
    #[must_use]
    pub fn is_expired(&self, wall: SystemTime) -> bool {
        since_1970(wall) >= self.expires()
    }

    /// Our Close is queued. From now on only the close deadline counts, the first one given.
    pub fn handle_closing(&mut self, limits: &Limits, now: Instant) {
        if self.phase != Phase::Closing {
            self.at = self.nanos_at(now).saturating_add(nanos(limits.close_timeout));
            self.phase = Phase::Closing;
        }
    }

    /// What to do now. `wall` is what the wall clock says, `bytes_written` what the socket has taken
    /// since it was opened.
    ///
    /// To be called after each `handle_*`, at the deadline it told last, or more rarely: a late
    /// call does late what was due. Once [`Action::Ping`] or [`Action::Close`] has been acted
    /// upon, the next deadline lies after `now`.
    ///
    /// A deadline is never later than the next ping or the end of the wait for its pong. So a wall
    /// clock that was set forward past an expiry is noticed then, and one that was set back makes
    /// the deadline of an expiry merely early.
    pub fn poll(
        &mut self,
        limits: &Limits,
        now: Instant,
        wall: SystemTime,
        bytes_written: u64,
    ) -> Action {
        let now = self.nanos_at(now);
        if self.phase == Phase::Closing {
            return if now >= self.at { Action::Terminate } else { self.wait(self.at) };
        }
        let register_by = match self.registered {
            Registered::NotYet if !limits.register_timeout.is_zero() => {
                nanos(limits.register_timeout)
            }
            Registered::NotYet | Registered::Yes => NEVER,
        };
        let until_expiry = self.expires().saturating_sub(since_1970(wall));
        if until_expiry == 0 {
            return Action::Close(CloseReason::Expired);
        }
        if now >= register_by {
            return Action::Close(CloseReason::NotRegistered);
        }
        let heartbeat = match self.phase {
            Phase::Pinged => {
                let silent = self.at.saturating_add(self.patience(limits, bytes_written));
                if now >= silent {
                    return Action::Close(CloseReason::Silent);
                }
                silent
            }
            Phase::Alive | Phase::Closing => {
                if now >= self.at {
                    self.phase = Phase::Pinged;
                    self.at = now;
                    return Action::Ping;
                }
                self.at
            }
        };
        self.wait(heartbeat.min(register_by).min(now.saturating_add(until_expiry)))
    }

    /// When the first registration expires, since 1970.
    fn expires(&self) -> u64 {
        self.expiries.as_ref().and_then(|expiries| expiries.earliest()).unwrap_or(NEVER)
    }

    /// How long a pong may take. It grows as the socket takes more bytes meanwhile, up to its
    /// maximum, so a deadline once told may turn out too early but never too late.
    fn patience(&self, limits: &Limits, bytes_written: u64) -> u64 {
        let bytes = bytes_written.saturating_sub(self.written_at_pong);
        let more = Duration::from_secs(bytes / BYTES_PER_SECOND_OF_PATIENCE);
        let most = limits.pong_timeout.max(PATIENCE_MAX);
        nanos(limits.pong_timeout.saturating_add(more).min(most))
    }

    fn take_token(&mut self, limits: &Limits, now: Instant) -> Result<(), CloseReason> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        let rate = Rate::new(limits.inbound_messages_per_second, limits.inbound_messages_burst);
        let full_at = rate.take(self.bucket_full, self.nanos_at(now), 1);
        self.bucket_full = full_at.ok_or(CloseReason::Flood)?;
        Ok(())
    }

    fn nanos_at(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.opened))
    }

    fn wait(&self, at: u64) -> Action {
        let deadline = (at != NEVER).then(|| self.opened.checked_add(Duration::from_nanos(at)));
        Action::Wait(deadline.flatten())
    }
}

fn since_1970(wall: SystemTime) -> u64 {
    nanos(wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::LimitSettings;

    #[expect(clippy::disallowed_methods, reason = "a test has to start somewhere")]
    fn opened() -> Instant {
        Instant::now()
    }

    fn limits() -> LimitSettings {
        LimitSettings {
            register_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            inbound_messages_per_second: 10,
            inbound_messages_burst: 3,
            ..LimitSettings::default()
        }
    }

    /// What the wall clock said when the socket was opened.
    fn opened_wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    /// Steps are (milliseconds, KiB written so far, what happens, what comes of it). The first
    /// ping is due after 10 s, the next ones 20 s after the one before. The wall clock runs beside
    /// it, until it is set forward or back by some milliseconds.
    type Step = (u64, u64, &'static str, &'static str);

    fn check(settings: LimitSettings, script: &[Step]) {
        let limits = settings.build().unwrap();
        let opened = opened();
        let mut session = Session::new(&limits, opened, 0);
        let mut start_wall = opened_wall();
        for (number, (millis, kib, happens, expected)) in script.iter().enumerate() {
            let now = opened + Duration::from_millis(*millis);
            let wall = start_wall + Duration::from_millis(*millis);
            let written = kib * 1024;
            let said = match happens.split_once(' ').unwrap_or((happens, "")) {
                ("message", _) => tell(session.handle_message(&limits, now)),
                ("ping", _) => tell(session.handle_ping(&limits, now)),
                ("pong", _) => tell(session.handle_pong(&limits, now, written)),
                ("paused", _) => {
                    session.handle_paused(now);
                    "ok".to_owned()
                }
                ("registered", _) => {
                    session.handle_registered();
                    "ok".to_owned()
                }
                ("expires", what) => {
                    let (registration, at) = what.split_once(' ').unwrap();
                    let registration = RegistrationKey::new(registration.parse().unwrap());
                    let at = at.parse().ok().map(|at| opened_wall() + Duration::from_millis(at));
                    session.handle_expiry(registration, at);
                    "ok".to_owned()
                }
                ("closing", _) => {
                    session.handle_closing(&limits, now);
                    "ok".to_owned()
                }
                ("forward", millis) => {
                    start_wall += Duration::from_millis(millis.parse().unwrap());
                    "ok".to_owned()
                }
                ("back", millis) => {
                    start_wall -= Duration::from_millis(millis.parse().unwrap());
                    "ok".to_owned()
                }
                ("poll", _) => match session.poll(&limits, now, wall, written) {
                    Action::Wait(None) => "wait for ever".to_owned(),
                    Action::Wait(Some(at)) => format!("wait until {}", (at - opened).as_millis()),
                    Action::Ping => "ping".to_owned(),
                    Action::Close(reason) => format!("close {reason}"),
                    Action::Terminate => "terminate".to_owned(),
                },
                _ => format!("what is {happens:?}?"),
            };
            assert_eq!(said, *expected, "step {number}: {happens} at {millis} ms");
        }
    }

    fn tell(result: Result<(), CloseReason>) -> String {
        result.map_or_else(|reason| reason.to_string(), |()| "ok".to_owned())
    }

    #[test]
    fn heartbeats_keep_their_beat() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (0, 0, "poll", "wait until 10000"),
                (9_999, 0, "poll", "wait until 10000"),
                (10_000, 0, "poll", "ping"),
                (10_000, 0, "poll", "wait until 20000"),
                (12_000, 0, "pong", "ok"),
                (12_000, 0, "poll", "wait until 30000"),
                (30_000, 0, "poll", "ping"),
                (39_999, 0, "poll", "wait until 40000"),
                (40_000, 0, "poll", "close silent"),
                (40_000, 0, "poll", "close silent"),
            ],
        );
    }

    #[test]
    fn a_pong_nobody_asked_for_moves_nothing() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (5_000, 0, "pong", "ok"),
                (5_000, 0, "poll", "wait until 10000"),
                (10_000, 0, "poll", "ping"),
            ],
        );
    }

    #[test]
    fn a_message_is_a_sign_of_life_but_the_pong_stays_owed() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (10_000, 0, "poll", "ping"),
                (19_000, 0, "message", "ok"),
                (20_000, 0, "poll", "wait until 29000"),
                (28_000, 0, "message", "ok"),
                // The interval is over, but no second ping goes out before the pong.
                (31_000, 0, "poll", "wait until 38000"),
                (32_000, 0, "pong", "ok"),
                (32_000, 0, "poll", "wait until 48000"),
                (48_000, 0, "poll", "ping"),
                (58_000, 0, "poll", "close silent"),
            ],
        );
    }

    #[test]
    fn nobody_is_silent_while_reading_is_paused() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (5_000, 0, "paused", "ok"),
                (5_000, 0, "poll", "wait until 10000"),
                (10_000, 0, "poll", "ping"),
                (20_000, 0, "paused", "ok"),
                (20_000, 0, "poll", "wait until 30000"),
                (30_000, 0, "poll", "close silent"),
            ],
        );
    }

    #[test]
    fn a_ping_is_no_sign_of_life() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (10_000, 0, "poll", "ping"),
                (19_000, 0, "ping", "ok"),
                (20_000, 0, "poll", "close silent"),
            ],
        );
    }

    #[test]
    fn patience_grows_with_the_bytes_under_way() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (10_000, 64, "poll", "ping"),
                (10_000, 64, "poll", "wait until 22000"),
                (21_000, 160, "poll", "wait until 25000"),
                // At most a minute.
                (25_000, 1024 * 1024, "poll", "wait until 70000"),
                (60_000, 1024 * 1024, "pong", "ok"),
                (60_000, 1024 * 1024, "poll", "ping"),
                // What was written before a pong has arrived.
                (60_000, 1024 * 1024 + 33, "poll", "wait until 71000"),
            ],
        );
        let slow = LimitSettings { pong_timeout: Duration::from_secs(90), ..limits() };
        check(
            slow,
            &[
                (0, 0, "registered", "ok"),
                (10_000, 1024, "poll", "ping"),
                (10_000, 1024, "poll", "wait until 100000"),
            ],
        );
    }

    #[test]
    fn a_late_call_does_what_was_due() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (29_000, 0, "poll", "ping"),
                (30_000, 0, "pong", "ok"),
                (30_000, 0, "poll", "wait until 49000"),
                (300_000, 0, "poll", "ping"),
                (300_000, 0, "poll", "wait until 310000"),
            ],
        );
    }

    #[test]
    fn the_register_deadline() {
        check(
            limits(),
            &[
                (10_000, 0, "poll", "ping"),
                (11_000, 0, "pong", "ok"),
                (29_999, 0, "poll", "wait until 30000"),
                (30_000, 0, "poll", "close not_registered"),
            ],
        );
        check(
            limits(),
            &[
                (10_000, 0, "poll", "ping"),
                (11_000, 0, "pong", "ok"),
                (29_999, 0, "registered", "ok"),
                (30_000, 0, "poll", "ping"),
            ],
        );
        let never = LimitSettings { register_timeout: Duration::ZERO, ..limits() };
        check(
            never,
            &[(10_000, 0, "poll", "ping"), (11_000, 0, "pong", "ok"), (31_000, 0, "poll", "ping")],
        );
    }

    #[test]
    fn the_earliest_expiry_ends_all() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (0, 0, "expires 1 9000", "ok"),
                (0, 0, "expires 2 7000", "ok"),
                (0, 0, "expires 3 8000", "ok"),
                (0, 0, "expires 4 never", "ok"),
                (1_000, 0, "poll", "wait until 7000"),
                (7_000, 0, "poll", "close expired"),
            ],
        );
    }

    #[test]
    fn a_registration_lives_on_with_its_newest_identity() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (0, 0, "expires 1 5000", "ok"),
                (0, 0, "expires 2 6000", "ok"),
                (4_000, 0, "expires 1 9000", "ok"),
                // The other one was not renewed.
                (5_000, 0, "poll", "wait until 6000"),
                (5_500, 0, "expires 2 never", "ok"),
                (6_000, 0, "poll", "wait until 9000"),
                // The newest stands, be it shorter.
                (6_000, 0, "expires 1 8000", "ok"),
                (6_000, 0, "poll", "wait until 8000"),
                (7_000, 0, "expires 1 never", "ok"),
                (8_000, 0, "poll", "wait until 10000"),
                (8_000, 0, "expires 3 9000", "ok"),
                (9_000, 0, "poll", "close expired"),
            ],
        );
    }

    #[test]
    fn a_wall_clock_set_forward_past_an_expiry_closes_at_the_next_ping() {
        check(
            limits(),
            &[
                (0, 0, "registered", "ok"),
                (0, 0, "expires 1 3600000", "ok"),
                (0, 0, "poll", "wait until 10000"),
                (1_000, 0, "forward 7200000", "ok"),
                (1_000, 0, "registered", "ok"),
                (10_000, 0, "poll", "close expired"),
            ],
        );
        // A start without a clock: the token counts for days, until the clock is put right.
        check(
            limits(),
            &[
                (0, 0, "back 259200000", "ok"),
                (0, 0, "registered", "ok"),
                (0, 0, "expires 1 30000", "ok"),
                (0, 0, "poll", "wait until 10000"),
                (1_000, 0, "forward 259200000", "ok"),
                (10_000, 0, "poll", "ping"),
                (10_000, 0, "poll", "wait until 20000"),
                (11_000, 0, "pong", "ok"),
                (11_000, 0, "poll", "wait until 30000"),
                (30_000, 0, "poll", "close expired"),
            ],
        );
    }

    #[test]
    fn a_wall_clock_set_back_closes_nobody_early() {
        check(
            limits(),
            &[
                (0, 0, "forward 3600000", "ok"),
                (0, 0, "registered", "ok"),
                (0, 0, "expires 1 3605000", "ok"),
                (0, 0, "poll", "wait until 5000"),
                (1_000, 0, "back 3600000", "ok"),
                // Woken by the deadline it told before.
                (5_000, 0, "poll", "wait until 10000"),
                (10_000, 0, "poll", "ping"),
                (11_000, 0, "pong", "ok"),
                (11_000, 0, "poll", "wait until 30000"),
            ],
        );
        // Before 1970, and with an expiry beyond what is counted, nothing breaks.
        check(
            limits(),
            &[
                (0, 0, "back 1800000000000", "ok"),
                (0, 0, "registered", "ok"),
                (0, 0, "expires 1 18446744073710000", "ok"),
                (0, 0, "poll", "wait until 10000"),
            ],
        );
    }

    #[test]
    fn closing_has_one_deadline_and_hears_nothing() {
        check(
            limits(),
            &[
                (0, 0, "expires 1 9000", "ok"),
                (8_000, 0, "closing", "ok"),
                (8_000, 0, "poll", "wait until 13000"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "closing", "ok"),
                (12_999, 0, "poll", "wait until 13000"),
                (13_000, 0, "poll", "terminate"),
                (14_000, 0, "poll", "terminate"),
            ],
        );
    }

    #[test]
    fn the_bucket_holds_a_burst_and_refills() {
        check(
            limits(),
            &[
                (1_000, 0, "message", "ok"),
                (1_000, 0, "ping", "ok"),
                (1_000, 0, "pong", "ok"),
                (1_000, 0, "message", "flood"),
                (1_099, 0, "ping", "flood"),
                (1_100, 0, "ping", "ok"),
                (1_100, 0, "pong", "flood"),
                (1_300, 0, "message", "ok"),
                (1_300, 0, "message", "ok"),
                (1_300, 0, "message", "flood"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "message", "ok"),
                (9_000, 0, "message", "flood"),
            ],
        );
    }

    #[test]
    fn first_pings_are_spread_over_half_the_interval() {
        let limits = limits().build().unwrap();
        let opened = opened();
        let mut firsts: Vec<Duration> = (0..1000)
            .map(|id| {
                match Session::new(&limits, opened, id).poll(&limits, opened, opened_wall(), 0) {
                    Action::Wait(Some(at)) => at - opened,
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        firsts.sort_unstable();
        assert!(firsts[0] >= Duration::from_secs(10) && firsts[999] <= Duration::from_secs(20));
        let widest = firsts.windows(2).map(|two| two[1] - two[0]).max().unwrap();
        assert!(widest < Duration::from_millis(50), "{widest:?}");
    }

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 56, "{}", size_of::<Session>());
    }

    #[derive(Debug, Clone, Copy)]
    enum Input {
        Message,
        Ping,
        Pong,
        Registered,
        Expiry(u64, Option<u64>),
        Pass(u64),
        /// What the wall clock says, in milliseconds around the opening.
        SetWall(u64),
        Write(u64),
    }

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Message),
            Just(Input::Ping),
            Just(Input::Pong),
            Just(Input::Registered),
            (0..4_u64, prop::option::of(0..400_000_u64))
                .prop_map(|(registration, at)| Input::Expiry(registration, at)),
            (0..40_000_u64).prop_map(Input::Pass),
            (0..400_000_u64).prop_map(Input::SetWall),
            (0..10_000_000_u64).prop_map(Input::Write),
        ]
    }

    proptest! {
        /// Whoever acts on what it says is never asked to wait for the past, and a life that is
        /// only waited for comes to its end.
        #[test]
        fn it_never_spins(
            inputs in prop::collection::vec(input(), 0..60),
            interval in 1..40_000_000_000_u64,
            timeout in 1..40_000_000_000_u64,
            spread in any::<u32>(),
        ) {
            let settings = LimitSettings {
                ping_interval: Duration::from_nanos(interval),
                pong_timeout: Duration::from_nanos(timeout),
                close_timeout: Duration::from_nanos(timeout / 2 + 1),
                ..limits()
            };
            let limits = settings.build().unwrap();
            let opened = opened();
            let (mut now, mut wall, mut written) = (opened, opened_wall(), 0);
            let mut session = Session::new(&limits, now, spread);
            let mut ended = false;
            for input in inputs {
                let handled = match input {
                    Input::Message => session.handle_message(&limits, now),
                    Input::Ping => session.handle_ping(&limits, now),
                    Input::Pong => session.handle_pong(&limits, now, written),
                    Input::Registered => { session.handle_registered(); Ok(()) }
                    Input::Expiry(registration, millis) => {
                        let at = millis.map(|millis| opened_wall() + Duration::from_millis(millis));
                        session.handle_expiry(RegistrationKey::new(registration), at);
                        Ok(())
                    }
                    Input::Pass(millis) => {
                        now += Duration::from_millis(millis);
                        wall += Duration::from_millis(millis);
                        Ok(())
                    }
                    Input::SetWall(millis) => {
                        wall = opened_wall() + Duration::from_millis(millis);
                        Ok(())
                    }
                    Input::Write(bytes) => { written += bytes; Ok(()) }
                };
                if handled.is_err() {
                    session.handle_closing(&limits, now);
                }
                ended = settle(&mut session, &limits, now, wall, written)?.is_none();
            }
            for _ in 0..6 {
                let Some(deadline) = settle(&mut session, &limits, now, wall, written)? else {
                    ended = true;
                    break;
                };
                wall += deadline - now;
                now = deadline;
            }
            prop_assert!(ended, "ping, silence, close and end are four deadlines");
        }
    }

    proptest! {
        /// It closes at the earliest of what was told last of each registration, and not before.
        #[test]
        fn each_registration_has_its_own_expiry(
            told in prop::collection::vec((0..6_u64, prop::option::of(1..5_000_u64)), 0..40),
        ) {
            let limits = limits().build().unwrap();
            let opened = opened();
            let mut session = Session::new(&limits, opened, 0);
            session.handle_registered();
            let mut model = HashMap::new();
            for (registration, millis) in told {
                let at = millis.map(|millis| opened_wall() + Duration::from_millis(millis));
                session.handle_expiry(RegistrationKey::new(registration), at);
                model.insert(registration, at);
                let earliest = model.values().flatten().min().copied();
                prop_assert_eq!(session.has_expiry(), earliest.is_some());
                // The first ping is due at ten seconds.
                let left = earliest.and_then(|at: SystemTime| at.duration_since(opened_wall()).ok());
                let due = opened + left.unwrap_or(Duration::from_secs(10));
                let expected = Action::Wait(Some(due));
                prop_assert_eq!(session.clone().poll(&limits, opened, opened_wall(), 0), expected);
                if let Some(at) = earliest {
                    let before = at - Duration::from_nanos(1);
                    prop_assert!(!session.is_expired(before) && session.is_expired(at));
                    let expected = Action::Close(CloseReason::Expired);
                    prop_assert_eq!(session.clone().poll(&limits, opened, at, 0), expected);
                }
            }
        }
    }

    /// Acts until there is a deadline, which must lie ahead; `None` is the end.
    fn settle(
        session: &mut Session,
        limits: &Limits,
        now: Instant,
        wall: SystemTime,
        written: u64,
    ) -> Result<Option<Instant>, TestCaseError> {
        for _ in 0..3 {
            match session.poll(limits, now, wall, written) {
                Action::Wait(Some(deadline)) => {
                    prop_assert!(deadline > now);
                    return Ok(Some(deadline));
                }
                Action::Wait(None) => return Err(TestCaseError::fail("a ping is always due")),
                Action::Ping => {}
                Action::Close(_) => session.handle_closing(limits, now),
                Action::Terminate => return Ok(None),
            }
        }
        Err(TestCaseError::fail("it asks for action again and again"))
    }
}
