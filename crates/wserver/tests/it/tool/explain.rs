//! `wserver explain` and `wserver trace`, and what a push says of itself.

use super::*;

/// What `wserver explain` says, in lines.
fn explain(server: &Server, arguments: &[&str]) -> (i32, Vec<String>) {
    let url = url(server);
    let (code, printed, told) =
        said(&tool(&[&["explain", "--url", &url], arguments].concat(), &[], ""));
    assert_eq!(told, "", "{printed}");
    (code, printed.lines().map(str::to_owned).collect())
}

#[test]
fn a_push_says_why_nobody_got_it_and_explain_says_more() {
    let server = Server::start();
    let (code, printed, _) = push(&server, "jack", "news", "m");
    assert_eq!((code, &*printed), (2, "nobody got it: user jack has no connection\n"));
    let url = url(&server);
    let flags = ["--url", &url, "--user", "jack", "--event", "chat"];
    let listening = Listening::start(&flags, &[], "").bound(&server, "jack", "chat");
    let (code, printed, _) = push(&server, "jack", "news", "m");
    assert_eq!(code, 2);
    assert!(printed.contains("none registered for news (registered: chat)"), "{printed}");
    let (code, lines) = explain(&server, &["--user", "jack", "--event", "news"]);
    assert_eq!(code, 2);
    assert!(lines[0].contains("none registered for news"), "{lines:?}");
    let (code, lines) = explain(&server, &["--user", "jack", "--event", "chat"]);
    assert_eq!(code, 0);
    assert!(lines[0].contains("would go to 1 connection"), "{lines:?}");
    let (_, lines) = explain(&server, &["--user", "jack", "--event", "chat", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(json["now"]["would_deliver_to"], 1);
    drop(listening);

    let answer =
        tool(&["push", "--json", "--url", &url, "-u", "nobody", "-e", "news", "-m", "m"], &[], "");
    let (code, printed, _) = said(&answer);
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, json["reason"].as_str()), (2, Some("user_offline")));
}

#[test]
fn a_trace_prints_what_happens() {
    let server = Server::start();
    let url = url(&server);
    let flags = ["trace", "--url", &url, "--user", "jack"];
    for is_json in [false, true] {
        let flags = if is_json { [&flags[..], &["--json"]].concat() } else { flags.to_vec() };
        let mut tracing = Listening::spawn(&flags, &[], "");
        assert_eq!(tracing.told(), "tracing: jack\n");
        push(&server, "rose", "news", "m");
        push(&server, "jack", "news", "m");
        let line = tracing.message();
        if is_json {
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&entry["what"], &entry["event"]), (&"pushed".into(), &"news".into()));
        } else {
            assert!(line.contains("Z nobody got a push for news"), "{line}");
        }
        assert_eq!(tracing.interrupt(), (0, String::new(), String::new()));
    }
    let mut tracing = Listening::spawn(&flags, &[], "");
    assert_eq!(tracing.told(), "tracing: jack\n");
    server.signal("TERM");
    let (code, _, told) = tracing.end();
    assert_eq!(code, 1);
    assert!(told.contains("the server ended the trace"), "{told}");
}
