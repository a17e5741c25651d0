//! The part of a socket that an outbox needs.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// A socket that any thread can write to without waiting.
///
/// The outbox calls it only under its lock, so an implementation sees one call at a time.
pub trait Wire: Send + Sync + 'static {
    /// Writes as much as the socket takes at once.
    ///
    /// A wire that transforms the bytes, such as TLS, may take a limited number that the socket
    /// does not take yet; see [`Wire::try_flush`].
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it takes nothing now; any other error is final.
    fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Writes to the socket what the wire has taken and still holds; most wires never hold
    /// anything.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while something is left; any other error is final.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// Registers the task to be woken when the socket takes bytes again.
    ///
    /// # Errors
    /// If the socket has failed.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The address of the peer. For administrators; called under no lock.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}
