//! The end of a closing connection, on the reading side.

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use wserver_protocol::Decoder;

use crate::connection::read_buffer::{self, READS_MAX};
use crate::connection::wire::Socket;

/// How far a closing connection has come.
///
/// After both ends have sent their Close, the server ends the TCP connection (RFC 6455, section
/// 7.1.1). A client that sees its end earlier may discard what it has not read yet, and report the
/// closing as unclean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The peer's Close has not come, and our writing side stays open until then.
    Awaited,
    /// The peer's Close has come; its further bytes are ignored.
    Come,
    /// The same, and our writing side is shut.
    Shut,
    /// The peer has shut its own writing side.
    Gone,
}

impl Farewell {
    /// Reads until the peer's Close, and then until its end; breaks when both ends are shut, or the
    /// socket has failed.
    pub(crate) fn poll_read(
        &mut self,
        socket: &Socket,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> ControlFlow<()> {
        read_buffer::with(|buffer| {
            for _ in 0..READS_MAX {
                if *self == Self::Awaited && decoder.is_closed() {
                    *self = Self::Come;
                }
                let read = match *self {
                    Self::Awaited => socket.poll_read(cx, buffer),
                    Self::Come | Self::Shut => socket.poll_discard(cx, buffer),
                    Self::Gone => return ControlFlow::Continue(()),
                };
                match read {
                    Poll::Pending => return ControlFlow::Continue(()),
                    Poll::Ready(Ok(0)) if *self != Self::Shut => {
                        // The queue is still sent, because the peer may have shut only one side.
                        *self = Self::Gone;
                    }
                    Poll::Ready(Ok(count @ 1..)) => {
                        decoder.pass_over(&buffer[..count]);
                    }
                    Poll::Ready(Ok(0) | Err(_)) => return ControlFlow::Break(()),
                }
            }
            cx.waker().wake_by_ref();
            ControlFlow::Continue(())
        })
    }
}
