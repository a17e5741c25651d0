//! The places of a listener: who gets one, who goes for whom, and what those without are told.

use tokio::net::TcpStream;
use wserver_warp::{HttpLimitSettings, Server, ServerBuilder};

use crate::raw::{End, Raw, get, push};
use crate::{PATIENCE, Running, counted, serve, serve_default};

const EVICTED: &str = "wserver_http_connections_evicted_total";

fn places(http_connections_max: usize) -> ServerBuilder {
    Server::builder().http_limits(HttpLimitSettings { http_connections_max, ..Default::default() })
}

fn refused_total(running: &Running, limit: &str) -> u64 {
    counted(running, &format!("wserver_http_connections_refused_total{{reason=\"{limit}\"}}"))
}

/// A connection whose request is under way: its body does not come.
async fn busy(running: &Running) -> Raw {
    let mut raw = Raw::connect(running).await;
    raw.send("POST /push HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n").await;
    raw.send("content-length: 10\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 100);
    raw
}

/// When every place is busy, the server's health is still answered, and nothing else.
#[tokio::test]
async fn health_is_answered_when_every_place_is_busy() {
    let running = serve(places(2));
    let held = [busy(&running).await, busy(&running).await];
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 503), ("/ws", 503)] {
        let mut raw = Raw::connect(&running).await;
        let answer = raw.ask(get(path)).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 503 {
            assert_eq!(answer.header("wserver-error"), Some("http_connections_max is reached"));
            assert_eq!(answer.header("retry-after"), Some("1"), "{path}");
            assert_eq!(answer.header("connection"), Some("close"), "{path}");
            assert_eq!(raw.end().await, End::Eof, "{path}");
        }
    }
    // Nor does a push get in on the short way.
    let mut raw = Raw::connect(&running).await;
    assert_eq!(raw.ask(push(&[], "m")).await.status, 503);
    assert_eq!(refused_total(&running, "http_connections_max"), 3);
    drop(held);
    let served =
        async { while Raw::connect(&running).await.ask(get("/metrics")).await.status != 200 {} };
    tokio::time::timeout(PATIENCE, served).await.expect("there is room again");
}

/// Those that have pushed go last, however their push came and however long they have waited.
#[tokio::test]
async fn a_stranger_goes_before_a_publisher() {
    // In the same thread, so that it is served after what was sent to the other before.
    let witness = serve_default();
    for parts_at in [0, 10] {
        let running = serve(places(2));
        let mut publisher = Raw::connect(&running).await;
        let push = push(&[], "m");
        let (first, rest) = push.split_at(parts_at);
        publisher.send(first).await;
        Raw::connect(&witness).await.ask(get("/livez")).await;
        publisher.send(rest).await;
        assert_eq!(publisher.answer().await.status, 200, "{parts_at}");
        let mut stranger = Raw::connect(&running).await;
        assert_eq!(stranger.ask(get("/livez")).await.status, 200);
        let before = counted(&running, EVICTED);
        let mut other = Raw::connect(&running).await;
        assert_eq!(other.ask(get("/livez")).await.status, 200);
        assert_eq!(stranger.end().await, End::Eof, "{parts_at}");
        assert_eq!(counted(&running, EVICTED), before + 1);
        assert_eq!(publisher.ask(&push).await.status, 200, "{parts_at}");
    }
}

/// One that has connected and sent a request before the server had a chance to look.
fn connect_and_ask(running: &Running) -> Raw {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(running.address).unwrap();
    stream.write_all(get("/livez").as_bytes()).unwrap();
    stream.set_nonblocking(true).unwrap();
    Raw::new(TcpStream::from_std(stream).unwrap())
}

#[tokio::test]
async fn an_address_has_no_more_than_its_share() {
    let limits = || HttpLimitSettings { http_connections_per_address_max: 2, ..Default::default() };
    let running = serve(Server::builder().http_limits(limits()));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = connect_and_ask(&running);
        assert_eq!(raw.answer().await.status, 200);
        held.push(raw);
    }
    for count in 1..=3 {
        let mut raw = connect_and_ask(&running);
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
        assert_eq!(
            answer.header("wserver-error"),
            Some("http_connections_per_address_max is reached")
        );
        // No reset overtakes that, although its request was not served.
        assert_eq!(raw.end().await, End::Eof);
        assert_eq!(refused_total(&running, "http_connections_per_address_max"), count);
    }
    let from_another = |socket: &tokio::net::TcpSocket| socket.bind(([127, 0, 0, 2], 0).into());
    let mut other = Raw::connect_by(running.address, from_another).await;
    assert_eq!(other.ask(get("/livez")).await.status, 200, "others are served");

    // Behind a proxy there are many.
    let builder = Server::builder().http_limits(limits()).trusted_proxies(["127.0.0.0/8"]);
    let running = serve(builder);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut raw = connect_and_ask(&running);
        assert_eq!(raw.answer().await.status, 200);
        held.push(raw);
    }
}
