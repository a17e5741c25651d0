//! A request: its parts, and where it came from.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Everything, because there is no other listener.
    Whole,
    /// What browsers need.
    Public,
    /// What backends need.
    Private,
}

impl Side {
    /// Whether browsers open their WebSockets here.
    #[must_use]
    pub fn has_websockets(self) -> bool {
        matches!(self, Self::Whole | Self::Public)
    }

    /// Whether it accepts pushes.
    #[must_use]
    pub fn has_push(self) -> bool {
        matches!(self, Self::Whole | Self::Private)
    }
}

/// The head of a request, and where it came from.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The request target.
    pub uri: Uri,
    /// The headers.
    pub headers: Arc<HeaderMap>,
    /// The other end of the socket; behind a trusted proxy, the client is another address.
    pub peer: SocketAddr,
    /// The client that sent the request, as a trusted proxy reports it.
    pub client: SocketAddr,
    /// The side of the listener that received it.
    pub side: Side,
}
