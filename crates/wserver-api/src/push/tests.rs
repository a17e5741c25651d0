//! What pushes are answered, by either API: counts, reasons, refusals, charges, and repetitions.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::header::ACCEPT;
use serde_json::json;
use wserver_auth::{PublisherEntry, PublisherKeyHash, PublisherKeys, PushRate};
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
    let v2 = |of: serde_json::Value, event: &str, message: &str| {
        let mut push = json!({"event": event, "message": message});
        push.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
        ("/v2/push", push)
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
async fn a_key_is_used_in_one_scope() {
    for (target, body) in [
        ("/push", r#"{"userId":"jack","event":"news","message":"m"}"#),
        ("/v2/push", r#"{"user":"jack","event":"news","message":"m"}"#),
    ] {
        let api = api();
        for (key, status) in [("shop", 200), ("jacks", 422), ("roses", 403), ("shop", 200)] {
            let headers = [(KEY, key), (IDEMPOTENCY_KEY, "a")];
            let answer = Asking { headers: &headers, ..asking(&api) }.post(target, body).await;
            assert_eq!(answer.status, status, "{target} {key}: {}", answer.body);
        }
        assert_eq!(api.node.counters().pushes_total.value(), 1, "{target}");
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
    for (target, body, field) in [
        ("/v2/push", users(3), None),
        ("/v2/push", users(4), Some("users")),
        ("/v2/push/batch", batch(&[2, 1]), None),
        ("/v2/push/batch", batch(&[2, 2]), Some("pushes")),
        ("/v2/push/batch", batch(&[1, 1, 1]), None),
        ("/v2/push/batch", batch(&[1, 1, 1, 1]), Some("pushes")),
    ] {
        let answer = shop.post(target, &body.to_string()).await;
        assert_eq!(answer.status, if field.is_some() { 400 } else { 200 }, "{body}");
        if let Some(field) = field {
            assert_eq!((&*answer.problem(), field), ("too_many_items", field), "{body}");
            assert_eq!(answer.json()["field"], field, "{body}");
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

#[tokio::test]
async fn who_got_nothing_is_told_why() {
    let api = fixture::api();
    let jill = join(&api.node, MemoryWire::default(), "jill", "mail");
    let closed = join(&api.node, MemoryWire::default(), "slow", "news");
    closed.close(CloseReason::Slow);
    for (fields, reason) in [
        (json!({"user": "jack"}), json!("user_offline")),
        (json!({"user": "jill"}), json!("no_registration_for_event")),
        (json!({"user": "slow"}), json!("slow_consumer")),
        (json!({"user": "jill", "event": "mail", "ttl_seconds": 1e-9}), json!("expired")),
        (json!({"users": ["jack", "rose"]}), json!("user_offline")),
        (json!({"users": ["jack", "jill"]}), json!(null)),
    ] {
        let mut push = json!({"event": "news", "message": "m"});
        push.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = asking(&api).post("/v2/push", &push.to_string()).await.json();
        assert_eq!(answer["reason"], reason, "{push}");
        assert_eq!([&answer["written"], &answer["queued"]], [0, 0], "{push}");
    }
    assert_eq!(jill.outbox().wire().written(), b"");
}
