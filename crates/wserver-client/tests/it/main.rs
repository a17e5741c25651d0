//! The client against a server that the tests write by hand: real sockets, and nothing of ours on
//! the other side.
#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod api;
mod connection;
mod reconnecting;
mod pusher;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Longer than anything here takes, on any machine. Nothing waits for it unless a test fails.
const LONG: Duration = Duration::from_secs(30);

/// What the client's side and the server's side come to, when both are done.
async fn both<A, B>(client: impl Future<Output = A>, server: impl Future<Output = B>) -> (A, B) {
    let both = async { tokio::join!(client, server) };
    tokio::time::timeout(LONG, both).await.expect("one side waits for the other in vain")
}

/// A port of its own, on which nobody accepts yet.
async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Where nobody listens, as long as the socket lives.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// The server's side of the next WebSocket connection.
async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = listener.accept().await.unwrap();
    tokio_tungstenite::accept_async(stream).await.unwrap()
}

/// Everything here can be moved into a task.
#[test]
fn all_of_it_can_be_spawned() {
    fn check<T: Send>(_: impl FnOnce(wserver_client::Client, wserver_client::Pusher) -> T) {}
    check(|client, pusher| async move {
        let mut connection = client.open().await.unwrap();
        connection.register("aaa", "news").await.unwrap();
        connection.next_text(LONG).await.unwrap();
        connection.close(wserver_client::CloseCode::NORMAL, "").await.unwrap();
        pusher.push("jack", "news", "x").await.unwrap();
        wserver_client::ReconnectingConnection::new(client).next_message().await.unwrap();
    });
}

fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
}
