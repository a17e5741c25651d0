//! An echo server through the message hook: the product's own reader, writer and limits, with the
//! application's messages instead of register messages.
//!
//! `cargo run --release -p wserver-warp --example echo [ADDRESS]`

use anyhow::Result;
use wserver_warp::{Flow, LimitSettings, Received, Server};

#[tokio::main]
#[expect(clippy::print_stderr, reason = "an example talks to whoever started it")]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:12345".to_owned());
    let limits = LimitSettings {
        // An echo client talks all the time; a listener of the push server hardly ever does.
        inbound_messages_per_second: 1_000_000,
        inbound_messages_burst: 1_000_000,
        ..LimitSettings::default()
    };
    let server = Server::builder()
        .address(address)
        .limits(limits)
        .on_message(|connection, message| {
            match message {
                Received::Text(text) => connection.send(text),
                Received::Binary(bytes) => connection.send_binary(bytes),
            };
            Flow::Handled
        })
        .build()?
        .bind()?;
    eprintln!("echoing at ws://{}/ws", server.local_addr());
    server.serve_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
    Ok(())
}
