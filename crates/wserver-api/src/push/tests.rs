//! What pushes are answered, by either API: counts, reasons, refusals, charges, and repetitions.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use serde_json::{Value, json};
use wserver_auth::{
    Publisher, PublisherEntry, PublisherKeyHash, PublisherKeys, PushRate, PushRefusal,
    authorize_with,
};
use wserver_core::{CloseReason, LimitSettings};
use wserver_node::What;
use wserver_protocol::frame;

use crate::api::Api;
use crate::fixture::{self, Asking, IDEMPOTENCY_KEY, KEY, MemoryWire, asking, join, user};
use crate::limits::HttpLimitSettings;

/// A server for the publishers of the fixture, with small limits.
fn api() -> Arc<Api<MemoryWire>> {
    fixture::api_with(|it| {
        it.push_authorizer = Arc::new(fixture::publishers());
        let limits = LimitSettings { message_bytes_max: 8, ..LimitSettings::default() };
        let http_limits = HttpLimitSettings { batch_pushes_max: 3, ..HttpLimitSettings::default() };
        it.http_limits = http_limits.build(&limits).unwrap();
        it.limits = limits.build().unwrap();
    })
}

/// The refused pushes with this label.
fn refused(api: &Api<MemoryWire>, label: &str) -> u64 {
    api.pushes.refused_total.values().find(|(name, _)| *name == label).unwrap().1
}

/// The refusals that the journal has of a user, or of strangers.
fn noted(api: &Api<MemoryWire>, name: Option<&str>) -> Vec<&'static str> {
    let entries = match name {
        Some(name) => api.node.recent(&user(name), 10),
        None => api.node.recent_strangers(10),
    };
    let reasons = entries.iter().map(|entry| match entry.what {
        What::PushRefused { reason } => reason,
        other => panic!("{other:?}"),
    });
    reasons.collect()
}

/// A refusal names what was wrong, is counted once, and is noted under the users of the push, but
/// only if its publisher may push to them.
#[tokio::test]
async fn a_refused_push_is_counted_and_noted() {
    let v1 = |name: &str, event: &str, message: &str| {
        ("/push", json!({"userId": name, "event": event, "message": message}))
    };
    let v2 = |of: Value, event: &str, message: &str| {
        ("/v2/push", with(json!({"event": event, "message": message}), of))
    };
    let (jack, both) = (json!({"user": "jack"}), json!({"users": ["rose", "jack"]}));
    let (scope, size) = ((403, "out_of_scope"), (413, "message_too_large"));
    for (key, (target, body), (status, problem), field, users) in [
        ("roses", v1("jack", "news", "m"), scope, "userId", &[None][..]),
        ("news", v1("jack", "mail", "m"), scope, "event", &[Some("jack")]),
        ("shop", v1("jack", "news", "123456789"), size, "message", &[Some("jack")]),
        ("roses", v2(jack.clone(), "news", "m"), scope, "user", &[None]),
        ("roses", v2(both.clone(), "news", "m"), scope, "users[1]", &[None]),
        ("news", v2(both.clone(), "mail", "m"), scope, "event", &[Some("rose"), Some("jack")]),
        ("shop", v2(jack, "news", "123456789"), size, "message", &[Some("jack")]),
        ("jacks", v2(json!({"everyone": true}), "news", "m"), scope, "everyone", &[]),
    ] {
        let api = api();
        let headers = [(KEY, key), (ACCEPT, "application/json")];
        let answer =
            Asking { headers: &headers, ..asking(&api) }.post(target, &body.to_string()).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, problem), "{body}");
        assert_eq!(answer.json()["field"], field, "{body}");
        assert_eq!(refused(&api, problem), 1, "{body}");
        for name in [None, Some("jack"), Some("rose")] {
            let expected = if users.contains(&name) { &[problem][..] } else { &[] };
            assert_eq!(noted(&api, name), expected, "{body} {name:?}");
        }
        assert_eq!(api.node.counters().pushes_total.value(), 0, "{body}");
    }
}

