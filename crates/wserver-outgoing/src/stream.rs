//! The stream under a connection: TCP, with TLS over it or without, or a Unix socket.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What HTTP and WebSocket are spoken on.
pub type Stream = Box<dyn Io>;

/// A stream of bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {
    /// The TLS, if it is spoken.
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
