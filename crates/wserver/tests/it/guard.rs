//! Who may push: without a key only programs on this machine, at a port of their own; with one only
//! who has it.

use crate::harness::{Server, command, eventually};
use crate::raw::{End, Raw, Socket, handshake, post, push_body};

const KEY: &str = "right-0123456789";
/// As long as the right one, and the same but for its end.
const NEARLY: &str = "right-0123456780";

fn check(server: &Server, headers: &[(&str, &str)], expected: Result<(), (u16, &str)>) {
    let mut raw = Raw::connect(server);
    raw.send(post(headers, push_body("jack", "news", "m")));
    let answer = raw.answer();
    match expected {
        Ok(()) => assert_eq!(answer.body, "message sent to 0 clients", "{headers:?} {answer:?}"),
        Err((status, why)) => {
            assert_eq!(answer.status, status, "{headers:?} {answer:?}");
            assert!(answer.error().contains(why), "{headers:?} {answer:?}");
            // Whoever looks at the body alone, as with curl, sees it too.
            assert!(answer.body.ends_with(answer.error()), "{headers:?} {answer:?}");
            assert_eq!(raw.end(), End::Eof, "{headers:?}");
        }
    }
}

/// A WebSocket by this handshake.
fn open(server: &Server, handshake: &str) -> Socket {
    let mut raw = Raw::connect(server);
    raw.send(handshake);
    let answer = raw.answer();
    assert_eq!(answer.status, 101, "{answer:?}");
    Socket { raw }
}

/// Marks that the guard knows, and what it says of each. The first part is refused everywhere.
const FOREIGN_PAGES: [(&[(&str, &str)], &str); 7] = [
    (&[("origin", "https://evil.example")], "Origin"),
    (&[("origin", "null")], "Origin"),
    (&[("origin", "http://localhost:1")], "Origin"),
    (&[("origin", "")], "Origin"),
    (&[("sec-fetch-site", "cross-site")], "Sec-Fetch-Site"),
    (&[("sec-fetch-site", "same-site")], "Sec-Fetch-Site"),
    (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], "Sec-Fetch-Site"),
];

const FOREIGN_WAYS: [(&[(&str, &str)], &str); 12] = [
    (&[("forwarded", "for=192.0.2.1")], "proxy"),
    (&[("via", "1.1 proxy")], "proxy"),
    (&[("x-forwarded-for", "127.0.0.1")], "proxy"),
    (&[("X-Forwarded-Host", "push.example.com")], "proxy"),
    (&[("x-forwarded-proto", "https")], "proxy"),
    (&[("x-real-ip", "192.0.2.1")], "proxy"),
    (&[("host", "push.example.com")], "Host"),
    (&[("host", "localhost.evil.example:80")], "Host"),
    (&[("host", "127.0.0.1.evil.example")], "Host"),
    (&[("host", "192.0.2.1")], "Host"),
    (&[("host", "")], "Host"),
    // A page of a name that was rebound to this machine is of the same origin to its browser.
    (
        &[
            ("host", "evil.example"),
            ("origin", "http://evil.example"),
            ("sec-fetch-site", "same-origin"),
        ],
        "Host",
    ),
];

#[test]
fn without_a_key_only_programs_on_this_machine_may_push() {
    let server = Server::start_private(&[]);
    for (headers, why) in FOREIGN_PAGES.iter().chain(&FOREIGN_WAYS) {
        check(&server, headers, Err((403, why)));
    }
    let own: [&[(&str, &str)]; 8] = [
        &[],
        &[("host", "127.0.0.1:80")],
        &[("host", "LOCALHOST:80")],
        &[("host", "[::1]:80")],
        &[
            ("host", "localhost:8"),
            ("origin", "http://localhost:8"),
            ("sec-fetch-site", "same-origin"),
        ],
        &[("sec-fetch-site", "none")],
        &[("authorization", "Bearer whatever")],
        &[("referer", "https://evil.example/")],
    ];
    for headers in own {
        check(&server, headers, Ok(()));
    }
}