#[tokio::test]
async fn a_message_of_the_largest_size_is_taken() {
    let api = api();
    let shop = Asking { headers: &[(KEY, "shop")], ..asking(&api) };
    let v1 = r#"{"userId":"jack","event":"news","message":"12345678"}"#;
    assert_eq!(shop.post("/push", v1).await.body, "message sent to 0 clients");
    let v2 = r#"{"user":"jack","event":"news","message":"12345678"}"#;
    assert_eq!(shop.post("/v2/push", v2).await.status, 200);
}

/// With a key, both formats are made of one answer, and nobody gets the message twice.
#[tokio::test]
async fn a_repeated_push_has_the_same_answer_in_either_format() {
    let api = fixture::api();
    let open = join(&api.node, MemoryWire::default(), "jack", "news");
    let slow = join(&api.node, MemoryWire::full(), "jack", "news");
    let body = r#"{"userId":"jack","event":"news","message":"m"}"#;
    let text = Asking { headers: &[(IDEMPOTENCY_KEY, "a")], ..asking(&api) };
    let headers = [(IDEMPOTENCY_KEY, "a"), (ACCEPT, "application/json")];
    let json = Asking { headers: &headers, ..asking(&api) };
    for is_replayed in [false, true] {
        let answer = text.post("/push", body).await;
        assert_eq!(answer.body, "message sent to 2 clients");
        let replayed = answer.headers.get("idempotency-replayed").map(|it| it.to_str().unwrap());
        assert_eq!(replayed, is_replayed.then_some("true"));
    }
    let answer = json.post("/push", body).await;
    assert_eq!(answer.headers["idempotency-replayed"], "true");
    let counts = ["matched", "written", "queued", "dropped"].map(|it| answer.json()[it].clone());
    assert_eq!(counts, [2, 1, 1, 0]);
    assert_eq!(open.outbox().wire().written(), frame::text("m"));
    assert_eq!(slow.outbox().queued_bytes(), frame::text("m").len());
}

