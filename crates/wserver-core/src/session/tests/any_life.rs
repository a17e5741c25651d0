//! A session against random events: it never spins, always ends, and keeps every expiry.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Input {
    Message,
    Ping,
    Pong,
    Registered,
    Expiry(u64, Option<u64>),
    Pass(u64),
    /// The time of the wall clock, in milliseconds relative to the opening.
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
    /// An owner that acts on its results never has to wait for the past, and a session that gets no
    /// more events ends.
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
    /// It closes at the earliest of the newest expiries of all registrations, and not before.
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

/// Acts until there is a deadline, which must be in the future; `None` is the end.
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
            Action::Warn(_) => return Err(TestCaseError::fail("it does not warn")),
            Action::Close(_) => session.handle_closing(limits, now),
            Action::Terminate => return Ok(None),
        }
    }
    Err(TestCaseError::fail("it asks for action again and again"))
}
