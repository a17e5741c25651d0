//! What an outbox needs of a socket.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// A socket that is written without waiting, from any thread.
///
/// The outbox calls it under its lock only, so an implementation sees one call at a time.
pub trait Wire: Send + Sync + 'static {
    /// Writes what the socket takes at once.
    ///
    /// A wire that has to make something else of the bytes, as TLS does, may take a bounded number
    /// of them that the socket does not take yet; see [`Wire::try_flush`].
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing now; any other error is final.
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Hands the socket what the wire has taken and still holds; most wires hold nothing, ever.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while something is left; any other error is final.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Registers the task to be woken when the socket takes bytes again.
    ///
    /// # Errors
    /// When the socket has failed.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Who is at the other end. Asked by whoever administers the node, under no lock.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}
