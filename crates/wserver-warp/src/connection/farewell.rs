//! The end of a connection that is closing, as far as reading goes.

use std::ops::ControlFlow;
use std::task::{Context, Poll};

use wserver_protocol::Decoder;

use crate::connection::read_buffer::{self, READS_MAX};
use crate::connection::wire::Socket;

/// How far the end of a connection is that is closing.
///
/// Once both ends have sent their Close it is for the server to end the TCP connection (RFC 6455,
/// section 7.1.1). A client that sees its end earlier may throw away what it has not read yet, and
/// holds the closing for unclean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The peer's Close has not come, and our writing side stays open for as long.
    Awaited,
    /// The peer's Close has come; what it still sends is not looked at.
    Come,
    /// The same, and our writing side is shut.
    Shut,
    /// The peer has shut its own writing side.
    Gone,
}

impl Farewell {
    /// Reads on for the peer's Close, and behind it for its end; breaks when both ends are shut, or
    /// the socket has failed.
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
                        // What is queued is still sent: it may have shut no more than one side.
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
