//! The hooks of an embedding program: for every message received, and for every connection's end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use wserver_core::{CloseReason, ConnectionId};
use wserver_node::{Node, Outbox};
use wserver_protocol::frame;

use crate::connection::wire::Socket;

/// A message from a client, valid for the duration of the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Received<'a> {
    /// The payload, of either kind.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// What to do with a message after the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The server reads it as a register message.
    Continue,
    /// The hook has handled it. From now on the connection counts as registered.
    Handled,
}

type MessageHook = dyn Fn(&Connection, Received<'_>) -> Flow + Send + Sync;
type CloseHook = dyn Fn(&Connection, CloseReason) + Send + Sync;

/// The hooks of one server. They run on the connection's task, so they must not block.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) message: Option<Arc<MessageHook>>,
    pub(crate) close: Option<Arc<CloseHook>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("message", &self.message.is_some())
            .field("close", &self.close.is_some())
            .finish()
    }
}

/// One client's connection, as hooks see it. A program may keep it: it does not keep the connection
/// open.
#[derive(Clone)]
pub struct Connection {
    node: Node<Socket>,
    outbox: Weak<Outbox<Socket>>,
    id: ConnectionId,
    peer: SocketAddr,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(node: Node<Socket>, outbox: &Arc<Outbox<Socket>>, peer: SocketAddr) -> Self {
        Self { node, outbox: Arc::downgrade(outbox), id: outbox.id(), peer }
    }

    /// Its id, unique for the life of the process.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The client's address, from its socket or from a proxy among `trusted_proxies`; the port is 0
    /// if the proxy does not give it.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Sends a text message to this connection only; returns whether its socket or queue took it.
    ///
    /// It never waits. A reader whose queue would exceed `outbox_bytes_max` is disconnected.
    pub fn send(&self, text: &str) -> bool {
        self.send_frame(&frame::text(text))
    }

    /// As [`Connection::send`], as a binary message.
    pub fn send_binary(&self, bytes: &[u8]) -> bool {
        self.send_frame(&frame::binary(bytes))
    }

    fn send_frame(&self, frame: &bytes::Bytes) -> bool {
        self.outbox.upgrade().is_some_and(|outbox| self.node.send(&outbox, frame).is_taken())
    }

    /// Closes it with code 1000 after its queue; returns false if it was already ending.
    pub fn close(&self) -> bool {
        self.outbox
            .upgrade()
            .is_some_and(|outbox| self.node.close(&outbox, CloseReason::Disconnected))
    }
}
