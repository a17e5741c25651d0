//! A request as it is answered: its parts, and where it came from.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Everything: there is no other listener.
    Whole,
    /// What browsers need.
    Public,
    /// What backends need.
    Private,
}

impl Side {
    /// Whether browsers open their WebSockets there.
    #[must_use]
    pub fn has_websockets(self) -> bool {
        matches!(self, Self::Whole | Self::Public)
    }

    /// Whether pushes are taken there.
    #[must_use]
    pub fn has_push(self) -> bool {
        matches!(self, Self::Whole | Self::Private)
    }
}

/// The head of a request, and where it comes from.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// What is asked for.
    pub uri: Uri,
    /// The headers.
    pub headers: Arc<HeaderMap>,
    /// Who the socket is connected to; behind a trusted proxy the client is somebody else.
    pub peer: SocketAddr,
    /// Who sent it, as a trusted proxy tells.
    pub client: SocketAddr,
    /// The side of the listener that it came to.
    pub side: Side,
}
