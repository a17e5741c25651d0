//! The HTTP API's bodies: what is read, and what is said of what is not.

use std::fmt::Debug;
use std::time::Duration;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wserver_protocol::v2::{
    self, Acks, Batch, BatchAnswer, BatchItem, Closed, Connection, Connections, Delivery,
    Disconnect, Entry, Explanation, LIST_ITEMS_MAX, LogNow, Missed, NodeDelivery, NodeInfo, Nodes,
    Now, Online, Presence, Problem, Push, PushAnswer, Reason, Recipients, Registered, Registration,
    ReplayNow, UserDelivery, Wait, WaitFor,
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
    for until in [WaitFor::First, WaitFor::All] {
        push.wait = Some(Wait { until, timeout: Duration::from_millis(2500) });
        assert_eq!(Push::parse(push.encode().as_bytes()).unwrap(), push);
    }
    push.wait = None;
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
            "User is not a known field, at byte 7: expected one of user, users, everyone, event, message, ttl_seconds, exclude_connection, wait, timeout_seconds",
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
        (r#"{"user":"a","event":"e","message":"m","wait":"canary"}"#, "wait must be first or all"),
        (
            r#"{"user":"a","event":"e","message":"m","wait":true}"#,
            "wait must be a string, at byte 49",
        ),
        (
            r#"{"everyone":true,"event":"e","message":"m","wait":"all"}"#,
            "wait goes with user or users, not with everyone",
        ),
        (
            r#"{"user":"a","event":"e","message":"m","timeout_seconds":1}"#,
            "timeout_seconds goes with wait only",
        ),
    ] {
        let error = push(body).expect_err(body);
        assert_eq!(error, expected, "{body}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn a_ttl_is_more_than_nothing_and_at_most_a_year() {
    let ttl = |seconds: &str| {
        let body = format!(r#"{{"user":"a","event":"e","message":"m","ttl_seconds":{seconds}}}"#);
        push(&body).map(|push| push.ttl)
    };
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    assert_eq!(ttl("0.25"), Ok(Some(Duration::from_millis(250))));
    assert_eq!(ttl("31536000"), Ok(Some(year)));
    let refused = Err("ttl_seconds must be more than 0 and at most a year".to_owned());
    for seconds in ["31536000.1", "31536001", "-1", "-0.0"] {
        assert_eq!(ttl(seconds), refused, "{seconds}");
    }
}

#[test]
fn a_push_waits_for_more_than_nothing_and_at_most_half_a_minute() {
    let wait = |rest: &str| {
        let body = format!(r#"{{"user":"a","event":"e","message":"m","wait":"first"{rest}}}"#);
        push(&body).map(|push| push.wait)
    };
    let first = |timeout| Ok(Some(Wait { until: WaitFor::First, timeout }));
    assert_eq!(wait(""), first(Duration::from_secs(5)));
    assert_eq!(wait(r#","timeout_seconds":0.25"#), first(Duration::from_millis(250)));
    assert_eq!(wait(r#","timeout_seconds":30"#), first(Duration::from_secs(30)));
    let refused = Err("timeout_seconds must be more than 0 and at most 30".to_owned());
    for seconds in ["0", "-0.0", "-1", "30.001", "1e300", "1e-300"] {
        assert_eq!(wait(&format!(r#","timeout_seconds":{seconds}"#)), refused, "{seconds}");
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
            "pushes[3].x is not a known field, at byte 46: expected one of user, users, everyone, event, message, ttl_seconds, exclude_connection, wait, timeout_seconds",
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
    let body = v2::encode(&registration);
    assert_eq!(Registration::parse(body.as_bytes()), Ok(registration));
    let error = Registration::parse(br#"{"user":"jack","events":["news"]}"#).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("events"));
}

/// What is written is exactly `json`, and is read back as it was.
fn check<T>(answer: &T, json: &str)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    assert_eq!(v2::encode(answer), json);
    assert_eq!(&serde_json::from_str::<T>(json).expect(json), answer);
}

/// The fields of the answers are the contract: their names, and which are left out when empty.
#[test]
fn answers_are_written_to_the_letter() {
    let none = Delivery { reason: Some(Reason::UserOffline), ..Delivery::default() };
    check(
        &PushAnswer { id: "1-2".into(), delivery: none, users: None, results: None },
        r#"{"id":"1-2","matched":0,"written":0,"queued":0,"dropped":0,"reason":"user_offline","detail":null}"#,
    );
    let delivery = Delivery {
        matched: 6,
        written: 1,
        queued: 2,
        dropped: 3,
        reason: Some(Reason::NoRegistrationForEvent),
        detail: Some("why".into()),
        is_kept: true,
        events: Some(vec!["mail".into()]),
        acks: Some(Acks { acked: 1, waiting: 2, unable: 1, lost: 2 }),
        nodes: Some(2),
        nodes_missing: Some(vec!["c".into()]),
        is_partial: Some(true),
        by_node: Some(vec![NodeDelivery {
            node: "a".into(),
            matched: 6,
            written: 1,
            queued: 2,
            dropped: 3,
        }]),
    };
    assert_eq!(delivery.delivered(), 3, "what is queued counts, what was dropped does not");
    let results = vec![UserDelivery { user: "jack".into(), delivery: Delivery::default() }];
    let answer = PushAnswer { id: "1-2".into(), delivery, users: Some(4), results: Some(results) };
    check(
        &answer,
        r#"{"id":"1-2","matched":6,"written":1,"queued":2,"dropped":3,"reason":"no_registration_for_event","detail":"why","is_kept":true,"events":["mail"],"acks":{"acked":1,"waiting":2,"unable":1,"lost":2},"nodes":2,"nodes_missing":["c"],"is_partial":true,"by_node":[{"node":"a","matched":6,"written":1,"queued":2,"dropped":3}],"users":4,"results":[{"user":"jack","matched":0,"written":0,"queued":0,"dropped":0,"reason":null,"detail":null}]}"#,
    );
    for (reason, json) in [
        (Reason::UserOffline, r#""user_offline""#),
        (Reason::NoRegistrationForEvent, r#""no_registration_for_event""#),
        (Reason::SlowConsumer, r#""slow_consumer""#),
        (Reason::ConnectionEnding, r#""connection_ending""#),
        (Reason::Excluded, r#""excluded""#),
        (Reason::Expired, r#""expired""#),
    ] {
        check(&reason, json);
    }

    let problem = Problem {
        kind: "urn:wserver:problem:busy".into(),
        title: "t".into(),
        status: 503,
        detail: None,
        field: None,
        limit: None,
        limit_name: None,
        setting: None,
        retry_after: None,
    };
    check(
        &BatchAnswer {
            results: vec![BatchItem { status: 503, answer: None, problem: Some(problem.clone()) }],
        },
        r#"{"results":[{"status":503,"problem":{"type":"urn:wserver:problem:busy","title":"t","status":503}}]}"#,
    );
    check(
        &Problem {
            detail: Some("d".into()),
            field: Some("users[2]".into()),
            limit: Some(5),
            limit_name: Some("traces_max".into()),
            setting: Some("traces-max".into()),
            retry_after: Some(1),
            ..problem
        },
        r#"{"type":"urn:wserver:problem:busy","title":"t","status":503,"detail":"d","field":"users[2]","limit":5,"limit_name":"traces_max","setting":"traces-max","retry_after":1}"#,
    );
}

#[test]
fn answers_to_an_operator_are_written_to_the_letter() {
    let missing = vec!["c".to_owned()];
    let online = Online { online: [("jack".into(), 2)].into(), nodes_missing: Vec::new() };
    check(&online, r#"{"online":{"jack":2}}"#);
    check(
        &Online { nodes_missing: missing.clone(), ..online },
        r#"{"online":{"jack":2},"nodes_missing":["c"]}"#,
    );
    let connection = Connection {
        id: "7".into(),
        node: None,
        peer: None,
        registrations: [("jack".into(), vec!["news".into()])].into(),
        age_seconds: 1,
        silent_seconds: 2,
        queued_bytes: 3,
        written_bytes: 4,
    };
    check(
        &Connections { count: 1, connections: vec![connection.clone()], nodes_missing: Vec::new() },
        r#"{"count":1,"connections":[{"id":"7","peer":null,"registrations":{"jack":["news"]},"age_seconds":1,"silent_seconds":2,"queued_bytes":3,"written_bytes":4}]}"#,
    );
    let elsewhere =
        Connection { node: Some("b".into()), peer: Some("192.0.2.1:9".into()), ..connection };
    check(
        &Connections { count: 0, connections: Vec::new(), nodes_missing: missing.clone() },
        r#"{"count":0,"connections":[],"nodes_missing":["c"]}"#,
    );
    check(&Closed { closed: 2, nodes_missing: Vec::new() }, r#"{"closed":2}"#);
    check(
        &Closed { closed: 2, nodes_missing: missing.clone() },
        r#"{"closed":2,"nodes_missing":["c"]}"#,
    );
    check(&Registered { changed: true }, r#"{"changed":true}"#);
    check(&Missed { missed: 9 }, r#"{"missed":9}"#);

    let node = NodeInfo {
        version: "1.0.0".into(),
        uptime_seconds: 1,
        is_draining: false,
        connections: 2,
        connections_max: 3,
        users: 4,
        registrations: 5,
        queued_bytes: 6,
        pushes_total: 7,
        deliveries_total: 8,
        name: None,
        id: None,
        not_ready: None,
        round_trip_ms: None,
    };
    check(
        &Nodes { broker: None, nodes: vec![node.clone()], nodes_missing: Vec::new() },
        r#"{"nodes":[{"version":"1.0.0","uptime_seconds":1,"is_draining":false,"connections":2,"connections_max":3,"users":4,"registrations":5,"queued_bytes":6,"pushes_total":7,"deliveries_total":8}]}"#,
    );
    let node = NodeInfo {
        name: Some("a".into()),
        id: Some("a-1".into()),
        not_ready: Some("why".into()),
        round_trip_ms: Some(0.5),
        ..node
    };
    check(
        &Nodes { broker: Some("nats".into()), nodes: vec![node], nodes_missing: missing.clone() },
        r#"{"broker":"nats","nodes":[{"version":"1.0.0","uptime_seconds":1,"is_draining":false,"connections":2,"connections_max":3,"users":4,"registrations":5,"queued_bytes":6,"pushes_total":7,"deliveries_total":8,"name":"a","id":"a-1","not_ready":"why","round_trip_ms":0.5}],"nodes_missing":["c"]}"#,
    );

    let entry = Entry {
        at: "2026-01-31T12:00:00.000Z".into(),
        node: None,
        connection: None,
        user: None,
        event: None,
        what: "closed".into(),
        reason: None,
        delivery: None,
        replayed: None,
        acks: None,
        sentence: "s".into(),
    };
    let full = Entry {
        node: Some("b".into()),
        connection: Some("7".into()),
        user: Some("jack".into()),
        event: Some("news".into()),
        reason: Some("slow".into()),
        delivery: Some(Delivery::default()),
        replayed: Some(2),
        acks: Some(Acks { acked: 1, ..Acks::default() }),
        ..entry.clone()
    };
    let now =
        Now { would_deliver_to: 1, connections: Vec::new(), connection_count: None, replay: None };
    let log = LogNow { node: None, messages: 2, bytes: 840 };
    let replay = ReplayNow {
        is_kept: true,
        logs: vec![log.clone(), LogNow { node: Some("b".into()), ..log }],
    };
    let explanation = Explanation {
        user: "jack".into(),
        event: "news".into(),
        now: now.clone(),
        recent: vec![entry.clone()],
        strangers: Vec::new(),
        sentences: vec!["s".into()],
        nodes_missing: Vec::new(),
    };
    check(
        &explanation,
        r#"{"user":"jack","event":"news","now":{"would_deliver_to":1,"connections":[]},"recent":[{"at":"2026-01-31T12:00:00.000Z","what":"closed","sentence":"s"}],"sentences":["s"]}"#,
    );
    check(
        &Explanation {
            now: Now {
                connections: vec![elsewhere],
                connection_count: Some(101),
                replay: Some(replay),
                ..now
            },
            recent: vec![full],
            strangers: vec![entry],
            nodes_missing: missing,
            ..explanation
        },
        r#"{"user":"jack","event":"news","now":{"would_deliver_to":1,"connections":[{"id":"7","node":"b","peer":"192.0.2.1:9","registrations":{"jack":["news"]},"age_seconds":1,"silent_seconds":2,"queued_bytes":3,"written_bytes":4}],"connection_count":101,"replay":{"is_kept":true,"logs":[{"messages":2,"bytes":840},{"node":"b","messages":2,"bytes":840}]}},"recent":[{"at":"2026-01-31T12:00:00.000Z","node":"b","connection":"7","user":"jack","event":"news","what":"closed","reason":"slow","delivery":{"matched":0,"written":0,"queued":0,"dropped":0,"reason":null,"detail":null},"replayed":2,"acks":{"acked":1,"waiting":0,"unable":0,"lost":0},"sentence":"s"}],"strangers":[{"at":"2026-01-31T12:00:00.000Z","what":"closed","sentence":"s"}],"sentences":["s"],"nodes_missing":["c"]}"#,
    );
}

/// A client outlives what a later server adds.
#[test]
fn answers_are_read_leniently() {
    let answer = br#"{"id":"1-2","matched":1,"written":0,"queued":0,"dropped":1,"reason":"too_red","detail":null,"new":{}}"#;
    let answer = PushAnswer::parse(answer).unwrap();
    assert_eq!((answer.delivery.reason, answer.delivery.delivered()), (Some(Reason::Other), 0));
    let problem = br#"{"type":"urn:wserver:problem:busy","title":"busy","status":503,"more":1}"#;
    assert_eq!(Problem::parse(problem).unwrap().name(), "busy");
    let problem = br#"{"type":"about:blank","title":"t","status":400}"#;
    assert_eq!(Problem::parse(problem).unwrap().name(), "about:blank");
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
