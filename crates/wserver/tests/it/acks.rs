//! Pushes that wait for acknowledgements, by the real binary: what the client is asked, what the
//! publisher is answered, and when.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::api::{ask, push_v2};
use crate::client::Client;
use crate::harness::{PATIENCE, Server, eventually};
use crate::metrics::scrape;
use crate::raw::{Answer, Raw, Socket, masked, request};
use crate::trace::Stream;

/// A push of news to jack that is under way.
pub(crate) struct Waiting {
    raw: Raw,
}

impl Waiting {
    /// Begins one with these members.
    pub(crate) fn begin(server: &Server, more: Value) -> Self {
        Self::begin_with(server, &[], "/v2/push", &whole(more))
    }

    fn begin_with(server: &Server, headers: &[(&str, &str)], target: &str, body: &Value) -> Self {
        let mut raw = Raw::connect(server);
        raw.send(request("POST", target, headers, body.to_string()));
        Self { raw }
    }

    pub(crate) fn answer(mut self) -> Value {
        let Answer { status, body, .. } = self.raw.answer();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

fn whole(mut more: Value) -> Value {
    for (name, value) in [("user", "jack"), ("event", "news"), ("message", "m")] {
        if name != "user" || more.get("users").is_none() {
            more[name] = value.into();
        }
    }
    more
}

/// The next message of a client, which is a push that asks to be acknowledged: its id.
pub(crate) fn asked(client: &mut Client) -> String {
    let (head, message) = client.pushed();
    assert_eq!((&head["event"], &head["ack"], &*message), (&json!("news"), &json!(true), "m"));
    head["id"].as_str().unwrap().to_owned()
}

pub(crate) fn acknowledge(client: &mut Client, id: &str) {
    client.send(&json!({"ack": [id]}));
}

fn acks(acked: usize, waiting: usize, unable: usize, lost: usize) -> Value {
    json!({"acked": acked, "waiting": waiting, "unable": unable, "lost": lost})
}

fn jack(server: &Server) -> Client {
    Client::registered(server, "jack", &["news"])
}

#[test]
fn the_first_acknowledgement_is_the_answer() {
    let server = Server::start();
    let [mut one, mut two] = [(); 2].map(|()| jack(&server));
    let mut older = Socket::registered(&server, "jack", "news");
    let waiting = Waiting::begin(&server, json!({"wait": "first", "timeout_seconds": 30}));
    let id = asked(&mut one);
    assert_eq!((asked(&mut two), older.next().payload), (id.clone(), b"m".to_vec()));
    acknowledge(&mut two, &id);
    let answer = waiting.answer();
    assert_eq!((&answer["id"], &answer["matched"]), (&json!(id), &json!(3)));
    assert_eq!(answer["acks"], acks(1, 1, 1, 0), "{answer}");
    // Too late changes nothing.
    acknowledge(&mut one, &id);
    assert_eq!(one.ask(&json!({"id": 9, "ping": {}}))["re"], 9, "there is no reply to it");
}

#[test]
fn all_are_waited_for_until_they_answer_or_end() {
    let server = Server::start();
    let [mut one, mut two, three] = [(); 3].map(|()| jack(&server));
    let waiting = Waiting::begin(&server, json!({"wait": "all", "timeout_seconds": 30}));
    let id = asked(&mut one);
    for client in [&mut one, &mut two] {
        acknowledge(client, &id);
    }
    drop(three);
    assert_eq!(waiting.answer()["acks"], acks(2, 0, 0, 1));
}

#[test]
fn the_time_is_over_or_nobody_can() {
    let server = Server::start();
    let mut client = jack(&server);
    let since = Instant::now();
    let answer = push_v2(&server, json!({"user": "jack", "wait": "first", "timeout_seconds": 0.2}));
    assert_eq!(answer["acks"], acks(0, 1, 0, 0));
    assert!(since.elapsed() >= Duration::from_millis(200));
    asked(&mut client);
    let _older = Socket::registered(&server, "rose", "news");
    for wait in ["first", "all"] {
        let ask =
            |user| push_v2(&server, json!({"user": user, "wait": wait, "timeout_seconds": 30}));
        assert_eq!(ask("rose")["acks"], acks(0, 0, 1, 0));
        let offline = ask("joe");
        assert_eq!(
            (&offline["acks"], &offline["reason"]),
            (&acks(0, 0, 0, 0), &json!("user_offline"))
        );
    }
    assert!(since.elapsed() < Duration::from_secs(30));
}

#[test]
fn each_user_is_waited_for() {
    let server = Server::start();
    let [mut jack, mut rose] =
        ["jack", "rose"].map(|user| Client::registered(&server, user, &["news"]));
    let users = json!({"users": ["jack", "rose", "joe"], "wait": "first", "timeout_seconds": 30});
    let waiting = Waiting::begin(&server, users);
    let id = asked(&mut jack);
    acknowledge(&mut jack, &id);
    assert_eq!(asked(&mut rose), id);
    // What another user's client says of it counts for nobody else.
    acknowledge(&mut jack, &id);
    drop(rose);
    let answer = waiting.answer();
    assert_eq!(answer["acks"], acks(1, 0, 0, 1));
    let of_each: Vec<&Value> =
        answer["results"].as_array().unwrap().iter().map(|it| &it["acks"]).collect();
    assert_eq!(of_each, [&acks(1, 0, 0, 0), &acks(0, 0, 0, 1), &acks(0, 0, 0, 0)]);
}

/// All are pushed before any is waited for.
#[test]
fn a_batch_waits_for_its_pushes_together() {
    let server = Server::start();
    let mut client = jack(&server);
    let pushes = [
        whole(json!({"wait": "all", "timeout_seconds": 30})),
        whole(json!({"wait": "never"})),
        whole(json!({})),
        whole(json!({"wait": "first", "timeout_seconds": 30})),
    ];
    let body = json!({ "pushes": pushes });
    let waiting = Waiting::begin_with(&server, &[], "/v2/push/batch", &body);
    let first = asked(&mut client);
    assert_eq!(client.pushed().0.get("ack"), None);
    let last = asked(&mut client);
    client.send(&json!({"ack": [last, first, "nonsense", "00000000-1"]}));
    let answer = waiting.answer();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[0]["answer"]["acks"], acks(1, 0, 0, 0), "{answer}");
    assert_eq!(results[1]["problem"]["field"], "pushes[1].wait");
    assert_eq!(results[2]["answer"].get("acks"), None);
    assert_eq!(results[3]["answer"]["acks"], acks(1, 0, 0, 0));
    eventually("both are counted", || scrape(&server).of("wserver_acks_total") == 2.0);
}

#[test]
fn a_push_to_too_many_is_refused_before_anybody_gets_it() {
    let server = Server::start_with(&["--wait-connections-max", "2"], &[]);
    let mut clients = [(); 3].map(|()| jack(&server));
    let body = whole(json!({"wait": "all"}));
    let (answer, problem) = ask(&server, "POST", "/v2/push", &[], body.to_string());
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(problem["type"], "urn:wserver:problem:too_many_items");
    assert_eq!(
        (&problem["field"], &problem["limit_name"], &problem["limit"]),
        (&json!("wait"), &json!("wait_connections_max"), &json!(2))
    );
    for client in &mut clients {
        assert_eq!(client.ask(&json!({"id": 1, "ping": {}}))["re"], 1, "it got nothing");
    }
    // The limit is one for the whole request.
    let [one, _two, _three] = clients;
    drop(one);
    eventually("it is gone", || crate::api::connections(&server, "jack") == 2);
    let item = whole(json!({"wait": "all", "timeout_seconds": 0.1}));
    let batch = json!({"pushes": [item, item]}).to_string();
    let (_, answer) = ask(&server, "POST", "/v2/push/batch", &[], batch);
    let results = answer["results"].as_array().unwrap();
    assert_eq!((&results[0]["status"], &results[1]["status"]), (&json!(200), &json!(400)));
}

#[test]
fn few_requests_wait_at_once_and_one_that_is_left_is_forgotten() {
    let server = Server::start_with(&["--waits-max", "1"], &[]);
    let mut client = jack(&server);
    let wait = json!({"wait": "first", "timeout_seconds": 30});
    let mut publisher = Raw::connect_to_reset(&server);
    publisher.send(request("POST", "/v2/push", &[], whole(wait.clone()).to_string()));
    asked(&mut client);
    assert_eq!(scrape(&server).of("wserver_waits"), 1.0);
    let (answer, problem) = ask(&server, "POST", "/v2/push", &[], whole(wait.clone()).to_string());
    assert_eq!((answer.status, &problem["type"]), (503, &json!("urn:wserver:problem:busy")));
    assert_eq!(problem["setting"], "waits_max");
    assert_eq!(scrape(&server).of("wserver_waits_refused_total"), 1.0);
    // One that only ends its side may still read the answer.
    drop(publisher);
    eventually("nobody waits", || scrape(&server).of("wserver_waits") == 0.0);
    let waiting = Waiting::begin(&server, wait);
    let id = asked(&mut client);
    acknowledge(&mut client, &id);
    assert_eq!(waiting.answer()["acks"], acks(1, 0, 0, 0));
    assert_eq!(scrape(&server).of("wserver_waits"), 0.0);
}

#[test]
fn a_repeated_push_gets_the_final_answer() {
    let server = Server::start();
    let mut client = jack(&server);
    let key = [("idempotency-key", "a")];
    let body = whole(json!({"wait": "first", "timeout_seconds": 30}));
    let waiting = Waiting::begin_with(&server, &key, "/v2/push", &body);
    let id = asked(&mut client);
    let (meanwhile, _) = ask(&server, "POST", "/v2/push", &key, body.to_string());
    assert_eq!(meanwhile.status, 409);
    acknowledge(&mut client, &id);
    let answer = waiting.answer();
    assert_eq!(answer["acks"], acks(1, 0, 0, 0));
    let (again, repeated) = ask(&server, "POST", "/v2/push", &key, body.to_string());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(repeated, answer);
}

/// Bodies of pushes have a limit in all, and a push may wait for long.
#[test]
fn a_push_that_waits_holds_no_body() {
    let flags = [
        "--message-bytes-max=256KiB",
        "--push-body-bytes-max=2MiB",
        "--push-bodies-bytes-max=2MiB",
        "--ping-interval=1h",
    ];
    let server = Server::start_with(&flags, &[]);
    let mut client = jack(&server);
    // More than half of what there is room for.
    let large = |wait: Value| {
        let mut body = whole(wait);
        body["message"] = "\u{1}".repeat(220 * 1024).into();
        body
    };
    let wait = json!({"wait": "first", "timeout_seconds": 30});
    let waiting = Waiting::begin_with(&server, &[], "/v2/push", &large(wait));
    let (head, _) = client.pushed();
    let (answer, _) = ask(&server, "POST", "/v2/push", &[], large(json!({})).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    acknowledge(&mut client, head["id"].as_str().unwrap());
    assert_eq!(waiting.answer()["acks"], acks(1, 0, 0, 0));
}

#[test]
fn what_is_no_list_of_ids_is_answered() {
    let server = Server::start();
    let mut client = jack(&server);
    for wrong in [json!({"ack": "5f3a9c01-12"}), json!({"id": 3, "ack": [7]})] {
        let reply = client.ask(&wrong);
        assert_eq!((&reply["re"], &reply["error"]["code"]), (&Value::Null, &json!("malformed")));
    }
}

/// Many ids in one message are one message.
#[test]
fn acknowledgements_count_as_messages() {
    let flags = ["--inbound-messages-per-second=1", "--inbound-messages-burst=10"];
    let server = Server::start_with(&flags, &[]);
    let mut client = jack(&server);
    let ids: Vec<String> = (0..1000).map(|number| format!("5f3a9c01-{number}")).collect();
    for _ in 0..5 {
        client.send(&json!({ "ack": ids }));
    }
    assert_eq!(client.ask(&json!({"id": 1, "ping": {}}))["re"], 1);
    let one = masked(Opcode::Text, json!({"ack": ["5f3a9c01-1"]}).to_string());
    let mut flooding = jack(&server);
    flooding.send_raw(&one.repeat(20));
    assert_eq!(flooding.closed().code, 4502);
}

#[test]
fn a_shutdown_ends_the_waiting() {
    let server = Server::start();
    let mut client = jack(&server);
    let since = Instant::now();
    let waiting = Waiting::begin(&server, json!({"wait": "first", "timeout_seconds": 30}));
    asked(&mut client);
    server.signal("TERM");
    assert_eq!(waiting.answer()["acks"], acks(0, 0, 0, 1));
    assert!(since.elapsed() < PATIENCE.min(Duration::from_secs(25)));
}

/// Whoever follows the user sees what came of it, behind the push itself.
#[test]
fn what_came_of_a_wait_is_traced() {
    let server = Server::start();
    let mut client = Client::registered(&server, "jack", &["news"]);
    let mut trace = Stream::open(&server, "jack");
    let waiting = Waiting::begin(&server, json!({"wait": "first", "timeout_seconds": 30}));
    let id = asked(&mut client);
    assert_eq!(trace.expect("pushed").get("acks"), None);
    acknowledge(&mut client, &id);
    let told = trace.expect("waited");
    assert_eq!((&told["acks"], &told["event"]), (&acks(1, 0, 0, 0), &json!("news")), "{told}");
    assert_eq!(told["sentence"], "a push for news waited: 1 connection acknowledged it");
    waiting.answer();
}
