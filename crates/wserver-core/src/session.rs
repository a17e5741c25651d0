//! The life of one WebSocket as a state machine: heartbeats, deadlines, the flood limit.
//!
//! When something has happened, call a `handle_*`. To learn what to do now, call [`Session::poll`].
//! It knows no socket, no clock and no frame, and does not decide what is sent.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant, SystemTime};

use crate::expiries::Expiries;
use crate::rate::Rate;
use crate::{CloseReason, Limits, RegistrationKey};

/// Bytes written for which a pong may take one second longer, since the ping waits behind them.
const BYTES_PER_SECOND_OF_PATIENCE: u64 = 32 * 1024;

/// The longest wait for a pong, unless `pong_timeout` itself is longer.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// How long before an expiry a session with warnings warns, unless the identity is valid for less
/// than twice as long.
const WARNING_MAX: Duration = Duration::from_secs(30);

/// What the owner of a [`Session`] must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing until then, or until something happens; `None` means for ever.
    Wait(Option<Instant>),
    /// Send a ping. The session counts it as sent.
    Ping,
    /// Warn the peer that a registration expires after this time. Only sessions with warnings ask
    /// for it, once for each expiry that comes next.
    Warn(Duration),
    /// Send a Close, tell the session by [`handle_closing`](Session::handle_closing).
    Close(CloseReason),
    /// The time for the peer's own Close has passed: end the socket.
    Terminate,
}

/// One WebSocket from its upgrade to its end.
///
/// It is small, has no clock, and allocates nothing unless a registration expires. Each call gets
/// the time and the limits, and all calls but [`handle_expiry`](Self::handle_expiry) are O(1).
/// Times count in nanoseconds since the socket was opened. Only expiries are moments of the wall
/// clock; because that clock may be set at any time, they stay such moments and are compared at
/// each poll.
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
/// // Nothing was registered in time.
/// let late = opened + limits.register_timeout;
/// assert_eq!(session.poll(&limits, late, wall, 0), Action::Close(CloseReason::NotRegistered));
/// session.handle_closing(&limits, late);
/// assert_eq!(session.poll(&limits, late, wall, 0), Action::Wait(Some(late + limits.close_timeout)));
/// assert_eq!(session.poll(&limits, late + limits.close_timeout, wall, 0), Action::Terminate);
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    opened: Instant,
    liveness: Liveness,
    registered: Registered,
    /// Whether to warn the peer before a registration expires.
    warns: bool,
    /// The registrations that expire, if any do.
    expiries: Option<Box<Expiries>>,
    /// When the bucket for the peer's messages is full again.
    bucket_full: u64,
    /// Bytes the socket had taken when the last pong came.
    written_at_pong: u64,
    /// The time that `liveness` refers to.
    at: u64,
}

