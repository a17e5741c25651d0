//! Which close codes may go on the wire (RFC 6455, section 7.4), and how a Close is built.

use std::ops::ControlFlow;

use wserver_protocol::frame::{self, Opcode};
use wserver_protocol::{CloseCode, DecodeLimits, Decoder, Role};

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
        (CloseCode::RESTART, 1012),
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

/// Each stream as a whole and byte by byte: behind what was refused, or what nobody wants any more,
/// a Close of the peer is still found, and nothing but it is taken for one.
#[test]
fn a_close_is_found_behind_whatever_was_refused() {
    let close = frame::masked(Opcode::Close, b"\x03\xe8bye", [1, 2, 3, 4]);
    let ping = frame::masked(Opcode::Ping, b"\x88\x80\0\0\0\0", [0; 4]);
    let refused: [&[u8]; 8] = [
        b"\xc1\x83\0\0\0\0abc",
        b"\x83\x80\0\0\0\0",
        b"\x81\x03abc",
        b"\x89\xfe\x00\x03\0\0\0\0abc",
        b"\x82\xff\0\0\0\0\0\0\0\x02\0\0\0\0ab",
        b"\x81\x83\0\0\0\0a\xffb",
        b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0b",
        b"\x82\x82\0\0\0\0ab",
    ];
    let limits = DecodeLimits { message_bytes_max: 3, ..LIMITS };
    for (number, refused) in refused.iter().enumerate() {
        let stream = [refused, &ping[..], &close].concat();
        for size in [1, 2, stream.len()] {
            let mut decoder = Decoder::new(Role::Server);
            let mut read = 0;
            for chunk in stream.chunks(size) {
                assert!(!decoder.is_closed(), "case {number} in {size}s, after {read}");
                read += chunk.len();
                let mut chunk = chunk.to_vec();
                if decoder.is_ended() || number == refused.len() - 1 {
                    decoder.pass_over(&chunk);
                } else if decoder
                    .decode(&limits, &mut chunk, |_| ControlFlow::Continue(()))
                    .is_err()
                {
                    assert!(decoder.is_ended());
                }
            }
            assert!(decoder.is_closed(), "case {number} in {size}s");
        }
    }
}

/// A Close that is refused itself, or that had begun when nobody wanted more, is a goodbye, too.
#[test]
fn a_close_that_is_refused_has_come() {
    for close in [&b"\x88\x81\0\0\0\0a"[..], b"\x88\x82\0\0\0\0\x03\xec", b"\x88\x00"] {
        let mut decoder = Decoder::new(Role::Server);
        let res = decoder.decode(&LIMITS, &mut close.to_vec(), |_| ControlFlow::Continue(()));
        assert!(res.is_err() && decoder.is_closed(), "{close:?}");
        for at in 0..close.len() {
            let mut decoder = Decoder::new(Role::Server);
            let mut begun = close[..at].to_vec();
            let _ = decoder.decode(&LIMITS, &mut begun, |_| ControlFlow::Continue(()));
            assert!(!decoder.is_closed() && decoder.pass_over(&close[at..]), "{close:?} at {at}");
        }
    }
}
