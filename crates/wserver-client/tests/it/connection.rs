//! One connection: registering, receiving, and every way it can end.

use std::time::Duration;

use expect_test::{Expect, expect};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use wserver_client::{
    Client, CloseCode, ConnectError, Connection, NextTextError, ReceiveError, SendError,
};

use crate::{LONG, accept, both, close, listen, nobody};

/// Both sides of a new connection.
async fn connected(
    settings: impl FnOnce(Client) -> Client,
) -> (Connection, WebSocketStream<TcpStream>) {
    let (listener, address) = listen().await;
    let client = settings(Client::new(&format!("ws://{address}/ws")).unwrap());
    let (connection, server) = both(client.open(), accept(&listener)).await;
    (connection.unwrap(), server)
}

/// Everything the stream yields up to its end.
async fn heard(connection: &mut Connection) -> String {
    let mut heard = Vec::new();
    while let Some(message) = connection.next().await {
        heard.push(match message {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        });
    }
    assert!(connection.next().await.is_none());
    heard.push(match connection.close_frame() {
        Some(frame) => format!("closed with {frame}"),
        None => "no close".to_owned(),
    });
    heard.join(", ")
}

#[tokio::test]
async fn registers_and_receives() {
    let (mut connection, mut server) = connected(|it| it).await;
    connection.register("a\"a", "news").await.unwrap();
    connection.send_text("anything").await.unwrap();
    expect![[r#"Text(Utf8Bytes(b"{\"token\":\"a\\\"a\",\"event\":\"news\"}"))"#]]
        .assert_eq(&format!("{:?}", server.next().await.unwrap().unwrap()));
    assert_eq!(server.next().await.unwrap().unwrap(), Message::text("anything"));

    server.send(Message::text("жук")).await.unwrap();
    server.send(Message::text("")).await.unwrap();
    assert_eq!(connection.next_text(LONG).await.unwrap(), "жук");
    assert_eq!(connection.next_text(LONG).await.unwrap(), "");
}

#[tokio::test]
async fn empty_fields_are_not_sent() {
    let (mut connection, _server) = connected(|it| it).await;
    let error = connection.register("", "news").await.unwrap_err();
    assert_eq!(error.to_string(), "token is empty");
    let error = connection.register("aaa", "").await.unwrap_err();
    assert_eq!(error.to_string(), "event is empty");
}

#[tokio::test]
async fn a_wait_that_times_out_leaves_the_connection_as_it_was() {
    let (mut connection, mut server) = connected(|it| it).await;
    let error = connection.next_text(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, NextTextError::TimedOut { .. }), "{error}");
    server.send(Message::text("late")).await.unwrap();
    assert_eq!(connection.next_text(LONG).await.unwrap(), "late");
}

#[tokio::test]
async fn pings_are_answered_while_it_is_polled() {
    let (mut connection, mut server) = connected(|it| it).await;
    server.send(Message::Ping("abc".into())).await.unwrap();
    let (pong, _) = both(
        async {
            let pong = server.next().await.unwrap().unwrap();
            server.send(Message::text("done")).await.unwrap();
            pong
        },
        async { assert_eq!(connection.next_text(LONG).await.unwrap(), "done") },
    )
    .await;
    assert_eq!(pong, Message::Pong("abc".into()));
}

#[tokio::test]
async fn the_servers_close_ends_the_stream() {
    let cases: [(Message, Expect); 3] = [
        (
            close(1008, "register deadline"),
            expect![[r#"last, closed with 1008 "register deadline""#]],
        ),
        (close(4500, ""), expect!["last, closed with 4500"]),
        (Message::Close(None), expect!["last, closed with no code"]),
    ];
    for (message, expected) in cases {
        let (mut connection, mut server) = connected(|it| it).await;
        let (heard, _) = both(heard(&mut connection), async {
            server.send(Message::text("last")).await.unwrap();
            server.send(message.clone()).await.unwrap();
            // The client echoes the Close, and waits for the server to hang up.
            assert!(matches!(server.next().await, Some(Ok(Message::Close(_)))));
            drop(server);
        })
        .await;
        expected.assert_eq(&heard);
        let error = connection.register("aaa", "news").await.unwrap_err();
        assert!(matches!(error, SendError::Closed), "{error}");
        let error = connection.next_text(LONG).await.unwrap_err();
        assert!(matches!(error, NextTextError::Closed { frame: Some(_) }), "{error}");
    }
}

#[tokio::test]
async fn a_reset_behind_the_servers_close_is_no_error() {
    let (mut connection, mut server) = connected(|it| it).await;
    let (heard, _) = both(heard(&mut connection), async {
        server.send(close(1013, "slow")).await.unwrap();
        // The echo is there, and whoever hangs up without reading it resets the connection.
        server.get_ref().readable().await.unwrap();
        drop(server);
    })
    .await;
    expect![[r#"closed with 1013 "slow""#]].assert_eq(&heard);
}

#[tokio::test]
async fn a_connection_that_just_ends_is_lost() {
    let (mut connection, server) = connected(|it| it).await;
    drop(server);
    expect!["error: connection lost, no close"].assert_eq(&heard(&mut connection).await);
    let error = connection.send_text("x").await.unwrap_err();
    assert!(matches!(error, SendError::Closed), "{error}");
}

#[tokio::test]
async fn closing_is_answered() {
    let (connection, mut server) = connected(|it| it).await;
    let reason = "é".repeat(100);
    let (answer, seen) = both(connection.close(CloseCode::NORMAL, &reason), async {
        // A message that crosses the Close is read and dropped.
        server.send(Message::text("crossing")).await.unwrap();
        let seen = server.next().await.unwrap().unwrap();
        while server.next().await.is_some() {}
        drop(server);
        seen
    })
    .await;
    assert_eq!(seen, close(1000, &"é".repeat(61)));
    assert_eq!(answer.unwrap().unwrap().code, Some(1000));
}

#[tokio::test]
async fn closing_what_the_server_has_closed_returns_its_close() {
    let (connection, mut server) = connected(|it| it).await;
    server.send(close(1001, "bye")).await.unwrap();
    let (answer, _) = both(connection.close(CloseCode::NORMAL, ""), async {
        while server.next().await.is_some() {}
        drop(server);
    })
    .await;
    assert_eq!(answer.unwrap().unwrap().to_string(), r#"1001 "bye""#);
}

#[tokio::test]
async fn what_it_cannot_take_ends_it_and_is_told_to_the_server() {
    let cases = [
        (
            Message::text("x".repeat(65)),
            expect!["x, error: message exceeds 64 bytes, no close"],
            1009,
        ),
        (Message::binary("x"), expect!["x, error: unexpected binary message, no close"], 1003),
    ];
    for (message, expected, code) in cases {
        let (mut connection, mut server) = connected(|it| it.with_message_bytes_max(64)).await;
        server.send(Message::text("x")).await.unwrap();
        server.send(message).await.unwrap();
        expected.assert_eq(&heard(&mut connection).await);
        assert_eq!(server.next().await.unwrap().unwrap(), close(code, ""));
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_told_so() {
    let (mut connection, mut server) = connected(|it| it).await;
    // A reserved bit.
    server.get_mut().write_all(&[0b1100_0001, 0]).await.unwrap();
    let error = connection.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ReceiveError::Protocol { .. }), "{error}");
    assert_eq!(server.next().await.unwrap().unwrap(), close(1002, ""));
}

#[tokio::test]
async fn a_silent_server_is_pinged_and_then_given_up() {
    let moment = Duration::from_millis(5);
    let (mut connection, mut server) = connected(|it| it.with_heartbeat(moment, LONG)).await;
    // Pinged again and again, as long as it answers.
    let (_, outcome) = both(
        async {
            for _ in 0..3 {
                // The library answers the ping while it reads on.
                let ping = server.next().await.unwrap().unwrap();
                assert!(matches!(ping, Message::Ping(_)), "{ping}");
            }
            server.send(Message::text("alive")).await.unwrap();
        },
        connection.next_text(LONG),
    )
    .await;
    assert_eq!(outcome.unwrap(), "alive");

    let (mut connection, _server) = connected(|it| it.with_heartbeat(moment, moment)).await;
    expect!["error: server silent, no close"].assert_eq(&heard(&mut connection).await);
}

#[tokio::test]
async fn handshakes_carry_headers_and_the_host() {
    let (listener, address) = listen().await;
    let client = Client::new(&format!("ws://{address}/ws?a=b"))
        .unwrap()
        .with_header(http::header::COOKIE, "session=abc".parse().unwrap())
        .with_header(http::header::UPGRADE, "ignored".parse().unwrap());
    let mut seen = String::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let look = |request: &Request, response: Response| {
        let header = |name| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
        seen = format!("{} {} {}", request.uri(), header("cookie"), header("upgrade"));
        assert_eq!(header("host"), address);
        Ok(response)
    };
    let (connection, _) = both(client.open(), async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_hdr_async(stream, look).await.unwrap()
    })
    .await;
    let connection = connection.unwrap();
    assert_eq!(seen, "/ws?a=b session=abc websocket");
    let shown = format!("{client:?} {connection:?}");
    assert!(!shown.contains("abc"), "{shown}");
}

#[tokio::test]
async fn failures_to_connect_are_told_apart() {
    let (_socket, address) = nobody();
    let error = Client::connect(&format!("ws://{address}/")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");

    let (listener, address) = listen().await;
    let client = Client::new(&format!("ws://{address}/")).unwrap();
    let answers = [
        (
            "HTTP/1.1 403 Forbidden\r\nWserver-Error: origin not allowed\r\ncontent-length: 2\r\n\r\nno",
            expect![[r#"server refused the connection with 403 Forbidden ("origin not allowed")"#]],
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            expect!["server refused the connection with 200 OK"],
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", expect!["WebSocket handshake failed"]),
        ("SSH-2.0-OpenSSH\r\n", expect!["WebSocket handshake failed"]),
        ("", expect!["WebSocket handshake failed"]),
    ];
    for (answer, expected) in answers {
        let (outcome, _) = both(client.open(), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let error = outcome.unwrap_err();
        expected.assert_eq(&error.to_string());
        if let ConnectError::Refused { status, body, .. } = error {
            assert!(status == 200 && body.is_empty() || status == 403 && body == "no");
        }
    }

    // The listener's backlog takes the connection, and nobody answers.
    let client = client.with_connect_timeout(Duration::from_millis(5));
    let error = client.open().await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { .. }), "{error}");

    let error = Client::connect("gopher://localhost/").await.unwrap_err();
    assert!(matches!(error, ConnectError::Url(_)), "{error}");
}