/// What `at` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Liveness {
    /// The next ping is due at `at`.
    Alive,
    /// A ping was sent and no pong has come; `at` is the last sign of life, or else the time of
    /// that ping.
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
    /// `spread` places the first ping within the second half of the first interval, so that sockets
    /// that were opened together are not pinged together. It can be a random or a running number,
    /// because it is mixed.
    #[must_use]
    pub fn new(limits: &Limits, now: Instant, spread: u32) -> Self {
        let interval = nanos(limits.ping_interval);
        let share = u128::from(spread.wrapping_mul(0x9E37_79B9));
        let part = (u128::from(interval / 2) * share) >> 32;
        // The share is below one, so the part is below half of the interval.
        let part = u64::try_from(part).unwrap_or_default();
        Self {
            opened: now,
            liveness: Liveness::Alive,
            registered: Registered::NotYet,
            warns: false,
            expiries: None,
            bucket_full: 0,
            written_at_pong: 0,
            at: (interval - interval / 2).saturating_add(part),
        }
    }

    /// The same with warnings before a registration expires.
    #[must_use]
    pub const fn with_warnings(mut self) -> Self {
        self.warns = true;
        self
    }

    /// A whole text or binary message came: a sign of life.
    ///
    /// # Errors
    /// [`CloseReason::Flood`] if the peer exceeds its allowance; ignore the message, and close the
    /// connection.
    pub fn handle_message(&mut self, limits: &Limits, now: Instant) -> Result<(), CloseReason> {
        self.take_token(limits, now)?;
        if self.liveness == Liveness::Pinged {
            // The pong is still owed, and no second ping is sent before it; the peer gets the whole
            // time for it again.
            self.at = self.nanos_at(now);
        }
        Ok(())
    }

    /// The owner has stopped reading for a reason of its own: silence says nothing about the peer,
    /// which gets the whole time for its pong again.
    pub fn handle_paused(&mut self, now: Instant) {
        if self.liveness == Liveness::Pinged {
            self.at = self.nanos_at(now);
        }
    }

    /// A ping came. It is not a sign of life, because a peer that only pings may not read.
    ///
    /// # Errors
    /// [`CloseReason::Flood`] as for a message.
    pub fn handle_ping(&mut self, limits: &Limits, now: Instant) -> Result<(), CloseReason> {
        self.take_token(limits, now)
    }

    /// A pong came, solicited or not: a sign of life. `bytes_written` as in [`Self::poll`].
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
        if self.liveness == Liveness::Pinged {
            self.liveness = Liveness::Alive;
            self.at = self.at.saturating_add(nanos(limits.ping_interval));
        }
        Ok(())
    }

    /// Something was registered, so the register deadline no longer counts.
    pub const fn handle_registered(&mut self) {
        self.registered = Registered::Yes;
    }

    /// A registration was made or renewed, with an identity that expires at this time of the wall
    /// clock; `None` means never.
    ///
    /// Each registration has the expiry of its newest identity, and the session closes at the first
    /// expiry, so that a connection never has only some of its registrations. It lives on if each
    /// is renewed in time. O(registrations that expire).
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

    /// Whether any registration expires, so that the owner must report each further one.
    #[must_use]
    pub const fn has_expiry(&self) -> bool {
        self.expiries.is_some()
    }

    /// How long the first registration to expire is still valid at this time of the wall clock.
    #[must_use]
    pub fn expires_in(&self, wall: SystemTime) -> Option<Duration> {
        let expires = self.expiries.as_ref()?.earliest()?;
        Some(Duration::from_nanos(expires.saturating_sub(since_1970(wall))))
    }

    /// Whether a registration has expired at this time of the wall clock.
    #[must_use]
    pub fn is_expired(&self, wall: SystemTime) -> bool {
        since_1970(wall) >= self.expires()
    }

    /// Our Close is queued. From now on only the close deadline counts, and only the first one
    /// given.
    pub fn handle_closing(&mut self, limits: &Limits, now: Instant) {
        if self.liveness != Liveness::Closing {
            self.at = self.nanos_at(now).saturating_add(nanos(limits.close_timeout));
            self.liveness = Liveness::Closing;
        }
    }

    /// What to do now. `wall` is the time of the wall clock, `bytes_written` the bytes that the
    /// socket has taken since it was opened.
    ///
    /// Call it after each `handle_*`, and at the deadline that it returned last. A late call only
    /// delays what was due. After you have acted on [`Action::Ping`] or [`Action::Close`], the next
    /// deadline is later than `now`.
    ///
    /// A deadline is never later than the next ping or the end of the wait for its pong. So if the
    /// wall clock is set forward past an expiry, that is noticed at this point; if it is set back,
    /// the deadline of an expiry is only early.
    pub fn poll(
        &mut self,
        limits: &Limits,
        now: Instant,
        wall: SystemTime,
        bytes_written: u64,
    ) -> Action {
        let now = self.nanos_at(now);
        if self.liveness == Liveness::Closing {
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
        let until_warning = match &mut self.expiries {
            Some(expiries) if self.warns => {
                expiries.until_warning(since_1970(wall), until_expiry, nanos(WARNING_MAX))
            }
            _ => None,
        };
        if until_warning == Some(0) {
            return Action::Warn(Duration::from_nanos(until_expiry));
        }
        let until_wall = until_warning.unwrap_or(until_expiry);
        let heartbeat = match self.liveness {
            Liveness::Pinged => {
                let silent = self.at.saturating_add(self.patience(limits, bytes_written));
                if now >= silent {
                    return Action::Close(CloseReason::Silent);
                }
                silent
            }
            Liveness::Alive | Liveness::Closing => {
                if now >= self.at {
                    self.liveness = Liveness::Pinged;
                    self.at = now;
                    return Action::Ping;
                }
                self.at
            }
        };
        self.wait(heartbeat.min(register_by).min(now.saturating_add(until_wall)))
    }

    /// When the first registration expires, counted from 1970.
    fn expires(&self) -> u64 {
        self.expiries.as_ref().and_then(|expiries| expiries.earliest()).unwrap_or(NEVER)
    }

    /// How long to wait for a pong. It grows as the socket takes more bytes meanwhile, up to its
    /// maximum, so a deadline may be too early but never too late.
    fn patience(&self, limits: &Limits, bytes_written: u64) -> u64 {
        let bytes = bytes_written.saturating_sub(self.written_at_pong);
        let more = Duration::from_secs(bytes / BYTES_PER_SECOND_OF_PATIENCE);
        let most = limits.pong_timeout.max(PATIENCE_MAX);
        nanos(limits.pong_timeout.saturating_add(more).min(most))
    }

    fn take_token(&mut self, limits: &Limits, now: Instant) -> Result<(), CloseReason> {
        if self.liveness == Liveness::Closing {
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
