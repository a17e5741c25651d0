//! A user followed live, over Server-Sent Events.

use std::io::{BufRead, BufReader, Read};

use serde_json::{Value, json};

use crate::api::{ask, good, only_connection, push_v1, push_v2};
use crate::harness::{Server, eventually};
use crate::raw::{Raw, Socket, masked_close, request};

/// One stream, from the events that come after its head was read.
pub(crate) struct Stream {
    /// The body, without its chunks' lengths.
    lines: BufReader<Chunks>,
}

/// Takes a chunked body apart.
struct Chunks {
    body: BufReader<std::net::TcpStream>,
    left: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            while line.trim().is_empty() {
                line.clear();
                if self.body.read_line(&mut line)? == 0 {
                    return Ok(0);
                }
            }
            self.left = usize::from_str_radix(line.trim(), 16).expect("a length");
            if self.left == 0 {
                return Ok(0);
            }
        }
        let room = self.left.min(buffer.len());
        let count = self.body.read(&mut buffer[..room])?;
        self.left -= count;
        Ok(count)
    }
}

impl Stream {
    pub(crate) fn open(server: &Server, user: &str) -> Self {
        let raw = Raw::connect(server);
        let mut stream = raw.stream;
        let target = format!("/v2/trace?user={user}");
        std::io::Write::write_all(&mut stream, &request("GET", &target, &[], "")).unwrap();
        let mut body = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(body.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let head = head.to_lowercase();
        for part in [
            "http/1.1 200",
            "content-type: text/event-stream",
            "cache-control: no-cache",
            "x-accel-buffering: no",
        ] {
            assert!(head.contains(part), "{part} in {head}");
        }
        Self { lines: BufReader::new(Chunks { body, left: 0 }) }
    }

    /// The next event and its data; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<(String, Value)> {
        let (mut event, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(name) = line.strip_prefix("event:") {
                name.trim().clone_into(&mut event);
            } else if let Some(text) = line.strip_prefix("data:") {
                text.trim().clone_into(&mut data);
            } else if line.is_empty() && !event.is_empty() {
                return Some((event, serde_json::from_str(&data).unwrap()));
            } else {
                assert!(line.is_empty() || line.starts_with(':'), "{line}");
            }
        }
    }

    /// The next event, which must be this one.
    pub(crate) fn expect(&mut self, event: &str) -> Value {
        let (name, data) = self.next().expect("an event");
        assert_eq!(name, event, "{data}");
        data
    }
}

#[test]
fn everything_that_happens_to_a_user_is_told_in_order() {
    let server = Server::start();
    let mut trace = Stream::open(&server, "jack");
    push_v1(&server, "jack", "news", "m");
    let told = trace.expect("pushed");
    assert_eq!((&told["user"], &told["event"]), (&json!("jack"), &json!("news")), "{told}");
    assert_eq!(told["delivery"]["reason"], "user_offline");
    assert_eq!(told["sentence"], "nobody got a push for news: user_offline");

    let mut socket = Socket::registered(&server, "jack", "news");
    let told = trace.expect("registered");
    let id = told["connection"].as_str().unwrap().to_owned();
    assert_eq!((&told["event"], &told["user"]), (&json!("news"), &json!("jack")));
    assert_eq!(id, only_connection(&server, "jack"));
    assert!(told["at"].as_str().unwrap().ends_with('Z'), "{told}");

    // Another user's is another's.
    let _jill = Socket::registered(&server, "jill", "news");
    push_v1(&server, "jill", "news", "m");
    push_v2(&server, json!({"user": "jack"}));
    let told = trace.expect("pushed");
    assert_eq!(
        (&told["delivery"]["written"], &told["sentence"]),
        (&json!(1), &json!("a push for news went to 1 connection"))
    );

    let target = format!("/v2/connections/{id}/registrations?user=jack&event=news");
    good(&server, "DELETE", &target, &Value::Null);
    trace.expect("unregistered");
    let body = json!({"user": "jack", "event": "chat"}).to_string();
    ask(&server, "PUT", &format!("/v2/connections/{id}/registrations"), &[], body);
    trace.expect("registered");

    let mut large = json!({"user": "jack", "event": "news"});
    large["message"] = "x".repeat(1024 * 1024 + 1).into();
    assert_eq!(ask(&server, "POST", "/v2/push", &[], large.to_string()).0.status, 413);
    assert_eq!(trace.expect("push_refused")["reason"], "message_too_large");

    socket.next();
    socket.send(masked_close(1000, b""));
    socket.closed();
    let told = trace.expect("closed");
    assert_eq!((&told["reason"], &told["connection"]), (&json!("peer_closed"), &json!(id)));
}

#[test]
fn traces_are_bounded_and_given_back() {
    let server = Server::start_with(&["--traces-max", "2"], &[]);
    let first = Stream::open(&server, "jack");
    let _second = Stream::open(&server, "jack");
    let (answer, problem) = ask(&server, "GET", "/v2/trace?user=jack", &[], "");
    assert_eq!(
        (answer.status, &problem["setting"], &problem["limit"]),
        (503, &json!("traces_max"), &json!(2))
    );
    drop(first);
    eventually("a trace is free again", || {
        // Its end is noticed with the next thing that is written to it.
        push_v1(&server, "jack", "news", "m");
        let mut raw = Raw::connect(&server);
        raw.send(request("GET", "/v2/trace?user=jack", &[], ""));
        let mut head = [0; 12];
        raw.stream.read_exact(&mut head).unwrap();
        &head == b"HTTP/1.1 200"
    });
}

/// Nobody waits for a reader, and the next entry says how many there were that it did not get.
#[test]
fn a_reader_that_is_too_slow_is_told_what_it_missed() {
    let server = Server::start();
    let mut trace = Stream::open(&server, "jack");
    let mut raw = Raw::connect(&server);
    // Long names fill the sockets' buffers on the way; this is far more than they hold.
    let event = "e".repeat(4000);
    for _ in 0..10_000 {
        raw.push("jack", &event, "m");
    }
    let mut pushes = 0;
    let missed = loop {
        match trace.next().expect("an event") {
            (name, _) if name == "pushed" => pushes += 1,
            (name, told) if name == "missed" => break told["missed"].as_u64().unwrap(),
            (name, told) => panic!("{name} {told}"),
        }
        if pushes > 256 {
            // What waited is read: the next one says what was missed before it.
            raw.push("jack", &event, "m");
        }
    };
    assert!(missed > 0 && pushes + missed <= 30_000, "{pushes} {missed}");
}

#[test]
fn a_shutdown_ends_a_trace_at_once() {
    // Long enough that a drain which waited for the trace would not end within the test.
    let server = Server::start_with(&["--drain-timeout", "1h"], &[]);
    let mut trace = Stream::open(&server, "jack");
    server.signal("TERM");
    assert_eq!(trace.next(), None);
    let (status, _) = server.wait();
    assert_eq!(status.code(), Some(0));
}
