//! Every way in which a stream of frames can be wrong, with the close code it earns.

use wserver_protocol::{DecodeError, DecodeLimits, Role};

use crate::{Event, LIMITS, decode};

/// Masked with the zero key, so that payloads can be read in the cases.
const KEY: [u8; 4] = [0; 4];

/// One stream: what it is, who reads it, its bytes, why it is refused, and the code of that.
type Case = (&'static str, Role, Vec<u8>, DecodeError, u16);

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("payloads of cases are short");
    assert!(len < 126);
    [&[first, 0x80 | len], &KEY[..], payload].concat()
}

/// A text frame of `len` bytes of which only `payload` has arrived.
fn begun(len: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x81, 0x80 | len], &KEY[..], payload].concat()
}

fn cases() -> Vec<Case> {
    use DecodeError as E;
    use Role::{Client, Server};
    let mut cases: Vec<Case> = vec![
        ("rsv1", Server, vec![0xc1], E::ReservedBit, 1002),
        ("rsv2", Server, vec![0xa1], E::ReservedBit, 1002),
        ("rsv3", Server, vec![0x91], E::ReservedBit, 1002),
        ("rsv1 on a ping", Server, vec![0xc9], E::ReservedBit, 1002),
        ("fragmented ping", Server, vec![0x09], E::ControlFragmented, 1002),
        ("fragmented pong", Server, vec![0x0a], E::ControlFragmented, 1002),
        ("fragmented close", Server, vec![0x08], E::ControlFragmented, 1002),
        ("ping of 126", Server, vec![0x89, 0xfe], E::ControlTooLong, 1002),
        ("pong of 126", Server, vec![0x8a, 0xfe], E::ControlTooLong, 1002),
        ("close of 126", Server, vec![0x88, 0xfe], E::ControlTooLong, 1002),
        ("ping of 64-bit length", Server, vec![0x89, 0xff], E::ControlTooLong, 1002),
        ("client does not mask", Server, vec![0x81, 0x01], E::NotMasked, 1002),
        ("client does not mask a close", Server, vec![0x88, 0x00], E::NotMasked, 1002),
        ("server masks", Client, vec![0x81, 0x81], E::Masked, 1002),
        ("continuation first", Server, vec![0x80], E::ContinuationUnexpected, 1002),
        ("open continuation first", Server, vec![0x00], E::ContinuationUnexpected, 1002),
        (
            "continuation after a whole message",
            Server,
            [masked(0x81, b"a"), vec![0x80]].concat(),
            E::ContinuationUnexpected,
            1002,
        ),
        (
            "text inside a text",
            Server,
            [masked(0x01, b"a"), vec![0x81]].concat(),
            E::ContinuationExpected,
            1002,
        ),
        (
            "binary inside a text",
            Server,
            [masked(0x01, b"a"), vec![0x02]].concat(),
            E::ContinuationExpected,
            1002,
        ),
        (
            "text inside a binary, behind a ping",
            Server,
            [masked(0x02, b"a"), masked(0x89, b"p"), vec![0x01]].concat(),
            E::ContinuationExpected,
            1002,
        ),
        ("125 in 16 bits", Server, vec![0x82, 0xfe, 0, 125], E::LengthNotShortest, 1002),
        ("0 in 16 bits", Server, vec![0x82, 0xfe, 0, 0], E::LengthNotShortest, 1002),
        (
            "65535 in 64 bits",
            Server,
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            E::LengthNotShortest,
            1002,
        ),
        (
            "0 in 64 bits",
            Server,
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
            E::LengthNotShortest,
            1002,
        ),
        ("close of one byte", Server, masked(0x88, &[3]), E::CloseTruncated, 1002),
        ("close reason not UTF-8", Server, masked(0x88, b"\x03\xe8\xff"), E::NotUtf8, 1007),
        ("close reason cut off", Server, masked(0x88, b"\x03\xe8\xc3"), E::NotUtf8, 1007),
        ("text not UTF-8", Server, masked(0x81, b"a\xff"), E::NotUtf8, 1007),
        ("text cut off", Server, masked(0x81, b"a\xc3"), E::NotUtf8, 1007),
        ("text with a surrogate", Server, begun(3, b"\xed\xa0"), E::NotUtf8, 1007),
        ("text beyond U+10FFFF", Server, begun(4, b"\xf4\x90"), E::NotUtf8, 1007),
        ("overlong text", Server, begun(2, b"\xc0"), E::NotUtf8, 1007),
        (
            "text cut off over fragments",
            Server,
            [masked(0x01, b"a\xc3"), masked(0x80, b"")].concat(),
            E::NotUtf8,
            1007,
        ),
        (
            "a fragment not UTF-8, the message not at its end",
            Server,
            masked(0x01, b"\xff"),
            E::NotUtf8,
            1007,
        ),
        (
            "a byte not UTF-8, the frame not at its end",
            Server,
            begun(100, b"\xce\xba\xe1\xbd\xb9\xf4\x90"),
            E::NotUtf8,
            1007,
        ),
        (
            "length 2^63",
            Server,
            vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0],
            E::MessageTooLong,
            1009,
        ),
        (
            "length 2^64 - 1",
            Server,
            [&[0x82, 0xff][..], &[0xff; 8]].concat(),
            E::MessageTooLong,
            1009,
        ),
        (
            "length 2^63 - 1",
            Server,
            vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            E::MessageTooLong,
            1009,
        ),
        (
            "a byte too long, before its mask",
            Server,
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1],
            E::MessageTooLong,
            1009,
        ),
        (
            "a byte too long over fragments",
            Server,
            [masked(0x02, b"a"), vec![0x80, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0]].concat(),
            E::MessageTooLong,
            1009,
        ),
    ];
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.push(("reserved opcode", Server, vec![0x80 | opcode], E::ReservedOpcode, 1002));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
        let payload = [&code.to_be_bytes()[..], b"why"].concat();
        cases.push(("close code", Server, masked(0x88, &payload), E::CloseCodeInvalid(code), 1002));
    }
    cases
}

