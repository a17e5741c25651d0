//! Streams of Server-Sent Events against the real binary: who gets one, what comes by it, and how it
//! ends.

use std::io::Read as _;

use serde_json::{Value, json};

use crate::api::{gone, good, only_connection};
use crate::client::Client;
use crate::harness::{Server, eventually};
use crate::judge::SECRET;
use crate::raw::{Raw, Socket, push};
use crate::settings::file;

/// A stream, by chunks of its body as they come.
struct Events {
    raw: Raw,
    body: String,
}

/// The head of an answer, and the stream behind it if there is one.
struct Opened {
    status: u16,
    head: String,
    events: Events,
}

fn request(target: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request + "\r\n"
}

fn open_on(mut raw: Raw, target: &str, headers: &[(&str, &str)]) -> Opened {
    raw.send(request(target, headers));
    let mut events = Events { raw, body: String::new() };
    let head = loop {
        if let Some((head, rest)) = events.body.split_once("\r\n\r\n") {
            let (head, rest) = (head.to_lowercase(), rest.to_owned());
            events.body = rest;
            break head;
        }
        assert!(events.read(), "no answer: {}", events.body);
    };
    let status = head["http/1.1 ".len()..][..3].parse().unwrap();
    Opened { status, head, events }
}

fn open(server: &Server, target: &str, token: &str) -> Opened {
    let bearer = format!("Bearer {token}");
    open_on(Raw::connect(server), target, &[("authorization", &bearer)])
}

impl Events {
    /// A stream of ann's with these events, and what its first event said.
    fn of_ann(server: &Server, query: &str) -> (Self, Value) {
        let opened = open(server, &format!("/events?{query}"), "ann");
        assert_eq!(opened.status, 200, "{}", opened.head);
        let mut events = opened.events;
        let (_, event, data) = events.next().expect("the reply");
        assert_eq!(event, "wserver");
        (events, serde_json::from_str(&data).unwrap())
    }

    /// Reads more of the body, chunk by chunk; false at its end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.raw.stream.read(&mut bytes).unwrap();
        self.body += std::str::from_utf8(&bytes[..count]).unwrap();
        count > 0
    }

    /// The id, name and data of the next event; `None` at the end of the stream.
    fn next(&mut self) -> Option<(String, String, String)> {
        self.next_with_retry().map(|(_, event)| event)
    }

    fn next_with_retry(&mut self) -> Option<(Option<u64>, (String, String, String))> {
        let mut retry = None;
        loop {
            // Heads of chunks are lines of hexadecimal digits, which no field begins with.
            let Some((block, rest)) = self.body.split_once("\n\n") else {
                if !self.read() {
                    return None;
                }
                continue;
            };
            let (block, rest) = (block.to_owned(), rest.to_owned());
            self.body = rest;
            let (mut id, mut event, mut data) = (String::new(), String::new(), Vec::new());
            for line in block.lines() {
                match line.split_once(": ") {
                    Some(("id", value)) => value.clone_into(&mut id),
                    Some(("event", value)) => value.clone_into(&mut event),
                    Some(("data", value)) => data.push(value.to_owned()),
                    Some(("retry", value)) => retry = Some(value.parse().unwrap()),
                    _ => {}
                }
            }
            if !data.is_empty() {
                return Some((retry, (id, event, data.join("\n"))));
            }
        }
    }
}

fn own(events: &mut Events) -> (Option<u64>, Value) {
    let (retry, (_, event, data)) = events.next_with_retry().expect("an event");
    assert_eq!(event, "wserver", "{data}");
    (retry, serde_json::from_str(&data).unwrap())
}

#[test]
fn a_stream_is_a_connection_like_any_other() {
    let server = Server::start();
    let opened = open(&server, "/events?event=news&event=chat&event=news", "ann");
    assert_eq!(opened.status, 200);
    for line in [
        "content-type: text/event-stream",
        "cache-control: no-store, no-transform",
        "x-accel-buffering: no",
        "connection: close",
        "access-control-allow-origin: *",
    ] {
        assert!(opened.head.contains(line), "{line} is not in {}", opened.head);
    }
    let mut events = opened.events;
    let (_, reply) = own(&mut events);
    assert_eq!(reply["ok"]["registered"], json!(["news", "chat"]), "{reply}");
    let connection = only_connection(&server, "ann");
    assert_eq!(reply["hello"]["connection"], json!(connection));

    let mut v1 = Socket::registered(&server, "ann", "news");
    let _v2 = Client::registered(&server, "ann", &["news"]);
    assert_eq!(push(&server, "ann", "news", "one\r\ntwo\n"), 3);
    assert_eq!(push(&server, "ann", "chat", "{\"a\": 1}"), 1);
    assert_eq!(v1.next().payload, b"one\r\ntwo\n");
    assert_eq!(events.next().unwrap(), (String::new(), "news".into(), "one\ntwo\n".into()));
    assert_eq!(events.next().unwrap().2, "{\"a\": 1}");
    drop((events, v1, _v2));
    gone(&server, "ann");
}

