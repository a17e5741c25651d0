//! `[callback]`: a backend that is asked whose a token is, well or badly behaved.

use serde_json::{Value, json};

use crate::api::good;
use crate::backend::{Asked, Backend, Gate, Reply};
use crate::judge::{Judge, hears, now};
use crate::raw::{Closed, Raw, Socket, Way, handshake, leave, leaving, register};
use crate::settings::file;

/// Asks each time, and waits as long as a test does.
fn ask(backend: &Backend) -> String {
    format!(
        "authenticate_timeout = '2h'\n[callback]\nurl = '{}'\ntimeout = '1h'\ncache_for = 0\n\
         cache_refusals_for = 0\n",
        backend.url("/whose?kind=push")
    )
}

const UNAVAILABLE: &str = r#""reason":"unavailable""#;

fn identity(user: &str) -> String {
    json!({"userId": user}).to_string()
}

/// The user is the token, of those that begin with `user`.
fn by_name(asked: &Asked) -> Reply {
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    match body["token"].as_str() {
        Some(token) if token.starts_with("user") => Reply::Say(200, identity(token)),
        _ => Reply::Say(401, String::new()),
    }
}

#[test]
fn the_backend_says_whose_a_token_is() {
    let backend = Backend::start(by_name);
    let secret = file("callback-secret", "secret-of-both\n");
    let mut judge =
        Judge::start(&(ask(&backend) + &format!("secret_file = '{}'\n", secret.path())));
    let mut socket = judge.accept("user-7", "news");
    let asked = backend.asked(1);
    assert!(asked.head.starts_with("POST /whose?kind=push HTTP/1.1\r\n"), "{asked:?}");
    assert!(asked.head.contains("authorization: Bearer secret-of-both\r\n"), "{asked:?}");
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body, json!({"token": "user-7", "event": "news"}));
    assert_eq!(judge.count("user-7", "news"), 1);
    hears(&mut socket);
    judge.refuse("nobody", "news", &[r#""reason":"unknown""#]);
    for (status, reason) in [(401, "unknown"), (404, "unknown"), (403, "forbidden")] {
        backend.say(status, identity("jack"));
        judge.refuse("user-8", "news", &[&format!(r#""reason":"{reason}""#)]);
    }
    backend.say(200, json!({"userId": "jack", "expiresAt": 1}).to_string());
    judge.refuse("user-8", "news", &[r#""reason":"expired""#]);
    assert_eq!((judge.count("jack", "news"), judge.count("user-8", "news")), (0, 0));
}

#[test]
fn events_and_the_end_are_those_the_backend_grants() {
    let backend = Backend::saying(200, "");
    let mut judge = Judge::start(&ask(&backend));
    let grant = |seconds: u64| {
        backend.say(
            200,
            json!({"userId": 7, "expiresAt": now() + seconds, "events": ["order.*"]}).to_string(),
        );
    };
    grant(3600);
    let mut lasting = judge.accept("t", "order.paid");
    judge.refuse("t", "chat", &[r#""reason":"forbidden""#]);
    assert_eq!((judge.count("7", "order.paid"), judge.count("7", "chat")), (1, 0));
    hears(&mut lasting);
    // Long enough on most machines; a busy one gets more time.
    for seconds in [2, 8, 32] {
        grant(seconds);
        let mut socket = Socket::open(&judge.server);
        socket.send(register("t", "order.new"));
        if judge.verdict().contains("expired") {
            continue;
        }
        let expired = Closed { code: 1008, reason: "token expired".to_owned() };
        assert_eq!(socket.closed(), expired);
        assert_eq!((judge.count("7", "order.new"), judge.count("7", "order.paid")), (0, 1));
        hears(&mut lasting);
        return;
    }
    panic!("nothing was registered in time");
}

/// Whatever it does instead of answering: nobody is let in, and the log says what it was.
#[test]
fn a_backend_that_misbehaves_lets_nobody_in() {
    let elsewhere = Backend::start(by_name);
    let backend = Backend::start(by_name);
    let mut judge = Judge::start(&(ask(&backend) + "failures_max = 1000\n"));
    let redirect = format!("HTTP/1.1 307 x\r\nlocation: {}\r\n\r\n", elsewhere.url("/"));
    let endless = format!("HTTP/1.1 200 x\r\n\r\n{{\"userId\":\"{}", "x".repeat(70_000));
    for (reply, why) in [
        (Reply::Say(500, identity("jack")), "the answer is 500 Internal Server Error"),
        (Reply::Say(429, identity("jack")), "the answer is 429 Too Many Requests"),
        (Reply::Say(204, String::new()), "the answer is 204 No Content"),
        (Reply::Raw(redirect), "the answer is a redirect (307 Temporary Redirect)"),
        (Reply::Say(200, "<html>canary".to_owned()), "the answer is not a JSON object"),
        (Reply::Say(200, r#"{"user":"canary"}"#.to_owned()), "userId must be a non-empty string"),
        (Reply::Say(200, r#"{"userId":""}"#.to_owned()), "userId must be a non-empty string"),
        (Reply::Say(200, r#"{"userId":"jack","events":"*"}"#.to_owned()), "events must be a list"),
        (Reply::Raw(endless), "the answer is longer than the limit of 65536 bytes"),
        (Reply::Raw("HTTP/1.1 200 x\r\ncontent-length: 99\r\n\r\n{".to_owned()), "HTTP broke off"),
        (Reply::Raw("canary\r\n\r\n".to_owned()), "HTTP broke off"),
    ] {
        backend.respond(move |_| reply.clone());
        judge.refuse("user-1", "news", &[UNAVAILABLE, r#""message":"callback failed""#, why]);
    }
    assert_eq!(elsewhere.count(), 0, "redirects are not followed");
    assert_eq!((judge.count("user-1", "news"), judge.count("jack", "news")), (0, 0));
    // It is asked again as soon as it behaves.
    backend.respond(by_name);
    let mut socket = judge.accept("user-1", "news");
    assert_eq!(judge.count("user-1", "news"), 1);
    hears(&mut socket);
    drop(backend);
    judge.refuse("user-2", "news", &[UNAVAILABLE, "no connection: "]);
    assert!(!judge.log.read.contains("canary"), "{}", judge.log.read);
}

#[test]
fn a_backend_that_is_slow_is_given_up() {
    let backend = Backend::start(|_| Reply::Hang);
    let mut judge = Judge::start(&ask(&backend).replace("'1h'", "'50ms'"));
    judge.refuse("user-1", "news", &[UNAVAILABLE, "no answer within 50ms"]);
    assert_eq!(judge.count("user-1", "news"), 0);
}

#[test]
fn a_backend_that_fails_is_left_alone_and_the_log_says_so() {
    let backend = Backend::saying(503, "");
    // All come from one address, which counts once.
    let mut judge = Judge::start(&(ask(&backend) + "failures_max = 1\nrest = '1h'\n"));
    for number in 1..=3 {
        judge.refuse("user-1", "news", &[UNAVAILABLE]);
        assert_eq!(backend.count(), 1, "after {number} registrations");
    }
    let opened = judge.log.read.lines().filter(|line| line.contains("calls to it are suspended"));
    let [opened] = opened.collect::<Vec<_>>().try_into().expect("it is said once");
    for words in [
        r#""level":"WARN""#,
        r#""message":"the callback backend keeps failing; calls to it are suspended""#,
        r#""host":"127.0.0.1""#,
        r#""error":"the answer is 503 Service Unavailable""#,
        r#""failures":1,"rest":"3600s""#,
    ] {
        assert!(opened.contains(words), "{words} not in {opened}");
    }
    // Without a rest the next one tries, and closes the breaker.
    let backend = Backend::saying(503, "");
    let mut judge = Judge::start(&(ask(&backend) + "failures_max = 1\nrest = 0\n"));
    for _ in 0..3 {
        judge.refuse("user-1", "news", &[UNAVAILABLE]);
    }
    assert_eq!(backend.count(), 3);
    backend.respond(by_name);
    let mut socket = judge.accept("user-1", "news");
    let closed = judge.log.read.lines().filter(|line| line.contains("backend answers again"));
    let [closed] = closed.collect::<Vec<_>>().try_into().expect("it is said once");
    assert!(closed.contains(r#""level":"INFO""#), "{closed}");
    assert_eq!(judge.count("user-1", "news"), 1);
    hears(&mut socket);
    // What it makes of one token is no failure.
    backend.say(500, "");
    judge.refuse("user-1", "news", &[UNAVAILABLE]);
    assert_eq!(judge.log.read.matches("calls to it are suspended").count(), 1);
}

/// A stranger's token that the backend cannot take keeps nobody else out.
#[test]
fn a_token_that_the_backend_chokes_on_stops_nobody_else() {
    let backend = Backend::start(|asked| match by_name(asked) {
        Reply::Say(401, _) => Reply::Say(500, String::new()),
        reply => reply,
    });
    let mut judge = Judge::start(&(ask(&backend) + "failures_max = 1\nrest = '1h'\n"));
    for _ in 0..5 {
        judge.refuse("\0", "news", &[UNAVAILABLE]);
    }
    let mut socket = judge.accept("user-1", "news");
    assert_eq!(judge.count("user-1", "news"), 1);
    hears(&mut socket);
    assert!(!judge.log.read.contains("calls to it are suspended"), "{}", judge.log.read);
}

#[test]
fn answers_are_remembered_for_their_time() {
    let backend = Backend::start(by_name);
    let long = ask(&backend).replace("_for = 0", "_for = '1h'");
    let mut judge = Judge::start(&long);
    let unknown = r#""reason":"unknown""#;
    for _ in 0..2 {
        judge.accept("user-1", "news");
        judge.refuse("nobody", "news", &[unknown]);
    }
    assert_eq!(backend.count(), 2);
    judge.accept("user-1", "chat");
    judge.accept("user-2", "news");
    assert_eq!(backend.count(), 4, "another event, another token");
    // What failed is nothing to remember.
    backend.say(500, "");
    judge.refuse("user-3", "news", &[UNAVAILABLE]);
    backend.respond(by_name);
    judge.accept("user-3", "news");
    judge.accept("user-1", "news");
    assert_eq!(backend.count(), 6);
    for forgetful in [ask(&backend), long + "cache_entries_max = 0\n"] {
        let mut judge = Judge::start(&forgetful);
        let before = backend.count();
        for _ in 0..2 {
            judge.accept("user-1", "news");
            judge.refuse("nobody", "news", &[unknown]);
        }
        assert_eq!(backend.count() - before, 4, "{forgetful}");
    }
}

#[test]
fn calls_at_once_are_bounded() {
    let gate = Gate::default();
    let slow = Reply::Behind(gate.clone(), 200, identity("jack"));
    let backend = Backend::start(move |_| slow.clone());
    let mut judge = Judge::start(&(ask(&backend) + "concurrency_max = 1\nwaiting_max = 0\n"));
    let first = leaving(&judge.server, Way::Eof, "user-1");
    backend.asked(1);
    judge.refuse("user-2", "news", &[UNAVAILABLE]);
    assert_eq!(backend.count(), 1);
    gate.open();
    judge.log.until(r#""message":"registered""#);
    assert_eq!(judge.count("jack", "news"), 1);
    drop(first);
}

/// Whoever leaves while the backend is being asked is bound to nothing when it answers.
#[test]
fn who_leaves_while_the_backend_is_asked_is_not_bound() {
    let gate = Gate::default();
    let slow = Reply::Behind(gate.clone(), 200, identity("jack"));
    let backend = Backend::start(move |_| slow.clone());
    let mut judge = Judge::start(&ask(&backend));
    for (number, way) in (1..).zip(Way::ALL) {
        let socket = leaving(&judge.server, way, "user-1");
        backend.asked(number);
        assert_eq!(judge.count("jack", "news"), 0);
        leave(socket, way);
        judge.log.until("connection closed");
    }
    gate.open();
    backend.respond(by_name);
    judge.accept("user-2", "news");
    assert_eq!(judge.count("jack", "news"), 0);
    assert_eq!(judge.log.read.matches(r#""message":"registered""#).count(), 1);
}

/// Nor is whoever is disconnected by an operator meanwhile.
#[test]
fn who_is_disconnected_while_the_backend_is_asked_is_not_bound() {
    let gate = Gate::default();
    let slow = Reply::Behind(gate.clone(), 200, identity("jack"));
    let backend = Backend::start(move |_| slow.clone());
    let mut judge = Judge::start(&ask(&backend));
    let mut socket = leaving(&judge.server, Way::Eof, "user-1");
    backend.asked(1);
    let connection = json!({"connection": "1"});
    assert_eq!(good(&judge.server, "POST", "/v2/disconnect", &connection)["closed"], 1);
    assert_eq!(socket.closed().code, 1000);
    drop(socket);
    judge.log.until("connection closed");
    gate.open();
    backend.respond(by_name);
    judge.accept("user-2", "news");
    assert_eq!(judge.count("jack", "news"), 0);
    assert_eq!(judge.log.read.matches(r#""message":"registered""#).count(), 1);
}

/// A shutdown does not wait for a backend.
#[test]
fn a_shutdown_does_not_wait_for_the_backend() {
    let backend = Backend::start(|_| Reply::Hang);
    let judge = Judge::start(&ask(&backend));
    let mut socket = leaving(&judge.server, Way::Eof, "user-1");
    backend.asked(1);
    judge.server.signal("TERM");
    assert_eq!(socket.closed().code, 1001);
    drop(socket);
    let log = judge.log.rest();
    assert!(log.contains(r#""message":"stopped""#), "{log}");
}

fn open_with(judge: &Judge, headers: &[(&str, &str)]) -> Socket {
    let mut raw = Raw::connect(&judge.server);
    raw.send(handshake(headers));
    assert_eq!(raw.answer().status, 101);
    Socket { raw }
}

#[test]
fn the_headers_that_are_sent_along_are_exchanged_by_a_reload() {
    let backend = Backend::start(by_name);
    let of = |headers: &str| ask(&backend) + &format!("forward_headers = {headers}\n");
    let mut judge = Judge::start(&of("['x-a']"));
    let headers = [("x-a", "1"), ("x-b", "2"), ("cookie", "session=3")];
    let sent = |number: usize| {
        let asked = backend.asked(number);
        headers.map(|(name, value)| asked.head.contains(&format!("{name}: {value}\r\n")))
    };
    let mut before = open_with(&judge, &headers);
    judge.register(&mut before, "user-1", "news");
    assert_eq!(sent(1), [true, false, false]);
    judge.config.replace(of("['x-b']"));
    assert!(judge.reload().contains(r#""changed":"callback_forward_headers""#));
    let mut after = open_with(&judge, &headers);
    judge.register(&mut after, "user-1", "news");
    assert_eq!(sent(2), [false, true, false]);
    // Whoever was there before has kept what was asked for then.
    judge.register(&mut before, "user-1", "chat");
    assert_eq!(sent(3), [false, false, false]);
    // The policy of origins is that of the start, whatever the file says by now.
    judge.config.replace(format!("origin = 'same-origin'\n{}", of("['cookie']")));
    judge.server.signal("HUP");
    let told = judge.log.until("a setting is wrong");
    let why = "callback_forward_headers contains cookie, but origin is any until a restart";
    assert!(told.contains(why), "{told}");
    judge.log.until("settings not reloaded");
    let mut late = open_with(&judge, &headers);
    judge.register(&mut late, "user-1", "news");
    assert_eq!(sent(4), [false, true, false]);
}

#[test]
fn a_backend_is_known_by_its_authority() {
    let [own, foreign] = [(); 2].map(|()| crate::secure::certificate());
    let backend = Backend::saying_by_tls(200, &identity("jack"), &own.0, &own.1);
    let authority = file("callback-ca.pem", &foreign.0);
    let mut judge = Judge::start(&format!(
        "[callback]\nurl = 'https://localhost:{}/'\nca_file = '{}'\n",
        backend.port(),
        authority.path()
    ));
    judge.refuse("user-1", "news", &[UNAVAILABLE, "no TLS connection: "]);
    assert_eq!(backend.count(), 0);
    authority.replace(&own.0);
    assert!(judge.reload().contains(r#""changed":"callback_ca_file""#));
    judge.accept("user-1", "news");
}
