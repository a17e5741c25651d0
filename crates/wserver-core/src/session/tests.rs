//! A session in scripts: events, and their results.

mod any_life;

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

/// The time of the wall clock when the socket was opened.
fn opened_wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// Steps are (milliseconds, KiB written so far, what happens, the result). The first ping is due
/// after 10 s, each further one 20 s after the previous. The wall clock runs along, until it is set
/// forward or back by some milliseconds.
type Step = (u64, u64, &'static str, &'static str);

fn check(settings: LimitSettings, script: &[Step]) {
    let limits = settings.build().unwrap();
    let opened = opened();
    let mut session = Session::new(&limits, opened, 0);
    if script.iter().any(|(.., expected)| expected.starts_with("warn")) {
        session = session.with_warnings();
    }
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
                Action::Warn(left) => format!("warn {}", left.as_millis()),
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
    // The expiry comes between two pings, and the warning before it.
    let early = LimitSettings { register_timeout: Duration::from_secs(15), ..limits() };
    check(
        early,
        &[
            (0, 0, "poll", "wait until 10000"),
            (10_000, 0, "poll", "ping"),
            (10_000, 0, "poll", "wait until 15000"),
            (11_000, 0, "pong", "ok"),
            (11_000, 0, "poll", "wait until 15000"),
            (15_000, 0, "poll", "close not_registered"),
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

/// Once for each expiry that comes next: 30 s before, or when half of a shorter time has passed.
#[test]
fn a_session_that_warns_does_so_before_each_expiry() {
    let quiet = LimitSettings { ping_interval: Duration::from_secs(1000), ..limits() };
    check(
        quiet,
        &[
            (0, 0, "registered", "ok"),
            (0, 0, "expires 1 100000", "ok"),
            (0, 0, "poll", "wait until 70000"),
            (69_999, 0, "poll", "wait until 70000"),
            (70_000, 0, "poll", "warn 30000"),
            (70_000, 0, "poll", "wait until 100000"),
            (80_000, 0, "expires 1 100000", "ok"),
            (80_000, 0, "poll", "wait until 100000"),
            // Renewed for a short time.
            (80_000, 0, "expires 1 120000", "ok"),
            (80_000, 0, "poll", "wait until 100000"),
            (105_000, 0, "poll", "warn 15000"),
            // Another one is the next now.
            (106_000, 0, "expires 2 110000", "ok"),
            (106_000, 0, "poll", "wait until 108000"),
            (108_000, 0, "poll", "warn 2000"),
            (109_000, 0, "expires 2 never", "ok"),
            (109_000, 0, "poll", "wait until 114500"),
            (110_000, 0, "expires 1 never", "ok"),
            (110_000, 0, "poll", "wait until 500000"),
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
            // The newest expiry counts, even if it is earlier.
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
    // A start without a correct clock: the token counts for days, until the clock is corrected.
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
            // Woken by the deadline that it returned before.
            (5_000, 0, "poll", "wait until 10000"),
            (10_000, 0, "poll", "ping"),
            (11_000, 0, "pong", "ok"),
            (11_000, 0, "poll", "wait until 30000"),
        ],
    );
    // Times before 1970, and expiries beyond the largest number, break nothing.
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
        .map(|id| match Session::new(&limits, opened, id).poll(&limits, opened, opened_wall(), 0) {
            Action::Wait(Some(at)) => at - opened,
            other => panic!("{other:?}"),
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
