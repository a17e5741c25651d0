//! What a push body may be, and that whatever it is not costs little and is told.

use wserver_protocol::frame::Opcode;

use crate::harness::Server;
use crate::raw::{Frame, Raw, Socket, post, push_body};

const MIB: usize = 1024 * 1024;

/// Posts `body`; it must be refused as an illegal request, with `why`, and the connection stays good.
fn check_illegal(raw: &mut Raw, name: &str, body: &[u8], why: &str) {
    raw.send(post(&[], body));
    let answer = raw.answer();
    assert_eq!((answer.status, &*answer.body), (400, "request data illegal"), "{name}: {answer:?}");
    assert!(answer.error().contains(why), "{name}: {answer:?}");
    assert_eq!(raw.push("nobody", "news", "m"), 0, "{name}");
}

#[test]
fn illegal_bodies_are_refused_and_told_why() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    for (name, body, why) in [
        ("nothing", &b""[..], "not a JSON object"),
        ("white space", b" \r\n\t", "not a JSON object"),
        ("a form", b"userId=jack&event=news&message=m", "not a JSON object"),
        ("an array", br#"["jack","news","m"]"#, "not a JSON object"),
        ("a string", br#""jack""#, "not a JSON object"),
        ("null", b"null", "not a JSON object"),
        ("a byte order mark", b"\xef\xbb\xbf{}", "not a JSON object"),
        ("UTF-16", b"\xff\xfe{\0}\0", "not a JSON object"),
        ("an empty object", b"{}", "userId is empty"),
        ("no user", br#"{"event":"news","message":"m"}"#, "userId is empty"),
        ("no event", br#"{"userId":"jack","message":"m"}"#, "event is empty"),
        ("no message", br#"{"userId":"jack","event":"news"}"#, "message is empty"),
        ("an empty user", br#"{"userId":"","event":"news","message":"m"}"#, "userId is empty"),
        ("an empty event", br#"{"userId":"jack","event":"","message":"m"}"#, "event is empty"),
        (
            "an empty message",
            br#"{"userId":"jack","event":"news","message":""}"#,
            "message is empty",
        ),
        (
            "a null message",
            br#"{"userId":"jack","event":"news","message":null}"#,
            "message is empty",
        ),
        (
            "the last one is empty",
            br#"{"userId":"jack","event":"news","message":"m","message":""}"#,
            "message is empty",
        ),
        (
            "a user that is a number",
            br#"{"userId":42,"event":"news","message":"m"}"#,
            "userId must be a string",
        ),
        (
            "an event that is a list",
            br#"{"userId":"jack","event":["news"],"message":"m"}"#,
            "event must be a string",
        ),
        (
            "a message that is an object",
            br#"{"userId":"jack","event":"news","message":{"a":1}}"#,
            "message must be a string",
        ),
        (
            "a message that is true",
            br#"{"userId":"jack","event":"news","message":true}"#,
            "message must be a string",
        ),
        ("cut off", br#"{"userId":"jack","event":"news","message":"m"#, "invalid JSON"),
        ("no colon", br#"{"userId" "jack"}"#, "invalid JSON"),
        ("a comma too many", br#"{"userId":"jack","event":"news","message":"m",}"#, "invalid JSON"),
        ("single quotes", b"{'userId':'jack'}", "invalid JSON"),
        (
            "a line end in a string",
            b"{\"userId\":\"ja\nck\",\"event\":\"news\",\"message\":\"m\"}",
            "invalid JSON",
        ),
        (
            "a lone high surrogate",
            br#"{"userId":"jack","event":"news","message":"\ud834"}"#,
            "invalid JSON",
        ),
        (
            "a lone low surrogate",
            br#"{"userId":"jack","event":"news","message":"\udd1e"}"#,
            "invalid JSON",
        ),
        (
            "surrogates in the wrong order",
            br#"{"userId":"jack","event":"news","message":"\udd1e\ud834"}"#,
            "invalid JSON",
        ),
        (
            "a lone surrogate nobody asked for",
            br#"{"userId":"jack","event":"news","message":"m","x":"\ud834"}"#,
            "invalid JSON",
        ),
        (
            "bad UTF-8 in the message",
            b"{\"userId\":\"jack\",\"event\":\"news\",\"message\":\"\xff\"}",
            "invalid JSON",
        ),
        (
            "bad UTF-8 in a key",
            b"{\"\xc0\xaf\":1,\"userId\":\"jack\",\"event\":\"news\",\"message\":\"m\"}",
            "invalid JSON",
        ),
        (
            "bad UTF-8 nobody asked for",
            b"{\"userId\":\"jack\",\"event\":\"news\",\"message\":\"m\",\"x\":[\"\xed\xa0\x80\"]}",
            "invalid JSON",
        ),
        (
            "a number beyond a double",
            br#"{"x":1e999,"userId":"jack","event":"news","message":"m"}"#,
            "invalid JSON",
        ),
        (
            "not a number",
            br#"{"x":NaN,"userId":"jack","event":"news","message":"m"}"#,
            "invalid JSON",
        ),
    ] {
        check_illegal(&mut raw, name, body, why);
    }
}

#[test]
fn names_beyond_their_limit_are_refused() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    for (user_bytes, event_bytes, why) in [
        (4097, 1, "userId is 4097 bytes long, the limit name_bytes_max is 4096"),
        (1, 4097, "event is 4097 bytes long, the limit name_bytes_max is 4096"),
        (MIB, 1, "userId"),
    ] {
        let body = push_body(&"u".repeat(user_bytes), &"e".repeat(event_bytes), "m");
        check_illegal(&mut raw, why, body.as_bytes(), why);
    }
    assert_eq!(raw.push(&"u".repeat(4096), &"e".repeat(4096), "m"), 0);
}

#[test]
fn bombs_are_refused_at_bounded_cost() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    let before = server.resident_bytes();
    let inside = |piece: &str, front: &str, back: &str| {
        let count = (7 * MIB) / piece.len();
        format!("{front}{}{back}", piece.repeat(count)).into_bytes()
    };
    for (name, body, why) in [
        ("arrays without end", inside("[", r#"{"x":"#, ""), "recursion limit"),
        ("objects without end", inside(r#"{"x":"#, "", ""), "recursion limit"),
        (
            "128 levels",
            format!(r#"{{"x":{}{}}}"#, "[".repeat(128), "]".repeat(128)).into_bytes(),
            "recursion limit",
        ),
        ("a number of seven million digits", inside("9", r#"{"x":"#, "}"), ""),
        ("a fraction of seven million digits", inside("9", r#"{"x":0."#, "}"), ""),
        ("an exponent of seven million digits", inside("9", r#"{"x":1e"#, "}"), ""),
        ("a negative exponent of seven million digits", inside("9", r#"{"x":1e-"#, "}"), ""),
        ("many numbers", inside("1.5e300,", r#"{"x":["#, "0]}"), "userId is empty"),
        ("many keys", inside(r#""k":0,"#, "{", r#""k":0}"#), "userId is empty"),
        ("many users", inside(r#""userId":"jack","#, "{", r#""k":0}"#), "event is empty"),
        ("many escapes", inside(r"\ud834\udd1e", r#"{"x":""#, r#""}"#), "userId is empty"),
        ("a long key", inside("k", "{\"", "\":0}"), "userId is empty"),
        ("white space", inside(" ", "", ""), "not a JSON object"),
        ("line ends, then an error", inside("\n", "{", "x"), "invalid JSON"),
    ] {
        check_illegal(&mut raw, name, &body, why);
    }
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < 64 * MIB as u64, "grew by {growth}");
}

#[test]
fn what_the_contract_allows_is_delivered_verbatim() {
    let server = Server::start();
    let mut listener = Socket::registered(&server, "jack", "news");
    let mut raw = Raw::connect(&server);
    let plain = r#"{"userId":"jack","event":"news","message":"m"}"#;
    // Name, headers, body, and the message that is delivered.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
    let cases: &[Case<'_>] = &[
        ("plain", &[], plain, "m"),
        (
            "a form's content type",
            &[("content-type", "application/x-www-form-urlencoded")],
            plain,
            "m",
        ),
        ("no known content type", &[("content-type", "nonsense")], plain, "m"),
        (
            "another charset, which is not looked at",
            &[("content-type", "application/json; charset=latin1")],
            plain,
            "m",
        ),
        ("keys in capitals", &[], r#"{"USERID":"jack","EVENT":"news","MESSAGE":"m"}"#, "m"),
        (
            "keys as the ancestor's clients send them",
            &[],
            r#"{"userId":"jack","Event":"news","Message":"m"}"#,
            "m",
        ),
        ("an escaped key", &[], r#"{"us\u0065rId":"jack","event":"news","message":"m"}"#, "m"),
        (
            "unknown keys",
            &[],
            r#"{"a":[1,{"b":null}],"userId":"jack","event":"news","message":"m","z":-1.5e-3}"#,
            "m",
        ),
        (
            "the last of three",
            &[],
            r#"{"userId":"jack","event":"news","message":"1","Message":"2","MESSAGE":"m"}"#,
            "m",
        ),
        (
            "the last user",
            &[],
            r#"{"userId":"rose","event":"x","message":"m","event":"news","userId":"jack"}"#,
            "m",
        ),
        (
            "null leaves what was there",
            &[],
            r#"{"userId":"jack","event":"news","message":"m","message":null}"#,
            "m",
        ),
        (
            "a second value behind it",
            &[],
            r#"{"userId":"jack","event":"news","message":"m"}{"userId":"rose"}"#,
            "m",
        ),
        (
            "nonsense behind it",
            &[],
            "{\"userId\":\"jack\",\"event\":\"news\",\"message\":\"m\"}]]]\0",
            "m",
        ),
        (
            "white space around",
            &[],
            "\r\n\t {\"userId\":\"jack\",\"event\":\"news\",\"message\":\"m\"} \n",
            "m",
        ),
        (
            "escapes",
            &[],
            r#"{"userId":"jack","event":"news","message":"\ud834\udd1e \u0000 \" \\ \/ \n"}"#,
            "\u{1d11e} \0 \" \\ / \n",
        ),
        (
            "JSON inside",
            &[],
            r#"{"userId":"jack","event":"news","message":"{\"id\": 7}"}"#,
            r#"{"id": 7}"#,
        ),
        ("spaces are text", &[], r#"{"userId":"jack","event":"news","message":"  "}"#, "  "),
        (
            "127 levels",
            &[],
            &format!(
                r#"{{"x":{}{},"userId":"jack","event":"news","message":"m"}}"#,
                "[".repeat(126),
                "]".repeat(126)
            ),
            "m",
        ),
    ];
    for (name, headers, body, message) in cases {
        raw.send(post(headers, body));
        let answer = raw.answer();
        assert_eq!(answer.body, "message sent to 1 clients", "{name}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{name}");
        assert_eq!(listener.next(), Frame::new(Opcode::Text, message), "{name}");
    }
}
