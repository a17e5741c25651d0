//! TLS where browsers connect: handshakes, the hot path, slow readers, reloads, mistakes.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio_tungstenite::tungstenite::Message;
use wserver_warp::{HttpLimitSettings, LimitSettings, Server, ServerBuilder, TlsSettings};

use crate::secure::{
    Authority, Files, Identity, Secure, VERSIONS, ask, closed, is_sent, listen, next, push, secure,
    text,
};
use crate::{PATIENCE, Running, eventually, pass, serve};

/// No pings: on a slow machine one would come between the messages.
fn quiet() -> LimitSettings {
    LimitSettings { ping_interval: Duration::from_secs(3600), ..LimitSettings::default() }
}

fn builder(identity: &Identity) -> ServerBuilder {
    Server::builder().limits(quiet()).tls(settings(identity))
}

fn settings(Identity { certificate, key }: &Identity) -> TlsSettings {
    TlsSettings::pem(certificate.as_bytes(), key.as_bytes())
}

/// A server, and a client of any version that trusts it.
fn start() -> (Running, ClientConfig) {
    let authority = Authority::new();
    (serve(builder(&authority.sign())), authority.client(&VERSIONS))
}

#[tokio::test]
async fn both_versions_carry_both_endpoints() {
    let authority = Authority::new();
    let running = serve(builder(&authority.sign()));
    for (version, spoken) in
        VERSIONS.into_iter().zip([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3])
    {
        let mut config = authority.client(&[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut socket = listen(&running, &config, "jack", "news").await;
        let (_, session) = socket.get_ref().get_ref();
        assert_eq!(session.protocol_version(), Some(spoken));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));

        let mut stream = secure(running.address, &config).await.unwrap();
        let answer = push(&mut stream, "hello").await.unwrap();
        assert!(is_sent(&answer, 1), "{answer}");
        assert_eq!(text(&mut socket).await, "hello");

        socket.send(Message::Ping("are you there".into())).await.unwrap();
        let pong = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        assert_eq!(pong.unwrap().unwrap(), Message::Pong("are you there".into()));

        socket.close(None).await.unwrap();
        assert!(matches!(next(&mut socket).await, Message::Close(_)));
        eventually("unbound", || running.handle.counts().registrations == 0).await;
    }
    assert_eq!(running.handle.tls_handshakes_failed(), 0);
}

