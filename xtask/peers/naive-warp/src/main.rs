//! A push server as warp's own chat example would have it: `warp::ws()`, and a channel and a task
//! for each connection. Speaks version 1 of our protocol. Its one argument is the address to
//! listen on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use warp::Filter;
use warp::ws::{Message, WebSocket};

#[derive(Deserialize)]
struct Register {
    token: String,
    event: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Push {
    user_id: String,
    event: String,
    message: String,
}

type Users = Arc<RwLock<HashMap<(String, String), Vec<mpsc::UnboundedSender<Message>>>>>;

#[tokio::main]
async fn main() {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("give it an address to listen on");
    let users = Users::default();
    let shared = users.clone();
    let listen = warp::path("ws").and(warp::ws()).map(move |ws: warp::ws::Ws| {
        let users = shared.clone();
        ws.on_upgrade(move |socket| serve(socket, users))
    });
    let push =
        warp::path("push").and(warp::post()).and(warp::body::json()).map(move |push: Push| {
            let message = Message::text(push.message);
            let mut count = 0;
            if let Some(senders) = users.read().expect("no panics").get(&(push.user_id, push.event))
            {
                for sender in senders {
                    count += usize::from(sender.send(message.clone()).is_ok());
                }
            }
            format!("message sent to {count} clients")
        });
    warp::serve(listen.or(push)).run(address).await;
}

async fn serve(socket: WebSocket, users: Users) {
    let (mut out, mut input) = socket.split();
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut receiver = UnboundedReceiverStream::new(receiver);
    tokio::spawn(async move {
        while let Some(message) = receiver.next().await {
            if out.send(message).await.is_err() {
                break;
            }
        }
    });
    let mut mine = Vec::new();
    while let Some(Ok(message)) = input.next().await {
        if let Ok(register) = serde_json::from_slice::<Register>(message.as_bytes()) {
            let key = (register.token, register.event);
            users.write().expect("no panics").entry(key.clone()).or_default().push(sender.clone());
            mine.push(key);
        }
    }
    let mut users = users.write().expect("no panics");
    for key in mine {
        if let Some(senders) = users.get_mut(&key) {
            senders.retain(|it| !it.same_channel(&sender));
            if senders.is_empty() {
                users.remove(&key);
            }
        }
    }
}