/// A proxy that is believed about clients is no program on this machine either.
#[test]
fn a_trusted_proxy_opens_no_push() {
    let server = Server::start_private(&["--trusted-proxies", "127.0.0.0/8"]);
    for client in ["192.0.2.1", "127.0.0.1"] {
        check(&server, &[("x-forwarded-for", client)], Err((403, "proxy")));
    }
    for (headers, why) in &FOREIGN_PAGES {
        check(&server, headers, Err((403, why)));
    }
    check(&server, &[], Ok(()));
}

#[test]
fn a_push_without_a_host_is_refused() {
    let server = Server::start_private(&[]);
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut raw = Raw::connect(&server);
        let body = push_body("jack", "news", "m");
        raw.send(format!("POST /push {version}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        assert!([400, 403].contains(&raw.answer().status));
    }
}

#[test]
fn the_refusal_says_what_to_set() {
    let server = Server::start_private(&[]);
    let mut raw = Raw::connect(&server);
    raw.send(post(&[("host", "push.example.com")], ""));
    let answer = raw.answer();
    let title = "push without a key is only for programs on this machine";
    assert_eq!(answer.body, format!("{title}: {}", answer.error()));
    assert!(answer.error().contains("allow_open_push"), "{answer:?}");
}

/// The page that the server itself serves may push: that is what the demo does.
#[test]
fn the_demo_page_may_push() {
    let server = Server::start_private(&[]);
    let host = server.address.to_string();
    let origin = format!("http://{host}");
    check(
        &server,
        &[("host", &host), ("origin", &origin), ("sec-fetch-site", "same-origin")],
        Ok(()),
    );
}

/// It is where pushes are taken.
#[test]
fn the_demo_page_is_for_this_machine_unless_it_is_asked_for() {
    let page = |server: &Server| {
        let mut raw = Raw::connect(server);
        raw.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = raw.answer();
        if answer.status == 200 {
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
        }
        answer.status
    };
    let private = ["--private-address", "127.0.0.1:0"];
    for (address, flags, public_status, private_status) in [
        ("127.0.0.1:0", &[][..], 404, 200),
        ("127.0.0.1:0", &private, 404, 200),
        ("127.0.0.1:0", &["--no-demo"], 404, 404),
        ("127.0.0.1:0", &["--trusted-proxies", "127.0.0.1"], 404, 404),
        ("127.0.0.1:0", &["--trusted-proxies", "127.0.0.1", "--no-demo=false"], 404, 200),
        // It is of another origin than its WebSockets.
        ("127.0.0.1:0", &["--origin", "same-origin"], 404, 404),
        ("0.0.0.0:0", &[], 404, 200),
    ] {
        let mut server = Server::start_as_shipped(address, flags);
        let private_address = server.private_address();
        server.address.set_ip([127, 0, 0, 1].into());
        assert_eq!(page(&server), public_status, "{address} {flags:?}");
        server.address = private_address;
        assert_eq!(page(&server), private_status, "{address} {flags:?}");
    }
    for (address, flags, status) in [
        ("127.0.0.1:0", &[][..], 200),
        ("127.0.0.1:0", &["--no-demo"], 404),
        ("127.0.0.1:0", &["--origin", "same-origin"], 200),
        ("127.0.0.1:0", &["--trusted-proxies", "127.0.0.1"], 404),
        ("127.0.0.1:0", &["--trusted-proxies", "127.0.0.1", "--no-demo=false"], 200),
        ("127.0.0.1:0", &["--push-path", "/"], 405),
        ("0.0.0.0:0", &[], 404),
        ("0.0.0.0:0", &["--no-demo=false"], 200),
    ] {
        let server = Server::start_at(address, flags, &[]);
        assert_eq!(page(&server), status, "{address} {flags:?}");
    }
}

#[test]
fn open_push_lets_everyone_in_but_foreign_pages() {
    let server = Server::start_with(&["--allow-open-push"], &[]);
    for (headers, why) in &FOREIGN_PAGES {
        check(&server, headers, Err((403, why)));
    }
    for (headers, _) in &FOREIGN_WAYS {
        check(&server, headers, Ok(()));
    }
}

#[test]
fn with_a_key_only_the_key_counts() {
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", KEY)]);
    let bearer = format!("Bearer {KEY}");
    let nearly = format!("Bearer {NEARLY}");
    let longer = format!("Bearer {KEY}0");
    let basic = format!("Basic {KEY}");
    let right: [&[(&str, &str)]; 6] = [
        &[("authorization", &bearer)],
        &[("Authorization", &bearer.replace("Bearer", "bearer"))],
        &[("x-api-key", KEY)],
        &[("X-API-Key", KEY)],
        // The guard of open pushes is not for those who have a key.
        &[
            ("authorization", &bearer),
            ("host", "push.example.com"),
            ("x-forwarded-for", "192.0.2.1"),
        ],
        &[("authorization", &bearer), ("origin", "https://evil.example")],
    ];
    for headers in right {
        check(&server, headers, Ok(()));
    }
    let refused: [(&[(&str, &str)], &str); 11] = [
        (&[], "missing"),
        (&[("authorization", "Bearer")], "missing"),
        (&[("authorization", "Bearer ")], "missing"),
        (&[("x-api-key", "")], "missing"),
        (&[("authorization", KEY)], "missing"),
        (&[("authorization", &basic)], "missing"),
        (&[("authorization", &bearer), ("authorization", &bearer)], "missing"),
        (&[("x-api-key", KEY), ("x-api-key", KEY)], "missing"),
        (&[("authorization", &nearly)], "wrong"),
        (&[("authorization", &longer)], "wrong"),
        (&[("x-api-key", NEARLY)], "wrong"),
    ];
    for (headers, why) in refused {
        check(&server, headers, Err((401, why)));
    }
}

#[test]
fn who_has_no_key_is_refused_before_the_body_is_read() {
    let server = Server::start_with(&[], &[("WSERVER_PUSH_KEY", KEY)]);
    let wrong = format!("Authorization: Bearer {NEARLY}\r\n");
    for key in ["", &wrong] {
        for framing in
            ["Content-Length: 1000", "Content-Length: 10000000000", "Transfer-Encoding: chunked"]
        {
            for expect in ["", "Expect: 100-continue\r\n"] {
                let mut raw = Raw::connect(&server);
                // Not one byte of the body is sent, so the answer cannot have waited for it.
                raw.send(format!(
                    "POST /push?key={KEY} HTTP/1.1\r\nHost: h\r\n{key}{expect}{framing}\r\n\r\n"
                ));
                let answer = raw.answer();
                assert_eq!(answer.status, 401, "{key}{framing}");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                assert_eq!(raw.end(), End::Eof, "{key}{framing}");
            }
        }
    }
}

#[test]
fn keys_of_a_file_are_all_good() {
    let file =
        crate::settings::file("keys", format!("# old and new\n\n{KEY}\nnew-key-0123456789\n"));
    let server = Server::start_with(&["--push-key-file", file.path()], &[]);
    for key in [KEY, "new-key-0123456789"] {
        check(&server, &[("x-api-key", key)], Ok(()));
    }
    check(&server, &[("x-api-key", "# old and new")], Err((401, "wrong")));
}

/// What a private listener serves is reached by other machines only if that is meant.
#[test]
fn beyond_this_machine_an_open_push_must_be_meant() {
    for address in ["0.0.0.0:0", ":0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let flags = ["--address", "127.0.0.1:0", "--private-address", address];
        let output = command().args(flags).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{address}: {told}");
        for word in ["push key", "allow_open_push", "reachable from other machines"] {
            assert!(told.contains(word), "{address}: {told}");
        }
    }
}

/// Beyond this machine a server without a key serves listeners, and takes pushes from this machine.
#[test]
fn without_a_key_pushes_have_a_port_that_only_this_machine_reaches() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", ":0", "[::]:0"] {
        let mut server = Server::start_as_shipped(address, &[]);
        let private = server.private_address();
        assert!(private.ip().is_loopback(), "{address}: {private}");
        server.address.set_ip([127, 0, 0, 1].into());
        let mut socket = Socket::open(&server);
        socket.register("jack", "news");
        socket.sync();
        eventually("the push arrives", || {
            let mut raw = Raw::connect_at(private);
            raw.send(post(&[], push_body("jack", "news", "m")));
            raw.answer().body == "message sent to 1 clients"
        });
        assert_eq!(socket.next().payload, b"m", "{address}");
    }
}