/// Larger than what rustls keeps, and than what a socket takes at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_messages_arrive_whole_and_in_order() {
    let (running, config) = start();
    let mut socket = listen(&running, &config, "jack", "news").await;
    let messages: Vec<String> =
        ('a'..='c').map(|letter| letter.to_string().repeat(1 << 20)).collect();
    for message in &messages {
        let mut stream = secure(running.address, &config).await.unwrap();
        let answer = push(&mut stream, message).await.unwrap();
        assert!(is_sent(&answer, 1), "{answer}");
    }
    for message in &messages {
        assert!(text(&mut socket).await == *message);
    }
    // Read by the server in records, put together by it.
    let large = format!(r#"{{"token":"jack","event":"more","rest":"{}"}}"#, "x".repeat(60_000));
    socket.send(Message::text(large)).await.unwrap();
    eventually("bound", || running.handle.counts().registrations == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_arrives_whole() {
    let authority = Authority::new();
    let limits = LimitSettings { outbox_bytes_max: 64 << 20, ..quiet() };
    let running = serve(builder(&authority.sign()).limits(limits));
    let mut socket = listen(&running, &authority.client(&VERSIONS), "jack", "news").await;
    // Much more than the kernel takes for somebody who does not read.
    let message = "x".repeat(1 << 20);
    for _ in 0..20 {
        assert_eq!(running.handle.push("jack", "news", &message).await, Ok(1));
    }
    for _ in 0..20 {
        assert!(text(&mut socket).await == message);
    }
}

/// More connections than the pusher writes to itself, and pushes that overtake the walk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_fan_out_keeps_order_and_counts() {
    const CONNECTIONS: usize = 40;
    const PUSHERS: usize = 8;
    const EACH: usize = 50;
    let (running, config) = start();
    let mut sockets = Vec::new();
    for _ in 0..CONNECTIONS {
        sockets.push(listen(&running, &config, "jack", "news").await);
    }
    let pushing = join_all((0..PUSHERS).map(|pusher| {
        let handle = running.handle.clone();
        async move {
            let mut taken = 0;
            for number in 0..EACH {
                let message = format!("{pusher}:{number}:{}", "x".repeat(500));
                taken += handle.push("jack", "news", &message).await.unwrap();
            }
            taken
        }
    }));
    let reading = join_all(sockets.iter_mut().map(async |socket| {
        let mut heard = Vec::new();
        while heard.len() < PUSHERS * EACH {
            heard.push(text(socket).await);
        }
        heard
    }));
    let (taken, heard) = tokio::join!(pushing, reading);
    assert_eq!(taken.into_iter().sum::<usize>(), CONNECTIONS * PUSHERS * EACH);
    for other in &heard[1..] {
        assert!(*other == heard[0], "all hear the same order");
    }
    for pusher in 0..PUSHERS {
        let prefix = format!("{pusher}:");
        let own: Vec<&str> = heard[0]
            .iter()
            .filter_map(|message| message.strip_prefix(&prefix)?.split(':').next())
            .collect();
        let expected: Vec<String> = (0..EACH).map(|number| number.to_string()).collect();
        assert_eq!(own, expected, "the order of one who waits for each answer");
    }
    assert_eq!(running.handle.counters().slow_evictions_total.value(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_evicted_at_its_bound() {
    let (running, config) = start();
    let mut slow = listen(&running, &config, "jack", "news").await;
    let mut quick = listen(&running, &config, "jack", "news").await;
    let message = "x".repeat(512 * 1024);
    let mut taken = 0;
    // It ends: what the kernel takes for the slow one is bounded, and so is its queue.
    loop {
        let count = running.handle.push("jack", "news", &message).await.unwrap();
        assert!(text(&mut quick).await == message);
        match count {
            2 => taken += 1,
            1 => break,
            other => panic!("taken by {other}"),
        }
    }
    assert_eq!(running.handle.counters().slow_evictions_total.value(), 1);
    // It still gets whole frames, up to the one that was on its way, and then learns why.
    let mut heard = 0;
    let code = loop {
        match next(&mut slow).await {
            Message::Text(text) => assert!(text.as_str() == message),
            Message::Close(frame) => break frame.map(|frame| u16::from(frame.code)),
            other => panic!("{other:?}"),
        }
        heard += 1;
    };
    assert_eq!(code, Some(1013));
    assert!(heard < taken, "what was queued is lost to it: {heard} of {taken}");
    assert_eq!(running.handle.push("jack", "news", "still there").await, Ok(1));
    assert_eq!(text(&mut quick).await, "still there");
}

/// The Close comes behind what was pushed, and close_notify behind the Close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_is_orderly() {
    let authority = Authority::new();
    // The clients answer no Close.
    let limits = LimitSettings { close_timeout: Duration::from_millis(200), ..quiet() };
    let running = serve(builder(&authority.sign()).limits(limits));
    let config = authority.client(&VERSIONS);
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(listen(&running, &config, "jack", "news").await);
    }
    let message = "x".repeat(900_000);
    for _ in 0..3 {
        assert_eq!(running.handle.push("jack", "news", &message).await, Ok(3));
    }
    let seeing = join_all(sockets.iter_mut().map(async |socket| {
        for _ in 0..3 {
            assert!(text(socket).await == message);
        }
        assert_eq!(closed(socket).await, 1001);
        // Now the server must see that we have gone.
        socket.get_mut().shutdown().await.unwrap();
    }));
    let (drained, _) = tokio::join!(running.shut_down(), seeing);
    assert_eq!((drained.closed, drained.cut_off), (3, 0));
}

#[tokio::test]
async fn sessions_are_resumed() {
    let authority = Authority::new();
    let running = serve(builder(&authority.sign()));
    for version in VERSIONS {
        let config = authority.client(&[version]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = secure(running.address, &config).await.unwrap();
            // The tickets come with the first answer, at the latest.
            push(&mut stream, "m").await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

fn certificate_of(stream: &Secure) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// New certificates are for new connections; a mistake changes nothing; nobody is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_reloaded_under_load() {
    let authority = Authority::new();
    let files = Files::new("reload");
    let write = |Identity { certificate, key }: &Identity| {
        (files.write("certificate.pem", certificate), files.write("key.pem", key))
    };
    let (certificate_file, key_file) = write(&authority.sign());
    let settings = TlsSettings::files(&certificate_file, &key_file);
    let running = serve(Server::builder().limits(quiet()).tls(settings));
    let config = authority.client(&VERSIONS);
    let mut socket = listen(&running, &config, "jack", "news").await;
    let mut live = secure(running.address, &config).await.unwrap();
    let first = certificate_of(&live);

    let pushing = async {
        for number in 0..300 {
            assert_eq!(running.handle.push("jack", "news", &number.to_string()).await, Ok(1));
            assert_eq!(text(&mut socket).await, number.to_string());
        }
    };
    let reloading = async {
        write(&authority.sign());
        running.handle.reload_tls().unwrap();
        let second = certificate_of(&secure(running.address, &config).await.unwrap());
        assert_ne!(second, first);

        std::fs::write(&key_file, authority.sign().key).unwrap();
        let error = running.handle.reload_tls().unwrap_err();
        assert!(
            error.problems().len() == 1
                && error.problems()[0].settings() == ["tls_key_file", "tls_certificate_file"]
                && error.problems()[0].to_string().contains("does not match"),
            "{error}"
        );
        let mut still = secure(running.address, &config).await.unwrap();
        assert_eq!(certificate_of(&still), second);
        let answer = ask(&mut still, "GET", "/nowhere", "").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    };
    tokio::join!(reloading, pushing);
    let answer = push(&mut live, "by an old connection").await.unwrap();
    assert!(is_sent(&answer, 1), "{answer}");
    assert_eq!(text(&mut socket).await, "by an old connection");
}

/// The files are looked at every few seconds.
#[tokio::test]
async fn certificates_that_change_are_reloaded_without_a_word() {
    let authority = Authority::new();
    let files = Files::new("watched");
    let write = |Identity { certificate, key }: &Identity| {
        (files.write("certificate.pem", certificate), files.write("key.pem", key))
    };
    let (certificate_file, key_file) = write(&authority.sign());
    let running = serve(Server::builder().tls(TlsSettings::files(certificate_file, key_file)));
    let config = authority.client(&VERSIONS);
    let first = certificate_of(&secure(running.address, &config).await.unwrap());
    write(&authority.sign());
    pass(Duration::from_secs(6)).await;
    let seen = async {
        while certificate_of(&secure(running.address, &config).await.unwrap()) == first {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the change is seen");
}

fn problems(settings: TlsSettings) -> Vec<String> {
    match Server::builder().tls(settings).build() {
        Ok(server) => panic!("built: {server:?}"),
        Err(error) => error.problems().iter().map(ToString::to_string).collect(),
    }
}

/// Each mistake is told before a port is bound, by the name of its setting, and no key is quoted.
#[test]
fn mistakes_are_named() {
    let files = Files::new("mistakes");
    let authority = Authority::new();
    let (own, other) = (authority.sign(), authority.sign());
    let certificate = files.write("certificate.pem", &own.certificate);
    let key = files.write("key.pem", &own.key);
    let canary = "Y2FuYXJ5Y2FuYXJ5";
    let encrypted = format!(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{canary}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    );
    let old_encrypted = format!(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{canary}\n-----END RSA PRIVATE KEY-----\n"
    );
    let no_key = format!("-----BEGIN PRIVATE KEY-----\n{canary}\n-----END PRIVATE KEY-----\n");
    let half = format!("-----BEGIN PRIVATE KEY-----\n{canary}\n");
    let check = |certificate: &Path, key: &Path, told: &[&str]| {
        let found = problems(TlsSettings::files(certificate, key));
        assert_eq!(found.len(), 1, "{told:?}: {found:#?}");
        for told in told {
            assert!(found[0].contains(told), "{told}: {found:#?}");
        }
        assert!(!found[0].contains("anary"), "{found:#?}");
    };
    let nowhere = files.path("nowhere.pem");
    check(&nowhere, &key, &["tls_certificate_file", "nowhere.pem", "No such file"]);
    check(&certificate, &nowhere, &["tls_key_file", "nowhere.pem", "No such file"]);
    let wrong = |name: &str, text: &str| files.write(name, text);
    check(&wrong("empty", ""), &key, &["tls_certificate_file", "empty", "no certificate"]);
    check(&certificate, &wrong("empty", ""), &["tls_key_file", "empty", "no private key"]);
    check(&certificate, &wrong("locked", &encrypted), &["tls_key_file", "encrypted", "openssl"]);
    check(&certificate, &wrong("locked", &old_encrypted), &["tls_key_file", "encrypted"]);
    check(&certificate, &wrong("nokey", &no_key), &["tls_key_file", "cannot be used"]);
    check(&certificate, &wrong("half", &half), &["tls_key_file", "not PEM", "no end"]);
    check(&certificate, &wrong("other", &other.key), &["tls_key_file", "other", "does not match"]);
    let chain = format!("{}{}", authority.pem, own.certificate);
    check(&wrong("chain", &chain), &key, &["does not match", "must come before"]);
    let (found, swapped) = (problems(TlsSettings::files(&key, &certificate)), "swapped?");
    assert!(found.len() == 2 && found.iter().all(|it| it.contains(swapped)), "{found:#?}");

    let with_ca = TlsSettings::files(&certificate, &key).client_ca_file(&nowhere);
    let found = problems(with_ca);
    assert!(found.len() == 1 && found[0].starts_with("tls_client_ca_file"), "{found:#?}");
    let shown = format!("{:?}", TlsSettings::pem(own.certificate.as_bytes(), own.key.as_bytes()));
    assert!(!shown.contains("KEY") && !shown.contains("45"), "{shown}");
    // One that would be passed over, since its file was joined to another without a line end.
    let joined = |one: &str, other: &str| format!("{}{other}", one.trim_end());
    let chain = joined(&own.certificate, &authority.pem);
    check(
        &wrong("joined", &chain),
        &key,
        &["tls_certificate_file", "2 certificates", "line of its own"],
    );
    let named = authority.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let chain = format!("{}{named}", own.certificate);
    check(
        &wrong("named", &chain),
        &key,
        &["tls_certificate_file", "2 certificates", "line of its own"],
    );
    let both = joined(&own.certificate, &own.key);
    check(&certificate, &wrong("both", &both), &["tls_key_file", "private key", "line of its own"]);
    let keys = joined(&own.key, &other.key);
    check(&certificate, &wrong("keys", &keys), &["tls_key_file", "2 private keys"]);
    // Nor is one with the mark that some editors put before it, or a chain in its right order.
    let marked = |text: &str| format!("\u{feff}{text}");
    let (chain, key) = (marked(&own.certificate), marked(&own.key));
    assert!(
        Server::builder().tls(TlsSettings::pem(chain.as_bytes(), key.as_bytes())).build().is_ok()
    );
    let chain = format!("{}{}", own.certificate, authority.pem);
    let settings = TlsSettings::pem(chain.as_bytes(), own.key.as_bytes());
    assert!(Server::builder().tls(settings).build().is_ok());
}

/// Who forgets the `s` of https is told so.
#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let (running, _) = start();
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let answer = push(&mut stream, "m").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("use https:// or wss:// to reach it"), "{answer}");

    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"\0\0\0\0 is nothing that we speak").await.unwrap();
    assert_ends(&mut stream).await;
    eventually("counted", || running.handle.tls_handshakes_failed() == 2).await;
}

/// The end comes, by whatever way.
async fn assert_ends(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = end.expect("it is closed");
    assert!(!answer.starts_with(b"HTTP"));
}

/// Who does not get on with the handshake is closed, and stands in nobody's way for longer.
#[tokio::test]
async fn a_handshake_has_its_time() {
    let authority = Authority::new();
    let limits = HttpLimitSettings {
        header_timeout: Duration::from_millis(300),
        http_connections_max: 2,
        ..HttpLimitSettings::default()
    };
    let running = serve(builder(&authority.sign()).limits(quiet()).http_limits(limits));
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut half = TcpStream::connect(running.address).await.unwrap();
    // The head of a handshake's record, which announces more than comes.
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    assert_ends(&mut silent).await;
    assert_ends(&mut half).await;
    eventually("counted", || running.handle.tls_handshakes_failed() == 2).await;

    let config = authority.client(&VERSIONS);
    let served = async {
        // The places that they took are given back a moment later.
        while secure(running.address, &config).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("others are served");
}

/// There is no HTTP/2 here, so who speaks nothing else is refused in the handshake.
#[tokio::test]
async fn who_only_speaks_http_2_is_refused() {
    let (running, mut config) = start();
    config.alpn_protocols = vec![b"h2".to_vec()];
    secure(running.address, &config).await.unwrap_err();
}

/// What a client sent right behind its handshake, and what came in the same record, is not lost.
#[tokio::test]
async fn what_comes_with_the_handshake_is_taken_in() {
    let (running, config) = start();
    let mut stream = secure(running.address, &config).await.unwrap();
    let mut sent =
        b"GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    for event in ["news", "chat", "mail"] {
        let register = format!(r#"{{"token":"jack","event":"{event}"}}"#);
        sent.extend([0x81, 0x80 | u8::try_from(register.len()).unwrap(), 0, 0, 0, 0]);
        sent.extend(register.as_bytes());
    }
    stream.write_all(&sent).await.unwrap();
    eventually("bound", || running.handle.counts().registrations == 3).await;
}
