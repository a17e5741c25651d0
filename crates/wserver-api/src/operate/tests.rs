//! What administrators are answered, and what they follow live.

use futures::StreamExt as _;
use http::{Method, Response};
use serde_json::{Value, json};
use wserver_core::{CloseReason, ConnectionId, LimitSettings};
use wserver_node::Protocol;
use wserver_protocol::frame;

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
    assert_eq!(reply.headers()["cache-control"], "no-cache");
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

#[tokio::test]
async fn those_who_match_are_closed_and_nobody_else() {
    for (selection, closed, left) in [
        (json!({"user": "jack"}), 2, [0, 1]),
        (json!({"user": "jack", "event": "mail"}), 1, [1, 1]),
        (json!({"token": "rose"}), 1, [2, 0]),
        (json!({"token": "nobody"}), 0, [2, 1]),
        (json!({"connection": "1"}), 1, [1, 1]),
    ] {
        let api = fixture::administered(|_| {});
        let open = |name, about| join(&api.node, MemoryWire::default(), name, about);
        let _all = [open("jack", "news"), open("jack", "mail"), open("rose", "news")];
        let answer = asking(&api).post("/v2/disconnect", &selection.to_string()).await;
        assert_eq!(answer.json(), json!({"closed": closed}), "{selection}");
        let users = [user("jack"), user("rose")];
        assert_eq!(api.node.presence(&users), left, "{selection}");
    }
}

#[tokio::test]
async fn a_connection_is_shown_with_what_waits_and_what_was_taken() {
    let api = fixture::administered(|_| {});
    let (open, slow) = (MemoryWire::default(), MemoryWire::full());
    let (open, slow) =
        (join(&api.node, open, "jack", "news"), join(&api.node, slow, "jack", "news"));
    let push = r#"{"user":"jack","event":"news","message":"m"}"#;
    assert_eq!(asking(&api).post("/v2/push", push).await.status, 200);
    let bytes = frame::text("m").len();
    for (attachment, queued, written) in [(open, 0, bytes), (slow, bytes, 0)] {
        let id = attachment.id().to_string();
        let shown = json!({
            "id": &id, "peer": null, "registrations": {"jack": ["news"]},
            "age_seconds": 0, "silent_seconds": 0,
            "queued_bytes": queued, "written_bytes": written,
        });
        let mut answer = asking(&api).get(&format!("/v2/connections/{id}")).await.json();
        // The test may be slow.
        (answer["age_seconds"], answer["silent_seconds"]) = (json!(0), json!(0));
        assert_eq!(answer, shown);
    }
}

#[tokio::test]
async fn what_administrators_name_is_checked() {
    let api = fixture::administered(|it| {
        let limits = LimitSettings { connections_per_user_max: 1, ..LimitSettings::default() };
        it.limits = limits.build().unwrap();
    });
    let _jack = join(&api.node, MemoryWire::default(), "jack", "news");
    let rose = join(&api.node, MemoryWire::default(), "rose", "news");
    let registrations = format!("/v2/connections/{}/registrations", rose.id());
    let long = "x".repeat(4097);
    let as_jack = json!({"user": "jack", "event": "news"}).to_string();
    let presence = |name: &str| json!({"users": ["jack", name]}).to_string();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    for (method, target, body, problem, field) in [
        (put, &*registrations, as_jack, (409, "registration_refused"), json!(null)),
        (post.clone(), "/v2/presence", presence(""), (400, "body_invalid"), json!("users[1]")),
        (post.clone(), "/v2/presence", presence(&long), (400, "name_too_long"), json!("users[1]")),
        (
            post.clone(),
            "/v2/disconnect",
            r#"{"connection":"x"}"#.into(),
            (400, "body_invalid"),
            json!("connection"),
        ),
        (post, "/v2/disconnect", r#"{"token":""}"#.into(), (400, "body_invalid"), json!("token")),
        (
            get.clone(),
            "/v2/users/%FF/connections",
            String::new(),
            (400, "parameter_invalid"),
            json!("user"),
        ),
        (
            get.clone(),
            "/v2/explain?user=jack",
            String::new(),
            (400, "parameter_invalid"),
            json!("event"),
        ),
        (get, "/v2/trace", String::new(), (400, "parameter_invalid"), json!("user")),
        (delete, &*registrations, String::new(), (400, "parameter_invalid"), json!("user")),
    ] {
        let answer = asking(&api).ask(method.clone(), target, &body).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), problem, "{method} {target}");
        assert_eq!(answer.json()["field"], field, "{method} {target} {}", answer.body);
        if problem.0 == 409 {
            let limit = ["limit", "limit_name"].map(|it| answer.json()[it].clone());
            assert_eq!(limit, [json!(1), json!("connections_per_user_max")]);
        }
    }
    // A user whose name has to be escaped in a path.
    let answer = asking(&api).get("/v2/users/j%2Fk%C3%A9/connections").await;
    assert_eq!(answer.json(), json!({"count": 0, "connections": []}));
}

