//! The log from outside: what it says about a server that starts and ends, and what it must never hold.

use wserver_protocol::frame::{Fin, Opcode};

use crate::harness::{Server, command};
use crate::raw::{
    Frame, Raw, Socket, fragment, handshake, masked, masked_close, post, push, push_body, register,
};
use crate::settings::file;

/// The log of a server that is started as it is shipped, and ended at once.
fn startup_log(flags: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = command();
    command.args(["--address", "127.0.0.1:0", "--log-format", "json"]).args(flags);
    command.envs(environment.iter().copied()).env_remove("WSERVER_ALLOW_OPEN_PUSH");
    let server = Server::spawn(&mut command);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    log
}

/// Flags, what the log says with them, and what it does not say.
type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);

fn check_startup(cases: &[Case<'_>]) {
    for (flags, present, absent) in cases {
        let log = startup_log(flags, &[]);
        for words in *present {
            assert!(log.contains(words), "{flags:?}: {words:?} not in {log}");
        }
        for words in *absent {
            assert!(!log.contains(words), "{flags:?}: {words:?} in {log}");
        }
    }
}

#[test]
fn the_startup_log_says_what_is_open() {
    let tokens = file("tokens", "aaa jack\n");
    let keys = file("keys", "good-0123456789abc\n");
    let no_tokens = "clients are not authenticated: the token is the user id; to authenticate \
                     them, use --tokens-file FILE, or write [jwt]";
    let any_origin = "web pages of every origin may connect; restrict them with --origin";
    let no_key = "pushes need no key, so only programs on this machine may push; to require one, \
                  use --push-key-file FILE";
    let open = "everyone who can reach this port may push to all users (allow_open_push)";
    let cases: &[Case<'_>] = &[
        (&[], &[no_tokens, any_origin, no_key, "try it: open http://127.0.0.1:"], &[open]),
        (&["--tokens-file", tokens.path()], &[any_origin, no_key], &[no_tokens]),
        (&["--origin", "same-origin"], &[no_tokens, no_key], &[any_origin]),
        (&["--allow-open-push"], &[open], &[no_key]),
        (
            &["--push-key-file", keys.path()],
            &["Authorization: Bearer PUSH_KEY"],
            &[no_key, open, "good-0123"],
        ),
        (&["--no-demo"], &["try it: connect to ws://127.0.0.1:"], &["try it: open"]),
        (
            &["--private-address", "127.0.0.1:0", "--push-key-file", keys.path()],
            &["pushes have a separate address"],
            &[no_key],
        ),
    ];
    check_startup(cases);
}

/// A line to try that is refused is worse than none: what it takes follows from the settings.
#[test]
fn the_hint_of_the_log_fits_the_settings_in_force() {
    let tokens = file("tokens", "aaa jack\n");
    let keys = file("keys", "good-0123456789abc\n");
    let secret = file("secret", "0123456789abcdef0123456789abcdef");
    let audience = ["--jwt-audience", "a,b"];
    let config = file(
        "jwt.toml",
        format!("[jwt]\nsecret_file = {:?}\naudience = [\"tests\"]\n", secret.path()),
    );
    let by_flags = format!(
        "`WSERVER_JWT_SECRET_FILE={} WSERVER_JWT_AUDIENCE=a,b wserver token make --user demo`",
        secret.path()
    );
    let by_file = format!("`wserver token make --user demo --config {}`", config.path());
    let jwt = ["--jwt-secret-file", secret.path()];
    let demo = r#"{\"token\":\"demo\""#;
    let token = r#"{\"token\":\"TOKEN\""#;
    let cases: &[Case<'_>] = &[
        (&["--no-demo"], &[demo], &["you need a token", "authenticated\",\"by"]),
        (
            &["--no-demo", jwt[0], jwt[1], audience[0], audience[1]],
            &[&by_flags, r#""by":"jwt""#, token, r#"\"userId\":\"demo\""#],
            &[demo],
        ),
        (&["--config", config.path()], &[&by_file, r#""by":"jwt""#, "enter the token"], &[demo]),
        (
            &["--no-demo", "--tokens-file", tokens.path()],
            &[tokens.path(), r#""by":"tokens_file""#, token, r#"\"userId\":\"USER\""#],
            &[demo],
        ),
        (
            &["--callback-url", "http://127.0.0.1:9/judge"],
            &["http://127.0.0.1:9/judge accepts", r#""by":"callback""#],
            &[demo],
        ),
        (
            &[
                "--push-key-file",
                keys.path(),
                "--tokens-file",
                tokens.path(),
                jwt[0],
                jwt[1],
                audience[0],
                audience[1],
            ],
            &[r#""by":"tokens_file, jwt""#, r#""by":"push_key_file""#, "Bearer PUSH_KEY"],
            &[demo],
        ),
    ];
    check_startup(cases);
    // The command of the hint makes a token that such a server takes.
    let made =
        command().args(["token", "make", "--user", "demo", "--config", config.path()]).output();
    let made = made.unwrap();
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_default() {
    let environment = [("WSERVER_CONNECTIONS_MAX", "7"), ("WSERVER_PING_INTERVAL", "3s")];
    let log = startup_log(&["--connections-max", "5"], &environment);
    let limits = log.lines().find(|line| line.contains(r#""message":"limits""#)).expect("limits");
    for words in [r#""connections_max":5"#, r#""ping_interval":"3s""#, r#""pong_timeout":"10s""#] {
        assert!(limits.contains(words), "{words} not in {limits}");
    }
}

#[test]
fn a_signal_ends_the_server_in_order() {
    for signal in ["TERM", "INT"] {
        let server = Server::start();
        let mut socket = Socket::registered(&server, "jack", "news");
        server.signal(signal);
        assert_eq!(socket.closed().code, 1001, "{signal}");
        drop(socket);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains(r#""closed":1"#) && log.contains(r#""cut_off":0"#), "{log}");
    }
}

/// A pipe that nobody reads any more costs its lines, and nobody's connection.
#[test]
fn whoever_reads_the_log_may_go_away() {
    for format in ["json", "human"] {
        let mut command = command();
        command.args(["--address", "127.0.0.1:0", "--log", "trace", "--log-format", format]);
        let mut server = Server::spawn(&mut command);
        server.close_log();
        let mut socket = Socket::registered(&server, "jack", "news");
        assert_eq!(push(&server, "jack", "news", "m"), 1);
        assert_eq!(socket.next(), Frame::new(Opcode::Text, "m"));
        server.signal("TERM");
        assert_eq!(socket.closed().code, 1001);
        drop(socket);
        assert_eq!(server.wait().0.code(), Some(0));
    }
}

/// Whatever a stranger sends, the log holds none of it.
fn check_canaries(format: &str) -> String {
    const KEY: &str = "canary-push-key-0123456789";
    let tokens = file("tokens", "canary-token jack\n");
    // Tokens in handshakes are secrets as well, wherever they stand.
    let (source, origin) = match format {
        "json" => ("cookie:session", "https://canary.example"),
        _ => ("query:token", "any"),
    };
    let mut server = Server::spawn(
        command()
            .args(["--address", "127.0.0.1:0", "--log", "trace", "--log-format", format])
            .args(["--tokens-file", tokens.path(), "--token-source", source, "--origin", origin])
            .env("WSERVER_PUSH_KEY", KEY),
    );
    let log = server.read_log();
    let headers = [
        ("cookie", "session=canary-cookie"),
        ("authorization", "Bearer canary-bearer"),
        ("origin", "https://canary.example"),
        ("sec-websocket-protocol", "canary-subprotocol"),
        ("user-agent", "canary-agent"),
        ("x-canary", "canary-header"),
    ];
    let query = |request: String| request.replace("/ws", "/ws?token=canary-query");
    // A listener that does everything right, and then something wrong.
    for last in [
        masked_close(4000, b"canary-reason"),
        masked_close(1005, b"canary-reason"),
        masked(Opcode::Text, b"canary\xff"),
        fragment(Fin::Last, Opcode::Continuation, "canary-lone"),
        masked(Opcode::Text, "canary-flood").repeat(1000),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(query(handshake(&headers)));
        assert_eq!(raw.answer().status, 101);
        let mut socket = Socket { raw };
        for message in [
            "canary-junk",
            r#"{"event":"news"}"#,
            r#"{"token":"","event":"canary-event"}"#,
            r#"{"token":"canary-unknown","event":"news"}"#,
            r#"{"token":"canary-broken","event":"#,
            r#"{"token":"canary-token","event":""}"#,
            r#"{"token":["canary-typed"],"event":"news"}"#,
            r#"{"canary-key":"canary-value","token":"x","event":"y"}"#,
        ] {
            socket.send(masked(Opcode::Text, message));
            socket.send(masked(Opcode::Binary, message));
        }
        socket.send(register(&"canary".repeat(1000), "news"));
        socket.send(register("canary-token", &"canary".repeat(1000)));
        socket.register("canary-token", "news");
        let key = [("x-api-key", KEY)];
        let mut http = Raw::connect(&server);
        http.send(post(&key, push_body("jack", "news", "canary-message\r\ninjected")));
        assert_eq!(http.answer().body, "message sent to 1 clients");
        socket.send(last);
        let _ = socket.closed();
    }
    // Handshakes and requests that are refused.
    for request in [
        query(handshake(&headers)).replace("token=", "token=canary").replace("canary-cookie", &"canary".repeat(1000)).replace("canary-query", &"canary".repeat(1000)),
        query(handshake(&headers).replace("13", "8")),
        query(handshake(&headers).replace("websocket\r\n", "canary\r\n")),
        query(handshake(&headers).replace("GET", "POST")),
        query(handshake(&headers).replace("/ws", "/canary-path")),
        "GET /?canary-query HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
        "GET canary HTTP/1.1\r\nhost: h\r\n\r\n".to_owned(),
        "CANARY canary\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\ncanary\r\n\r\n".to_owned(),
        "POST /push?key=canary-query HTTP/1.1\r\nhost: h\r\nx-api-key: canary-wrong-key-0123\r\ncontent-length: 3\r\n\r\nabc".to_owned(),
        format!("POST /push?key=canary-query HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\ncontent-length: 10\r\ntransfer-encoding: chunked\r\n\r\n"),
        format!("POST /push?key=canary-query HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\ncontent-length: 99999999\r\n\r\n"),
        format!("POST /push HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\ntransfer-encoding: chunked\r\n\r\ncanary\r\n"),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(request);
        assert!(raw.try_answer("GET").map_or(true, |answer| answer.status != 101));
    }
    for body in [
        "canary".to_owned(),
        r#"{"userId":"jack","event":"canary-event","message":"canary"#.to_owned(),
        r#"{"userId":"jack","event":"news","message":["canary"]}"#.to_owned(),
        push_body(&"canary".repeat(1000), "news", "canary-message"),
        push_body("jack", "news", &"canary".repeat(200_000)),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(post(&[("authorization", &format!("Bearer {KEY}"))], body));
        let answer = raw.answer();
        assert!([400, 413].contains(&answer.status), "{answer:?}");
        assert!(!answer.error().contains("canary"), "{answer:?}");
    }
    server.signal("TERM");
    let log = log.join().expect("the log is text");
    assert!(log.contains("register message ignored"), "the filter lets details through");
    for line in log.lines() {
        assert!(!line.to_lowercase().contains("canary"), "{line}");
        assert!(!line.contains("injected"), "{line}");
    }
    log
}

#[test]
fn nothing_secret_is_logged() {
    let log = check_canaries("json");
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line:?} in {log}");
    }
}

#[test]
fn nothing_secret_is_logged_for_people_either() {
    let log = check_canaries("human");
    for line in log.lines() {
        assert!(line.starts_with("20") && !line.contains(char::is_control), "{line:?}");
    }
}

/// Without a tokens file the token is the user id, which makes that a secret too.
#[test]
fn user_ids_that_are_tokens_are_not_logged() {
    let mut server = Server::start_with(&["--log", "trace"], &[]);
    let log = server.read_log();
    let mut socket = Socket::registered(&server, "canary-token", "news");
    for message in ["m", "\u{1b}[31m\r\nforged line"] {
        assert_eq!(push(&server, "canary-token", "news", message), 1);
        assert_eq!(socket.next(), Frame::new(Opcode::Text, message));
    }
    socket.register("canary-\u{1b}[31m\r\nforged line", "news");
    drop(socket);
    server.signal("TERM");
    let log = log.join().expect("the log is text");
    assert!(log.contains("registered"), "the filter lets details through");
    for line in log.lines() {
        assert!(!line.contains("canary") && !line.contains("forged"), "{line}");
    }
}

/// From the request to each socket, through whoever writes: the pusher itself, or a walker.
#[test]
fn a_push_can_be_followed_to_the_sockets() {
    const MANY: usize = 40;
    let mut server =
        Server::start_with(&["--log", "info,wserver_node=trace,wserver_warp=trace"], &[]);
    let log = server.read_log();
    let _alone = Socket::registered(&server, "jack", "news");
    let _many: Vec<Socket> =
        (0..MANY).map(|_| Socket::registered(&server, "rose", "news")).collect();
    assert_eq!(push(&server, "jack", "news", "m"), 1);
    assert_eq!(push(&server, "rose", "news", "m"), MANY);
    server.signal("TERM");
    let log = log.join().expect("the log is text");
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ways: Vec<Vec<&str>> = events
        .iter()
        .filter(|event| event["message"] == "handed over")
        .map(|event| {
            assert_eq!(event["sent"], "Written", "{event}");
            assert!(event["conn"].is_string() && event["span"]["walk"].is_u64(), "{event}");
            event["spans"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect()
        })
        .collect();
    assert_eq!(ways.len(), 1 + MANY, "{log}");
    assert_eq!(ways[0], ["push", "write"]);
    assert!(ways[1..].iter().all(|way| way[..] == ["push", "walk"]), "{ways:?}");
    // Each stage says how long it took.
    for name in ["push", "write", "walk"] {
        let is_end = |event: &&serde_json::Value| {
            event["message"] == "close" && event["span"]["name"] == name
        };
        let end = events.iter().find(is_end).unwrap_or_else(|| panic!("no end of {name}: {log}"));
        assert!(end["time.busy"].is_string(), "{end}");
    }
}

/// At the level of an operator who has changed nothing, each kind once a minute, and never whose.
#[test]
fn refusals_are_told_at_info_and_seldom() {
    let tokens = file("tokens", "right-token jack\n");
    let keys = file("push-keys", "right-key-0123456789\n");
    let flags = [
        ["--tokens-file", tokens.path()],
        ["--push-key-file", keys.path()],
        ["--origin", "https://good.example"],
    ];
    let server = Server::start_with(&flags.concat(), &[]);
    let mut socket = Socket::open(&server);
    for _ in 0..3 {
        socket.register("canary-token", "news");
        let mut raw = Raw::connect(&server);
        raw.send(handshake(&[("origin", "https://evil.example")]));
        assert_eq!(raw.answer().status, 403);
        let mut raw = Raw::connect(&server);
        let key = ("authorization", "Bearer canary-key-0123456789");
        raw.send(post(&[key], push_body("jack", "news", "m")));
        assert_eq!(raw.answer().status, 401);
    }
    server.signal("TERM");
    let (_, log) = server.wait();
    for words in [
        "registrations are being refused",
        "WebSocket handshakes are being refused",
        "pushes are being refused",
    ] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
    assert!(log.contains("evil.example") && !log.contains("canary"), "{log}");
}
