//! What administrators are answered, and what they follow live.

use futures::StreamExt as _;
use http::{Method, Response};
use serde_json::json;
use wserver_core::{ConnectionId, LimitSettings};

use crate::fixture::{self, MemoryWire, asking, event, join, soon, user};
use crate::limits::HttpLimitSettings;
use crate::reply::{ReplyBody, ReplyStream};

/// Each request changes what the next one sees.
#[tokio::test]
async fn connections_are_seen_registered_and_closed() {
    let api = fixture::administered(|_| {});
    let jack = join(&api.node, MemoryWire::default(), "jack", "news");
    let id = jack.id();
    let connection = |id: ConnectionId| format!("/v2/connections/{id}");
    let registrations = |id: ConnectionId| format!("/v2/connections/{id}/registrations");
    let chat = |id: ConnectionId| format!("{}?user=jack&event=chat", registrations(id));
    let put = r#"{"user":"jack","event":"chat"}"#;
    let gone = ConnectionId::new(id.as_u64() + 1);
    let (changed, unchanged) = (json!({"changed": true}), json!({"changed": false}));
    for (method, target, body, expected) in [
        (
            Method::POST,
            "/v2/presence".into(),
            r#"{"users":["jack"]}"#,
            json!({"online":{"jack":1}}),
        ),
        (Method::PUT, registrations(id), put, changed.clone()),
        (Method::PUT, registrations(id), put, unchanged.clone()),
        (Method::DELETE, chat(id), "", changed),
        (Method::DELETE, chat(id), "", unchanged),
        (Method::POST, "/v2/disconnect".into(), r#"{"user":"rose"}"#, json!({"closed": 0})),
        (Method::DELETE, connection(id), "", json!({"closed": 1})),
        (
            Method::POST,
            "/v2/presence".into(),
            r#"{"users":["jack"]}"#,
            json!({"online":{"jack":0}}),
        ),
    ] {
        let answer = asking(&api).ask(method.clone(), &target, body).await;
        assert_eq!(answer.status, 200, "{method} {target}: {}", answer.body);
        assert_eq!(answer.json(), expected, "{method} {target}");
    }
    // The connection is ending, or there has never been one.
    for (method, target, body) in [
        (Method::PUT, registrations(id), put),
        (Method::DELETE, connection(id), ""),
        (Method::PUT, registrations(gone), put),
        (Method::DELETE, chat(gone), ""),
        (Method::DELETE, connection(gone), ""),
        (Method::GET, connection(gone), ""),
    ] {
        let answer = asking(&api).ask(method.clone(), &target, body).await;
        let problem = (answer.status.as_u16(), answer.problem());
        assert_eq!(problem, (404, "connection_unknown".to_owned()), "{method} {target}");
    }
}

#[tokio::test]
async fn lists_of_users_are_bounded_and_users_are_named() {
    let api = fixture::administered(|it| {
        let limits = HttpLimitSettings { batch_pushes_max: 2, ..HttpLimitSettings::default() };
        it.http_limits = limits.build(&it.limits).unwrap();
    });
    for (users, status) in [(&["a", "b"][..], 200), (&["a", "b", "c"], 400)] {
        let answer = asking(&api).post("/v2/presence", &json!({"users": users}).to_string()).await;
        assert_eq!(answer.status, status, "{users:?}");
        if status == 400 {
            assert_eq!(answer.problem(), "too_many_items");
            assert_eq!(
                (&answer.json()["field"], &answer.json()["limit"]),
                (&json!("users"), &json!(2))
            );
        }
    }
    let answer = asking(&api).get("/v2/users//connections").await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (400, "parameter_invalid"));
}

/// The answer is bounded by the bytes of names; the count is not.
#[tokio::test]
async fn as_many_connections_are_listed_as_have_room() {
    const MIB: usize = 1024 * 1024;
    let api = fixture::administered(|it| {
        let names_per_connection_bytes_max = 2 * MIB;
        let limits = LimitSettings {
            names_per_connection_bytes_max,
            bindings_per_connection_max: 512,
            ..LimitSettings::default()
        };
        it.limits = limits.build().unwrap();
    });
    let long = "x".repeat(4000);
    let attachments: Vec<_> = (0..4)
        .map(|_| {
            let attachment = join(&api.node, MemoryWire::default(), "jack", "news");
            for number in 0..400 {
                let name = event(&format!("{long}{number}"));
                attachment.register(&user("jack"), &name, api.node.digest("jack")).unwrap();
            }
            attachment
        })
        .collect();
    // Each has 1.5 MiB of names, so that the third one fills the 4 MiB.
    let answer = asking(&api).get("/v2/users/jack/connections").await.json();
    let listed = answer["connections"].as_array().unwrap().len();
    assert_eq!((&answer["count"], listed), (&json!(attachments.len()), 3));
}

fn stream(reply: Response<ReplyBody>) -> ReplyStream {
    let ReplyBody::Stream(stream) = reply.into_body() else { panic!("the answer is whole") };
    stream
}

#[tokio::test]
async fn a_trace_is_passed_on_at_once_and_ends_with_the_server() {
    let api = fixture::administered(|it| {
        it.limits = LimitSettings { traces_max: 1, ..LimitSettings::default() }.build().unwrap();
    });
    let reply = asking(&api).send(Method::GET, "/v2/trace?user=jack", "").await;
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    assert_eq!(reply.headers()["x-accel-buffering"], "no");
    let mut events = stream(reply);
    let answer = asking(&api).get("/v2/trace?user=jack").await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "traces_full"));
    assert_eq!((&answer.json()["limit"], &answer.json()["retry_after"]), (&json!(1), &json!(5)));
    let _jack = join(&api.node, MemoryWire::default(), "jack", "news");
    let event = soon(events.next()).await.unwrap();
    assert!(event.starts_with(b"event:registered\ndata:{"), "{event:?}");
    api.stop.cancel();
    assert_eq!(soon(events.next()).await, None);
}

#[tokio::test]
async fn a_slow_reader_of_a_trace_learns_how_much_it_missed() {
    let api = fixture::administered(|_| {});
    let mut events = stream(asking(&api).send(Method::GET, "/v2/trace?user=jack", "").await);
    let note = |count: usize| {
        for _ in 0..count {
            api.node.note_push_refused(Some(&user("jack")), None, "out_of_scope");
        }
    };
    note(256 + 44);
    for _ in 0..256 {
        let event = soon(events.next()).await.unwrap();
        assert!(event.starts_with(b"event:push_refused\n"), "{event:?}");
    }
    note(1);
    assert_eq!(soon(events.next()).await.unwrap(), "event:missed\ndata:{\"missed\":44}\n\n");
    let event = soon(events.next()).await.unwrap();
    assert!(event.starts_with(b"event:push_refused\n"), "{event:?}");
}
