//! A connection that reconnects: what it makes of lost connections, and when it lets be.

use std::time::Duration;

use expect_test::expect;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use wserver_client::{Backoff, Client, GaveUp, ReconnectingConnection, Update};

use crate::{accept, both, close, listen};

fn reconnecting(address: &str) -> ReconnectingConnection {
    let moment = Duration::from_millis(2);
    ReconnectingConnection::new(Client::new(&format!("ws://{address}/ws")).unwrap())
        .with_registration("canary-token", "news")
        .with_registration("canary-token", "mail")
        .with_backoff(Backoff::new(moment, moment))
}

/// An older server's side of the next connection, once both registrations are there.
async fn accept_registered(server: &TcpListener) -> WebSocketStream<TcpStream> {
    // It was offered version 2, which it does not know, so the client comes again.
    let mut offered = accept(server).await;
    assert!(!matches!(offered.next().await, Some(Ok(_))));
    let mut socket = accept(server).await;
    for event in ["news", "mail"] {
        let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
        assert_eq!(text.as_str(), format!(r#"{{"token":"canary-token","event":"{event}"}}"#));
    }
    socket
}

/// The server's side of the next connection of version 2, and the request that it begins with.
#[expect(clippy::result_large_err, reason = "as the library wants the callback")]
async fn accept_request(server: &TcpListener) -> (WebSocketStream<TcpStream>, String) {
    let (stream, _) = server.accept().await.unwrap();
    let confirm = |request: &Request, mut response: Response| {
        assert_eq!(request.headers()["sec-websocket-protocol"], "wserver.v2");
        let confirmed = request.headers()["sec-websocket-protocol"].clone();
        response.headers_mut().insert("sec-websocket-protocol", confirmed);
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, confirm).await.unwrap();
    let request = socket.next().await.unwrap().unwrap().into_text().unwrap();
    (socket, request.as_str().to_owned())
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
async fn by_version_2_it_is_told_what_became_of_its_registrations() {
    let (server, address) = listen().await;
    let mut connection = reconnecting(&address);
    let (told, _) = both(told(&mut connection), async {
        let (mut socket, request) = accept_request(&server).await;
        expect![[r#"{"id":1,"register":["news","mail"],"token":"canary-token"}"#]]
            .assert_eq(&request);
        for text in [
            r#"{"re":1,"ok":{"registered":["news"],"refused":[{"event":"mail","code":"not_permitted","detail":"no"}]},"hello":{"connection":"1","heartbeat":25}}"#,
            r#"{"beat":25}"#,
            "{\"event\":\"news\",\"id\":\"5f3a9c01-12\"}\npaid\nand more",
            r#"{"news":"of a later release"}"#,
            r#"{"registered":["mail"]}"#,
            r#"{"unregistered":["mail"],"reason":"operator"}"#,
            r#"{"expiring":{"in_seconds":30}}"#,
            r#"{"leaving":{"reason":"shutdown","in_seconds":1}}"#,
        ] {
            socket.send(Message::text(text)).await.unwrap();
        }
        hang_up(socket, 4000).await;

        let (mut socket, _) = accept_request(&server).await;
        let busy = r#"{"re":1,"error":{"code":"busy","detail":"later","retry_after":0}}"#;
        socket.send(Message::text(busy)).await.unwrap();
        assert!(!matches!(socket.next().await, Some(Ok(Message::Text(_)))));

        let (mut socket, _) = accept_request(&server).await;
        let refused = r#"{"re":1,"error":{"code":"token_expired","detail":"it has expired"}}"#;
        socket.send(Message::text(refused)).await.unwrap();
        socket
    })
    .await;
    expect![[r#"Registered { events: ["news"], refused: [RefusedEvent { event: "mail", refused: Refused { code: NotPermitted, detail: "no", retry_after: None } }] }, Pushed { event: "news", id: "5f3a9c01-12", bytes: 13, .. }, Registered { events: ["mail"], refused: [] }, Unregistered(["mail"]), Expiring { after: 30s }, (closed by the server with 4000), (the registration is refused: later), over: the registration is refused: it has expired"#]].assert_eq(&told);
}

/// It comes back behind the newest position that it was told, and tells of a gap.
#[tokio::test]
async fn by_version_2_it_comes_back_behind_its_position() {
    let (server, address) = listen().await;
    let mut connection = reconnecting(&address);
    let (told, _) = both(told(&mut connection), async {
        let (mut socket, request) = accept_request(&server).await;
        assert!(!request.contains("after"), "{request}");
        for text in [
            r#"{"re":1,"ok":{"registered":["news"],"at":"a.0"}}"#,
            "{\"event\":\"news\",\"id\":\"1-1\",\"at\":\"a.1\"}\none",
            "{\"event\":\"tick\",\"id\":\"1-2\"}\nnot kept",
        ] {
            socket.send(Message::text(text)).await.unwrap();
        }
        drop(socket);

        let (mut socket, request) = accept_request(&server).await;
        assert!(request.contains(r#""after":"a.1""#), "{request}");
        let gap = r#"{"reason":"restarted","spread_seconds":15}"#;
        let reply = format!(r#"{{"re":1,"ok":{{"registered":["news"],"at":"b.0","gap":{gap}}}}}"#);
        socket.send(Message::text(reply)).await.unwrap();
        let notice = r#"{"gap":{"reason":"lost","spread_seconds":0},"at":"b.7"}"#;
        socket.send(Message::text(notice)).await.unwrap();
        drop(socket);

        let (socket, request) = accept_request(&server).await;
        assert!(request.contains(r#""after":"b.7""#), "{request}");
        hang_up(socket, 4503).await;
    })
    .await;
    expect![[r#"Registered { events: ["news"], refused: [] }, Pushed { event: "news", id: "1-1", bytes: 3, .. }, Pushed { event: "tick", id: "1-2", bytes: 8, .. }, (connection lost), Registered { events: ["news"], refused: [] }, Gap { reason: "restarted", spread: 15s }, Gap { reason: "lost", spread: 0ns }, (connection lost), over: closed by the server with 4503"#]].assert_eq(&told);
}

/// Whoever asks for the next update has handled the last one.
#[tokio::test]
async fn what_is_handled_is_acknowledged() {
    let (server, address) = listen().await;
    let mut connection = reconnecting(&address);
    let push = |id: &str, ack: &str| format!("{{\"event\":\"news\",\"id\":\"{id}\"{ack}}}\n{id}");
    let (messages, acknowledged) = both(
        async {
            let mut messages = Vec::new();
            while messages.len() < 5 {
                messages.push(connection.next_message().await.unwrap());
            }
            messages
        },
        async {
            let (mut socket, _) = accept_request(&server).await;
            for (id, ack) in [
                ("a-1", ""),
                ("a-2", ",\"ack\":true"),
                ("a-3", ",\"ack\":true"),
                ("a-4", ",\"ack\":false"),
            ] {
                socket.send(Message::text(push(id, ack))).await.unwrap();
            }
            let mut acknowledged: Vec<String> = Vec::new();
            while acknowledged.concat().matches("a-").count() < 2 {
                let text = socket.next().await.unwrap().unwrap().into_text().unwrap();
                acknowledged.push(text.as_str().to_owned());
            }
            socket.send(Message::text(push("a-5", ",\"ack\":true"))).await.unwrap();
            acknowledged
        },
    )
    .await;
    assert_eq!(messages, ["a-1", "a-2", "a-3", "a-4", "a-5"]);
    assert_eq!(acknowledged, [r#"{"ack":["a-2"]}"#, r#"{"ack":["a-3"]}"#]);
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
