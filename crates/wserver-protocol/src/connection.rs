//! What is said on a connection that speaks version 2: requests and their replies, notices, and
//! pushes as a head and the message.
//!
//! Requests are read leniently in what is unknown and strictly in what is known, so that the
//! protocol can grow and a mistake is still named. `docs/protocol-v2.md` in the repository is the
//! contract.

mod code;
mod from_client;
mod from_server;
mod notice;
mod push;
mod reply;
mod request;

pub use code::{Code, Refused};
pub use from_client::FromClient;
pub use from_server::FromServer;
pub use notice::Notice;
pub use push::Head;
pub use reply::{Gap, Granted, Hello, Outcome, RefusedEvent, Reply};
pub use request::{Asked, Request, RequestError};
