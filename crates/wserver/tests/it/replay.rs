//! Messages that are kept for clients that come back, against the real binary.

use serde_json::{Value, json};
use wserver_auth::PublisherKeyHash;

use crate::api::{ask, gone, good};
use crate::client::Client;
use crate::harness::Server;
use crate::metrics::scrape;
use crate::raw::{Socket, push};
use crate::settings::file;
use crate::trace::Stream;

fn start(flags: &[&str]) -> Server {
    Server::start_with(&[&["--replay", "order,chat.*"], flags].concat(), &[])
}

/// Registers order and tick for ann behind a position; returns the client and what it was told.
fn come_back(server: &Server, after: &Value) -> (Client, Value) {
    let mut client = Client::open(server);
    let reply = client
        .ask(&json!({"id": 1, "register": ["order", "tick"], "token": "ann", "after": after}));
    let mut ok = reply["ok"].clone();
    assert_eq!(ok["registered"], json!(["order", "tick"]), "{reply}");
    ok.as_object_mut().unwrap().remove("registered");
    (client, ok)
}

fn kept(server: &Server, event: &str, message: &str) -> Value {
    good(server, "POST", "/v2/push", &json!({"user": "ann", "event": event, "message": message}))
}

#[test]
fn a_client_gets_what_it_has_missed_and_nothing_twice() {
    let server = start(&[]);
    let mut client = Client::open(&server);
    let reply = client.ask(&json!({"id": 1, "register": ["order", "tick"], "token": "ann"}));
    assert_eq!(reply["hello"]["features"], json!(["replay"]), "{reply}");
    let begin = reply["ok"]["at"].clone();
    let first = kept(&server, "order", "one");
    assert_eq!((&first["is_kept"], &first["matched"]), (&json!(true), &json!(1)));
    let tick = kept(&server, "tick", "of the moment");
    assert_eq!(tick.get("is_kept"), None, "{tick}");
    let (head, message) = client.pushed();
    assert_eq!((&head["id"], &*message), (&first["id"], "one"));
    let at = head["at"].clone();
    assert!(at != begin && client.pushed().0.get("at").is_none());
    drop(client);
    gone(&server, "ann");

    let second = kept(&server, "order", "two");
    assert_eq!((&second["matched"], &second["reason"]), (&json!(0), &json!("user_offline")));
    kept(&server, "tick", "lost");
    assert_eq!(push(&server, "ann", "order", "three"), 0, "a push of version 1 is kept as well");
    kept(&server, "chat.other", "not of its events");
    let (mut client, told) = come_back(&server, &at);
    assert_eq!(told, json!({"at": at, "replaying": 2}));
    assert_eq!(kept(&server, "order", "four")["matched"], 1);
    let heard: Vec<_> = (0..3).map(|_| client.pushed()).collect();
    let messages: Vec<_> = heard.iter().map(|(_, message)| &**message).collect();
    assert_eq!(messages, ["two", "three", "four"]);
    assert_eq!(heard[0].0["id"], second["id"], "one word follows a message");
    let (_, told) = come_back(&server, &heard[2].0["at"]);
    assert_eq!(told, json!({"at": heard[2].0["at"], "replaying": 0}));
    let (mut again, told) = come_back(&server, &begin);
    assert_eq!(told, json!({"at": begin, "replaying": 4}));
    assert_eq!(again.pushed().1, "one");
    let metrics = scrape(&server);
    assert_eq!(metrics.of("wserver_replay_resumed_total"), 3.0);
    assert_eq!(metrics.of("wserver_replay_messages_total"), 6.0);
    assert_eq!(metrics.of("wserver_replay_logs"), 1.0);
}

