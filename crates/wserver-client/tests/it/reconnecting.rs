//! A connection that reconnects: what it makes of lost connections, and when it lets be.

use std::time::Duration;

use expect_test::expect;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use wserver_client::{Backoff, Client, GaveUp, ReconnectingConnection, Update};

use crate::{accept, both, close, listen};

fn reconnecting(address: &str) -> ReconnectingConnection {
    let moment = Duration::from_millis(2);
    ReconnectingConnection::new(Client::new(&format!("ws://{address}/ws")).unwrap())
        .with_registration("canary-token", "news")
        .with_registration("canary-token", "mail")
        .with_backoff(Backoff::new(moment, moment))
}

/// The server's side of the next connection, once both registrations are there.
async fn accept_registered(server: &TcpListener) -> WebSocketStream<TcpStream> {
    let mut socket = accept(server).await;
    for event in ["news", "mail"] {
        let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
        assert_eq!(text.as_str(), format!(r#"{{"token":"canary-token","event":"{event}"}}"#));
    }
    socket
}

/// Closes a connection and waits until the client has hung up or echoed.
async fn hang_up(mut socket: WebSocketStream<TcpStream>, code: u16) {
    socket.send(close(code, "")).await.unwrap();
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(_)))));
}

/// What the connection reports, up to its end.
async fn told(connection: &mut ReconnectingConnection) -> String {
    let mut told = Vec::new();
    loop {
        match connection.next_update().await {
            Ok(Update::Connected) => told.push("connected".to_owned()),
            Ok(Update::Message(message)) => told.push(message),
            Ok(Update::Interrupted { cause, .. }) => told.push(format!("({cause})")),
            Ok(other) => told.push(format!("{other:?}")),
            Err(GaveUp::Final { cause }) => {
                told.push(format!("over: {cause}"));
                return told.join(", ");
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn it_comes_back_and_registers_again_until_it_is_unwanted() {
    let (server, address) = listen().await;
    let mut connection = reconnecting(&address);
    let (told, _) = both(told(&mut connection), async {
        let mut socket = accept_registered(&server).await;
        socket.send(Message::text("one")).await.unwrap();
        hang_up(socket, 1001).await;

        let mut socket = accept_registered(&server).await;
        socket.send(Message::text("two")).await.unwrap();
        drop(socket);

        // A server that is being replaced: no handshake.
        drop(server.accept().await.unwrap());

        let mut socket = accept_registered(&server).await;
        socket.send(Message::text("three")).await.unwrap();
        hang_up(socket, 1008).await;
    })
    .await;
    expect!["connected, one, (closed by the server with 1001), connected, two, (connection lost), (WebSocket handshake failed), connected, three, over: closed by the server with 1008"].assert_eq(&told);
    assert!(connection.next().await.is_none());
    assert!(matches!(connection.next_update().await, Err(GaveUp::Before)));
}

#[tokio::test]
async fn messages_can_be_had_without_the_rest() {
    let (server, address) = listen().await;
    let mut connection = reconnecting(&address);
    let (messages, _) = both(
        async {
            [connection.next_message().await.unwrap(), connection.next_message().await.unwrap()]
        },
        async {
            let mut socket = accept_registered(&server).await;
            socket.send(Message::text("one")).await.unwrap();
            hang_up(socket, 1013).await;
            let mut socket = accept_registered(&server).await;
            socket.send(Message::text("two")).await.unwrap();
            socket
        },
    )
    .await;
    assert_eq!(messages, ["one", "two"]);
}

#[tokio::test]
async fn an_empty_registration_is_final() {
    let (server, address) = listen().await;
    let mut connection = reconnecting(&address).with_registration("", "news");
    let (told, _) = both(told(&mut connection), accept(&server)).await;
    expect!["over: registration not sent"].assert_eq(&told);
}

#[tokio::test]
async fn debug_holds_neither_token_nor_message() {
    expect!["Message { bytes: 6, .. }"]
        .assert_eq(&format!("{:?}", Update::Message("canary".to_owned())));
    let shown = format!("{:?}", reconnecting("127.0.0.1:1"));
    assert!(!shown.contains("canary"), "{shown}");
}
