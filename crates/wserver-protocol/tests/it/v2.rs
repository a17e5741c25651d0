//! The HTTP API's bodies: what is read, and what is said of what is not.

use std::time::Duration;

use proptest::prelude::*;
use wserver_protocol::v2::{
    Batch, BatchAnswer, Disconnect, LIST_ITEMS_MAX, Presence, Problem, Push, PushAnswer, Reason,
    Recipients, Registration,
};

/// What is said of a body, with the field in front.
fn push(body: &str) -> Result<Push<'_>, String> {
    Push::parse(body.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn a_push_is_read_as_it_is_written() {
    let mut push = Push::new(Recipients::User("jack".into()), "news", "line\n\"two\"");
    assert_eq!(push.encode(), r#"{"user":"jack","event":"news","message":"line\n\"two\""}"#);
    assert_eq!(Push::parse(push.encode().as_bytes()).unwrap(), push);
    push.recipients = Recipients::Users(vec!["jack".into(), "jill".into()]);
    push.ttl = Some(Duration::from_millis(1500));
    push.exclude_connection = Some("7".into());
    assert_eq!(Push::parse(push.encode().as_bytes()).unwrap(), push);
    push.recipients = Recipients::Everyone;
    assert_eq!(Push::parse(push.encode().as_bytes()).unwrap(), push);
    assert!(!format!("{push:?}").contains("two"), "{push:?}");
}

#[test]
fn what_is_wrong_with_a_push_is_named() {
    for (body, expected) in [
        ("", "the body must be a JSON object"),
        ("{", "the body is not JSON, at byte 1: EOF while parsing an object"),
        (r#"["a","e","m"]"#, "the body must be a JSON object"),
        ("\"canary\"", "the body must be a JSON object"),
        ("null", "the body must be a JSON object"),
        (
            r#"{"user":"a","event":"e","message":"m"} x"#,
            "the body is not JSON, at byte 40: trailing characters",
        ),
        (r#"{"event":"e","message":"m"}"#, "the body must have one of user, users and everyone"),
        (
            r#"{"user":"a","everyone":true,"event":"e","message":"m"}"#,
            "the body may have only one of user, users and everyone",
        ),
        (r#"{"everyone":false,"event":"e","message":"m"}"#, "everyone must be true, or left out"),
        (r#"{"users":[],"event":"e","message":"m"}"#, "users is empty"),
        (r#"{"user":"a","message":"m"}"#, "event is missing"),
        (r#"{"user":"a","event":"e"}"#, "message is missing"),
        (r#"{"user":"a","event":"","message":"m"}"#, "event is empty"),
        (r#"{"user":"a","event":"e","message":""}"#, "message is empty"),
        (r#"{"user":null,"event":"e","message":"m"}"#, "user must be a string, at byte 12"),
        (r#"{"user":"a","event":"e","message":null}"#, "message must be a string, at byte 38"),
        (
            r#"{"user":"a","event":"e","message":{"canary":1}}"#,
            "message must be a string, at byte 34",
        ),
        (
            r#"{"users":"canary","event":"e","message":"m"}"#,
            "users must be a list of at most 65536 items, at byte 17",
        ),
        (
            r#"{"users":["a",42],"event":"e","message":"m"}"#,
            "users[1] must be a string, at byte 16",
        ),
        (
            r#"{"User":"a","event":"e","message":"m"}"#,
            "User is no field here, at byte 7: expected one of user, users, everyone, event, message, ttl_seconds, exclude_connection",
        ),
        (r#"{"user":"a","user":"b","event":"e","message":"m"}"#, "user comes twice, at byte 18"),
        (
            r#"{"user":"a","event":"e","message":"m","ttl_seconds":"canary"}"#,
            "ttl_seconds must be a number, at byte 60",
        ),
        (
            r#"{"user":"a","event":"e","message":"m","ttl_seconds":0}"#,
            "ttl_seconds must be more than 0 and at most a year",
        ),
        (
            r#"{"user":"a","event":"e","message":"m","ttl_seconds":1e300}"#,
            "ttl_seconds must be more than 0 and at most a year",
        ),
        (
            r#"{"user":"a","event":"e","message":"m","exclude_connection":7}"#,
            "exclude_connection must be a string, at byte 60",
        ),
    ] {
        let error = push(body).expect_err(body);
        assert_eq!(error, expected, "{body}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn an_error_is_one_line_of_bounded_length() {
    let long = format!(r#"{{"{}\n\u0000":1}}"#, "ö".repeat(5000));
    let error = push(&long).unwrap_err();
    assert!(
        error.len() < 400 && error.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
        "{error}"
    );
}

#[test]
fn a_bad_push_of_a_batch_spoils_no_other() {
    let body = br#"{"pushes":[{"user":"a","event":"e","message":"m"},{"user":"a"},7,{"everyone":true,"event":"e","message":"m","x":{}}]}"#;
    let batch = Batch::parse(body).unwrap();
    let shown: Vec<String> = batch
        .pushes()
        .map(|push| push.map_or_else(|error| error.to_string(), |push| push.event))
        .collect();
    assert_eq!(
        shown,
        [
            "e",
            "pushes[1].event is missing",
            "pushes[2] must be a JSON object",
            "pushes[3].x is no field here, at byte 46: expected one of user, users, everyone, event, message, ttl_seconds, exclude_connection",
        ]
    );
    for (body, expected) in [
        ("{}", "pushes is missing"),
        (r#"{"pushes":{}}"#, "pushes must be a list of at most 65536 items, at byte 10"),
        (r#"{"pushes":[{]}"#, "the body is not JSON, at byte 13: key must be a string"),
    ] {
        assert_eq!(Batch::parse(body.as_bytes()).unwrap_err().to_string(), expected, "{body}");
    }
}

#[test]
fn lists_are_bounded_whatever_is_in_them() {
    let list = |count: usize| format!(r#"{{"users":[{}""]}}"#, r#""","#.repeat(count - 1));
    assert_eq!(
        Presence::parse(list(LIST_ITEMS_MAX).as_bytes()).unwrap().users.len(),
        LIST_ITEMS_MAX
    );
    let error = Presence::parse(list(LIST_ITEMS_MAX + 1).as_bytes()).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("users"));
    assert!(error.to_string().contains("at most 65536"), "{error}");
}

#[test]
fn a_disconnect_means_one_thing() {
    for disconnect in [
        Disconnect::User("jack".into()),
        Disconnect::UserEvent { user: "jack".into(), event: "news".into() },
        Disconnect::Connection("7".into()),
        Disconnect::Token("canary".into()),
    ] {
        assert_eq!(Disconnect::parse(disconnect.encode().as_bytes()), Ok(disconnect.clone()));
        assert!(!format!("{disconnect:?}").contains("canary"), "{disconnect:?}");
    }
    for body in [
        "{}",
        r#"{"event":"canary"}"#,
        r#"{"token":"canary","user":"canary"}"#,
        r#"{"token":"canary","event":"canary"}"#,
        r#"{"token":""}"#,
        r#"{"token":["canary"]}"#,
        r#"{"token":12345678}"#,
        r#"{"connection":7}"#,
        r#"{"token":"canary","token":"canary"}"#,
        r#"{"token":"canary"}}"#,
    ] {
        let error = Disconnect::parse(body.as_bytes()).expect_err(body).to_string();
        assert!(!error.contains("canary") && !error.contains("12345678"), "{body}: {error}");
    }
}

#[test]
fn registrations_are_read() {
    let registration = Registration { user: "jack".into(), event: "news".into() };
    let body = wserver_protocol::v2::encode(&registration);
    assert_eq!(Registration::parse(body.as_bytes()), Ok(registration));
    let error = Registration::parse(br#"{"user":"jack","events":["news"]}"#).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("events"));
}

/// A client outlives what a later server adds.
#[test]
fn answers_are_read_leniently() {
    let answer = br#"{"id":"1-2","matched":1,"written":0,"queued":0,"dropped":1,"reason":"too_red","detail":null,"new":{}}"#;
    let answer = PushAnswer::parse(answer).unwrap();
    assert_eq!((answer.delivery.reason, answer.delivery.delivered()), (Some(Reason::Other), 0));
    let problem = br#"{"type":"urn:wserver:problem:busy","title":"busy","status":503,"more":1}"#;
    assert_eq!(Problem::parse(problem).unwrap().name(), "busy");
    let batch = br#"{"results":[{"status":400,"problem":{"type":"about:blank","title":"t","status":400}}]}"#;
    assert_eq!(BatchAnswer::parse(batch).unwrap().results[0].status, 400);
}

proptest! {
    /// Whatever is read, what is said of it is one short line that tells nothing of a value.
    #[test]
    fn refusals_are_one_short_line(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "\\{(\"(user|users|event|message|token|pushes|[a-zé\\n]{1,9})\"|canary|[\\[\\]{}:,\"\\\\u0-9ée\n.-]){0,20}".prop_map(String::into_bytes),
        ],
    ) {
        let batch = Batch::parse(&input);
        let items = batch.iter().flat_map(Batch::pushes).map(|push| push.map(drop));
        let refused = [
            Push::parse(&input).map(drop),
            Disconnect::parse(&input).map(drop),
            Presence::parse(&input).map(drop),
            Registration::parse(&input).map(drop),
        ];
        for error in refused.into_iter().chain(items).filter_map(Result::err) {
            let text = error.to_string();
            prop_assert!(text.len() < 400, "{}", text);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", text);
        }
    }
}
