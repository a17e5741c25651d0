//! The socket as hyper sees it until the upgrade, with what hyper cannot do.
//!
//! It hands over the head of a request separately from the body, so that each is checked as what it
//! is; see `framing`.
//!
//! A connection may wait longer for its next request than a head may take, and hyper has one timer
//! for both, so both timers are here. The listener's order to end the connection also arrives here.
//!
//! A client may end its side after its request (RFC 9112, section 9.6). hyper would treat that as
//! leaving, so the end is hidden from it until the answer is sent, or has taken too long. A client
//! that is really gone resets the connection, or takes no answer.
//!
//! hyper closes a socket even if a refused body is not read to its end. The kernel then resets the
//! connection, and the reset may overtake the answer. So this module keeps reading for a while
//! before the end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use wserver_api::HttpLimits;

use crate::connection::read_buffer::{self, READS_MAX};
use crate::http::notes::{Awaited, Notes};
use crate::listen::places::Seat;
use crate::listen::transport::Transport;

/// How long to read and drop what a refused client keeps sending.
const LINGER: Duration = Duration::from_secs(2);
/// How much of that to read and drop: far more than any accepted body, but not gigabytes.
const LINGER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How much longer a connection is kept than its client is told, so that a request that is sent in
/// the last moment still arrives.
const IDLE_MARGIN: Duration = Duration::from_secs(1);

/// The corrected head of a 101, if hyper has made a wrong one: hyper repeats the `close` of a
/// request with `Connection: close, Upgrade`, and some clients believe it.
fn switching_head(bytes: &[u8]) -> Option<Bytes> {
    const CLOSE: &[u8] = b"\r\nconnection: upgrade, close\r\n";
    if !bytes.starts_with(b"HTTP/1.1 101 ") {
        return None;
    }
    let at = memchr::memmem::find(bytes, CLOSE)? + CLOSE.len() - b", close\r\n".len();
    Some([&bytes[..at], &bytes[at + b", close".len()..]].concat().into())
}

/// How long a client that has ended its side may wait for its answer. Only the answer shows whether
/// the client still reads; nodes of a cluster have less time for theirs.
const ENDED_TIMEOUT: Duration = Duration::from_secs(40);

/// One accepted socket on its way through hyper.
#[derive(Debug)]
pub(crate) struct HttpIo {
    stream: Transport,
    /// Read, but not taken yet.
    ahead: Bytes,
    notes: Notes,
    /// The client has ended its side.
    has_ended: bool,
    /// How long the head of a request may take, and how long a client may take nothing of what is
    /// written to it.
    head_timeout: Duration,
    idle_timeout: Duration,
    /// What the connection waits for, and after which request.
    waiting: Option<(Awaited, u64)>,
    timer: Pin<Box<Sleep>>,
    /// Set after our side has ended, until the other ends.
    lingering: Option<Pin<Box<Sleep>>>,
    lingered_bytes: usize,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Taken from hyper and changed, but not written yet: at most the head of one 101.
    changed: Bytes,
}

impl HttpIo {
    pub(crate) fn new(stream: Transport, limits: &HttpLimits, seat: Arc<Seat>) -> Self {
        Self {
            stream,
            ahead: Bytes::new(),
            notes: Notes::new(seat),
            has_ended: false,
            head_timeout: limits.header_timeout,
            idle_timeout: limits.http_idle_timeout + IDLE_MARGIN,
            waiting: None,
            timer: Box::pin(tokio::time::sleep(limits.header_timeout)),
            lingering: None,
            lingered_bytes: 0,
            stalled: None,
            changed: Bytes::new(),
        }
    }

    pub(crate) fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// The socket, and the bytes that were read but not taken.
    pub(crate) fn into_parts(self) -> (Transport, Bytes) {
        (self.stream, self.ahead)
    }

