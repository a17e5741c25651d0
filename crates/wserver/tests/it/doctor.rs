//! `wserver doctor`: a good server, and each of the ways in which something between is not.
//!
//! What a real proxy does is in `xtask/interop/nginx.sh`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::thread;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::harness::{Server, command};
use crate::settings::{File, file};

/// Exit code and what was printed.
fn doctor(url: &str, arguments: &[&str]) -> (i32, String) {
    said(&command().args(["doctor", url]).args(arguments).output().unwrap())
}

fn said(output: &Output) -> (i32, String) {
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stdout.clone()).unwrap())
}

/// The verdict of each check, in their order.
fn verdicts(printed: &str) -> Vec<(&str, &str)> {
    let lines = printed.lines().filter(|line| !line.starts_with(' '));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.next().unwrap())
        })
        .collect()
}

#[test]
fn a_good_server_passes() {
    let server = Server::start();
    let (code, printed) = doctor(&format!("http://{}", server.address), &["--idle", "100ms"]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(
        verdicts(&printed),
        [
            ("ok", "name"),
            ("ok", "tcp"),
            ("skipped", "tls"),
            ("ok", "upgrade"),
            ("ok", "protocol"),
            ("ok", "clock"),
            ("ok", "ping"),
            ("ok", "register"),
            ("ok", "delivery"),
            ("ok", "idle"),
            ("ok", "close"),
        ],
        "{printed}"
    );
    let (code, printed) = doctor(&format!("ws://{}/ws", server.address), &["--quick"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("skipped  idle       --quick"), "{printed}");
}

#[test]
fn a_listeners_token_is_used_and_not_shown() {
    let tokens = file("tokens", "canary-token-0123456789 jack\n");
    let keys = file("keys", "canary-key-0123456789\n");
    let server =
        Server::start_with(&["--tokens-file", tokens.path(), "--push-key-file", keys.path()], &[]);
    let url = format!("http://{}", server.address);
    let token = file("token", "canary-token-0123456789\n");
    let with_token = ["--quick", "--token-file", token.path()];
    let with_key = ["--user", "jack", "--key-file", keys.path()];
    for (arguments, line) in [
        ([&with_token[..], &with_key].concat(), "ok       delivery"),
        (with_token.to_vec(), "skipped  delivery   to push to the token's user, name that user"),
        ([&with_token[..], &with_key[..2]].concat(), "--key-file"),
        ([&["--quick"], &with_key[..]].concat(), "warning  register   refused: "),
    ] {
        let (code, printed) = doctor(&url, &arguments);
        assert_eq!(code, 0, "{arguments:?} {printed}");
        assert!(printed.contains(line), "{arguments:?} {printed}");
        assert!(!printed.contains("canary"), "{printed}");
    }
}

#[test]
fn a_refused_token_is_a_failure() {
    let tokens = file("tokens", "canary-token-0123456789 jack\n");
    let server = Server::start_with(&["--tokens-file", tokens.path()], &[]);
    let url = format!("http://{}", server.address);
    let token = file("token", "canary-other-0123456789\n");
    let given = ["--token-file", token.path(), "--user", "jack"];
    let (code, printed) = doctor(&url, &given);
    assert_eq!(code, 1, "{printed}");
    for words in
        ["failed   register   refused: ", "is it a token for this server", "ok       close"]
    {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(!printed.contains("canary"), "{printed}");
    // By version 1 only the push shows it.
    let old = proxied(&server, "Server: nginx/1.22.1", |head| {
        Some(without("sec-websocket-protocol:", &head))
    });
    let (code, printed) = doctor(&old, &[&given[..], &["--quick"]].concat());
    assert_eq!(code, 1, "{printed}");
    for words in ["warning  protocol   version 1 only", "did not accept the token"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    // A token that was accepted, and a user that is not its own.
    let token = file("token", "canary-token-0123456789\n");
    let other = ["--quick", "--token-file", token.path(), "--user", "jill"];
    let (code, printed) = doctor(&url, &other);
    assert!(code == 1 && printed.contains("is the token of this --user"), "{printed}");
}

#[test]
fn a_token_for_some_events_is_tried_with_one_of_them() {
    let secret = file("secret", "0123456789abcdef0123456789abcdef");
    let settings = format!(
        "[jwt]\nsecret_file = \"{}\"\naudience = [\"any\"]\nevents_claim = \"events\"\n",
        secret.path()
    );
    let settings = file("wserver.toml", settings);
    let config = ["--config", settings.path()];
    let server = Server::start_with(&config, &[]);
    let made = command()
        .args(["token", "make", "--user", "jack", "--event", "order"])
        .args(config)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let token = file("token", made.stdout);
    let url = format!("http://{}", server.address);
    let arguments = ["--quick", "--token-file", token.path(), "--user", "jack"];
    let (code, printed) = doctor(&url, &arguments);
    assert!(code == 1 && printed.contains("permits with --event"), "{printed}");
    let (code, printed) = doctor(&url, &[&arguments[..], &["--event", "order"]].concat());
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("; it expires in "), "{printed}");
}

#[test]
fn a_server_that_knows_version_1_only_passes_with_a_warning() {
    let server = Server::start();
    let url = proxied(&server, "Server: nginx/1.22.1", |head| {
        Some(without("sec-websocket-protocol:", &head))
    });
    let (code, printed) = doctor(&url, &["--quick"]);
    assert_eq!(code, 0, "{printed}");
    for words in ["warning  protocol   version 1 only", "ok       delivery"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
}

/// A server with a certificate for `name` that ends in that year.
fn secure(name: &str, year: i32) -> (Server, File) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = file("certificate.pem", params.self_signed(&key).unwrap().pem());
    let key = file("key.pem", key.serialize_pem());
    let flags = ["--tls-certificate-file", certificate.path(), "--tls-key-file", key.path()];
    (Server::start_with(&flags, &[]), certificate)
}

#[test]
fn certificates_are_looked_at() {
    for (name, year, trusted, expected) in [
        (
            "localhost",
            2999,
            true,
            "ok       tls        TLS 1.3, a certificate for localhost, until 2999-01-01",
        ),
        ("localhost", 2999, false, "the intermediate certificates"),
        ("elsewhere.example", 2999, true, "get one for this name"),
        ("localhost", 2001, true, "renew the certificate"),
    ] {
        let (server, certificate) = secure(name, year);
        let url = format!("wss://localhost:{}", server.address.port());
        let mut arguments = vec!["--quick"];
        if trusted {
            arguments.extend(["--ca-file", certificate.path()]);
        }
        let (code, printed) = doctor(&url, &arguments);
        assert_eq!(code, i32::from(!expected.starts_with("ok")), "{printed}");
        assert!(printed.contains(expected), "{name} {year} {trusted}: {printed}");
    }
    let server = Server::start();
    let url = format!("wss://localhost:{}", server.address.port());
    let (code, printed) = doctor(&url, &["--quick"]);
    assert_eq!(code, 1);
    assert!(printed.contains("this port does not speak TLS"), "{printed}");
}

#[test]
fn what_the_server_refuses_is_told_with_its_remedy() {
    let flags = ["--origin", "https://app.example.com", "--ws-path", "/live"];
    let server = Server::start_with(&flags, &[]);
    let url = format!("http://{}", server.address);
    for (path, arguments, expected) in [
        ("/live", &["--origin", "https://app.example.com"][..], "ok       upgrade"),
        ("/live", &["--origin", "https://evil.example"], "add the origin to the setting origin"),
        ("", &[], "the server has another ws_path"),
    ] {
        let (_, printed) = doctor(&format!("{url}{path}"), &[arguments, &["--quick"]].concat());
        assert!(printed.contains(expected), "{printed}");
    }
}

/// What is told about somebody who answers every handshake so.
fn answered(answer: &str, expected: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.replace('\n', "\r\n");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let (code, printed) = doctor(&url, &["--quick"]);
    server.join().unwrap();
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains(expected), "{expected} not in {printed}");
    assert!(!printed.contains(|letter: char| letter.is_control() && letter != '\n'), "{printed:?}");
}

#[test]
fn what_others_answer_is_told_with_its_remedy() {
    let refused =
        |status: &str, headers: &str| format!("HTTP/1.1 {status}\n{headers}Content-Length: 0\n\n");
    for (status, headers, expected) in [
        (
            "301 Moved",
            "Location: https://push.example.com/ws\n",
            "use the URL of the redirect, https://push.example.com/ws",
        ),
        ("200 OK", "Server: nginx\n", "(by nginx, not by wserver)"),
        ("200 OK", "", "the answer is a page instead of the upgrade"),
        ("401 Unauthorized", "", "something in front of the server authenticates"),
        ("404 Not Found", "", "pass /ws to wserver"),
        ("426 Upgrade Required", "", "let it speak HTTP/1.1"),
        ("502 Bad Gateway", "", "does not reach wserver"),
        (
            "400 Bad Request",
            "Wserver-Error: the Connection header must name upgrade\n",
            "proxy_set_header Connection",
        ),
        (
            "429 Too Many Requests",
            "Wserver-Error: this address has reached connections_per_address_max, which is 5\n",
            "trusted_proxies",
        ),
        (
            "302 Found",
            "Location: https://a.example/\u{9b}2J\n",
            "WebSocket clients do not follow \
                                                                 redirects",
        ),
    ] {
        answered(&refused(status, headers), expected);
    }
    // The cure is that of whoever answered.
    for (header, cure) in [
        ("Server: nginx/1.22.1", "proxy_set_header Upgrade $http_upgrade"),
        ("Server: Apache/2.4.65 (Debian)", "upgrade=websocket"),
        ("Server: lighttpd/1.4.69", "proxy.header = ( \"upgrade\" => \"enable\" )"),
        ("Via: 1.1 varnish (Varnish/7.1)", "return (pipe)"),
        ("Via: 1.1 host (squid/5.7)", "http_upgrade_request_protocols"),
        ("X: y", "HAProxy: "),
    ] {
        let why = "Wserver-Error: the Upgrade header must name websocket";
        let headers = format!("{why}\n{header}\n");
        answered(&refused("400 Bad Request", &headers), cure);
    }
    let upgrade = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: upgrade\n";
    answered(
        &format!("{upgrade}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"),
        "the answer does not match this handshake",
    );
    answered("SSH-2.0-OpenSSH_9.2\n", "the answer does not match this handshake");
    answered("", "not even a plain request");
}

/// A proxy before `server` that changes each head of a request, says who it is, and lets the rest be;
/// `None` ends the connection without a word.
fn proxied(server: &Server, who: &'static str, change: fn(String) -> Option<String>) -> String {
    let (listener, backend) = (TcpListener::bind("127.0.0.1:0").unwrap(), server.address);
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut client_reader = BufReader::new(client.try_clone().unwrap());
                let Some(head) = change(head_of(&mut client_reader)) else { return };
                let mut server = TcpStream::connect(backend).unwrap();
                server.write_all(head.as_bytes()).unwrap();
                let (mut to_server, mut to_client) = (server.try_clone().unwrap(), client);
                thread::spawn(move || std::io::copy(&mut client_reader, &mut to_server));
                let mut server = BufReader::new(server);
                let head = head_of(&mut server).replacen("\r\n", &format!("\r\n{who}\r\n"), 1);
                let _ = to_client.write_all(head.as_bytes());
                let _ = std::io::copy(&mut server, &mut to_client);
                let _ = to_client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    url
}

/// A head of HTTP with the line that ends it, or what came of it.
fn head_of(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|bytes| bytes > 0) {}
    head
}

fn without(name: &str, head: &str) -> String {
    let lines = head.split_inclusive("\r\n");
    lines.filter(|line| !line.to_ascii_lowercase().starts_with(name)).collect()
}

#[test]
fn a_proxy_that_takes_the_key_away_is_a_failure_and_named() {
    let keys = file("keys", "canary-key-0123456789\n");
    let other = file("other-keys", "canary-other-0123456789\n");
    let server = Server::start_with(&["--push-key-file", keys.path()], &[]);
    let url = proxied(&server, "Via: 1.1 host (squid/5.7)", |head| {
        Some(without("authorization:", &head))
    });
    let (code, printed) = doctor(&url, &["--quick", "--key-file", keys.path()]);
    assert_eq!(code, 1, "{printed}");
    for words in ["failed   delivery", "did not arrive", "squid/5.7", "login=PASSTHRU"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(!printed.contains("canary"), "{printed}");
    // With nobody between, a key that is wrong is a failure as well, and another one.
    let direct = format!("http://{}", server.address);
    let (code, printed) = doctor(&direct, &["--quick", "--key-file", other.path()]);
    assert!(code == 1 && printed.contains("the push key is wrong"), "{printed}");
    let (code, printed) = doctor(&direct, &["--quick", "--key-file", keys.path()]);
    assert!(code == 0 && printed.contains("ok       delivery"), "{printed}");
    // Without one there is nothing to be taken away.
    let (code, printed) = doctor(&url, &["--quick"]);
    assert!(code == 0 && printed.contains("skipped  delivery"), "{printed}");
}

#[test]
fn a_proxy_that_drops_upgrades_is_told_from_one_that_is_dead() {
    let server = Server::start();
    let url = proxied(&server, "Server: lighttpd/1.4.69", |head| {
        let is_upgrade = head.to_ascii_lowercase().contains("upgrade: websocket");
        (!is_upgrade).then_some(head)
    });
    let (code, printed) = doctor(&url, &["--quick"]);
    assert_eq!(code, 1, "{printed}");
    for words in
        ["failed   upgrade", "a plain GET is answered with 400", "upgrades do not", "lighttpd"]
    {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    let url = proxied(&server, "Server: lighttpd/1.4.69", |_| None);
    let (code, printed) = doctor(&url, &["--quick"]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("not even a plain request"), "{printed}");
}

#[test]
fn nobody_there_is_told() {
    let (code, printed) = doctor("http://127.0.0.1:0", &[]);
    assert_eq!(code, 1);
    assert!(printed.contains("failed   tcp"), "{printed}");
    let (code, printed) = doctor("wss://nothing.invalid", &[]);
    assert_eq!(code, 1);
    assert!(printed.contains("failed   name"), "{printed}");
}

/// What is told when the server ends while the doctor is silent.
fn ended(signal: &str) -> String {
    let server = Server::start();
    let mut child = command()
        .args(["doctor", "--idle", "10m", &format!("http://{}", server.address)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("ok       delivery")));
    server.signal(signal);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
    rest.join("\n")
}

#[test]
fn an_end_in_silence_is_told() {
    let printed = ended("KILL");
    assert!(printed.contains("failed   idle       cut after"), "{printed}");
    assert!(printed.contains("proxy_read_timeout"), "{printed}");
    let printed = ended("TERM");
    assert!(printed.contains("failed   idle       closed by the server with 4000"), "{printed}");
    assert!(printed.contains("shutting down"), "{printed}");
}

#[test]
fn bad_arguments_are_told() {
    for (arguments, expected) in [
        (&["doctor"][..], "<URL>"),
        (&["doctor", "push.example.com"], "http://"),
        (&["doctor", "http://a.example", "--idle", "soon"], "--idle"),
        (&["doctor", "http://a.example", "--idle", "3s", "--quick"], "--quick"),
        (&["doctor", "http://a.example", "--ca-file", "/nowhere"], "/nowhere"),
    ] {
        let output = command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(expected), "{told}");
    }
}
