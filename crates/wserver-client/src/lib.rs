//! Client for wserver: connect, register, receive as a stream, push.
//!
//! * [`Client`] opens a [`Connection`], which registers and is a stream of messages.
//! * [`ReconnectingConnection`] outlives a lost connection: it waits for a random delay, connects
//!   and registers again, and reports the gap.
//! * [`Pusher`] is the publisher's side: it pushes messages and returns how many connections took them.
//! * [`Api`] is the HTTP API: pushes to many users, who is online, why a user got nothing
//!   ([`Api::explain`]), and what happens as it happens ([`Api::trace`]).
//!
//! ```no_run
//! use wserver_client::{Client, Pusher, ReconnectingConnection, Update};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // One side listens to the event "news" of the user that the token "aaa" stands for …
//! let client = Client::new("ws://127.0.0.1:12345/ws")?;
//! let mut connection = ReconnectingConnection::new(client).with_registration("aaa", "news");
//!
//! // … the other pushes to that user.
//! let pusher = Pusher::new("http://127.0.0.1:12345/push")?.with_key("shop-6f1e0c2b9a7d")?;
//! let clients = pusher.push("jack", "news", "the kettle boils").await?;
//! println!("{clients} connections took it");
//!
//! loop {
//!     match connection.next_update().await? {
//!         Update::Registered { events, refused } => println!("{events:?}, but not {refused:?}"),
//!         Update::Pushed { event, message, .. } => println!("{event}: {message}"),
//!         // Of a server that knows version 1 only, which refuses silently.
//!         Update::Connected => println!("connected, and the registrations are sent"),
//!         Update::Message(message) => println!("{message}"),
//!         Update::Interrupted { cause, retry_in } => println!("{cause}, again in {retry_in:?}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! All work happens in the tasks that call this crate: it spawns none, and dropping a value ends
//! its connections. It needs a tokio runtime with I/O and time. It speaks `ws` and `http`; with the
//! feature `tls`, which is on by default, it also speaks `wss` and `https`, and trusts the
//! certificate authorities that the machine trusts. Of the server it knows only the documented
//! contract, which wserver-protocol contains.

mod text;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_fault;
mod endpoint;

mod client;
mod connection;
mod probe;
mod heartbeat;

mod backoff;
mod acks;
mod interruption;
mod reconnecting;

mod http_client;
mod refusal;
mod pusher;

mod api;
mod events;

pub use api::{Api, ApiError};
pub use backoff::Backoff;
pub use client::{Client, ConnectError};
pub use connection::{CloseFrame, Connection, NextTextError, ReceiveError, SendError};
pub use endpoint::UrlError;
pub use events::{Trace, TraceError, TraceUpdate};
pub use http_client::KeyError;
pub use interruption::Interruption;
pub use probe::{Dialed, PlainAnswer, Probe, Probed, Secured, Seen, UpgradeError};
pub use pusher::{PushError, Pusher};
pub use reconnecting::{GaveUp, ReconnectingConnection, Update};
#[cfg(feature = "tls")]
pub use tls::{CertificateError, TlsFacts};
#[cfg(feature = "tls")]
pub use tls_fault::TlsFault;
pub use wserver_protocol::connection::{Code, Granted, Notice, Outcome, Refused, RefusedEvent};
pub use wserver_protocol::{CloseCode, Protocol, v2};

use wserver_outgoing::Cause;
