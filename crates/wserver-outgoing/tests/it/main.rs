//! The client against servers that the tests write by hand: what it promises to every caller.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

#[cfg(feature = "tls")]
mod tls;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::LOCATION;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use wserver_outgoing::{AskError, Pool, Target};

/// Longer than anything here takes, on any machine. Nothing waits for it unless a test fails.
const LONG: Duration = Duration::from_secs(30);

/// What the client's side and the server's side come to, when both are done.
async fn both<A, B>(client: impl Future<Output = A>, server: impl Future<Output = B>) -> (A, B) {
    let both = async { tokio::join!(client, server) };
    tokio::time::timeout(LONG, both).await.expect("one side waits for the other in vain")
}

async fn listen() -> (TcpListener, Pool) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in?a=b", listener.local_addr().unwrap());
    (listener, Pool::new(Target::parse(&url, "http", "https").unwrap()))
}

/// Asks with this body, and shows the status and the answer, or the error.
async fn ask(pool: &Pool, body: &'static str) -> String {
    match answer(pool, body.into(), LONG).await {
        Ok(answer) => answer,
        Err(error) => format!("error: {error}"),
    }
}

async fn answer(pool: &Pool, body: Bytes, timeout: Duration) -> Result<String, AskError> {
    let request = pool.target().request(Method::POST, pool.target().resource().clone(), body);
    let (head, body) = pool.ask(request, timeout, 20).await?;
    let location = head.headers.get(LOCATION).map(|it| format!(" to {}", it.to_str().unwrap()));
    let body = String::from_utf8(body.to_vec()).unwrap();
    Ok(format!("{}{} {body}", head.status.as_u16(), location.unwrap_or_default()))
}

/// The body of the next request, once it is there; an error where the client hung up.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("POST /in?a=b HTTP/1.1\r\n"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == length.unwrap().parse::<usize>().unwrap() {
                return Ok(body.to_owned());
            }
        }
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => text.push_str(std::str::from_utf8(&bytes[..count]).unwrap()),
        }
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), body: &str) {
    let head = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_kept_connection_is_used_again_by_every_clone() {
    let (listener, pool) = listen().await;
    let pool = pool.with_idle_connections_max(1);
    let client = async {
        let other = pool.clone();
        [ask(&pool, "one").await, ask(&other, "two").await, ask(&pool, "three").await]
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for expected in ["one", "two", "three"] {
            assert_eq!(receive(&mut stream).await.unwrap(), expected);
            say(&mut stream, expected).await;
        }
    };
    assert_eq!(both(client, server).await.0, ["200 one", "200 two", "200 three"]);
}

#[tokio::test]
async fn no_connection_is_kept_beyond_the_bound() {
    let (listener, pool) = listen().await;
    let server = async {
        for expected in ["one", "two"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_eq!(receive(&mut stream).await.unwrap(), expected);
            say(&mut stream, expected).await;
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        }
    };
    let client = async { [ask(&pool, "one").await, ask(&pool, "two").await] };
    assert_eq!(both(client, server).await.0, ["200 one", "200 two"]);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let (listener, pool) = listen().await;
    let pool = pool.with_idle_connections_max(1);
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    let client = async {
        let one = ask(&pool, "one").await;
        is_closed.await.unwrap();
        [one, ask(&pool, "two").await]
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        receive(&mut stream).await.unwrap();
        say(&mut stream, "1").await;
        drop(stream);
        closed.send(()).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(receive(&mut stream).await.unwrap(), "two");
        say(&mut stream, "2").await;
    };
    assert_eq!(both(client, server).await.0, ["200 1", "200 2"]);
}

/// The server takes one request more on a kept connection, and closes it without an answer.
async fn lose_the_second(listener: &TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    for expected in ["one", "two"] {
        assert_eq!(receive(&mut stream).await.unwrap(), expected);
        if expected == "one" {
            say(&mut stream, "1").await;
        }
    }
}

#[tokio::test]
async fn nothing_that_may_have_arrived_is_sent_twice() {
    let (listener, pool) = listen().await;
    let pool = pool.with_idle_connections_max(1);
    let client = async { [ask(&pool, "one").await, ask(&pool, "two").await] };
    let ([one, two], ()) = both(client, lose_the_second(&listener)).await;
    assert_eq!(one, "200 1");
    assert!(two.starts_with("error: HTTP broke off: "), "{two}");
}

#[tokio::test]
async fn what_may_arrive_twice_is_sent_once_more_on_a_new_connection() {
    let (listener, pool) = listen().await;
    let pool = pool.with_idle_connections_max(1).repeating();
    let client = async { [ask(&pool, "one").await, ask(&pool, "two").await] };
    let server = async {
        lose_the_second(&listener).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(receive(&mut stream).await.unwrap(), "two");
        say(&mut stream, "2").await;
    };
    assert_eq!(both(client, server).await.0, ["200 1", "200 2"]);
    // A connection that was new tells of the server.
    let client = ask(&pool, "three");
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        receive(&mut stream).await.unwrap();
    };
    let pool = both(client, server).await.0;
    assert!(pool.starts_with("error: HTTP broke off: "), "{pool}");
}

#[tokio::test]
async fn answers_are_bounded_and_redirects_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/", elsewhere.local_addr().unwrap());
    let redirect = format!("HTTP/1.1 307 x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    let long = "x".repeat(21);
    let head = format!("HTTP/1.1 200 x\r\na: {}\r\n\r\n", "x".repeat(64 * 1024));
    for (text, expected) in [
        (redirect, format!("307 to {location} ")),
        ("HTTP/1.1 500 x\r\n\r\nuntil the end".to_owned(), "500 until the end".to_owned()),
        (format!("HTTP/1.1 200 x\r\n\r\n{long}"), TOO_LONG.to_owned()),
        (format!("HTTP/1.1 200 x\r\ncontent-length: 21\r\n\r\n{long}"), TOO_LONG.to_owned()),
        (head, "error: HTTP broke off: message head is too large".to_owned()),
    ] {
        let (listener, pool) = listen().await;
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            receive(&mut stream).await.unwrap();
            // A client that has seen enough does not read the rest.
            let _gone = stream.write_all(text.as_bytes()).await;
        };
        assert_eq!(both(ask(&pool, "one"), server).await.0, expected);
    }
}

const TOO_LONG: &str = "error: the answer is longer than the limit of 20 bytes";

/// A connection that outlived its call would wait for room for as long as the server lives.
#[tokio::test]
async fn a_call_that_gives_up_leaves_no_connection_behind() {
    let (listener, pool) = listen().await;
    let body = Bytes::from(vec![b'x'; 8 << 20]);
    let asked = answer(&pool, body, Duration::from_millis(50)).await;
    assert!(matches!(asked, Err(AskError::TimedOut { .. })), "{asked:?}");
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut received)).await;
    let _eof_or_reset = ended.expect("the connection has ended");
    assert!(received.len() < 8 << 20, "{}", received.len());
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_told_apart() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    let pool = Pool::new(Target::parse(&url, "http", "https").unwrap());
    let asked = ask(&pool, "one").await;
    assert!(asked.starts_with("error: no connection: "), "{asked}");
    let (_listener, pool) = listen().await;
    let asked = answer(&pool, "one".into(), Duration::from_millis(5)).await;
    assert_eq!(asked.unwrap_err().to_string(), "no answer within 5ms");
}

#[tokio::test]
async fn tls_is_never_left_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let pool = Pool::new(Target::parse(&url, "http", "https").unwrap());
    let expected = "error: no TLS connection: the URL needs TLS, which is not configured";
    assert_eq!(ask(&pool, "one").await, expected);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "nothing was sent");
}
