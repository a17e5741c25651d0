//! Register and push messages, case by case: what is read, and what is refused with which words.

use std::borrow::Cow;

use proptest::prelude::*;
use wserver_protocol::{JsonError, PushError, PushRequest, Register, RegisterError, receipt};

/// Reads a registration as `token|event`, or as the words of its refusal.
fn register(input: &[u8]) -> String {
    match Register::parse(input) {
        Ok(Register { token, event }) => format!("{token}|{event}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_token_of_the_handshake_stands_in_for_one_that_is_missing() {
    for (input, expected) in [
        (&br#"{"token":"t","event":"e"}"#[..], Ok("t")),
        (br#"{"event":"e"}"#, Ok("h")),
        (br#"{"token":"","event":"e"}"#, Ok("h")),
        (br#"{"token":null,"event":"e"}"#, Ok("h")),
        (br#"{"token":"t"}"#, Err("event is empty")),
        (br#"{}"#, Err("event is empty")),
        (br#"{"token":1,"event":"e"}"#, Err("token must be a string")),
        (b"[]", Err("not a JSON object")),
    ] {
        let found = Register::parse_with_token(input, "h").map_err(|error| error.to_string());
        let found = found.as_ref().map(|it| &*it.token).map_err(String::as_str);
        assert_eq!(found, expected, "{}", input.escape_ascii());
    }
    let none = Register::parse_with_token(br#"{"event":"e"}"#, "");
    assert_eq!(none, Err(RegisterError::Empty { field: "token" }));
}

/// Reads a push as `user|event|message`, or as the words of its refusal.
fn push(input: &[u8]) -> String {
    match PushRequest::parse(input) {
        Ok(PushRequest { user_id, event, message }) => format!("{user_id}|{event}|{message}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn registrations() {
    for (input, expected) in [
        (&br#"{"token":"t","event":"e"}"#[..], "t|e"),
        (br#"{"event":"e","token":"t"}"#, "t|e"),
        (b" \t\r\n{ \"token\" : \"t\" ,\n\"event\" : \"e\" } ", "t|e"),
        // Keys in any case, as the ancestor's own clients send them.
        (br#"{"Token":"t","Event":"e"}"#, "t|e"),
        (br#"{"TOKEN":"t","eVENT":"e"}"#, "t|e"),
        ("{\"to\u{212a}en\":\"t\",\"event\":\"e\"}".as_bytes(), "t|e"),
        (br#"{"to\u212aen":"t","\u0065vent":"e"}"#, "t|e"),
        // Escapes.
        (
            br#"{"token":"\"\\\/\b\f\n\r\t\u00e9\ud834\udd1e","event":"e"}"#,
            "\"\\/\u{8}\u{c}\n\r\té𝄞|e",
        ),
        (br#"{"token":"\u0000","event":"\u007f"}"#, "\0|\u{7f}"),
        ("{\"token\":\"\u{feff}ü\",\"event\":\"𝄞\"}".as_bytes(), "\u{feff}ü|𝄞"),
        // Unknown keys and what they hold.
        (br#"{"a":null,"token":"t","b":[1,{"token":"x"}],"event":"e","c":-1.5e3}"#, "t|e"),
        (br#"{"tokens":"x","toke":"x","":"x","token ":"x","token":"t","event":"e"}"#, "t|e"),
        (br#"{"token\u0000":"x","token":"t","event":"e"}"#, "t|e"),
        // Of duplicates the last wins, in any case; null leaves what was there.
        (br#"{"token":"a","token":"b","event":"e"}"#, "b|e"),
        (br#"{"token":"a","TOKEN":"b","event":"e"}"#, "b|e"),
        (br#"{"token":"a","token":null,"event":"e"}"#, "a|e"),
        (br#"{"token":"a","token":"","event":"e"}"#, "token is empty"),
        // Only the first value counts.
        (br#"{"token":"t","event":"e"}{"token":"x"}"#, "t|e"),
        (br#"{"token":"t","event":"e"}}}]]garbage"#, "t|e"),
        (b"{\"token\":\"t\",\"event\":\"e\"}\xff\xfe\x00", "t|e"),
        (br#"{"token":"t"}{"event":"e"}"#, "event is empty"),
        // Empty fields.
        (br#"{}"#, "token is empty"),
        (br#"{"token":"","event":""}"#, "token is empty"),
        (br#"{"token":"t"}"#, "event is empty"),
        (br#"{"token":"t","event":null}"#, "event is empty"),
        (br#"{"event":"e"}"#, "token is empty"),
        // Not an object.
        (b"", "not a JSON object"),
        (b" \n", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\"token\"", "not a JSON object"),
        (b"token=t&event=e", "not a JSON object"),
        (b"\xef\xbb\xbf{\"token\":\"t\",\"event\":\"e\"}", "not a JSON object"),
        (b"\x0b{\"token\":\"t\",\"event\":\"e\"}", "not a JSON object"),
        // Wrong types, also where a good value follows.
        (br#"{"token":1,"event":"e"}"#, "token must be a string"),
        (br#"{"token":"t","event":true}"#, "event must be a string"),
        (br#"{"token":["t"],"event":"e"}"#, "token must be a string"),
        (br#"{"token":{"token":"t"},"event":"e"}"#, "token must be a string"),
        (br#"{"token":1.5,"token":"t","event":"e"}"#, "token must be a string"),
        (br#"{"event":-1,"token":18446744073709551615}"#, "event must be a string"),
        // No JSON; that comes before a wrong type.
        (b"{", "invalid JSON at byte 1: EOF while parsing an object"),
        (br#"{"token"#, "invalid JSON at byte 7: EOF while parsing a string"),
        (br#"{"token":1,"event":}"#, "invalid JSON at byte 20: expected value"),
        (br#"{"token":"t" "event":"e"}"#, "invalid JSON at byte 14: expected `,` or `}`"),
        (b"{\"token\":\"t\",\n\n\"event\":e}", "invalid JSON at byte 24: expected value"),
        (br#"{"token":"t","event":"e",}"#, "invalid JSON at byte 26: trailing comma"),
        (br#"{token:"t"}"#, "invalid JSON at byte 2: key must be a string"),
        (br#"{'token':'t'}"#, "invalid JSON at byte 2: key must be a string"),
        (br#"{"token":"t","event":"e""#, "invalid JSON at byte 24: EOF while parsing an object"),
        (br#"{"token":"\x","event":"e"}"#, "invalid JSON at byte 12: invalid escape"),
        (br#"{"a":01,"token":"t","event":"e"}"#, "invalid JSON at byte 7: invalid number"),
        (br#"{"a":NaN,"token":"t","event":"e"}"#, "invalid JSON at byte 6: expected value"),
        (
            b"{\"token\":\"\n\",\"event\":\"e\"}",
            "invalid JSON at byte 11: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        // UTF-8 and surrogates, in what is asked for, in keys, and in what is ignored.
        (
            b"{\"token\":\"\xff\",\"event\":\"e\"}",
            "invalid JSON at byte 11: invalid unicode code point",
        ),
        (
            b"{\"\xff\":1,\"token\":\"t\",\"event\":\"e\"}",
            "invalid JSON at byte 3: invalid unicode code point",
        ),
        (
            b"{\"a\":\"\xc3\",\"token\":\"t\",\"event\":\"e\"}",
            "invalid JSON at byte 7: invalid unicode code point",
        ),
        (
            b"{\"a\":[\"\xed\xa0\x80\"],\"token\":\"t\",\"event\":\"e\"}",
            "invalid JSON at byte 8: invalid unicode code point",
        ),
        (
            br#"{"token":"\ud834","event":"e"}"#,
            "invalid JSON at byte 17: unexpected end of hex escape",
        ),
        (
            br#"{"token":"\udd1e","event":"e"}"#,
            "invalid JSON at byte 16: lone leading surrogate in hex escape",
        ),
        (
            br#"{"token":"\ud834\u0061","event":"e"}"#,
            "invalid JSON at byte 22: lone leading surrogate in hex escape",
        ),
        (
            br#"{"\ud834":1,"token":"t","event":"e"}"#,
            "invalid JSON at byte 9: unexpected end of hex escape",
        ),
        (
            br#"{"a":{"b":"\udd1e"},"token":"t","event":"e"}"#,
            "invalid JSON at byte 17: lone leading surrogate in hex escape",
        ),
        (br#"{"a":1e999,"token":"t","event":"e"}"#, "invalid JSON at byte 10: number out of range"),
    ] {
        assert_eq!(register(input), expected, "{}", input.escape_ascii());
    }
}

#[test]
fn pushes() {
    for (input, expected) in [
        (&br#"{"userId":"u","event":"e","message":"m"}"#[..], "u|e|m"),
        (br#"{"userId":"u","Event":"e","Message":"m"}"#, "u|e|m"),
        (br#"{"USERID":"u","EVENT":"e","MESSAGE":"m"}"#, "u|e|m"),
        (
            "{\"u\u{17f}erid\":\"u\",\"event\":\"e\",\"me\u{17f}\u{17f}age\":\"m\"}".as_bytes(),
            "u|e|m",
        ),
        (br#"{"userId":"u","event":"e","message":"{\"a\":1}"}"#, "u|e|{\"a\":1}"),
        (br#"{"userId":"u","event":"e","message":"a","message":null,"user_id":"x"}"#, "u|e|a"),
        (br#"{"userId":"u","event":"e","message":"a"} trailing"#, "u|e|a"),
        (br#"{}"#, "userId is empty"),
        (br#"{"userId":"u","event":"","message":"m"}"#, "event is empty"),
        (br#"{"userId":"u","event":"e","message":""}"#, "message is empty"),
        (br#"{"userId":"u","event":"e"}"#, "message is empty"),
        (br#"{"userId":42,"event":"e","message":"m"}"#, "userId must be a string"),
        (br#"{"userId":"u","event":"e","message":{"a":1}}"#, "message must be a string"),
        (br#"[{"userId":"u","event":"e","message":"m"}]"#, "not a JSON object"),
        (b"userId=u", "not a JSON object"),
    ] {
        assert_eq!(push(input), expected, "{}", input.escape_ascii());
    }
}

/// What has no escapes is lent from the input, so a push costs no copy of its message.
#[test]
fn what_has_no_escapes_is_lent() {
    let plain = "{\"userId\":\"ü\",\"event\":\"e\",\"message\":\"𝄞 m\"}";
    let PushRequest { user_id, event, message } = PushRequest::parse(plain.as_bytes()).unwrap();
    for text in [user_id, event, message] {
        assert!(matches!(text, Cow::Borrowed(_)), "{text}");
    }
    let escaped = br#"{"userId":"u","event":"e","message":"a\nb"}"#;
    let message = PushRequest::parse(escaped).unwrap().message;
    assert!(matches!(message, Cow::Owned(_)));
}

/// Each is refused or passed over at a cost that grows with its length and no faster.
#[test]
fn bombs() {
    let fields = r#""userId":"u","event":"e","message":"m""#;
    let deep = "[".repeat(1_000_000);
    let digits = "9".repeat(1_000_000);
    let keys: String = (0..200_000).map(|at| format!("\"k{at}\":0,")).collect();
    let key = "k".repeat(1_000_000);
    let same = r#""message":"\u0061","#.repeat(100_000);
    for (input, expected) in [
        (deep.clone(), "not a JSON object"),
        (format!("{{\"a\":{deep}"), "recursion limit exceeded"),
        (format!("{{\"message\":{deep}"), "recursion limit exceeded"),
        (format!("{{{fields},\"a\":{}", "{\"a\":".repeat(200_000)), "recursion limit exceeded"),
        (format!("{{{fields},\"a\":{digits}}}"), "number out of range"),
        (format!("{{{fields},\"a\":1e{digits}}}"), "number out of range"),
        (format!("{{{fields},\"message\":{digits}}}"), "number out of range"),
        (format!("{{{keys}{fields}}}"), "u|e|m"),
        (format!("{{\"{key}\":\"{key}\",{fields}}}"), "u|e|m"),
        (format!("{{{same}{fields}}}"), "u|e|m"),
    ] {
        let res = push(input.as_bytes());
        assert!(res.ends_with(expected), "{res} for {}...", &input[..60]);
    }
    // The object itself and 126 levels in it.
    let nested = format!("{}{}", "[".repeat(126), "]".repeat(126));
    assert_eq!(push(format!("{{\"a\":{nested},{fields}}}").as_bytes()), "u|e|m");
    assert!(push(format!("{{\"a\":[{nested}],{fields}}}").as_bytes()).contains("recursion limit"));
}

/// Errors may be logged and sent in a header, so they hold nothing that a stranger chose.
#[test]
fn refusals_tell_nothing() {
    for input in [
        &br#"{"token":"hunter2","event":1}"#[..],
        br#"{"token":"hunter2","event":"e" "hunter2""#,
        br#"{"token":"hunter2","hunter2":hunter2}"#,
        b"{\"token\":\"hunter2\n",
        b"hunter2",
    ] {
        let error = Register::parse(input).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
    let register = Register { token: "hunter2".into(), event: "e".into() };
    assert!(!format!("{register:?}").contains("hunter2"));
    let push = PushRequest { user_id: "u".into(), event: "e".into(), message: "hunter2".into() };
    let debug = format!("{push:?}");
    assert_eq!(debug, r#"PushRequest { user_id: "u", event: "e", message_bytes: 7, .. }"#);
}

#[test]
fn refusals_have_types() {
    assert_eq!(Register::parse(b"{}"), Err(RegisterError::Empty { field: "token" }));
    assert_eq!(PushRequest::parse(b"[]"), Err(PushError::Json(JsonError::NotAnObject)));
    assert_eq!(
        PushRequest::parse(br#"{"userId":1}"#),
        Err(JsonError::NotAString { field: "userId" }.into())
    );
}

#[test]
fn receipts() {
    for (clients, body) in [
        (0, "message sent to 0 clients"),
        (1, "message sent to 1 clients"),
        (1000, "message sent to 1000 clients"),
    ] {
        assert_eq!(receipt::sent(clients), body);
        assert_eq!(receipt::parse_sent(body), Some(clients));
        assert_eq!(receipt::parse_sent(&format!("{body}\r\n")), Some(clients));
    }
    for body in [
        "",
        "message sent to  clients",
        "message sent to -1 clients",
        "message sent to +1 clients",
        "message sent to 1 client",
        "message sent to 99999999999999999999999 clients",
        receipt::REQUEST_ILLEGAL,
    ] {
        assert_eq!(receipt::parse_sent(body), None, "{body}");
    }
    assert_eq!(receipt::REQUEST_ILLEGAL, "request data illegal");
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_back(texts in any::<[String; 3]>()) {
        let [user_id, event, message] = texts.map(|text| Cow::<str>::Owned(format!("{text}.")));
        let push = PushRequest { user_id: user_id.clone(), event: event.clone(), message };
        let encoded = push.encode();
        prop_assert_eq!(PushRequest::parse(encoded.as_bytes()), Ok(push));
        let register = Register { token: user_id, event };
        let encoded = register.encode();
        prop_assert_eq!(Register::parse(encoded.as_bytes()), Ok(register));
    }

    /// Nothing a stranger sends makes the words of its refusal unfit for a header.
    #[test]
    fn refusals_fit_into_a_header(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "\\{(\"token\"|\"event\"|[\\[\\]{}:,\"\\\\u0-9ée\n.-]){0,20}".prop_map(String::into_bytes),
        ],
    ) {
        if let Err(error) = Register::parse(&input) {
            let text = error.to_string();
            prop_assert!(text.len() < 120, "{}", text);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", text);
        }
    }
}
