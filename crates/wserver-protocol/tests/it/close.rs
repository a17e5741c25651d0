//! Which close codes may go on the wire (RFC 6455, section 7.4), and how a Close is built.

use wserver_protocol::{CloseCode, Role, frame};

use crate::{Event, LIMITS, decode};

#[test]
fn every_number_is_a_code_or_not() {
    for code in 0..=u16::MAX {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        assert_eq!(CloseCode::new(code).map(CloseCode::as_u16), allowed.then_some(code));
    }
}

#[test]
fn the_named_codes_are_codes() {
    for (code, number) in [
        (CloseCode::NORMAL, 1000),
        (CloseCode::GOING_AWAY, 1001),
        (CloseCode::PROTOCOL, 1002),
        (CloseCode::UNSUPPORTED, 1003),
        (CloseCode::INVALID_PAYLOAD, 1007),
        (CloseCode::POLICY, 1008),
        (CloseCode::TOO_BIG, 1009),
        (CloseCode::INTERNAL, 1011),
        (CloseCode::TRY_AGAIN_LATER, 1013),
    ] {
        assert_eq!(CloseCode::new(number), Some(code));
        assert_eq!(u16::from(code), number);
        assert_eq!(code.to_string(), number.to_string());
    }
}

#[test]
fn a_reason_is_cut_at_a_character() {
    for (reason, kept) in [
        (String::new(), 0),
        ("a".repeat(123), 123),
        ("a".repeat(124), 123),
        ("ä".repeat(62), 122),
        ("𝄞".repeat(31), 120),
        ("a".repeat(100_000), 123),
    ] {
        let frame = frame::close(CloseCode::POLICY, &reason);
        let (events, res) = decode(Role::Client, &LIMITS, [&frame[..]]);
        assert_eq!(events, [Event::Close(Some((1008, reason[..kept].to_owned())))]);
        assert!(res.unwrap().is_ended());
    }
}