/// What is told of a user from its first registration to the end of its connection.
#[tokio::test]
async fn an_explanation_has_what_happened() {
    let api = fixture::administered(|_| {});
    let target = "/v2/explain?user=jack&event=news";
    let stranger = api.node.open(MemoryWire::default(), Protocol::V1).unwrap();
    stranger.note_refused(None, Some(&event("news")), "unknown");
    let explained = async || {
        let mut answer = asking(&api).get(target).await.json();
        for list in ["recent", "strangers"] {
            for entry in answer.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                assert!(entry.as_object_mut().unwrap().remove("at").is_some());
            }
        }
        answer
    };
    let unknown = json!({
        "connection": "1", "event": "news", "what": "registration_refused", "reason": "unknown",
        "sentence": "connection 1 was refused a registration for news: its token is unknown",
    });
    let answer = explained().await;
    assert_eq!(answer["now"], json!({"would_deliver_to": 0, "connections": []}));
    assert_eq!((&answer["recent"], &answer["strangers"]), (&json!([]), &json!([unknown])));
    let nobody = "user jack has no connection, so a push of news goes to nobody";
    assert_eq!(answer["sentences"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(answer["sentences"][0], nobody);

    let jack = join(&api.node, MemoryWire::default(), "jack", "news");
    let answer = explained().await;
    let now = &answer["now"];
    assert_eq!((&now["would_deliver_to"], &now["connections"][0]["id"]), (&json!(1), &json!("2")));
    assert_eq!(answer.get("strangers"), None);
    let everybody = "a push of news to user jack would go to 1 connection, all there are";
    assert_eq!(answer["sentences"], json!([everybody]));

    jack.close(CloseReason::Silent);
    let answer = explained().await;
    let silent = "connection 2 was closed: no pong arrived in time, so the client or something \
                  in between is gone";
    let closed = json!({
        "connection": "2", "user": "jack", "what": "closed", "reason": "silent", "sentence": silent,
    });
    assert_eq!((&answer["recent"], &answer["strangers"]), (&json!([closed]), &json!([unknown])));
    let told = &answer["sentences"];
    assert_eq!(told[0], nobody);
    let (_ago, told) = told[1].as_str().unwrap().split_once(": ").unwrap();
    assert_eq!(told, silent);
}

#[tokio::test]
async fn a_trace_has_the_facts_and_the_sentence_of_each_entry() {
    let api = fixture::administered(|_| {});
    let mut events = stream(asking(&api).send(Method::GET, "/v2/trace?user=jack", "").await);
    let push = r#"{"user":"jack","event":"news","message":"m"}"#;
    assert_eq!(asking(&api).post("/v2/push", push).await.status, 200);
    let _jack = join(&api.node, MemoryWire::default(), "jack", "news");
    assert_eq!(asking(&api).post("/v2/push", push).await.status, 200);
    let delivery = |count: usize, reason: Option<&str>| {
        json!({"matched": count, "written": count, "queued": 0, "dropped": 0, "reason": reason,
            "detail": null})
    };
    for expected in [
        json!({"user": "jack", "event": "news", "what": "pushed", "delivery": delivery(0, Some("user_offline")),
            "sentence": "nobody got a push for news: user_offline"}),
        json!({"connection": "1", "user": "jack", "event": "news", "what": "registered",
            "sentence": "connection 1 was registered for news"}),
        json!({"user": "jack", "event": "news", "what": "pushed", "delivery": delivery(1, None),
            "sentence": "a push for news went to 1 connection"}),
    ] {
        let event = soon(events.next()).await.unwrap();
        let event = str::from_utf8(&event).unwrap();
        let kind = format!("event:{}\ndata:", expected["what"].as_str().unwrap());
        let data = event.strip_prefix(&kind).and_then(|it| it.strip_suffix("\n\n"));
        let mut data: Value = serde_json::from_str(data.unwrap()).unwrap();
        assert!(data.as_object_mut().unwrap().remove("at").is_some());
        assert_eq!(data, expected);
    }
}
