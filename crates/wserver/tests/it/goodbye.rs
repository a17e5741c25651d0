//! The closing handshake (RFC 6455, section 7.1.1): the server that has sent its Close keeps its
//! writing side open until the client has answered, or `close_timeout` has passed.
//!
//! A client that sees the end of the connection before it has answered may throw away what it has
//! received and not looked at yet, and reports an unclean end.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use wserver_protocol::frame::Opcode;

use crate::api::good;
use crate::backend::Backend;
use crate::harness::{PATIENCE, Server};
use crate::judge::{Judge, now};
use crate::raw::{End, Frame, Raw, Socket, masked, masked_close, push, register};
use crate::secure::certificate;
use crate::settings::file;

/// How long nothing may come. An end that comes too early comes at once.
const QUIET: Duration = Duration::from_millis(200);

/// Nothing waits to be read, and nothing comes for a while, the end neither.
fn is_quiet(socket: &Socket) -> bool {
    let stream = &socket.raw.stream;
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let read = stream.peek(&mut [0]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    read.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// The server's Close comes, and the end not before its answer.
fn check(mut socket: Socket, code: u16, name: &str) {
    assert_eq!(socket.close().code, code, "{name}");
    assert!(is_quiet(&socket), "{name}: the end came before the answer");
    // What the client had still to say is no answer, and does no harm.
    socket.send(masked(Opcode::Pong, "late"));
    socket.send(masked(Opcode::Text, "late, too"));
    assert!(is_quiet(&socket), "{name}: the end came before the answer");
    socket.send(masked_close(code, b""));
    assert_eq!(socket.raw.end(), End::Eof, "{name}");
}

/// Speaks TLS to `server` for clients that do not: what ends on one side ends on the other.
fn relay(server: SocketAddr, certificate: &str) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let tasks = tokio::task::LocalSet::new();
            tasks
                .run_until(async {
                    loop {
                        let (mut near, _) = listener.accept().await.unwrap();
                        let connector = connector.clone();
                        tokio::task::spawn_local(async move {
                            let name = ServerName::try_from("localhost").unwrap();
                            let Ok(far) = TcpStream::connect(server).await else { return };
                            let mut far = connector.connect(name, far).await.unwrap();
                            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                        });
                    }
                })
                .await;
        });
    });
    address
}

/// A server with these flags, plain or behind the relay.
fn start(flags: &[&str], is_tls: bool) -> Server {
    if !is_tls {
        return Server::start_with(flags, &[]);
    }
    let (certificate, key) = certificate();
    let files = [file("goodbye.pem", &certificate), file("goodbye-key.pem", key)];
    let tls = ["--tls-certificate-file", files[0].path(), "--tls-key-file", files[1].path()];
    let mut server = Server::start_with(&[&tls, flags].concat(), &[]);
    server.address = relay(server.address, &certificate);
    server
}

fn disconnect(server: &Server, user: &str) {
    let answer = good(server, "POST", "/v2/disconnect", &json!({"user": user}));
    assert_eq!(answer["closed"], 1);
}

fn send(server: &Server, bytes: impl AsRef<[u8]>) -> Socket {
    let mut socket = Socket::open(server);
    socket.send(bytes);
    socket
}

/// A connection that is about to be closed.
type Closing = fn(&Server) -> Socket;

/// Every reason of the server's own: its name, the flags, what brings it about, and the code.
const REASONS: [(&str, &[&str], Closing, u16); 11] = [
    (
        "disconnected",
        &[],
        |server| {
            let socket = Socket::registered(server, "jack", "news");
            disconnect(server, "jack");
            socket
        },
        1000,
    ),
    (
        "shutdown",
        &[],
        |server| {
            let socket = Socket::registered(server, "jack", "news");
            server.signal("TERM");
            socket
        },
        1001,
    ),
    (
        "slow",
        &["--ping-interval", "1h"],
        |server| {
            let socket = Socket::registered(server, "jack", "news");
            let mut http = Raw::connect(server);
            let message = "x".repeat(1024 * 1024);
            while http.push("jack", "news", &message) > 0 {}
            socket
        },
        1013,
    ),
    ("flood", &[], |server| send(server, masked(Opcode::Ping, "").repeat(1000)), 1008),
    ("protocol_error", &[], |server| send(server, [0xc1, 0x80, 0, 0, 0, 0]), 1002),
    ("too_big", &[], |server| send(server, masked(Opcode::Text, "x".repeat(100_000))), 1009),
    ("invalid_payload", &[], |server| send(server, masked(Opcode::Text, [0xff])), 1007),
    ("not_registered", &["--register-timeout", "200ms"], Socket::open, 1008),
    (
        "silent",
        &["--ping-interval", "200ms", "--pong-timeout", "200ms"],
        |server| {
            // Half a message is no sign of life, and the answer stands behind the rest of it.
            let mut socket = send(server, register("jack", "news"));
            socket.send(&masked(Opcode::Text, "")[..3]);
            assert_eq!(socket.next(), Frame::new(Opcode::Ping, ""));
            socket.send(&masked(Opcode::Text, "")[3..]);
            socket
        },
        1008,
    ),
    (
        "user_full",
        &["--connections-per-user-max", "1"],
        |server| {
            let mut first = Socket::registered(server, "jack", "news");
            let refused = send(server, register("jack", "news"));
            // Stays as long as the other one takes.
            std::thread::spawn(move || first.try_next());
            refused
        },
        1008,
    ),
    (
        "replaced",
        &["--connections-per-user-max", "1", "--connections-per-user-policy", "close_oldest"],
        |server| {
            let first = Socket::registered(server, "jack", "news");
            let mut second = Socket::registered(server, "jack", "news");
            std::thread::spawn(move || second.try_next());
            first
        },
        1008,
    ),
];

