//! Version 2 of the protocol against the real binary: what a client asks for and is told, and how its
//! connection ends.

use serde_json::{Value, json};
use wserver_protocol::frame::Opcode;

use crate::api::{ask, good, only_connection};
use crate::harness::Server;
use crate::judge::{SECRET, claims, hs256, now};
use crate::raw::{Closed, Frame, Raw, SAMPLE_ACCEPT, Socket, handshake, masked, push, register};
use crate::settings::{File, file};

const OFFER: (&str, &str) = ("sec-websocket-protocol", "wserver.v2");

/// A connection that speaks version 2.
pub(crate) struct Client {
    socket: Socket,
}

impl Client {
    pub(crate) fn open(server: &Server) -> Self {
        Self::open_with(server, &[])
    }

    pub(crate) fn open_with(server: &Server, headers: &[(&str, &str)]) -> Self {
        let mut raw = Raw::connect(server);
        raw.send(handshake(&[&[OFFER], headers].concat()));
        let answer = raw.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-protocol"), Some("wserver.v2"));
        Self { socket: Socket { raw } }
    }

    /// One that has these events of the user `token`, by a server that takes tokens for users.
    pub(crate) fn registered(server: &Server, token: &str, events: &[&str]) -> Self {
        let mut client = Self::open(server);
        let reply = client.ask(&json!({"id": 0, "register": events, "token": token}));
        assert_eq!(reply["ok"]["registered"], json!(events), "{reply}");
        client
    }

    pub(crate) fn send(&mut self, request: &Value) {
        self.socket.send(masked(Opcode::Text, request.to_string()));
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.send(bytes);
    }

    pub(crate) fn text(&mut self) -> String {
        loop {
            let frame = self.socket.next();
            if frame.opcode == Opcode::Text as u8 {
                return String::from_utf8(frame.payload).unwrap();
            }
        }
    }

    /// The next message, which is no push.
    pub(crate) fn next(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    pub(crate) fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        self.next()
    }

    /// The next message, which is a push: its head and the message.
    pub(crate) fn pushed(&mut self) -> (Value, String) {
        let text = self.text();
        let (head, message) = text.split_once('\n').unwrap_or_else(|| panic!("no push: {text}"));
        (serde_json::from_str(head).unwrap(), message.to_owned())
    }

    pub(crate) fn closed(&mut self) -> Closed {
        self.socket.closed()
    }
}

fn code(reply: &Value) -> &str {
    reply["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {reply}"))
}