/// Each stream is refused for its reason, whole or byte by byte, after what was before it was
/// delivered, and what follows changes nothing.
#[test]
fn refused_for_the_right_reason() {
    for (what, role, bytes, error, code) in cases() {
        let greeting = match role {
            Role::Server => masked(0x82, b"before"),
            Role::Client => [&[0x82, 6], &b"before"[..]].concat(),
        };
        let stream = [&greeting[..], &bytes, &[0xff; 40]].concat();
        for chunk in [1, 2, 3, 7, stream.len()] {
            let (events, res) = decode(role, &LIMITS, stream.chunks(chunk));
            let refusal = res.map(|_| ()).unwrap_err();
            assert_eq!(refusal, error, "{what}, in chunks of {chunk}");
            assert_eq!(refusal.close_code().as_u16(), code, "{what}");
            assert_eq!(events[0], Event::Binary(b"before".to_vec()), "{what}");
        }
        // Not a byte more is needed than the case gives.
        let (_, res) = decode(role, &LIMITS, [&bytes[..]]);
        assert_eq!(res.map(|_| ()), Err(error), "{what}, alone");
        // And it is the last one that tells.
        let (_, res) = decode(role, &LIMITS, [&bytes[..bytes.len() - 1]]);
        assert!(res.is_ok(), "{what}, without its last byte");
    }
}

/// Counters and logs know a refusal by its label.
#[test]
fn each_refusal_has_its_label() {
    use DecodeError as E;
    for (error, label) in [
        (E::ReservedBit, "reserved_bit"),
        (E::ReservedOpcode, "reserved_opcode"),
        (E::ControlFragmented, "control_fragmented"),
        (E::ControlTooLong, "control_too_long"),
        (E::ContinuationUnexpected, "continuation_unexpected"),
        (E::ContinuationExpected, "continuation_expected"),
        (E::NotMasked, "not_masked"),
        (E::Masked, "masked"),
        (E::LengthNotShortest, "length_not_shortest"),
        (E::CloseTruncated, "close_truncated"),
        (E::CloseCodeInvalid(1005), "close_code_invalid"),
        (E::NotUtf8, "not_utf8"),
        (E::MessageTooLong, "message_too_long"),
        (E::TooManyFragments, "too_many_fragments"),
    ] {
        assert_eq!(error.as_str(), label);
    }
}

#[test]
fn texts_of_refusals_fit_into_a_header() {
    for (_, _, _, error, _) in cases() {
        let text = error.to_string();
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        assert_eq!(text.chars().next().map(|c| c.is_ascii_lowercase()), Some(true), "{text}");
    }
}

#[test]
fn limits_hold_to_the_byte_and_to_the_frame() {
    let limits = DecodeLimits { message_bytes_max: 6, fragments_max: 3 };
    let ok = Ok(());
    let long = Err(DecodeError::MessageTooLong);
    let many = Err(DecodeError::TooManyFragments);
    for (what, stream, expected) in [
        ("six bytes", masked(0x81, b"abcdef"), ok),
        ("seven bytes", masked(0x81, b"abcdefg"), long),
        (
            "six in three",
            [masked(0x01, b"abc"), masked(0x00, b"de"), masked(0x80, b"f")].concat(),
            ok,
        ),
        ("seven in two", [masked(0x01, b"abcdef"), masked(0x80, b"g")].concat(), long),
        (
            "two messages of six",
            [masked(0x81, b"abcdef"), masked(0x02, b"abc"), masked(0x80, b"def")].concat(),
            ok,
        ),
        (
            "empty fragments",
            [masked(0x01, b""), masked(0x00, b""), masked(0x00, b""), masked(0x80, b"")].concat(),
            many,
        ),
        (
            "pings between fragments count nothing",
            [
                masked(0x01, b"abc"),
                masked(0x89, b"0123456789"),
                masked(0x00, b""),
                masked(0x8a, b"0123456789"),
                masked(0x89, b""),
                masked(0x80, b"def"),
            ]
            .concat(),
            ok,
        ),
    ] {
        for chunk in [1, stream.len()] {
            let (_, res) = decode(Role::Server, &limits, stream.chunks(chunk));
            assert_eq!(res.map(|_| ()), expected, "{what}, in chunks of {chunk}");
        }
    }
    let none = DecodeLimits { message_bytes_max: 0, fragments_max: 1 };
    let (events, res) = decode(Role::Server, &none, [&masked(0x81, b"")[..]]);
    assert!(res.is_ok());
    assert_eq!(events, [Event::Text(String::new())]);
}

/// A flood of empty fragments ends at the limit, whatever its length.
#[test]
fn a_flood_of_empty_fragments_ends() {
    let fragment = masked(0x00, b"");
    let stream = [masked(0x01, b""), fragment.repeat(100_000)].concat();
    let (events, res) = decode(Role::Server, &LIMITS, stream.chunks(4096));
    assert_eq!(events, []);
    assert_eq!(res.map(|_| ()), Err(DecodeError::TooManyFragments));
}
