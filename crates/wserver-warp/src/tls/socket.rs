//! A TLS connection after its upgrade: output is encrypted under the outbox's lock, and the
//! connection's task decrypts input.
//!
//! rustls keeps the records that the socket does not take yet, up to its own limit of 64 KiB.
//!
//! Of the 8 KB that TLS adds to an idle connection, 4 KiB are the read buffer of rustls. Only its
//! unbuffered interface avoids that, but we would have to drive the handshake ourselves.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rustls::ServerConnection;
use tokio::net::TcpStream;

/// A TLS connection during HTTP.
pub(crate) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Reads without plaintext in one call, before other tasks get their turn.
const EMPTY_READS_MAX: usize = 16;

/// A socket with its encryption.
pub(crate) struct TlsSocket {
    stream: TcpStream,
    /// Writers take it within the outbox's lock, the reader without; nothing waits under it.
    tls: Mutex<ServerConnection>,
}

impl fmt::Debug for TlsSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSocket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl From<TlsStream> for TlsSocket {
    /// Bytes that were already received or encrypted are part of the connection, and not lost.
    fn from(stream: TlsStream) -> Self {
        let (stream, tls) = stream.into_inner();
        Self { stream, tls: Mutex::new(tls) }
    }
}

impl TlsSocket {
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads plaintext; zero if the peer has ended properly.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut tls = self.lock();
        for _ in 0..EMPTY_READS_MAX {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            ready!(self.stream.poll_read_ready(cx))?;
            match tls.read_tls(&mut Raw(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) => {}
            }
            let processed = tls.process_new_packets();
            if tls.wants_write() && self.flush(&mut tls).is_err() {
                // The task's next flush finishes sending it, or sees that it failed.
                let _ = self.stream.poll_write_ready(cx);
            }
            if let Err(error) = processed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Encrypts and writes as long as the socket takes it, in steps as large as rustls' buffer.
    pub(crate) fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut tls = self.lock();
        self.flush(&mut tls)?;
        let bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut taken = tls.writer().write_vectored(buffers)?;
        if !self.drain(&mut tls)? || taken == bytes {
            return Ok(taken);
        }
        let mut rest = buffers.to_vec();
        let mut rest = &mut rest[..];
        IoSlice::advance_slices(&mut rest, taken);
        let mut count = taken;
        while taken < bytes {
            count = match (tls.writer().write_vectored(rest)?, count) {
                // The first time, rustls may have to renew keys. The second time, it will take
                // nothing.
                (0, 0) => return Err(io::ErrorKind::WriteZero.into()),
                (more, _) => more,
            };
            IoSlice::advance_slices(&mut rest, count);
            taken += count;
            if !self.drain(&mut tls)? {
                break;
            }
        }
        Ok(taken)
    }

    /// Writes the records that rustls keeps.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        self.flush(&mut self.lock())
    }

    /// Tells the peer that nothing more will come (RFC 8446, section 6.1); ready when that is sent.
    pub(crate) fn poll_notify_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tls = self.lock();
        // It is sent once, however often this is called.
        tls.send_close_notify();
        loop {
            match self.flush(&mut tls) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if ready!(self.stream.poll_write_ready(cx)).is_err() {
                        return Poll::Ready(());
                    }
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    fn flush(&self, tls: &mut ServerConnection) -> io::Result<()> {
        while tls.wants_write() {
            if tls.write_tls(&mut Raw(&self.stream))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// As [`flush`](Self::flush); false while something is left.
    fn drain(&self, tls: &mut ServerConnection) -> io::Result<bool> {
        match self.flush(tls) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ServerConnection> {
        // After a panic in rustls its state may be inconsistent; rustls itself then refuses to
        // continue.
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket for rustls, which reads and writes without waiting.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
