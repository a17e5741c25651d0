//! A listener of the backend's own: what is served where, who gets in, what is refused when it is built.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::rustls::HandshakeKind;
use wserver_client::Pusher;
use wserver_warp::auth::StaticPushKeys;
use wserver_warp::{Server, ServerBuilder, TlsSettings};

use crate::secure::{
    Authority, Files, VERSIONS, ask, is_sent, listen, push, push_with, secure, text,
};
use crate::{PATIENCE, Running, eventually, heard, serve, serve_as_it_is};

/// Serves with a private listener as well; where that is.
fn serve_apart(builder: ServerBuilder) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let private = listener.local_addr().unwrap();
    (serve(builder.private_listener(listener)), private)
}

async fn status(address: SocketAddr, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = ask(&mut stream, method, path, "").await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn each_listener_serves_its_own() {
    let (running, private) = serve_apart(Server::builder());
    assert_ne!(private, running.address);
    let mut listener = running.listen("jack", "news").await;
    let pusher = Pusher::new(&format!("http://{private}/push")).unwrap().with_timeout(PATIENCE);
    assert_eq!(pusher.push("jack", "news", "m").await.unwrap(), 1);
    assert_eq!(heard(&mut listener).await, "m");

    assert_eq!(status(running.address, "POST", "/push").await, "404");
    assert_eq!(status(private, "GET", "/ws").await, "404");
    assert_eq!(status(running.address, "GET", "/metrics").await, "404");
    assert_eq!(status(private, "GET", "/metrics").await, "200");
    for path in ["/livez", "/readyz"] {
        assert_eq!(status(running.address, "GET", path).await, "200");
        assert_eq!(status(private, "GET", path).await, "200");
    }
    // Where they are served, they say what is wrong.
    assert_eq!(status(private, "GET", "/push").await, "405");
    assert_eq!(status(running.address, "POST", "/ws").await, "405");

    // One shutdown is for both.
    drop(listener);
    running.shut_down().await;
    TcpStream::connect(private).await.unwrap_err();
}

/// Nobody has said where pushes are to be taken, and nothing is asked of publishers: then not where
/// strangers may come, through a proxy that leaves no mark.
#[tokio::test]
async fn without_an_authoriser_only_the_handle_pushes() {
    let running = serve_as_it_is(Server::builder());
    let mut listener = running.listen("jack", "news").await;
    for (method, path) in [
        ("POST", "/push"),
        ("POST", "/v2/push"),
        ("POST", "/v2/disconnect"),
        ("GET", "/v2/node"),
        ("GET", "/metrics"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let answer = ask(&mut stream, method, path, "").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {path}: {answer}");
        for words in ["pushes by its handle", "allow_open_push"] {
            assert!(answer.contains(words), "{method} {path}: {answer}");
        }
    }
    assert_eq!(running.handle.push("jack", "news", "m").await.unwrap(), 1);
    assert_eq!(heard(&mut listener).await, "m");
    drop(listener);
    running.shut_down().await;
}

#[tokio::test]
async fn without_an_authoriser_pushes_have_a_port_on_loopback_if_it_is_asked_for() {
    let builder = || Server::builder().address("127.0.0.1:0").private_on_loopback();
    let bound = builder().build().unwrap().bind().unwrap();
    assert!(bound.private_addr().unwrap().ip().is_loopback());
    // Nothing is opened where pushes have a place already.
    let keys = StaticPushKeys::new(["a push key of some length"]).unwrap();
    for builder in [builder().allow_open_push(), builder().push_authorizer(keys)] {
        assert_eq!(builder.build().unwrap().bind().unwrap().private_addr(), None);
    }
    let running = serve_as_it_is(Server::builder().private_on_loopback());
    assert_eq!(status(running.address, "POST", "/push").await, "403");
    running.shut_down().await;
    // And it is this machine that may push there, not a page or a proxy on it.
    let server = builder().build().unwrap().bind().unwrap();
    let private = server.private_addr().unwrap();
    let pushing = async {
        for (header, status) in [("host: localhost", "200"), ("host: push.example.com", "403")] {
            let mut stream = TcpStream::connect(private).await.unwrap();
            let answer = push_with(&mut stream, header, "m").await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{header}: {answer}");
        }
    };
    tokio::select! {
        () = pushing => {}
        _ = server.serve() => panic!("nothing has ended it"),
    }
}

#[tokio::test]
async fn port_zero_is_a_port_of_its_own_too() {
    let builder = Server::builder().address("127.0.0.1:0").private_address("127.0.0.1:0");
    let server = builder.build().unwrap().bind().unwrap();
    let private = server.private_addr().unwrap();
    assert_ne!(private.port(), 0);
    assert_ne!(private, server.local_addr());
    let taken = Server::builder().address("127.0.0.1:0").private_address(private.to_string());
    let error = taken.build().unwrap().bind().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("private_address"), "{error}");
}

async fn push_by(path: &Path, message: &str) -> String {
    push(&mut UnixStream::connect(path).await.unwrap(), message).await.unwrap()
}

#[tokio::test]
async fn a_unix_socket_takes_pushes() {
    let files = Files::new("unix");
    let path = files.path("push.sock");
    // One that nobody listens on any more is in nobody's way.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let running = serve(Server::builder().private_unix(&path));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let mut listener = running.listen("jack", "news").await;
    let answer = push_by(&path, "m").await;
    assert!(is_sent(&answer, 1), "{answer}");
    assert_eq!(heard(&mut listener).await, "m");
    assert_eq!(status(running.address, "POST", "/push").await, "404");
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert!(ask(&mut stream, "GET", "/ws", "").await.unwrap().starts_with("HTTP/1.1 404 "));
    drop(stream);

    // The same path in its other spelling: one that is listened on is not taken away.
    let address = format!("unix:{}", path.display());
    let second = Server::builder().address("127.0.0.1:0").private_address(&address);
    let error = second.build().unwrap().bind().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("another server"), "{error}");
    assert!(is_sent(&push_by(&path, "still there").await, 1));

    drop(listener);
    running.shut_down().await;
    assert!(!path.exists(), "it leaves nothing behind");
    let file = files.write("push.sock", "of somebody else");
    let third = Server::builder().address("127.0.0.1:0").private_address(&address);
    let error = third.build().unwrap().bind().unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert!(file.exists());
}