#[test]
fn a_position_that_the_server_did_not_give_is_a_gap() {
    let server = start(&["--drain-spread", "7s"]);
    for after in ["", "of another product", "5f3a9c01b2d4.0000002a"] {
        let (mut client, told) = come_back(&server, &json!(after));
        let gap = json!({"reason": "restarted", "spread_seconds": 7});
        assert_eq!(told["gap"], gap, "{after}");
        assert!(told["at"].is_string() && told.get("replaying").is_none(), "{told}");
        assert_eq!(kept(&server, "order", "from now on")["matched"], 1);
        assert_eq!(client.pushed().1, "from now on");
        drop(client);
        gone(&server, "ann");
    }
    assert_eq!(scrape(&server).of(r#"wserver_replay_gaps_total{reason="restarted"}"#), 3.0);
    let mut client = Client::registered(&server, "bob", &["order"]);
    let reply = client.ask(&json!({"id": 2, "register": ["chat.a"], "token": "bob", "after": "x"}));
    let error = &reply["error"];
    assert_eq!(error["code"], "malformed", "{reply}");
    assert_eq!(error["detail"], "after belongs to the first registration of a connection");
}

#[test]
fn what_had_no_room_is_a_gap_and_never_a_part() {
    let server = start(&["--replay-bytes-per-user-max", "2KiB"]);
    let (client, told) = come_back(&server, &json!(""));
    let at = told["at"].clone();
    drop(client);
    gone(&server, "ann");
    for _ in 0..5 {
        kept(&server, "order", &"x".repeat(500));
    }
    let (mut client, told) = come_back(&server, &at);
    assert_eq!(told["gap"], json!({"reason": "evicted", "spread_seconds": 0}));
    kept(&server, "order", "the next");
    assert_eq!(client.pushed().1, "the next");
    assert!(scrape(&server).of("wserver_replay_evicted_total") > 0.0);
}

/// An operator learns why a client had a gap, and sees replays live.
#[test]
fn a_gap_is_explained() {
    let server = start(&["--replay-bytes-per-user-max", "1KiB"]);
    let (client, told) = come_back(&server, &json!("of another server"));
    drop(client);
    gone(&server, "ann");
    for _ in 0..5 {
        kept(&server, "order", &"x".repeat(300));
    }
    let (_client, _) = come_back(&server, &told["at"]);
    let told = good(&server, "GET", "/v2/explain?user=ann&event=order", &Value::Null);
    let gaps = told["recent"].as_array().unwrap().iter().filter(|entry| entry["what"] == "gap");
    let reasons: Vec<_> = gaps.map(|entry| &entry["reason"]).collect();
    assert_eq!(reasons, ["restarted", "evicted"], "{told}");
    let replay = &told["now"]["replay"];
    assert_eq!((&replay["is_kept"], &replay["logs"][0]["messages"]), (&json!(true), &json!(1)));
    assert!(replay["logs"][0]["bytes"].as_u64().unwrap() > 300, "{replay}");
    let sentences = told["sentences"].to_string();
    assert!(sentences.contains("kept for user ann: 1 message ("), "{told}");
    assert!(sentences.contains("was told that messages are missing: they made room"), "{told}");
}

/// Whoever follows a user sees what became of those who come back.
#[test]
fn replays_and_gaps_are_traced() {
    let server = start(&[]);
    let at = good(&server, "POST", "/v2/position", &json!({"user": "ann"}))["at"].clone();
    kept(&server, "order", "one");
    kept(&server, "order", "two");
    let mut trace = Stream::open(&server, "ann");
    let (_client, _) = come_back(&server, &at);
    let connection = trace.expect("registered")["connection"].clone();
    trace.expect("registered");
    let told = trace.expect("resumed");
    assert_eq!((&told["replayed"], &told["connection"]), (&json!(2), &connection), "{told}");
    let sentence = told["sentence"].as_str().unwrap();
    assert!(sentence.ends_with(" came back and got 2 messages that it had missed"), "{told}");
    let (_other, _) = come_back(&server, &json!("of another server"));
    trace.expect("registered");
    trace.expect("registered");
    assert_eq!(trace.expect("gap")["reason"], "restarted");
}

/// First the position, then the data, then the page with both.
#[test]
fn a_page_that_was_just_loaded_misses_nothing() {
    let server = start(&[]);
    let at = good(&server, "POST", "/v2/position", &json!({"user": "ann"}))["at"].clone();
    assert_eq!(kept(&server, "order", "while it loads")["is_kept"], true);
    let (mut client, told) = come_back(&server, &at);
    assert_eq!(told, json!({"at": at, "replaying": 1}));
    assert_eq!(client.pushed().1, "while it loads");

    let without = Server::start();
    let (answer, _) =
        ask(&without, "POST", "/v2/position", &[], json!({"user": "ann"}).to_string());
    assert!(answer.status == 409 && answer.body.contains("replay_off"), "{answer:?}");
    let narrow = file(
        "narrow",
        format!(
            "[[publisher]]\nname = \"bobs\"\nusers = [\"bob\"]\nkey_hash = \"{}\"\n",
            PublisherKeyHash::of("0123456789abcdef")
        ),
    );
    let server = start(&["--config", narrow.path()]);
    let key = [("authorization", "Bearer 0123456789abcdef")];
    let (answer, _) =
        ask(&server, "POST", "/v2/position", &key, json!({"user": "ann"}).to_string());
    assert_eq!(answer.status, 403, "the key has no scope for her");
}

/// Version 1 is as it was: no head, no position, and nothing that it missed.
#[test]
fn version_1_gets_no_replay() {
    let server = start(&[]);
    let client = Client::registered(&server, "ann", &["order"]);
    let mut v1 = Socket::registered(&server, "ann", "order");
    assert_eq!(push(&server, "ann", "order", "both"), 2);
    assert_eq!(v1.next().payload, b"both");
    drop((client, v1));
    gone(&server, "ann");
    kept(&server, "order", "missed");
    let mut v1 = Socket::registered(&server, "ann", "order");
    assert_eq!(push(&server, "ann", "order", "live"), 1);
    assert_eq!(v1.next().payload, b"live");
}