#[test]
fn a_request_behind_others_gets_its_stream() {
    let server = Server::start();
    let mut raw = Raw::connect(&server);
    raw.send("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(raw.answer().status, 200);
    let opened = open_on(raw, "/events?event=news", &[("authorization", "Bearer ann")]);
    assert_eq!(opened.status, 200);
    let mut events = opened.events;
    own(&mut events);
    assert_eq!(push(&server, "ann", "news", "m"), 1);
    assert_eq!(events.next().unwrap().2, "m");
}

#[test]
fn what_trying_again_cannot_change_is_a_status() {
    let tokens = file("tokens", "t0ken ann\n");
    let server = Server::start_with(&["--tokens-file", tokens.path()], &[]);
    for (target, token, status, words) in [
        ("/events?event=news", None, 401, "the request has no token"),
        ("/events?event=news", Some("wrong"), 401, "the token is unknown or malformed"),
        ("/events", Some("t0ken"), 400, "must name at least one event"),
        ("/events?event=", Some("t0ken"), 400, "the event is empty"),
        ("/events?event=error", Some("t0ken"), 403, "an EventSource or the server uses itself"),
        ("/events?event=wserver", Some("t0ken"), 403, "an EventSource or the server uses itself"),
        ("/events?event=a%0Ab", Some("t0ken"), 403, "has a CR, LF or NUL"),
    ] {
        let mut raw = Raw::connect(&server);
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
        raw.send(request(target, &headers));
        let answer = raw.answer();
        assert_eq!(answer.status, status, "{target} {answer:?}");
        assert!(answer.body.contains(words), "{target} {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    // One event of several is refused, and the others are registered.
    let (_events, reply) = {
        let opened = open(&server, "/events?event=error&event=news", "t0ken");
        let mut events = opened.events;
        let (_, reply) = own(&mut events);
        (events, reply)
    };
    assert_eq!(reply["ok"]["registered"], json!(["news"]));
    assert_eq!(reply["ok"]["refused"][0]["event"], "error");
}

#[test]
fn what_is_temporary_says_when_to_come_back() {
    let server = Server::start_with(&["--connections-max", "1"], &[]);
    let _first = Socket::registered(&server, "ann", "news");
    let opened = open(&server, "/events?event=news", "ann");
    assert_eq!(opened.status, 200, "any other status ends an EventSource for good");
    let mut events = opened.events;
    let (retry, told) = own(&mut events);
    assert_eq!((retry, &told["error"]["code"]), (Some(5000), &json!("busy")), "{told}");
    assert!(events.next().is_none(), "and the stream ends");
}

#[test]
fn an_origin_that_may_not_connect_gets_no_stream() {
    let server = Server::start_with(&["--origin", "https://app.example"], &[]);
    let bearer = ("authorization", "Bearer ann");
    let with = |origin| {
        open_on(Raw::connect(&server), "/events?event=news", &[bearer, ("origin", origin)])
    };
    let good = with("https://app.example");
    assert_eq!(good.status, 200);
    assert!(good.head.contains("access-control-allow-origin: https://app.example"));
    assert!(good.head.contains("access-control-allow-credentials: true"));
    assert_eq!(with("https://evil.example").status, 403);
    let mut raw = Raw::connect(&server);
    raw.send(
        "OPTIONS /events HTTP/1.1\r\nhost: localhost\r\norigin: https://app.example\r\n\
         access-control-request-method: GET\r\n\r\n",
    );
    let answer = raw.answer();
    assert_eq!(answer.status, 204);
    let allowed = answer.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization, last-event-id"));
}

#[test]
fn a_stream_is_told_how_it_ends() {
    let server = Server::start();
    let (mut disconnected, _) = Events::of_ann(&server, "event=news");
    assert_eq!(push(&server, "ann", "news", "before"), 1);
    good(&server, "POST", "/v2/disconnect", &json!({"user": "ann"}));
    assert_eq!(disconnected.next().unwrap().2, "before", "what was queued comes first");
    let (retry, told) = own(&mut disconnected);
    assert_eq!(told["closed"]["code"], 4503, "{told}");
    assert_eq!(retry, Some(3_600_000), "it must stay away");
    assert!(disconnected.next().is_none());

    let (mut leaving, _) = Events::of_ann(&server, "event=news");
    server.signal("TERM");
    let (retry, told) = own(&mut leaving);
    assert_eq!(told["leaving"]["reason"], "shutdown", "{told}");
    assert_eq!(retry, told["leaving"]["in_seconds"].as_u64().map(|seconds| seconds * 1000));
    assert!(leaving.next().is_none());
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn an_expiry_ends_a_stream() {
    let secret = file("secret", SECRET);
    let flags = ["--jwt-secret-file", secret.path(), "--jwt-audience", "any", "--jwt-leeway", "0s"];
    let server = Server::start_with(&flags, &[]);
    let claims = json!({"sub": "ann", "exp": crate::judge::now() + 2});
    let token = crate::judge::hs256(SECRET.as_bytes(), &claims);
    let mut events = open(&server, "/events?event=news", &token).events;
    let (_, reply) = own(&mut events);
    assert!(reply["ok"]["expires_in"].as_u64().is_some_and(|it| it <= 2), "{reply}");
    let (_, warning) = own(&mut events);
    assert!(warning["expiring"].is_object(), "{warning}");
    assert_eq!(own(&mut events).1["closed"]["code"], 4003);
    assert!(events.next().is_none());
}

/// An `EventSource` that comes back says where it stands, and so does a page that was just loaded.
#[test]
fn what_was_missed_comes_behind_the_last_event_id() {
    let server = Server::start_with(&["--replay", "order"], &[]);
    let (mut events, reply) = Events::of_ann(&server, "event=order&event=tick");
    let begin = reply["ok"]["at"].as_str().unwrap().to_owned();
    push(&server, "ann", "order", "one");
    push(&server, "ann", "tick", "not kept");
    let (id, event, data) = events.next().unwrap();
    assert_eq!((&*event, &*data), ("order", "one"));
    assert_eq!(events.next().unwrap().0, "", "only what is kept has an id");
    drop(events);
    gone(&server, "ann");
    push(&server, "ann", "order", "two\nlines");
    let bearer = ("authorization", "Bearer ann");
    let query = format!("/events?event=order&after={begin}");
    let back = open_on(Raw::connect(&server), &query, &[bearer, ("last-event-id", &id)]);
    let mut events = back.events;
    assert_eq!(own(&mut events).1["ok"]["replaying"], 1, "the header wins");
    assert_eq!(events.next().unwrap().2, "two\nlines");
    let (mut events, reply) = Events::of_ann(&server, &format!("event=order&after={begin}"));
    assert_eq!(reply["ok"]["replaying"], 2, "{reply}");
    assert_eq!(events.next().unwrap().2, "one");
    let (_, reply) = Events::of_ann(&server, "event=order&after=nonsense");
    assert_eq!(reply["ok"]["gap"]["reason"], "restarted", "{reply}");
}

/// A reader that takes nothing is closed like any slow reader, and delays nobody.
#[test]
fn a_stream_that_is_not_read_is_closed() {
    let server = crate::api::start_with_small_queues();
    let mut raw = Raw::connect_small(&server);
    raw.send(request("/events?event=news", &[("authorization", "Bearer ann")]));
    eventually("it is registered", || crate::api::connections(&server, "ann") == 1);
    let mut other = Socket::registered(&server, "bob", "news");
    let message = "x".repeat(16 * 1024);
    eventually("it is closed", || {
        push(&server, "ann", "news", &message);
        crate::api::connections(&server, "ann") == 0
    });
    assert_eq!(push(&server, "bob", "news", "m"), 1);
    assert_eq!(other.next().payload, b"m");
    let metrics = crate::metrics::scrape(&server);
    assert!(metrics.of(r#"wserver_slow_evictions_total{bound="outbox_bytes_max"}"#) >= 1.0);
}

/// A quiet stream shows that the server lives.
#[test]
fn a_quiet_stream_has_beats() {
    let server = Server::start_with(&["--ping-interval", "200ms", "--pong-timeout", "200ms"], &[]);
    let (mut events, _) = Events::of_ann(&server, "event=news");
    while events.body.matches(":\n\n").count() < 4 {
        assert!(events.read(), "the stream goes on: {}", events.body);
    }
    assert_eq!(push(&server, "ann", "news", "m"), 1, "no pong was missed");
}
