//! The socket of a connection that has none of its own: what is written to it becomes the body of an
//! HTTP answer.
//!
//! hyper writes the body, so streams work over TLS and behind requests of the same connection as any
//! answer does. They cost a copy of each byte, and keep their HTTP connection.

use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;

/// Bytes that wait for hyper; beyond it the outbox queues.
const BYTES_MAX: usize = 16 * 1024;

/// The end to which the outbox writes. Dropping it ends the body.
#[derive(Debug)]
pub(crate) struct PipeWriter {
    shared: Arc<Mutex<State>>,
    peer: SocketAddr,
}

/// The body. Dropping it is the end of the peer.
#[derive(Debug)]
pub(crate) struct PipeReader(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// At most [`BYTES_MAX`].
    bytes: Vec<u8>,
    /// Nothing more will be written.
    is_shut: bool,
    /// Nobody reads any more.
    is_gone: bool,
    /// Whoever reads.
    reader: Option<Waker>,
    /// The connection's task, which waits for room or for the end.
    writer: Option<Waker>,
}

/// Both ends of a pipe for `peer`.
pub(crate) fn pipe(peer: SocketAddr) -> (PipeWriter, PipeReader) {
    let shared = Arc::<Mutex<State>>::default();
    (PipeWriter { shared: Arc::clone(&shared), peer }, PipeReader(shared))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code under this lock can panic in the middle of a change.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl PipeWriter {
    pub(crate) const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Ready, with nothing, when nobody reads any more: a stream says nothing to the server.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.shared);
        if state.is_gone {
            return Poll::Ready(Ok(0));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn try_write(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = lock(&self.shared);
        if state.is_gone || state.is_shut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = BYTES_MAX - state.bytes.len();
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut written = 0;
        for buffer in buffers {
            let part = &buffer[..buffer.len().min(room)];
            state.bytes.extend_from_slice(part);
            room -= part.len();
            written += part.len();
        }
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(written)
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.shared);
        if state.is_gone || state.bytes.len() < BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the body behind what is written.
    pub(crate) fn shut(&self) {
        let mut state = lock(&self.shared);
        state.is_shut = true;
        let reader = state.reader.take();
        drop(state);
        wake(reader);
    }

    /// Ends the body at once.
    pub(crate) fn abandon(&self) {
        lock(&self.shared).bytes = Vec::new();
        self.shut();
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.shut();
    }
}

impl Stream for PipeReader {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = lock(&self.0);
        if state.bytes.is_empty() {
            if state.is_shut {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes = mem::take(&mut state.bytes);
        let writer = state.writer.take();
        drop(state);
        wake(writer);
        Poll::Ready(Some(bytes.into()))
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.is_gone = true;
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::StreamExt as _;

    use super::*;

    fn ends() -> (PipeWriter, PipeReader) {
        pipe("192.0.2.7:5".parse().unwrap())
    }

    #[tokio::test]
    async fn what_is_written_is_the_body_and_its_end_is_the_end() {
        let (writer, mut reader) = ends();
        assert_eq!(writer.try_write(&[IoSlice::new(b"one"), IoSlice::new(b"two")]).unwrap(), 6);
        assert_eq!(reader.next().await.unwrap(), "onetwo");
        let (read, ()) = tokio::join!(reader.next(), async {
            tokio::task::yield_now().await;
            writer.try_write(&[IoSlice::new(b"three")]).unwrap();
            drop(writer);
        });
        assert_eq!(read.unwrap(), "three");
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_full_pipe_waits_for_its_reader() {
        let (writer, mut reader) = ends();
        let much = vec![b'x'; BYTES_MAX + 1];
        assert_eq!(writer.try_write(&[IoSlice::new(&much)]).unwrap(), BYTES_MAX);
        let more = writer.try_write(&[IoSlice::new(b"y")]).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
        let (ready, read) = tokio::join!(poll_fn(|cx| writer.poll_write_ready(cx)), reader.next());
        ready.unwrap();
        assert_eq!(read.unwrap().len(), BYTES_MAX);
    }

    #[tokio::test]
    async fn a_reader_that_goes_is_noticed() {
        let (writer, reader) = ends();
        let (end, ()) = tokio::join!(poll_fn(|cx| writer.poll_end(cx)), async {
            tokio::task::yield_now().await;
            drop(reader);
        });
        assert_eq!(end.unwrap(), 0);
        let error = writer.try_write(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