#[test]
fn the_handshake_chooses_the_version() {
    let server = Server::start();
    for (offers, chosen) in [
        (&["wserver.v2"][..], Some("wserver.v2")),
        (&["wserver.v1"], Some("wserver.v1")),
        (&["wserver.v1, wserver.v2"], Some("wserver.v2")),
        (&["soap", "wserver.v9 ,wserver.v2"], Some("wserver.v2")),
        (&["soap"], None),
        (&["WSERVER.V2"], None),
        (&[], None),
    ] {
        let headers: Vec<_> = offers.iter().map(|it| ("sec-websocket-protocol", *it)).collect();
        let mut raw = Raw::connect(&server);
        raw.send(handshake(&headers));
        let answer = raw.answer();
        assert_eq!(answer.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
        assert_eq!(answer.header("sec-websocket-protocol"), chosen, "{offers:?}");
        let mut socket = Socket { raw };
        if chosen == Some("wserver.v2") {
            let request = json!({"id": 1, "register": ["news"], "token": "ann"});
            socket.send(masked(Opcode::Text, request.to_string()));
            assert!(socket.next().payload.starts_with(b"{\"re\":1,\"ok\""));
        } else {
            socket.register("jack", "news");
        }
        assert_eq!(
            push(&server, if chosen == Some("wserver.v2") { "ann" } else { "jack" }, "news", "m"),
            1
        );
        let payload = socket.next().payload;
        assert_eq!(payload == b"m", chosen != Some("wserver.v2"), "{offers:?}");
    }
}

#[test]
fn each_request_gets_its_reply_in_order() {
    let server = Server::start();
    let mut client = Client::open(&server);
    for request in [
        json!({"id": 1, "register": ["order", "chat"], "token": "ann"}),
        json!({"id": 2, "ping": {}}),
        json!({"id": 3, "dance": {}}),
        json!({"ping": {}}),
        json!({"id": 4, "unregister": ["chat", "nothing"]}),
        json!({"id": 5, "register": ["more"]}),
    ] {
        client.send(&request);
    }
    let first = client.next();
    let connection = only_connection(&server, "ann");
    assert_eq!(
        first,
        json!({
            "re": 1,
            "ok": {"registered": ["order", "chat"]},
            "hello": {"connection": connection, "heartbeat": 25, "features": []},
        })
    );
    assert_eq!(client.next(), json!({"re": 2, "ok": {}}));
    let unknown = client.next();
    assert_eq!((&unknown["re"], code(&unknown)), (&json!(3), "unknown_request"));
    let malformed = client.next();
    assert_eq!((&malformed["re"], code(&malformed)), (&Value::Null, "malformed"));
    assert_eq!(client.next(), json!({"re": 4, "ok": {"unregistered": ["chat"]}}));
    let without = client.next();
    assert_eq!((&without["re"], code(&without)), (&json!(5), "token_missing"));
    assert_eq!(push(&server, "ann", "order", "m"), 1);
    assert_eq!(push(&server, "ann", "chat", "m"), 0);
}

/// The id is the one that the publisher is told, and the message comes verbatim.
#[test]
fn a_push_names_its_event_and_itself() {
    let server = Server::start();
    let mut client = Client::registered(&server, "ann", &["order", "a\"b\n"]);
    for (event, message) in
        [("order", "paid"), ("order", "{\"id\": 7}\nand more\n"), ("a\"b\n", "\n")]
    {
        let answer = good(
            &server,
            "POST",
            "/v2/push",
            &json!({"user": "ann", "event": event, "message": message}),
        );
        assert_eq!(answer["written"], 1, "{answer}");
        let (head, came) = client.pushed();
        assert_eq!(head, json!({"event": event, "id": answer["id"]}));
        assert_eq!(came, message);
    }
}

/// Both versions on one user: one order, one count, and each its own bytes.
#[test]
fn both_versions_of_one_user_are_counted_together() {
    let server = Server::start();
    let mut old = Socket::registered(&server, "ann", "order");
    let mut new = Client::registered(&server, "ann", &["order", "chat"]);
    let mut raw = Raw::connect(&server);
    for number in 0..500 {
        assert_eq!(raw.push("ann", "order", &number.to_string()), 2);
        assert_eq!(raw.push("ann", "chat", "aside"), 1);
    }
    for number in 0..500 {
        let number = number.to_string();
        assert_eq!(old.next(), Frame::new(Opcode::Text, &number));
        let (head, message) = new.pushed();
        assert_eq!((&head["event"], &*message), (&json!("order"), &*number));
        assert_eq!(new.pushed().0["event"], "chat");
    }
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let server = Server::start();
    for message in ["paid", "[]", "{", "{\"token\":\"aaa\",\"event\":\"order\"}x"] {
        let mut client = Client::open(&server);
        client.socket.send(masked(Opcode::Text, message));
        let reason = "a message must be a JSON object".to_owned();
        assert_eq!(client.closed(), Closed { code: 4500, reason }, "{message}");
    }
    // A client of version 1 that offers version 2 is told what is wrong.
    let mut client = Client::open(&server);
    client.socket.send(register("aaa", "order"));
    let told = client.next();
    assert_eq!(code(&told), "malformed");
    assert_eq!(told["error"]["detail"], "id must be a whole number from 0 to 2^53 - 1");
}

/// A server on which a token lists its events.
fn start_with_scopes() -> (Server, File) {
    let secret = file("jwt-secret", SECRET);
    let flags = [
        ["--jwt-secret-file", secret.path()],
        ["--jwt-audience", "listeners"],
        ["--jwt-leeway", "0s"],
        ["--jwt-events-claim", "events"],
    ];
    (Server::start_with(&flags.concat(), &[]), secret)
}

/// A token of jack's for all events, with these changes.
fn token(changes: &Value) -> String {
    let mut said = json!({"events": ["*"]});
    said.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    hs256(SECRET.as_bytes(), &claims(&said))
}

#[test]
fn a_client_learns_why_it_is_refused() {
    let (server, _secret) = start_with_scopes();
    let mut client = Client::open(&server);
    for (token, expected) in [
        ("nonsense".to_owned(), "token_refused"),
        (token(&json!({"exp": 1})), "token_expired"),
        (token(&json!({"nbf": 9_999_999_999_u64})), "token_refused"),
        ("x".repeat(5000), "name_too_long"),
    ] {
        let reply = client.ask(&json!({"id": 1, "register": ["order"], "token": token}));
        assert_eq!(code(&reply), expected, "{reply}");
        let detail = reply["error"]["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.contains(&token), "{detail}");
    }
    // A token that permits some of the events.
    let some = token(&json!({"events": ["order", "chat"]}));
    let long = "e".repeat(5000);
    let request = json!({"id": 2, "register": ["order", "secret", long, "order"], "token": some});
    let reply = client.ask(&request);
    assert_eq!(reply["ok"]["registered"], json!(["order"]), "{reply}");
    let refused = reply["ok"]["refused"].as_array().unwrap();
    let mut codes: Vec<_> = refused.iter().map(|it| it["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["name_too_long", "not_permitted"]);
    assert!((500..=600).contains(&reply["ok"]["expires_in"].as_u64().unwrap()), "{reply}");
    // Nobody else's.
    let rose = token(&json!({"sub": "rose"}));
    let reply = client.ask(&json!({"id": 3, "register": ["chat"], "token": rose}));
    assert_eq!(code(&reply), "other_user");
    let reply = client.ask(&json!({"id": 4, "refresh": rose}));
    assert_eq!(code(&reply), "other_user");
    assert_eq!(push(&server, "jack", "order", "m"), 1);
    assert_eq!(client.pushed().1, "m", "and what was registered stays");
}

#[test]
fn a_refresh_renews_what_the_newer_token_permits() {
    let (server, _secret) = start_with_scopes();
    let mut client = Client::open(&server);
    let reply = client.ask(&json!({"id": 1, "refresh": token(&json!({}))}));
    assert_eq!(code(&reply), "malformed", "nothing is registered: {reply}");
    let short = token(&json!({"exp": now() + 60}));
    let request = json!({"id": 2, "register": ["chat", "order"], "token": short});
    let reply = client.ask(&request);
    assert!(reply["ok"]["expires_in"].as_u64().unwrap() <= 60, "{reply}");
    let reply = client.ask(&json!({"id": 3, "refresh": token(&json!({}))}));
    assert_eq!(reply["ok"]["registered"], json!(["chat", "order"]), "{reply}");
    assert!(reply["ok"]["expires_in"].as_u64().unwrap() > 500, "{reply}");
    // A newer token that permits less.
    let less = token(&json!({"events": ["order"]}));
    let reply = client.ask(&json!({"id": 4, "refresh": less}));
    assert_eq!(reply["ok"]["registered"], json!(["order"]), "{reply}");
    assert_eq!(reply["ok"]["refused"][0]["event"], "chat");
    assert_eq!((push(&server, "jack", "chat", "m"), push(&server, "jack", "order", "m")), (0, 1));
    assert_eq!(client.pushed().0["event"], "order");
    // One that is refused changes nothing.
    let reply = client.ask(&json!({"id": 5, "refresh": "nonsense"}));
    assert_eq!(code(&reply), "token_refused");
    assert_eq!(push(&server, "jack", "order", "m"), 1);
}

#[test]
fn an_expiry_is_announced_and_ends_the_connection() {
    let (server, _secret) = start_with_scopes();
    let mut client = Client::open(&server);
    let short = token(&json!({"exp": now() + 4}));
    let reply = client.ask(&json!({"id": 1, "register": ["order"], "token": short}));
    assert!(reply["ok"]["expires_in"].as_u64().unwrap() <= 4, "{reply}");
    let notice = client.next();
    assert!(notice["expiring"]["in_seconds"].as_u64().unwrap() <= 2, "{notice}");
    assert_eq!(client.closed(), Closed { code: 4003, reason: "token expired".to_owned() });
}

#[test]
fn a_token_of_the_handshake_stands_in() {
    let server = Server::start_with(&["--token-source", "query:token"], &[]);
    let mut raw = Raw::connect(&server);
    let head = handshake(&[OFFER]).replacen("/ws", "/ws?token=ann", 1);
    raw.send(head);
    assert_eq!(raw.answer().status, 101);
    let mut client = Client { socket: Socket { raw } };
    let reply = client.ask(&json!({"id": 1, "register": ["order"]}));
    assert_eq!(reply["ok"]["registered"], json!(["order"]), "{reply}");
    assert_eq!(push(&server, "ann", "order", "m"), 1);
}

#[test]
fn a_beat_comes_with_each_ping() {
    let server = Server::start_with(&["--ping-interval", "300ms"], &[]);
    let mut client = Client::open(&server);
    let reply = client.ask(&json!({"id": 1, "register": ["order"], "token": "ann"}));
    assert_eq!(reply["hello"]["heartbeat"], 1, "rounded up: {reply}");
    for _ in 0..2 {
        assert_eq!(client.socket.next(), Frame::new(Opcode::Ping, ""));
        assert_eq!(client.socket.next(), Frame::new(Opcode::Text, "{\"beat\":1}"));
        client.socket.send(masked(Opcode::Pong, ""));
    }
}

#[test]
fn an_operator_is_felt() {
    let server = Server::start();
    let mut client = Client::registered(&server, "ann", &["order"]);
    let connection = only_connection(&server, "ann");
    let target = format!("/v2/connections/{connection}/registrations");
    good(&server, "PUT", &target, &json!({"user": "ann", "event": "chat"}));
    assert_eq!(client.next(), json!({"registered": ["chat"]}));
    let target = format!("{target}?user=ann&event=chat");
    let (answer, _) = ask(&server, "DELETE", &target, &[], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(client.next(), json!({"unregistered": ["chat"], "reason": "operator"}));
    assert_eq!(good(&server, "POST", "/v2/disconnect", &json!({"user": "ann"}))["closed"], 1);
    let reason = "disconnected by the server".to_owned();
    assert_eq!(client.closed(), Closed { code: 4503, reason });
}

#[test]
fn a_shutdown_says_when_to_come_back() {
    let server = Server::start();
    let mut client = Client::registered(&server, "ann", &["order"]);
    server.signal("TERM");
    let notice = client.next();
    let seconds = notice["leaving"]["in_seconds"].as_u64().unwrap();
    assert!((1..=5).contains(&seconds), "{notice}");
    assert_eq!(notice["leaving"]["reason"], "shutdown");
    let reason = format!("server is shutting down; reconnect in {seconds}s");
    assert_eq!(client.closed(), Closed { code: 4000, reason });
    assert_eq!(server.wait().0.code(), Some(0));
}

/// A connection that is about to be closed.
type Closing = fn(&Server) -> Client;

/// Every other reason of the server's own: the flags, what brings it about, and the code.
const REASONS: [(&str, &[&str], Closing, u16); 9] = [
    ("not_registered", &["--register-timeout", "200ms"], Client::open, 4501),
    (
        "flood",
        &[],
        |server| {
            let mut client = Client::open(server);
            client.socket.send(masked(Opcode::Text, "{\"id\":1,\"ping\":{}}").repeat(1000));
            client
        },
        4502,
    ),
    (
        "slow",
        &["--ping-interval", "1h"],
        |server| {
            let client = Client::registered(server, "ann", &["order"]);
            let mut http = Raw::connect(server);
            let message = "x".repeat(1024 * 1024);
            while http.push("ann", "order", &message) > 0 {}
            client
        },
        4001,
    ),
    (
        "silent",
        &["--ping-interval", "200ms", "--pong-timeout", "200ms"],
        |server| Client::registered(server, "ann", &["order"]),
        4002,
    ),
    (
        "user_full",
        &["--connections-per-user-max", "1"],
        |server| {
            let mut first = Client::registered(server, "ann", &["order"]);
            let mut client = Client::open(server);
            client.send(&json!({"id": 1, "register": ["order"], "token": "ann"}));
            std::thread::spawn(move || first.socket.try_next());
            client
        },
        4505,
    ),
    (
        "replaced",
        &["--connections-per-user-max", "1", "--connections-per-user-policy", "close_oldest"],
        |server| {
            let first = Client::registered(server, "ann", &["order"]);
            let mut second = Client::registered(server, "ann", &["order"]);
            std::thread::spawn(move || second.socket.try_next());
            first
        },
        4504,
    ),
    (
        "protocol_error",
        &[],
        |server| {
            let mut client = Client::open(server);
            client.socket.send([0xc1, 0x80, 0, 0, 0, 0]);
            client
        },
        1002,
    ),
    (
        "invalid_payload",
        &[],
        |server| {
            let mut client = Client::open(server);
            client.socket.send(masked(Opcode::Text, [0xff]));
            client
        },
        1007,
    ),
    (
        "too_big",
        &[],
        |server| {
            let mut client = Client::open(server);
            client.socket.send(masked(Opcode::Text, "x".repeat(100_000)));
            client
        },
        1009,
    ),
];

#[test]
fn each_end_has_a_code_that_says_whether_to_come_back() {
    for (name, flags, close, code) in REASONS {
        let server = Server::start_with(flags, &[]);
        let mut client = close(&server);
        assert_eq!(client.socket.close().code, code, "{name}");
    }
}