fn check_reasons(is_tls: bool) {
    for (name, flags, close, code) in REASONS {
        let server = start(&[flags, &["--close-timeout", "1h"]].concat(), is_tls);
        check(close(&server), code, name);
        if name == "shutdown" {
            assert_eq!(server.wait().0.code(), Some(0));
        }
    }
}

#[test]
fn the_end_waits_for_the_answer_whatever_the_reason() {
    check_reasons(false);
}

#[test]
fn with_tls_the_end_waits_for_the_answer_whatever_the_reason() {
    check_reasons(true);
}

#[test]
fn the_end_of_an_expired_connection_waits_for_the_answer() {
    let backend = Backend::saying(200, "");
    let url = backend.url("/");
    let mut judge =
        Judge::start(&format!("close_timeout = '1h'\n[callback]\nurl = '{url}'\ncache_for = 0\n"));
    // Long enough on most machines; a busy one gets more time.
    for seconds in [2, 8, 32] {
        backend.say(200, json!({"userId": "jack", "expiresAt": now() + seconds}).to_string());
        let socket = send(&judge.server, register("t", "news"));
        if !judge.verdict().contains("expired") {
            return check(socket, 1008, "expired");
        }
    }
    panic!("nothing was registered in time");
}

/// Not before `close_timeout` has passed, but then; and it is no reset.
#[test]
fn an_answer_that_never_comes_is_waited_for_as_long_as_close_timeout() {
    for is_tls in [false, true] {
        let server = start(&["--close-timeout", "500ms"], is_tls);
        let mut socket = Socket::registered(&server, "jack", "news");
        let start = Instant::now();
        disconnect(&server, "jack");
        assert_eq!(socket.close().code, 1000);
        assert_eq!(socket.raw.end(), End::Eof);
        assert!(start.elapsed() >= Duration::from_millis(500));
    }
}

/// As npm's `websocket` has it: what stands before the Close is read after the end is known.
#[test]
fn twenty_messages_before_a_disconnect_arrive_whole() {
    for is_tls in [false, true] {
        let server = start(&[], is_tls);
        let mut socket = Socket::open_on(Raw::connect_at(server.address));
        socket.register("jack", "news");
        let message = "x".repeat(1000);
        for number in 0..20 {
            assert_eq!(push(&server, "jack", "news", &format!("{number} {message}")), 1);
        }
        disconnect(&server, "jack");
        for number in 0..20 {
            assert_eq!(socket.next(), Frame::new(Opcode::Text, format!("{number} {message}")));
        }
        check(socket, 1000, "disconnected");
    }
}

/// It has shut no more than its own side, and what is queued for it is still sent.
#[test]
fn a_client_that_shuts_its_side_still_gets_what_is_queued() {
    let flags = ["--outbox-bytes-max", "16MiB", "--ping-interval", "1h", "--close-timeout", "1h"];
    let server = Server::start_with(&flags, &[]);
    let mut socket = Socket::open_on(Raw::connect_small(&server));
    socket.register("jack", "news");
    let message = "x".repeat(1024 * 1024);
    let mut http = Raw::connect(&server);
    for _ in 0..12 {
        assert_eq!(http.push("jack", "news", &message), 1);
    }
    disconnect(&server, "jack");
    socket.raw.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..12 {
        assert!(socket.next() == Frame::new(Opcode::Text, &message));
    }
    assert_eq!(socket.close().code, 1000);
    assert_eq!(socket.raw.end(), End::Eof);
}
