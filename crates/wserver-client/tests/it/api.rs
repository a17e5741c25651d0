//! The HTTP API: what is asked for each call, and a trace as it comes.

use tokio::io::AsyncWriteExt as _;
use wserver_client::v2::{Disconnect, Push, Recipients};
use wserver_client::{Api, ApiError, TraceUpdate};

use crate::pusher::{answer, read_request, serve};
use crate::{both, listen};

fn api(address: &str) -> Api {
    Api::new(&format!("http://{address}/behind/")).unwrap().with_key("canary").unwrap()
}

/// The first line of the request that `call` makes, and its body.
macro_rules! check {
    ($name:ident => $call:expr, $json:expr, $line:expr, $body:expr) => {{
        let (listener, address) = listen().await;
        let $name = api(&address);
        let answers = [answer("200 OK", "content-type: application/json\r\n", $json)];
        let (outcome, requests) = both($call, serve(&listener, &answers)).await;
        outcome.unwrap();
        let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
        assert_eq!(head.lines().next(), Some($line));
        assert!(head.contains("authorization: Bearer canary"), "{head}");
        assert_eq!(body, $body);
    }};
}

const DELIVERED: &str =
    r#"{"id":"7","matched":0,"written":0,"queued":0,"dropped":0,"reason":"of_later","detail":"x"}"#;

#[tokio::test]
async fn each_call_is_a_request() {
    let push = || Push::new(Recipients::Everyone, "news", "m");
    check!(api => api.push(&push()), DELIVERED, "POST /behind/v2/push HTTP/1.1",
        r#"{"everyone":true,"event":"news","message":"m"}"#);
    check!(api => api.push_once("order-7", &push()), DELIVERED, "POST /behind/v2/push HTTP/1.1",
        r#"{"everyone":true,"event":"news","message":"m"}"#);
    check!(api => api.push_batch(&[push()]), r#"{"results":[]}"#,
        "POST /behind/v2/push/batch HTTP/1.1",
        r#"{"pushes":[{"everyone":true,"event":"news","message":"m"}]}"#);
    check!(api => api.presence(vec!["jack".to_owned()]), r#"{"online":{"jack":2}}"#,
        "POST /behind/v2/presence HTTP/1.1", r#"{"users":["jack"]}"#);
    check!(api => api.connections("a/b c?é"), r#"{"count":0,"connections":[]}"#,
        "GET /behind/v2/users/a%2Fb%20c%3F%C3%A9/connections HTTP/1.1", "");
    check!(api => api.disconnect(&Disconnect::User("jack".to_owned())), r#"{"closed":1}"#,
        "POST /behind/v2/disconnect HTTP/1.1", r#"{"user":"jack"}"#);
    check!(api => api.register("7", "jack", "news"), r#"{"changed":true}"#,
        "PUT /behind/v2/connections/7/registrations HTTP/1.1",
        r#"{"user":"jack","event":"news"}"#);
    check!(api => api.unregister("7", "j&k", "n+s"), r#"{"changed":true}"#,
        "DELETE /behind/v2/connections/7/registrations?user=j%26k&event=n%2Bs HTTP/1.1", "");
    check!(api => api.explain("jack", "news"),
        r#"{"user":"jack","event":"news","now":{"would_deliver_to":0,"connections":[]},"recent":[],"sentences":[]}"#,
        "GET /behind/v2/explain?user=jack&event=news HTTP/1.1", "");
}

const ENTRY: &str = r#"{"at":"2026-01-31T12:00:00.000Z","what":"closed","reason":"slow","sentence":"it read too slowly"}"#;

#[tokio::test]
async fn a_trace_comes_as_it_happens_and_ends_with_the_server() {
    let (listener, address) = listen().await;
    let api = api(&address);
    let client = async {
        let mut trace = api.trace("jack").await.unwrap();
        let mut told = Vec::new();
        while let Some(update) = trace.next_update().await.unwrap() {
            told.push(update);
        }
        assert_eq!(trace.next_update().await.unwrap(), None);
        told
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        assert!(request.starts_with("GET /behind/v2/trace?user=jack HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\naccept: text/event-stream\r"), "{request}");
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        for part in [
            ": here\n\n",
            &format!("event:closed\ndata:{ENTRY}"),
            "\n\nevent: missed\ndata: {\"missed\":3}\n\n",
        ] {
            let chunk = format!("{:x}\r\n{part}\r\n", part.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
        // The client has had its end; the connection stays open behind it.
        stream
    };
    let (told, _stream) = both(client, server).await;
    let [TraceUpdate::Entry(entry), TraceUpdate::Missed(3)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&*entry.what, entry.reason.as_deref()), ("closed", Some("slow")));
}

#[tokio::test]
async fn a_call_that_is_refused_says_why() {
    let (listener, address) = listen().await;
    let refused = r#"{"type":"urn:wserver:problem:forbidden","title":"not allowed","status":403,"detail":"this key is no admin's"}"#;
    let answers = [answer("403 Forbidden", "content-type: application/problem+json\r\n", refused)];
    for is_trace in [false, true] {
        let api = api(&address);
        let call = async {
            if is_trace { api.trace("jack").await.map(drop) } else { api.node().await.map(drop) }
        };
        let (outcome, _) = both(call, serve(&listener, &answers)).await;
        let error = outcome.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"refused with 403 Forbidden: "not allowed" ("this key is no admin's")"#
        );
    }
    let api = api(&address);
    let answers = [answer("200 OK", "", "<html>")];
    let (outcome, _) = both(api.node(), serve(&listener, &answers)).await;
    assert!(matches!(outcome.unwrap_err(), ApiError::Malformed { .. }));
}
