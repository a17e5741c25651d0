//! The socket as hyper sees it until the upgrade: it also notes what hyper forgets.
//!
//! A request with both `Content-Length` and `Transfer-Encoding`, or with two lengths, is how
//! requests are smuggled past a proxy (RFC 9112, section 6.1). hyper drops one of them before we
//! see the headers, so lines that look like a length are counted as the bytes pass.
//!
//! hyper closes a socket with whatever of a refused body has not been read, which makes the kernel
//! reset the connection, and a reset may overtake the answer. So the end is lingered over.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::read_buffer;
use crate::transport::Transport;

const NEEDLE: &[u8] = b"\ncontent-length";

/// How long what a refused client goes on sending is read and dropped.
const LINGER: Duration = Duration::from_secs(2);
/// Reads of one poll, before other tasks have their turn.
const READS_MAX: usize = 4;

/// The head of a 101 as it should be, if hyper has made another of it: hyper repeats the `close` of
/// a request that says `Connection: close, Upgrade`, and there are clients that believe it.
fn switching_head(bytes: &[u8]) -> Option<Bytes> {
    const CLOSE: &[u8] = b"\r\nconnection: upgrade, close\r\n";
    if !bytes.starts_with(b"HTTP/1.1 101 ") {
        return None;
    }
    let at = memchr::memmem::find(bytes, CLOSE)? + CLOSE.len() - b", close\r\n".len();
    Some([&bytes[..at], &bytes[at + b", close".len()..]].concat().into())
}

/// What was seen on one connection beside its requests. A clone is the same connection's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// `Content-Length` lines that no request has accounted for.
    lengths: AtomicU32,
    /// Two of them stood in one head.
    is_doubled: AtomicBool,
    /// Bytes have come since the last request that was served, so some may be left unread.
    has_unserved: AtomicBool,
}

impl Notes {
    /// A request was read whole and served.
    pub(crate) fn served(&self) {
        self.0.has_unserved.store(false, Ordering::Relaxed);
    }

    /// Whether the end of a request's body could be read in two ways: by two lengths, by a length
    /// and a transfer encoding, or by any encoding but `chunked`. To be asked once for each request, in order.
    ///
    /// A request that is pipelined behind another may make that one look ambiguous; both are refused then.
    pub(crate) fn is_ambiguous(&self, headers: &HeaderMap) -> bool {
        if self.0.is_doubled.load(Ordering::Relaxed) {
            return true;
        }
        let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
        if let Some(encoding) = encodings.next() {
            let is_plain = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            return !is_plain
                || encodings.next().is_some()
                || self.0.lengths.load(Ordering::Relaxed) > 0;
        }
        if headers.contains_key(CONTENT_LENGTH) {
            // Never below zero: each request with a length was seen as a line.
            let _ = self
                .0
                .lengths
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lines| lines.checked_sub(1));
        }
        false
    }
}

/// One accepted socket on its way through hyper.
#[derive(Debug)]
pub(crate) struct HttpIo {
    stream: Transport,
    /// Read already, and not by hyper.
    ahead: Bytes,
    notes: Notes,
    /// How much of `NEEDLE` the last bytes read match.
    matched: usize,
    /// Whether a length has come since the last empty line, which ends a head.
    has_length: bool,
    /// Set when our side has ended and the other has not yet.
    lingering: Option<Pin<Box<Sleep>>>,
    /// How long a client may take none of what is written to it.
    write_timeout: Duration,
    /// Runs while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Taken from hyper, changed, and not written yet: at most the head of one 101.
    changed: Bytes,
}

impl HttpIo {
    pub(crate) fn new(stream: Transport, write_timeout: Duration) -> Self {
        Self {
            stream,
            ahead: Bytes::new(),
            notes: Notes::default(),
            matched: 0,
            has_length: false,
            lingering: None,
            write_timeout,
            stalled: None,
            changed: Bytes::new(),
        }
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// The socket, and what was read of it and taken by nobody.
    pub(crate) fn into_parts(self) -> (Transport, Bytes) {
        (self.stream, self.ahead)
    }

    /// Remembers that the client may be sending what will not be read.
    pub(crate) fn leave_unserved(&self) {
        self.notes.0.has_unserved.store(true, Ordering::Relaxed);
    }

    /// Reads for who is not hyper; what comes is lent to `take`, and is nothing when the client has ended.
    pub(crate) fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(take(&std::mem::take(&mut self.ahead))));
        }
        read_buffer::with(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            // Unlike `try_read` this knows from a short read that there is no more, and saves asking again.
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(take(buffer.filled())))
        })
    }

    /// Ready when the client has gone. What it sends meanwhile is kept, and from then on it is not
    /// noticed any more.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_take(cx, Bytes::copy_from_slice)) {
            Ok(bytes) if !bytes.is_empty() => {
                self.ahead = bytes;
                Poll::Pending
            }
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }

    /// Lets hyper read `bytes` before anything that is still to come.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    fn note(&mut self, mut bytes: &[u8]) {
        self.notes.0.has_unserved.store(true, Ordering::Relaxed);
        loop {
            if self.matched == 0 {
                let Some(at) = memchr::memchr(b'\n', bytes) else { return };
                bytes = &bytes[at + 1..];
                if bytes.first().is_some_and(|first| !matches!(first, b'c' | b'C' | b'\r' | b'\n'))
                {
                    // As most lines begin.
                    continue;
                }
                self.matched = 1;
            }
            while let Some((first, rest)) = bytes.split_first() {
                if !first.eq_ignore_ascii_case(&NEEDLE[self.matched]) {
                    if self.matched == 1 && matches!(first, b'\r' | b'\n') {
                        self.has_length = false;
                    }
                    self.matched = 0;
                    break;
                }
                bytes = rest;
                self.matched += 1;
                if self.matched == NEEDLE.len() {
                    self.notes.0.lengths.fetch_add(1, Ordering::Relaxed);
                    if std::mem::replace(&mut self.has_length, true) {
                        self.notes.0.is_doubled.store(true, Ordering::Relaxed);
                    }
                    self.matched = 0;
                    break;
                }
            }
            if bytes.is_empty() {
                return;
            }
        }
    }
}

impl HttpIo {
    /// Gives up on a client that reads no reply: hyper has a timer for heads only.
    fn within_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes what hyper holds for written.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.changed.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.changed);
            let count = ready!(self.within_write_timeout(cx, written))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.changed = self.changed.split_off(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and drops what still comes, until the client has ended too or has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if lingering.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        read_buffer::with(|buffer| {
            for _ in 0..READS_MAX {
                match ready!(self.stream.poll_discard(cx, buffer)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(()),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Read for HttpIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            let bytes = this.ahead.split_to(cursor.remaining().min(this.ahead.len()));
            this.note(&bytes);
            cursor.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        // Without unsafe code a cursor takes copies only, so the bytes come by way of the shared buffer.
        read_buffer::with(|buffer| {
            let room = cursor.remaining().min(buffer.len());
            let mut buffer = ReadBuf::new(&mut buffer[..room]);
            // Unlike `try_read` this knows from a short read that there is no more, and saves asking again.
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer))?;
            this.note(buffer.filled());
            cursor.put_slice(buffer.filled());
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for HttpIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_changed(cx))?;
        if let Some(head) = switching_head(bytes) {
            self.changed = head;
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_write_timeout(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_changed(cx))?;
        // A socket is flushed by being written to; TLS may have kept something.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.within_write_timeout(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.within_write_timeout(cx, shut))?;
        }
        if self.notes.0.has_unserved.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
