//! The ancestor's example server: token `aaa` is user `jack`, everything else is its default.
//!
//! `cargo run -p wserver-warp --example ancestor_server`, then open http://127.0.0.1:12345/,
//! register token `aaa`, and push to `jack`, as `cargo run -p wserver-client --example pusher` does.

use anyhow::Result;
use wserver_warp::Server;
use wserver_warp::auth::StaticTokens;

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::builder()
        .address("127.0.0.1:12345")
        .ws_path("/ws")
        .push_path("/push")
        .authenticator(StaticTokens::new([("aaa", "jack")])?)
        .allow_open_push()
        .demo_page()
        .build()?;
    server.serve_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
    Ok(())
}
