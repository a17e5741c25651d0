//! Client for wserver: connect, register, receive as a stream, push.
//!
//! * [`Client`] opens a [`Connection`], on which one registers and which is a stream of messages.
//! * [`Listener`] is a connection that comes back: when it is lost, it waits a jittered moment,
//!   connects and registers again, and tells that there was a gap.
//! * [`Pusher`] is the backend's side: it posts messages and learns how many connections took them.
//! * [`Api`] is the HTTP API: pushes to many, who is online, why somebody got nothing ([`Api::explain`]),
//!   and what happens as it happens ([`Api::trace`]).
//!
//! ```no_run
//! use wserver_client::{Client, Listener, Pusher, Update};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // One side listens to the event "news" of whoever the token "aaa" stands for …
//! let client = Client::new("ws://127.0.0.1:12345/ws")?;
//! let mut listener = Listener::new(client).with_registration("aaa", "news");
//!
//! // … the other pushes to that user.
//! let pusher = Pusher::new("http://127.0.0.1:12345/push")?.with_key("shop-6f1e0c2b9a7d")?;
//! let clients = pusher.push("jack", "news", "the kettle boils").await?;
//! println!("{clients} connections took it");
//!
//! loop {
//!     match listener.next_update().await? {
//!         // Version 1 has no reply to a registration: one that is refused is silent.
//!         Update::Connected => println!("connected, and the registrations are sent"),
//!         Update::Message(message) => println!("{message}"),
//!         Update::Interrupted { cause, retry_in } => println!("{cause}, again in {retry_in:?}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! Everything runs inside the tasks that call it: this crate spawns none, and dropping a value ends
//! what it stands for. It needs a tokio runtime with I/O and time. It speaks
//! `ws` and `http`, and with the feature `tls`, which is on by default, `wss` and `https`, trusting
//! whom the machine trusts. It knows nothing of the server but the documented contract, which is
//! wserver-protocol's.

mod stream;
mod target;
mod text;
#[cfg(feature = "tls")]
mod tls;

mod client;
mod connection;
mod probe;
mod heartbeat;

mod backoff;
mod listener;

mod line;
mod pool;
mod refusal;
mod pusher;

mod api;
mod events;

pub use api::{Api, ApiError};
pub use backoff::Backoff;
pub use client::{Client, ConnectError};
pub use connection::{CloseFrame, Connection, NextTextError, ReceiveError, SendError};
pub use events::{Trace, TraceError, TraceUpdate};
pub use listener::{GaveUp, Interruption, Listener, Update};
pub use pool::KeyError;
pub use probe::{Dialed, PlainAnswer, Probe, Probed, Secured, Seen, UpgradeError};
pub use pusher::{PushError, Pusher};
pub use target::UrlError;
#[cfg(feature = "tls")]
pub use tls::{CertificateError, TlsFacts};
pub use wserver_protocol::{CloseCode, v2};

/// The cause of an error, from the library that saw it.
type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;