    /// Reads for callers other than hyper; lends the bytes to `take`. They are empty if the client
    /// has ended or its time is over.
    pub(crate) fn poll_take<T>(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(take(&std::mem::take(&mut self.ahead))));
        }
        if self.has_ended {
            return Poll::Ready(Ok(take(&[])));
        }
        read_buffer::with(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            // Unlike `try_read`, this learns from a short read that there is no more, and saves
            // another call.
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => ready!(self.poll_waited(cx)),
            }
            self.has_ended = buffer.filled().is_empty();
            Poll::Ready(Ok(take(buffer.filled())))
        })
    }

    /// The bytes that have come and are not taken yet; empty if the client has ended or its time is
    /// over.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.ahead.is_empty() {
            self.ahead = ready!(self.poll_take(cx, Bytes::copy_from_slice))?;
        }
        Poll::Ready(Ok(&self.ahead))
    }

    /// Ready when the client has gone. Bytes that arrive meanwhile are kept, and from then on this
    /// no longer notices a client that leaves; a client that has ended its side may still read, for
    /// some time.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.is_empty() {
            return Poll::Pending;
        }
        if !self.has_ended {
            match ready!(self.poll_take(cx, Bytes::copy_from_slice)) {
                Ok(bytes) => self.ahead = bytes,
                Err(_) => return Poll::Ready(()),
            }
        }
        if self.has_ended { self.poll_end(cx) } else { Poll::Pending }
    }

    /// Ends our side, and reads for a moment what the client may still be sending.
    pub(crate) async fn shut_down(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await
    }

    /// Makes hyper read `bytes` before anything else.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// Ready when hyper may see the end of the client's side: between requests, within a body, or
    /// when the answer takes too long.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(request) = self.notes.ended_in() else { return Poll::Ready(()) };
        let ended_in = Some((Awaited::Answer, request));
        if self.waiting != ended_in {
            self.waiting = ended_in;
            self.timer.as_mut().reset(Instant::now() + ENDED_TIMEOUT);
        }
        self.timer.as_mut().poll(cx)
    }

    /// Ready when a connection without a request has waited long enough, or must end.
    fn poll_waited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = self.notes.awaited() else { return Poll::Pending };
        let seat = self.notes.seat();
        if self.waiting != Some(waiting) {
            self.waiting = Some(waiting);
            let now = Instant::now();
            seat.wait(now.into_std());
            let timeout = match waiting.0 {
                Awaited::Head => self.head_timeout,
                Awaited::Request => self.idle_timeout,
                Awaited::Answer => ENDED_TIMEOUT,
            };
            self.timer.as_mut().reset(now + timeout);
        }
        ready_either(seat.poll_over(cx), self.timer.as_mut().poll(cx))
    }
}

fn ready_either(first: Poll<()>, second: Poll<()>) -> Poll<()> {
    if first.is_ready() { first } else { second }
}

impl HttpIo {
    /// Gives up on a client that reads no reply, because hyper has a timer only for heads.
    fn within_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.head_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes the bytes that hyper considers written.
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

    /// Reads and drops further input until the client has ended too, its time is over, or it has
    /// sent too much.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        if lingering.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        read_buffer::with(|buffer| {
            for _ in 0..READS_MAX {
                match ready!(self.stream.poll_discard(cx, buffer)) {
                    Ok(count @ 1..) => {
                        self.lingered_bytes += count;
                        if self.lingered_bytes > LINGER_BYTES_MAX {
                            return Poll::Ready(());
                        }
                    }
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
            let room = cursor.remaining().min(this.ahead.len());
            let here = this.notes.take(&this.ahead[..room]);
            if here == 0 {
                ready!(this.poll_waited(cx));
            }
            cursor.put_slice(&this.ahead.split_to(here));
            return Poll::Ready(Ok(()));
        }
        if this.has_ended {
            return this.poll_end(cx).map(Ok);
        }
        // Without unsafe code a cursor takes only copies, so the bytes come through the shared
        // buffer.
        read_buffer::with(|buffer| {
            let room = cursor.remaining().min(buffer.len());
            let mut buffer = ReadBuf::new(&mut buffer[..room]);
            // Unlike `try_read`, this learns from a short read that there is no more, and saves
            // another call.
            match Pin::new(&mut this.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => ready!(this.poll_waited(cx)),
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                this.has_ended = true;
                return this.poll_end(cx).map(Ok);
            }
            let here = this.notes.take(bytes);
            cursor.put_slice(&bytes[..here]);
            this.ahead = Bytes::copy_from_slice(&bytes[here..]);
            if here == 0 {
                ready!(this.poll_waited(cx));
            }
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
        // Writing to a plain socket flushes it; TLS may have kept something.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        ready!(self.within_write_timeout(cx, flushed))?;
        let Some(may_end) = self.notes.flushed() else { return Poll::Ready(Ok(())) };
        let may_end = self.has_ended && may_end;
        // hyper asked for more before, and got no answer then.
        if may_end || self.poll_waited(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.within_write_timeout(cx, shut))?;
        }
        let is_lingering = self.notes.has_unserved() && !self.notes.seat().is_over();
        if is_lingering {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