/// A server that was slow to end takes nothing away from the next one.
#[tokio::test]
async fn a_unix_socket_of_another_server_stays() {
    let files = Files::new("another");
    let (path, beside) = (files.path("push.sock"), files.path("next.sock"));
    let running = serve(Server::builder().private_unix(&path));
    let _next = UnixListener::bind(&beside).unwrap();
    std::fs::rename(&beside, &path).unwrap();
    running.shut_down().await;
    assert!(UnixStream::connect(&path).await.is_ok());
}

fn problems(builder: ServerBuilder) -> Vec<String> {
    match builder.build() {
        Ok(server) => panic!("built: {server:?}"),
        Err(error) => error.problems().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let authority = Authority::new();
    let identity = authority.sign();
    let tls = || TlsSettings::pem(identity.certificate.as_bytes(), identity.key.as_bytes());
    let local = || Server::builder().address("127.0.0.1:0");
    for (builder, told) in [
        (local().private_address("nowhere"), "private_address"),
        (local().private_address("unix:"), "no path"),
        (local().private_unix("/run/push.sock").demo_page(), "demo page"),
        (local().address("unix:/run/ws.sock"), "host:port"),
        (local().private_tls(tls()), "private_tls"),
        (local().private_unix("/run/push.sock").private_tls(tls()), "private_tls"),
        (
            local()
                .private_address("127.0.0.1:0")
                .private_tls(tls().client_ca_file("/nowhere.pem")),
            "private_client_ca_file /nowhere.pem",
        ),
    ] {
        let found = problems(builder);
        assert!(found.len() == 1 && found[0].contains(told), "{told}: {found:#?}");
    }
}

/// It is the listener that takes pushes which must not be open by accident.
#[test]
fn beyond_loopback_a_private_listener_must_ask_for_something() {
    let authority = Authority::new();
    let identity = authority.sign();
    let tls = || TlsSettings::pem(identity.certificate.as_bytes(), identity.key.as_bytes());
    let everywhere = || Server::builder().address("0.0.0.0:0");
    assert!(everywhere().private_address("127.0.0.1:0").build().is_ok());
    assert!(everywhere().private_unix("/run/push.sock").build().is_ok());
    let open = || everywhere().private_address("0.0.0.0:0");
    for open in [
        open(),
        open().private_tls(tls()),
        open().tls(tls().client_ca_pem(authority.pem.as_bytes())),
    ] {
        let found = problems(open);
        assert!(found.len() == 1 && found[0].contains("allow_open_push"), "{found:?}");
    }
    assert!(open().allow_open_push().build().is_ok());
    let keys = StaticPushKeys::new(["a push key of some length"]).unwrap();
    assert!(open().push_authorizer(keys).build().is_ok());
    let with_certificates = tls().client_ca_pem(authority.pem.as_bytes());
    assert!(open().private_tls(with_certificates).build().is_ok());
}

/// Backends show certificates, browsers need none.
#[tokio::test]
async fn pushes_by_client_certificates() {
    let authority = Authority::new();
    let identity = authority.sign();
    let tls = TlsSettings::pem(identity.certificate.as_bytes(), identity.key.as_bytes());
    let private_tls = tls.clone().client_ca_pem(authority.pem.as_bytes());
    let (running, private) = serve_apart(Server::builder().tls(tls).private_tls(private_tls));
    let browser = authority.client(&VERSIONS);
    let mut socket = listen(&running, &browser, "jack", "news").await;

    let backend = authority.client_with(&authority.sign());
    for message in ["first", "second"] {
        let mut stream = secure(private, &backend).await.unwrap();
        let answer = push(&mut stream, message).await.unwrap();
        assert!(is_sent(&answer, 1), "{answer}");
        assert_eq!(text(&mut socket).await, message);
        // Shown anew each time.
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full));
    }

    // A certificate counts for more than the name that the backend calls us by; no web page may use it.
    for (header, status) in
        [("host: push.internal", "200"), ("origin: https://evil.example", "403")]
    {
        let mut stream = secure(private, &backend).await.unwrap();
        let answer = push_with(&mut stream, header, "third").await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{header}: {answer}");
    }
    assert_eq!(text(&mut socket).await, "third");

    let stranger = authority.client_with(&Authority::new().sign());
    for (config, who) in [(&browser, "nobody"), (&stranger, "a stranger")] {
        // In TLS 1.3 a client learns of a refusal with its first answer only.
        let refused = match secure(private, config).await {
            Ok(mut stream) => push(&mut stream, "m").await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{who} may push");
    }
    eventually("counted", || running.handle.tls_handshakes_failed() == 2).await;
    assert_eq!(running.handle.counters().pushes_total.value(), 3);
    let mut plain = TcpStream::connect(private).await.unwrap();
    assert!(push(&mut plain, "m").await.unwrap().starts_with("HTTP/1.1 400 "));
}
