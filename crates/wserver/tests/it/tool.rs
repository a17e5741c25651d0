//! The binary as a tool, against the binary as a server.

mod explain;
mod ready;
mod wait;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdout, Output, Stdio};

use serde_json::json;
use wserver_test_brokers::process::reserved_port;

use crate::api::good;
use crate::harness::{Server, command, eventually};
use crate::judge::{SECRET, claims, hs256};
use crate::settings::file;

type Environment<'a> = &'a [(&'a str, &'a str)];

const BAD_ARGUMENTS: Option<i32> = Some(64);

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// What a tool says that ends by itself, with `input` on its standard input.
fn tool(arguments: &[&str], environment: Environment<'_>, input: &str) -> Output {
    let mut child = command()
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read it may have ended.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Exit code, standard output and standard error.
fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn push(server: &Server, user: &str, event: &str, message: &str) -> (i32, String, String) {
    let url = url(server);
    let arguments = ["push", "--url", &url, "--user", user, "--event", event, "--message", message];
    said(&tool(&arguments, &[], ""))
}

/// What `wserver listen` says once it is registered.
fn connected(event: &str) -> String {
    format!("registered: {event}\n")
}

/// A `wserver listen`, or another that goes on, killed when it is dropped.
struct Listening {
    child: Child,
    messages: BufReader<ChildStdout>,
    told: BufReader<ChildStderr>,
}

impl Listening {
    fn start(arguments: &[&str], environment: Environment<'_>, input: &str) -> Self {
        Self::spawn(&[&["listen"], arguments].concat(), environment, input)
    }

    fn spawn(arguments: &[&str], environment: Environment<'_>, input: &str) -> Self {
        let mut child = command()
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let messages = BufReader::new(child.stdout.take().unwrap());
        let told = BufReader::new(child.stderr.take().unwrap());
        Self { child, messages, told }
    }

    /// What is told next.
    fn told(&mut self) -> String {
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        line
    }

    fn message(&mut self) -> String {
        let mut line = String::new();
        self.messages.read_line(&mut line).unwrap();
        line.truncate(line.trim_end_matches('\n').len());
        line
    }

    /// Waits until it is bound, which no answer says.
    fn bound(mut self, server: &Server, user: &str, event: &str) -> Self {
        assert_eq!(self.told(), connected(event));
        eventually("the listener is bound", || push(server, user, event, "are you there").0 == 0);
        assert!(self.message().contains("are you there"));
        self
    }

    fn interrupt(mut self) -> (i32, String, String) {
        let pid = self.child.id().to_string();
        assert!(
            std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success()
        );
        self.end()
    }

    fn end(&mut self) -> (i32, String, String) {
        let (mut messages, mut told) = (String::new(), String::new());
        self.messages.read_to_string(&mut messages).unwrap();
        self.told.read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap().code().unwrap(), messages, told)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_pushed_is_printed_a_line_each() {
    let server = Server::start();
    let url = url(&server);
    let flags = ["--url", &url, "--user", "jack", "--event", "news"];
    let mut listening = Listening::start(&flags, &[], "").bound(&server, "jack", "news");
    for (message, line) in [
        ("hello", "hello"),
        ("Grüße, \"世界\" \\ 🚀", "Grüße, \"世界\" \\ 🚀"),
        ("two\nlines\tand \u{1b}[2J", r"two\nlines\tand \u{1b}[2J"),
    ] {
        assert_eq!(
            push(&server, "jack", "news", message),
            (0, "1 connection got it\n".into(), String::new())
        );
        assert_eq!(listening.message(), line);
    }
    assert_eq!(listening.interrupt(), (0, String::new(), String::new()));
}

#[test]
fn json_keeps_messages_as_they_are() {
    let server = Server::start();
    let url = format!("ws://{}/ws", server.address);
    let flags = ["--json", "--url", &url, "--user", "jack", "--event", "news"];
    let mut listening = Listening::start(&flags, &[], "").bound(&server, "jack", "news");
    let message = "two\nlines \u{1b}[2J \"";
    assert_eq!(push(&server, "jack", "news", message).0, 0);
    let line: serde_json::Value = serde_json::from_str(&listening.message()).unwrap();
    assert_eq!(line["message"], message);
    assert!(line["at"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[test]
fn a_push_that_nobody_got_has_an_exit_code_of_its_own() {
    let server = Server::start();
    assert_eq!(push(&server, "jack", "news", "m").0, 2);
    let (code, printed, told) = push(&server, "jack", "news", "");
    assert_eq!((code, &*printed), (1, ""), "{told}");
    assert!(told.contains("message is empty"), "{told}");
    drop(server);
    let (code, _, told) = said(&tool(
        &["push", "--url", "http://127.0.0.1:0", "--user", "jack", "--event", "e", "-m", "m"],
        &[],
        "",
    ));
    assert_eq!(code, 1);
    assert!(told.starts_with("error: server unreachable"), "{told}");
}

#[test]
fn a_message_comes_from_standard_input() {
    let server = Server::start();
    let url = url(&server);
    let flags = ["--url", &url, "--user", "jack", "--event", "news"];
    let mut listening = Listening::start(&flags, &[], "").bound(&server, "jack", "news");
    let pushing = ["push", "--url", &url, "--user", "jack", "--event", "news"];
    for (arguments, input, line) in [
        (&[][..], "one line\n", "one line"),
        (&["-m", "-"], "of another machine\r\n", "of another machine"),
        (&["-m", "-"], "two\n\n", r"two\n"),
    ] {
        let output = tool(&[&pushing[..], arguments].concat(), &[], input);
        assert_eq!(said(&output).0, 0, "{output:?}");
        assert_eq!(listening.message(), line);
    }
}

#[test]
fn keys_and_tokens_come_from_files_and_the_environment() {
    let tokens = file("tokens", "canary-token-0123456789 jack\n");
    let keys = file("keys", "canary-key-0123456789\n");
    let server =
        Server::start_with(&["--tokens-file", tokens.path(), "--push-key-file", keys.path()], &[]);
    let url = url(&server);
    let token = file("token", "canary-token-0123456789\n");
    let push = |arguments: &[&str], environment: Environment<'_>| {
        let all = [&["push", "--url", &url, "-u", "jack", "-e", "news", "-m", "m"], arguments];
        said(&tool(&all.concat(), environment, ""))
    };
    let ways: [(&[&str], Environment<'_>, &str); 3] = [
        (&["--token-file", token.path()], &[], ""),
        (&["--token-file", "-"], &[], "canary-token-0123456789\n"),
        (&[], &[("WSERVER_TOKEN", "canary-token-0123456789")], ""),
    ];
    for (arguments, environment, input) in ways {
        let flags = ["--url", &url, "--event", "news"];
        let mut listening = Listening::start(&[&flags, arguments].concat(), environment, input);
        assert_eq!(listening.told(), connected("news"));
        eventually("the listener is bound", || {
            push(&["--key-file", keys.path()], &[]).1 == "1 connection got it\n"
        });
        assert_eq!(push(&[], &[("WSERVER_PUSH_KEY", "canary-key-0123456789")]).0, 0);
        assert_eq!(listening.interrupt().0, 0);
        eventually("the listener is gone", || push(&["--key-file", keys.path()], &[]).0 == 2);
    }
    let (code, printed, told) = push(&[], &[("WSERVER_PUSH_KEY", "canary-wrong-0123456789")]);
    assert_eq!((code, &*printed), (1, ""));
    assert!(told.contains("401 Unauthorized"), "{told}");
    assert!(!told.contains("canary"), "{told}");
}

/// Some editors put a byte order mark first, and what is copied from a page has stranger things in it.
#[test]
fn a_key_with_what_nobody_sees_is_the_key_or_told() {
    let keys = file("keys-marked", "\u{feff}canary-key-0123456789\n");
    let server = Server::start_with(&["--push-key-file", keys.path()], &[]);
    let url = url(&server);
    let push = |key: &str| {
        let key = file("key", key);
        let flags = [
            "push",
            "--url",
            &url,
            "-u",
            "jack",
            "-e",
            "news",
            "-m",
            "m",
            "--key-file",
            key.path(),
        ];
        said(&tool(&flags, &[], ""))
    };
    // Nobody listens, and the key is right.
    for key in ["canary-key-0123456789", "\u{feff}canary-key-0123456789\r\n"] {
        assert_eq!(push(key).0, 2, "{:?}", push(key));
    }
    for (key, code) in [
        ("canary-key-\u{200b}0123456789", "U+200B"),
        ("canary-key-0123456789\0", "U+0000"),
        ("canary-key\u{a0}0123456789", "U+00A0"),
        ("canary-key-0123456789\ncanary-key-9876543210", "U+000A"),
    ] {
        let (status, printed, told) = push(key);
        assert_eq!((status, &*printed), (64, ""), "{told}");
        assert!(told.contains(&format!("contains the invisible character {code}")), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_listener_comes_back_to_a_server_that_restarts() {
    // A port of any other kind could be another program's before the server is back.
    let address = format!("127.0.0.1:{}", reserved_port());
    let server = Server::start_at(&address, &[], &[]);
    let url = url(&server);
    let flags = ["--url", &url, "--user", "jack", "--event", "news"];
    let mut listening = Listening::start(&flags, &[], "").bound(&server, "jack", "news");
    server.signal("TERM");
    drop(server.wait());
    let told = listening.told();
    assert!(told.starts_with("interrupted: closed by the server with 4000"), "{told}");
    let server = Server::start_at(&address, &[], &[]);
    while listening.told() != connected("news") {}
    eventually("the listener is bound", || push(&server, "jack", "news", "again").0 == 0);
    assert_eq!(listening.message(), "again");
}

#[test]
fn a_listener_ends_where_there_is_no_use_in_coming_back() {
    let tokens = file("tokens", "right jack\n");
    let server =
        Server::start_with(&["--tokens-file", tokens.path(), "--register-timeout", "1s"], &[]);
    let url = url(&server);
    let flags = ["--url", &url, "--event", "news"];
    let mut listening = Listening::start(&flags, &[("WSERVER_TOKEN", "canary")], "");
    let (code, _, told) = listening.end();
    assert_eq!(code, 1);
    let why = "the registration is refused: the token is unknown or malformed";
    assert!(told.contains(why), "{told}");
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn bad_arguments_are_told() {
    let empty = file("empty", "\n");
    let huge = file("huge", "canary".repeat(20_000));
    let cases: [(&[&str], &str); 9] = [
        (&["listen", "-e", "e", "--token-file", huge.path()], "too long for a secret"),
        (&["push"], "--user <USER>"),
        (&["push", "-u", "u", "-e", "e", "-m", "m", "--key", "canary"], "--key-file"),
        (
            &["push", "-u", "u", "-e", "e", "-m", "m", "--key-file", "/nowhere"],
            "/nowhere: No such file",
        ),
        (&["push", "-u", "u", "-e", "e", "-m", "m", "--key-file", empty.path()], "is empty"),
        (&["push", "-u", "u", "-e", "e", "-m", "m", "--url", "canary.example"], "http://"),
        (&["listen", "-e", "e"], "--token-file"),
        (
            &[
                "listen",
                "-e",
                "e",
                "-u",
                "u",
                "--url",
                "wss://localhost",
                "--ca-file",
                empty.path(),
            ],
            "--ca-file",
        ),
        (&["man", "nothing"], "\"nothing\""),
    ];
    for (arguments, expected) in cases {
        let output = tool(arguments, &[], "");
        assert_eq!(output.status.code(), BAD_ARGUMENTS, "{arguments:?} {output:?}");
        let (_, printed, told) = said(&output);
        assert_eq!(printed, "", "{arguments:?}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
        assert!(!told.contains("canary.example"), "{told}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for (arguments, words) in [
        (&["completions", "bash"][..], ["complete -F _wserver", "--key-file", "--ping-interval"]),
        (&["completions", "zsh"], ["#compdef wserver", "--key-file", "--ping-interval"]),
        (&["completions", "fish"], ["complete -c wserver", "key-file", "ping-interval"]),
        (&["man"], [".TH wserver 1", "wserver\\-push(1)", "\\-\\-ping\\-interval"]),
        (&["man", "push"], [".TH wserver-push 1", "\\-\\-key\\-file", "WSERVER_PUSH_KEY"]),
    ] {
        let (code, printed, told) = said(&tool(arguments, &[], ""));
        assert_eq!((code, &*told), (0, ""), "{arguments:?}");
        for word in words {
            assert!(printed.contains(word), "{word} of {arguments:?} not in {printed}");
        }
    }
}

#[test]
fn a_private_unix_socket_is_reached() {
    let folder = file("folder", "");
    let socket = format!("{}.socket", folder.path());
    let private = format!("unix:{socket}");
    let server = Server::start_with(&["--private-address", &private], &[]);
    for command in [&["push", "-m", "m"][..], &["explain"]] {
        let arguments =
            [command, &["--unix-socket", &socket, "--user", "jack", "--event", "news"]].concat();
        let (code, printed, told) = said(&tool(&arguments, &[], ""));
        assert_eq!((code, &*told), (2, ""));
        assert!(printed.contains("jack has no connection"), "{printed}");
    }
    // The public one has none of it.
    assert_eq!(push(&server, "jack", "news", "m").0, 1);
}

/// A server as it is shipped takes pushes elsewhere, and says where.
#[test]
fn who_aims_a_tool_at_the_public_port_is_told_the_private_one() {
    let mut server = Server::start_as_shipped("127.0.0.1:0", &[]);
    let public = url(&server);
    let private = format!("http://{}", server.private_address());
    for command in [&["push", "-e", "e", "-m", "m"][..], &["explain", "-e", "e"], &["trace"]] {
        let arguments = [command, &["--url", &public, "--user", "u"]].concat();
        let (code, printed, told) = said(&tool(&arguments, &[], ""));
        assert_eq!((code, &*printed), (1, ""), "{told}");
        assert!(told.contains(&private) && told.contains("push_key_file"), "{told}");
    }
    let (code, printed, told) = said(&tool(&["nodes", "--url", &public], &[], ""));
    assert_eq!((code, &*printed), (1, ""), "{told}");
    assert!(told.contains(&private), "{told}");
    let (code, _, told) = said(&tool(&["nodes", "--url", &private], &[], ""));
    assert_eq!((code, &*told), (0, ""));
}

/// As `openssl req -x509` makes them: one that has signed itself, and may sign others.
#[test]
fn a_self_signed_certificate_is_trusted_by_the_file_of_it() {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = file("self-signed.pem", params.self_signed(&key).unwrap().pem());
    let key_file = file("self-signed-key.pem", key.serialize_pem());
    let flags = ["--tls-certificate-file", certificate.path(), "--tls-key-file", key_file.path()];
    let server = Server::start_with(&flags, &[]);
    let url = |host: &str| format!("https://{host}:{}", server.address.port());
    let ask = |host: &str, authority: &str| {
        let url = url(host);
        said(&tool(&["nodes", "--url", &url, "--ca-file", authority], &[], ""))
    };
    let (code, _, told) = ask("localhost", certificate.path());
    assert_eq!((code, &*told), (0, ""));
    // The name counts, and another certificate with the same name and key is another.
    let (code, _, told) = ask("127.0.0.1", certificate.path());
    assert!(code == 1 && told.contains("not valid for name"), "{told}");
    params.serial_number = Some(7u64.into());
    let another = file("another.pem", params.self_signed(&key).unwrap().pem());
    let (code, _, told) = ask("localhost", another.path());
    assert!(code == 1, "{told}");
}

/// A reader that has had enough is no failure.
#[test]
fn what_is_printed_into_a_closed_pipe_is_no_failure() {
    for arguments in [&["config"][..], &["check"], &["key"], &["man"], &["completions", "bash"]] {
        let mut child = command()
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?} {output:?}");
    }
}

/// Each event is told of, and nothing claims a registration that there is not.
#[test]
fn a_listener_is_told_of_each_event() {
    let secret = file("jwt-secret", SECRET);
    let flags = ["--jwt-secret-file", secret.path(), "--jwt-audience", "any"];
    let server = Server::start_with(&[&flags[..], &["--jwt-events-claim", "events"]].concat(), &[]);
    let url = url(&server);
    let token = hs256(SECRET.as_bytes(), &claims(&json!({"events": ["news"]})));
    let environment = [("WSERVER_TOKEN", &*token)];
    let flags = ["--url", &url, "--json", "--event", "news", "--event", "secret"];
    let mut listening = Listening::start(&flags, &environment, "");
    assert_eq!(listening.told(), "registered: news\n");
    assert_eq!(listening.told(), "refused: secret: the token does not permit this event\n");
    let answer = good(
        &server,
        "POST",
        "/v2/push",
        &json!({"user": "jack", "event": "news", "message": "m"}),
    );
    let line: serde_json::Value = serde_json::from_str(&listening.message()).unwrap();
    assert_eq!((&line["event"], &line["id"]), (&json!("news"), &answer["id"]));
    drop(listening);
    let (code, _, told) =
        Listening::start(&["--url", &url, "--event", "secret"], &environment, "").end();
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("every registration is refused: secret: the token does not"), "{told}");
}

#[test]
fn who_may_not_administer_is_told_so() {
    let keys = file("keys", "canary-key-0123456789\n");
    let server = Server::start_with(&["--push-key-file", keys.path()], &[]);
    let url = url(&server);
    for command in [&["explain", "--event", "e"][..], &["trace"]] {
        let arguments = [command, &["--url", &url, "--user", "u"]].concat();
        for (key, status) in [(&[][..], "401"), (&["--key-file", keys.path()], "403")] {
            let (code, printed, told) = said(&tool(&[&arguments[..], key].concat(), &[], ""));
            assert_eq!((code, &*printed), (1, ""), "{told}");
            assert!(told.contains(status), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
