//! The ancestor's example pusher: one message to user `jack`, event `push`.
//!
//! `cargo run -p wserver-client --example pusher [URL] [USER] [EVENT] [MESSAGE]`

use std::error::Error;

use wserver_client::Pusher;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "an example talks to whoever started it")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let pusher = Pusher::new(&argument("http://127.0.0.1:12345/push"))?;
    let clients =
        pusher.push(&argument("jack"), &argument("push"), &argument("Hello in one second")).await?;
    println!("message sent to {clients} clients");
    Ok(())
}