/// A remembered answer was made for one scope. A publisher that may not make the push does not learn
/// that it was made.
#[tokio::test]
async fn a_key_is_for_one_publisher_path_body_and_scope() {
    let v2 = r#"{"user":"jack","event":"news","message":"m"}"#;
    for (target, body) in [
        ("/push", r#"{"userId":"jack","event":"news","message":"m"}"#),
        ("/v2/push", v2),
        ("/v2/push/batch", &*format!(r#"{{"pushes":[{v2}]}}"#)),
    ] {
        let api = api();
        let is_batch = target.ends_with("batch");
        let other = body.replace(r#""m""#, r#""n""#);
        let elsewhere = if is_batch { "/v2/push" } else { "/v2/push/batch" };
        for (key, target, body, status, is_replayed) in [
            ("shop", target, body, 200, false),
            ("shop", target, body, 200, true),
            ("jacks", target, body, 422, false),
            // Each push of a batch is checked by itself, after the key.
            ("roses", target, body, if is_batch { 422 } else { 403 }, false),
            ("shop", target, &*other, 422, false),
            // A batch is not read before its key.
            ("shop", elsewhere, body, if is_batch { 400 } else { 422 }, false),
            ("admin", target, body, 200, false),
            ("shop", target, body, 200, true),
        ] {
            let headers = [(KEY, key), (IDEMPOTENCY_KEY, "a")];
            let answer = Asking { headers: &headers, ..asking(&api) }.post(target, body).await;
            assert_eq!(answer.status, status, "{target} {key}: {}", answer.body);
            let replayed = answer.headers.contains_key("idempotency-replayed");
            assert_eq!(replayed, is_replayed, "{target} {key} {body}");
        }
        assert_eq!(api.node.counters().pushes_total.value(), 2, "{target}");
    }
}

/// Every user and every item costs one push, before anybody gets anything.
#[tokio::test]
async fn a_request_is_charged_for_all_its_pushes() {
    let of = |key: &str, burst: u32| {
        let [pushes_per_second, burst] = [1, burst].map(|it| NonZeroU32::new(it).unwrap());
        let entry = PublisherEntry::new("shop", PublisherKeyHash::of(key));
        PublisherKeys::new([entry.with_rate(PushRate { pushes_per_second, burst })]).unwrap()
    };
    let users = |count: usize| {
        json!({"users": vec!["jack"; count], "event": "news", "message": "m"}).to_string()
    };
    let batch = |count: usize| {
        let push = json!({"user": "jack", "event": "news", "message": "m"});
        json!({"pushes": vec![push; count]}).to_string()
    };
    for (target, body) in
        [("/v2/push", &users as &dyn Fn(usize) -> String), ("/v2/push/batch", &batch)]
    {
        // The burst does not depend on how fast the test runs.
        for (count, status) in [(3, 200), (4, 400)] {
            let api = fixture::api_with(|it| it.push_authorizer = Arc::new(of("key", 3)));
            let shop = Asking { headers: &[(KEY, "key")], ..asking(&api) };
            let answer = shop.post(target, &body(count)).await;
            assert_eq!(answer.status, status, "{target} {count}: {}", answer.body);
            let pushed = if status == 200 { count as u64 } else { 0 };
            assert_eq!(api.node.counters().pushes_total.value(), pushed, "{target} {count}");
            if status == 400 {
                assert_eq!(answer.problem(), "too_many_items");
                assert_eq!(answer.json()["limit_name"], "publisher.burst");
                assert_eq!(noted(&api, None), ["too_many_items"]);
            }
        }
        let api = fixture::api_with(|it| it.push_authorizer = Arc::new(of("key", 500)));
        let shop = Asking { headers: &[(KEY, "key")], ..asking(&api) };
        assert_eq!(shop.post(target, &body(490)).await.status, 200, "{target}");
        let answer = shop.post(target, &body(490)).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (429, "push_rate"), "{target}");
        // Nine are left, and one comes back each second.
        let wait: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((400..=481).contains(&wait), "{target} {wait}");
        assert_eq!(answer.json()["retry_after"], wait, "{target}");
        assert_eq!(api.node.counters().pushes_total.value(), 490, "{target}");
    }
}

#[tokio::test]
async fn lists_are_as_long_as_a_request_may_be() {
    let api = api();
    let shop = Asking { headers: &[(KEY, "shop")], ..asking(&api) };
    let users = |count| json!({"users": vec!["jack"; count], "event": "news", "message": "m"});
    let batch = |counts: &[usize]| json!({"pushes": counts.iter().map(|it| users(*it)).collect::<Vec<_>>()});
    for (target, body, refused) in [
        ("/v2/push", users(3), None),
        (
            "/v2/push",
            users(4),
            Some(("users", "users has 4 items, the limit batch_pushes_max is 3")),
        ),
        ("/v2/push/batch", batch(&[2, 1]), None),
        (
            "/v2/push/batch",
            batch(&[2, 2]),
            Some((
                "pushes",
                "the pushes name more than 3 users in total, the limit batch_pushes_max",
            )),
        ),
        ("/v2/push/batch", batch(&[1, 1, 1]), None),
        (
            "/v2/push/batch",
            batch(&[1, 1, 1, 1]),
            Some(("pushes", "pushes has 4 items, the limit batch_pushes_max is 3")),
        ),
    ] {
        let answer = shop.post(target, &body.to_string()).await;
        assert_eq!(answer.status, if refused.is_some() { 400 } else { 200 }, "{body}");
        if let Some((field, detail)) = refused {
            assert_eq!(answer.problem(), "too_many_items", "{body}");
            let told = ["field", "detail"].map(|it| answer.json()[it].clone());
            assert_eq!(told, [field, detail], "{body}");
        }
    }
    assert_eq!(
        api.node.counters().pushes_total.value(),
        9,
        "nobody gets a part of what is refused"
    );
}

/// A bad push does not affect the others; its problem says which one it is.
#[tokio::test]
async fn each_push_of_a_batch_has_its_answer() {
    let api = api();
    let jacks = Asking { headers: &[(KEY, "jacks")], ..asking(&api) };
    let body = json!({"pushes": [
        {"user": "jack", "event": "news", "message": "m"},
        {"user": "rose", "event": "news", "message": "m"},
        {"user": "jack"},
    ]});
    let answer = jacks.post("/v2/push/batch", &body.to_string()).await;
    assert_eq!(answer.status, 200);
    let results = &answer.json()["results"];
    let told = |at: usize| {
        let problem = &results[at]["problem"];
        let kind = problem["type"].as_str().and_then(|it| it.strip_prefix("urn:wserver:problem:"));
        (results[at]["status"].as_u64().unwrap(), kind, problem["field"].as_str())
    };
    assert_eq!(told(0), (200, None, None));
    assert_eq!(told(1), (403, Some("out_of_scope"), Some("pushes[1].user")));
    assert_eq!(told(2), (400, Some("body_invalid"), Some("pushes[2].event")));
    assert_eq!([refused(&api, "out_of_scope"), refused(&api, "body_invalid")], [1, 1]);
}

/// What became of a push of news with these fields, without its id.
async fn outcome(asking: &Asking<'_>, fields: Value) -> Value {
    let push = with(json!({"event": "news", "message": "m"}), fields);
    let answer = asking.post("/v2/push", &push.to_string()).await;
    assert_eq!(answer.status, 200, "{push}: {}", answer.body);
    let mut answer = answer.json();
    assert!(answer.as_object_mut().unwrap().remove("id").is_some_and(|id| id.is_string()));
    answer
}

fn counts([matched, written, queued, dropped]: [usize; 4]) -> Value {
    json!({"matched": matched, "written": written, "queued": queued, "dropped": dropped,
        "reason": null, "detail": null})
}

/// The object with these fields too.
fn with(mut object: Value, mut fields: Value) -> Value {
    object.as_object_mut().unwrap().append(fields.as_object_mut().unwrap());
    object
}

#[tokio::test]
async fn what_became_of_a_push_is_counted_for_each_user_and_in_sum() {
    let api = fixture::api_with(|it| {
        it.limits = LimitSettings {
            name_bytes_max: 16,
            message_bytes_max: 8,
            walk_bytes_max: 8,
            outbox_bytes_max: 1024,
            ..LimitSettings::default()
        }
        .build()
        .unwrap();
    });
    let jack = join(&api.node, MemoryWire::default(), "jack", "news");
    let _jacks_other = join(&api.node, MemoryWire::full(), "jack", "news");
    let _jill = join(&api.node, MemoryWire::default(), "jill", "mail");
    let asking = asking(&api);
    let users = json!({"users": ["jill", "jack", "rose"]});
    assert_eq!(
        outcome(&asking, users).await,
        with(
            counts([2, 1, 1, 0]),
            json!({"results": [
                with(counts([0; 4]), json!({
                    "user": "jill",
                    "reason": "no_registration_for_event",
                    "detail": "user jill has 1 connection, none registered for news",
                    "events": ["mail"],
                })),
                with(counts([2, 1, 1, 0]), json!({"user": "jack"})),
                with(counts([0; 4]), json!({
                    "user": "rose",
                    "reason": "user_offline",
                    "detail": "user rose has no connection",
                })),
            ]})
        )
    );
    let everyone = outcome(&asking, json!({"everyone": true})).await;
    assert_eq!(everyone, with(counts([2, 1, 1, 0]), json!({"users": 1})));
    let exclude = json!({"user": "jack", "exclude_connection": jack.id().to_string()});
    assert_eq!(outcome(&asking, exclude).await, counts([1, 0, 1, 0]));
    // One of the connections reads nothing, until its queue is full.
    let mut rounds = 0;
    let dropped = loop {
        let told = outcome(&asking, json!({"users": ["jill", "jack"]})).await;
        rounds += 1;
        if told["queued"] == 0 || rounds == 1000 {
            break told;
        }
    };
    let sum = ["matched", "written", "queued", "dropped"].map(|it| &dropped[it]);
    assert_eq!(sum, [2, 1, 0, 1], "{dropped}");
    assert_eq!(dropped["results"][1], with(counts([2, 1, 0, 1]), json!({"user": "jack"})));
}

#[tokio::test]
async fn who_got_nothing_is_told_why() {
    let api = fixture::api();
    let jill = join(&api.node, MemoryWire::default(), "jill", "mail");
    for (name, reason) in [
        ("slow", CloseReason::Slow),
        ("old", CloseReason::Expired),
        ("left", CloseReason::PeerClosed),
    ] {
        join(&api.node, MemoryWire::default(), name, "news").close(reason);
    }
    let last = |name: &str, why: &str| {
        format!("user {name} has no connection; the last one was closed AGO: {why}")
    };
    let slow = last(
        "slow",
        "it read too slowly, so its queue reached outbox_bytes_max or all queues \
         outboxes_bytes_max, or it read nothing for stall_timeout",
    );
    let old = last("old", "the token that it registered with has expired");
    let left = last("left", "the client closed it");
    let excluded =
        json!({"user": "jill", "event": "mail", "exclude_connection": jill.id().to_string()});
    let everyone_but_jill =
        json!({"everyone": true, "event": "mail", "exclude_connection": jill.id().to_string()});
    let excludes =
        "the only connection registered for the event is the one that the push leaves out";
    let late = "ttl_seconds had passed before the push was accepted";
    let none = "none of 2 users got the message; results gives the reason for each";
    for (fields, reason, detail) in [
        (json!({"user": "jack"}), json!("user_offline"), "user jack has no connection"),
        (json!({"user": "left"}), json!("user_offline"), &*left),
        (json!({"user": "slow"}), json!("slow_consumer"), &*slow),
        (json!({"user": "old"}), json!("expired"), &*old),
        (
            json!({"user": "jill"}),
            json!("no_registration_for_event"),
            "user jill has 1 connection, none registered for news",
        ),
        (excluded, json!("excluded"), excludes),
        (json!({"user": "jill", "event": "mail", "ttl_seconds": 1e-9}), json!("expired"), late),
        (json!({"everyone": true, "event": "mail", "ttl_seconds": 1e-9}), json!("expired"), late),
        (everyone_but_jill, json!("excluded"), excludes),
        (
            json!({"everyone": true}),
            json!("no_registration_for_event"),
            "nobody is registered for news",
        ),
        (json!({"users": ["jack", "rose"]}), json!("user_offline"), none),
        (json!({"users": ["jack", "jill"]}), json!(null), none),
    ] {
        let answer = outcome(&asking(&api), fields.clone()).await;
        assert_eq!(answer["reason"], reason, "{fields}");
        let told = answer["detail"].as_str().unwrap();
        // The test may be slow.
        let ago = told.split_once("was closed ").and_then(|(_, it)| it.split_once(": "));
        let told = ago.map_or_else(|| told.into(), |(ago, _)| told.replacen(ago, "AGO", 1));
        assert_eq!(told, detail, "{fields}");
        let counts = ["matched", "written", "queued", "dropped"].map(|it| &answer[it]);
        assert_eq!(counts, [0; 4], "{fields}");
    }
    assert_eq!(jill.outbox().wire().written(), b"");
}

/// A refusal of the authoriser comes before the body is read, and is noted among strangers.
#[tokio::test]
async fn each_refusal_of_the_authoriser_has_its_answer() {
    let key = |why| format!("the push key is {why}");
    let judge: fn(&str) -> Result<Publisher, PushRefusal> = |name| {
        Err(match name {
            "missing" => PushRefusal::Missing,
            "wrong" => PushRefusal::Wrong,
            "expired" => PushRefusal::Expired,
            "early" => PushRefusal::NotYetValid,
            "often" => PushRefusal::RateExceeded { wait: Duration::from_millis(1500) },
            _ => PushRefusal::unavailable("no answer"),
        })
    };
    for (name, status, problem, detail, retry_after) in [
        ("missing", 401, "unauthorized", key("missing"), None),
        ("wrong", 401, "unauthorized", key("wrong"), None),
        ("expired", 401, "unauthorized", key("expired"), None),
        ("early", 401, "unauthorized", key("not yet valid"), None),
        (
            "often",
            429,
            "push_rate",
            "this push key has reached its pushes_per_second".into(),
            Some(2),
        ),
        (
            "nobody",
            503,
            "authorizer_unavailable",
            "the push authoriser is unavailable".into(),
            Some(1),
        ),
    ] {
        let api = fixture::api_with(|it| {
            it.push_authorizer = Arc::new(authorize_with(move |request| async move {
                assert_eq!(request.peer.to_string(), "192.0.2.1:7");
                judge(name)
            }));
        });
        let headers = [(ACCEPT, "application/json")];
        let asking = Asking { peer: "192.0.2.1:7", headers: &headers, ..asking(&api) };
        for target in ["/push", "/v2/push", "/v2/push/batch"] {
            let answer = asking.post(target, "").await;
            assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, problem), "{target}");
            assert_eq!(answer.json()["detail"], detail, "{target}");
            assert_eq!(answer.json()["retry_after"], json!(retry_after), "{target}");
        }
        assert_eq!((refused(&api, problem), noted(&api, None)), (3, vec![problem; 3]));
    }
}

#[tokio::test]
async fn names_and_ids_are_checked_and_named() {
    let api = fixture::api();
    let (long, longest) = ("x".repeat(4097), "x".repeat(4096));
    let headers = [(ACCEPT, "application/json")];
    let asking = Asking { headers: &headers, ..asking(&api) };
    let v1 = |name: &str, event: &str| json!({"userId": name, "event": event, "message": "m"});
    let v2 = |fields: Value| with(json!({"event": "news", "message": "m"}), fields);
    for (target, push, problem, field) in [
        ("/push", v1(&long, "news"), "name_too_long", "userId"),
        ("/push", v1("jack", &long), "name_too_long", "event"),
        ("/push", v1("", "news"), "body_invalid", "userId"),
        ("/v2/push", v2(json!({"user": long})), "name_too_long", "user"),
        ("/v2/push", v2(json!({"users": ["jack", long]})), "name_too_long", "users[1]"),
        ("/v2/push", v2(json!({"user": "jack", "event": long})), "name_too_long", "event"),
        ("/v2/push", v2(json!({"user": ""})), "body_invalid", "user"),
        (
            "/v2/push",
            v2(json!({"user": "jack", "exclude_connection": "x"})),
            "body_invalid",
            "exclude_connection",
        ),
    ] {
        let answer = asking.post(target, &push.to_string()).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.problem()),
            (400, problem),
            "{target} {field}"
        );
        let answer = answer.json();
        assert_eq!(answer["field"], field, "{target}");
        if problem == "name_too_long" {
            let limit = ["limit", "limit_name", "setting"].map(|it| &answer[it]);
            assert_eq!(limit, [&json!(4096), &json!("name_bytes_max"), &json!("name_bytes_max")]);
        }
    }
    assert_eq!(asking.post("/push", &v1(&longest, &longest).to_string()).await.status, 200);
}
