//! The stream under a connection: TCP with or without TLS, or a Unix socket.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The stream that carries HTTP or WebSocket.
pub type Stream = Box<dyn Io>;

/// A stream of bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// The TLS connection, if there is one.
    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<&rustls::ClientConnection> {
        None
    }
}

impl Io for TcpStream {}

#[cfg(unix)]
impl Io for tokio::net::UnixStream {}

#[cfg(feature = "tls")]
impl Io for tokio_rustls::client::TlsStream<TcpStream> {
    fn tls(&self) -> Option<&rustls::ClientConnection> {
        Some(self.get_ref().1)
    }
}