/// What nginx's own page about WebSockets makes of a request: nothing tells it from one of this machine.
const BARE_PROXY: &str = "127.0.0.1:12345";

/// Requests of publishers and operators, one of each kind.
const OF_PUBLISHERS: [(&str, &str); 15] = [
    ("POST", "/push"),
    ("GET", "/push"),
    ("POST", "/v2/push"),
    ("POST", "/v2/push/batch"),
    ("POST", "/v2/presence"),
    ("POST", "/v2/disconnect"),
    ("GET", "/v2/users/jack/connections"),
    ("GET", "/v2/connections/1"),
    ("DELETE", "/v2/connections/1"),
    ("GET", "/v2/node"),
    ("GET", "/v2/nodes"),
    ("GET", "/v2/explain?user=jack&event=news"),
    ("GET", "/v2/trace?user=jack"),
    ("GET", "/metrics"),
    ("GET", "/"),
];

#[test]
fn a_proxy_that_leaves_no_mark_exposes_nothing_of_publishers() {
    let mut server = Server::start_as_shipped("127.0.0.1:0", &[]);
    let private = format!("http://{}", server.private_address());
    // The WebSocket is what the proxy is for.
    let bare = handshake(&[]).replace("host: localhost", &format!("host: {BARE_PROXY}"));
    let mut socket = open(&server, &bare);
    socket.register("jack", "news");
    socket.sync();
    let body = push_body("jack", "news", "m");
    for (method, target) in OF_PUBLISHERS {
        for body in ["", &*body] {
            let mut raw = Raw::connect(&server);
            raw.send(format!(
                "{method} {target} HTTP/1.1\r\nHost: {BARE_PROXY}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            let answer = raw.answer();
            if target == "/" {
                assert_eq!(answer.status, 404, "{answer:?}");
                continue;
            }
            assert_eq!(answer.status, 403, "{method} {target}: {answer:?}");
            assert_eq!(
                answer.header("content-type").unwrap().contains("json"),
                target.starts_with("/v2/"),
                "{answer:?}"
            );
            for words in [&*private, "push_key_file", "allow_open_push"] {
                assert!(answer.error().contains(words), "{method} {target}: {answer:?}");
                assert!(answer.body.contains(words), "{method} {target}: {answer:?}");
            }
        }
    }
    // None of it had an effect: the connection is there, and nothing came.
    socket.sync();
}

/// Where the operator has placed the private listener is told to nobody.
#[test]
fn a_private_address_of_the_operators_is_not_told() {
    let server = Server::start_as_shipped("127.0.0.1:0", &["--private-address", "127.0.0.1:0"]);
    let mut raw = Raw::connect(&server);
    raw.send(post(&[], push_body("jack", "news", "m")));
    let answer = raw.answer();
    assert_eq!((answer.status, answer.error()), (404, "no such path"), "{answer:?}");
}

/// One port for all, and a page of another machine has come: so have strangers.
#[test]
fn a_public_page_at_a_port_where_pushes_are_open_is_warned_of_once() {
    const WORDS: &str = "strangers can reach this port";
    for (flags, expected) in
        [(&["--allow-open-push"][..], 1), (&[], 0), (&["--private-address", "127.0.0.1:0"], 0)]
    {
        let server = Server::start_as_shipped("127.0.0.1:0", flags);
        for origin in ["http://localhost:3000", "https://app.example.com", "https://b.example"] {
            drop(open(&server, &handshake(&[("origin", origin)])));
        }
        server.signal("TERM");
        let (_, log) = server.wait();
        assert_eq!(log.matches(WORDS).count(), expected, "{flags:?}: {log}");
        assert_eq!(log.matches("https://app.example.com").count(), expected, "{log}");
    }
}

#[test]
fn beyond_this_machine_it_starts_when_it_is_meant() {
    for (flags, environment) in [
        (&["--allow-open-push"][..], &[][..]),
        (&[], &[("WSERVER_ALLOW_OPEN_PUSH", "true")]),
        (&[], &[("WSERVER_PUSH_KEY", KEY)]),
    ] {
        let mut server = Server::start_at("0.0.0.0:0", flags, environment);
        server.address.set_ip([127, 0, 0, 1].into());
        check(&server, &[("x-api-key", KEY), ("host", "push.example.com")], Ok(()));
    }
}
