//! Refusals in JSON: each with its type, and what a program needs to act on it.

use serde_json::{Value, json};

use crate::api::ask;
use crate::harness::Server;
use crate::raw::{End, Raw, handshake, request};

const JSON: (&str, &str) = ("accept", "application/json");

/// The members beside status and title, without `detail`, in their order.
fn told(problem: &Value) -> Value {
    let mut told = problem.clone();
    let members = told.as_object_mut().unwrap();
    for member in ["status", "title", "detail"] {
        assert!(members.remove(member).is_some(), "{member} in {problem}");
    }
    told["type"] = told["type"].as_str().unwrap().trim_start_matches("urn:wserver:problem:").into();
    told
}

#[test]
fn a_refused_push_is_a_problem_for_who_asks_for_json() {
    let server =
        Server::start_with(&["--name-bytes-max", "100", "--message-bytes-max", "1KiB"], &[]);
    let push = |user: &str, message: &str| {
        json!({"userId": user, "event": "news", "message": message}).to_string()
    };
    for (body, status, expected) in [
        ("{".to_owned(), 400, json!({"type": "body_invalid"})),
        ("[]".to_owned(), 400, json!({"type": "body_invalid"})),
        (
            r#"{"userId":"a","event":"e"}"#.to_owned(),
            400,
            json!({"type": "body_invalid", "field": "message"}),
        ),
        (
            r#"{"userId":7,"event":"e","message":"m"}"#.to_owned(),
            400,
            json!({"type": "body_invalid", "field": "userId"}),
        ),
        (
            push(&"x".repeat(101), "m"),
            400,
            json!({"type": "name_too_long", "field": "userId", "limit": 100, "limit_name": "name_bytes_max", "setting": "name_bytes_max"}),
        ),
        (
            push("jack", &"x".repeat(1025)),
            413,
            json!({"type": "message_too_large", "field": "message", "limit": 1024, "limit_name": "message_bytes_max", "setting": "message_bytes_max"}),
        ),
    ] {
        let (answer, problem) = ask(&server, "POST", "/push", &[JSON], &body);
        assert_eq!((answer.status, told(&problem)), (status, expected), "{body}");
        // The header tells it as it does beside text.
        assert_eq!(answer.error(), problem["detail"], "{answer:?}");
    }
}

#[test]
fn what_is_refused_before_the_body_is_a_problem_too() {
    let server = Server::start();
    let (answer, problem) = ask(&server, "PUT", "/push", &[JSON], "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(told(&problem), json!({"type": "method_not_allowed"}));
    let (answer, problem) =
        ask(&server, "POST", "/push", &[JSON, ("origin", "https://evil.example")], "");
    assert_eq!(
        (answer.status, told(&problem)),
        (403, json!({"type": "push_needs_key", "setting": "push_key_file"}))
    );

    // Where pushes are not taken at all, too.
    let server = Server::start_as_shipped("127.0.0.1:0", &[]);
    let (answer, problem) = ask(&server, "POST", "/push", &[JSON], "");
    assert_eq!(
        (answer.status, told(&problem)),
        (403, json!({"type": "push_needs_key", "setting": "push_key_file"}))
    );

    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", "right-0123456789")]);
    for target in ["/push", "/v2/push", "/v2/push/batch", "/v2/node"] {
        let method = if target == "/v2/node" { "GET" } else { "POST" };
        let mut raw = Raw::connect(&server);
        // Not one byte of the body is sent, so the answer cannot have waited for it.
        raw.send(format!("{method} {target} HTTP/1.1\r\nhost: h\r\naccept: application/json\r\ncontent-length: 1000\r\n\r\n"));
        let answer = raw.answer();
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer")),
            "{target}"
        );
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told(&problem), json!({"type": "unauthorized"}));
        assert_eq!(raw.end(), End::Eof, "{target}");
    }
}

#[test]
fn what_the_api_does_not_know_is_named() {
    let server = Server::start();
    for (method, target, body, status, expected) in [
        ("GET", "/v2/", "", 404, json!({"type": "not_found"})),
        ("GET", "/v2/nothing", "", 404, json!({"type": "not_found"})),
        ("GET", "/v2/push", "", 405, json!({"type": "method_not_allowed"})),
        ("POST", "/v2/push", "x", 400, json!({"type": "body_invalid"})),
        (
            "POST",
            "/v2/push",
            r#"{"userId":"a"}"#,
            400,
            json!({"type": "body_invalid", "field": "userId"}),
        ),
        (
            "POST",
            "/v2/push",
            r#"{"users":["a",""],"event":"e","message":"m"}"#,
            400,
            json!({"type": "body_invalid", "field": "users[1]"}),
        ),
        (
            "POST",
            "/v2/push",
            r#"{"user":"a","event":"e","message":"m","exclude_connection":"x"}"#,
            400,
            json!({"type": "body_invalid", "field": "exclude_connection"}),
        ),
        ("GET", "/v2/connections/x", "", 404, json!({"type": "connection_unknown", "field": "id"})),
        (
            "DELETE",
            "/v2/connections/999",
            "",
            404,
            json!({"type": "connection_unknown", "field": "id"}),
        ),
        (
            "GET",
            "/v2/users/%ff/connections",
            "",
            400,
            json!({"type": "parameter_invalid", "field": "user"}),
        ),
        (
            "GET",
            "/v2/users//connections",
            "",
            400,
            json!({"type": "parameter_invalid", "field": "user"}),
        ),
        (
            "GET",
            "/v2/explain?user=a",
            "",
            400,
            json!({"type": "parameter_invalid", "field": "event"}),
        ),
        (
            "GET",
            "/v2/explain?user=a&event=b&x=c",
            "",
            400,
            json!({"type": "parameter_invalid", "field": "query"}),
        ),
        ("GET", "/v2/trace", "", 400, json!({"type": "parameter_invalid", "field": "user"})),
    ] {
        let (answer, problem) = ask(&server, method, target, &[], body);
        assert_eq!((answer.status, told(&problem)), (status, expected), "{method} {target} {body}");
    }
}

#[test]
fn the_description_is_served_to_everybody() {
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", "right-0123456789")]);
    let (answer, document) = ask(&server, "GET", "/openapi.json", &[], "");
    assert_eq!(answer.status, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let (answer, _) = ask(&server, "POST", "/openapi.json", &[], "");
    assert_eq!(answer.status, 405);
}

/// A refused handshake stays what browsers and their programs know, whatever it says it accepts.
#[test]
fn a_handshake_is_refused_in_text() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send(handshake(&[JSON, ("sec-websocket-version", "8")]).into_bytes());
    let answer = raw.answer();
    assert_eq!(
        (answer.status, &*answer.body),
        (426, "WebSocket version not supported: Sec-WebSocket-Version must be 13")
    );
    // Nor is what is asked of a path that is none of the API's.
    let mut raw = Raw::connect(&server);
    raw.send(request("GET", "/nothing", &[JSON], ""));
    assert_eq!(raw.answer().body, "not found: no such path");
}
