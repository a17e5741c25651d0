//! Reading a stream of WebSocket frames (RFC 6455, sections 5 to 7), without I/O.
//!
//! This file decides what can arrive in which order, and how much of it is kept. The bytes come
//! from a buffer that connections share, so nothing here points into it after [`Decoder::decode`]
//! returns.

mod limits;
mod message;
mod head;
mod partial;
mod passing;

use std::fmt;
use std::mem;
use std::ops::ControlFlow;
use std::str;

use crate::frame::{Fin, Opcode};
use crate::{CloseCode, DecodeError};

pub use limits::{DecodeLimits, Role};

use head::{Head, HeadBytes};
use message::Message;
use partial::{Frame, Partial};
use passing::Passing;

/// A message or a control frame that has arrived whole. `Debug` shows lengths, never contents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A Ping with its payload, at most 125 bytes.
    Ping(&'a [u8]),
    /// A Pong with its payload, at most 125 bytes.
    Pong(&'a [u8]),
    /// A Close, with code and reason if it has any. The decoder delivers nothing after it.
    Close(Option<(CloseCode, &'a str)>),
}

impl fmt::Debug for Inbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Binary(payload) => write!(f, "Binary({} bytes)", payload.len()),
            Self::Ping(payload) => write!(f, "Ping({} bytes)", payload.len()),
            Self::Pong(payload) => write!(f, "Pong({} bytes)", payload.len()),
            Self::Close(Some((code, _))) => write!(f, "Close({code})"),
            Self::Close(None) => f.write_str("Close"),
        }
    }
}

/// The reading end of one connection; it takes the bytes from the connection's socket.
///
/// It takes sixteen bytes, and uses the heap only while a frame or a message is half read.
pub struct Decoder {
    /// The parts of frames and messages that are not whole yet.
    ///
    /// Invariant: `None` between messages and at the end. It holds only bytes that have really
    /// arrived, within the limits given to `decode`. While passing it holds no payload.
    partial: Option<Box<Partial>>,
    role: Role,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The stream was refused, or no more of it is wanted: the decoder only looks for the peer's
    /// Close.
    Passing,
    /// The peer's Close has arrived; the decoder ignores everything after it.
    Closed,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self { partial: None, role, reading: Reading::Open }
    }

    /// Whether a frame or a message is half read, so that the decoder holds memory for it.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.partial.is_some() && !self.is_ended()
    }

    /// The memory that the decoder holds for a half-read message, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        message.map_or(0, |message| message.payload.capacity())
    }

    /// Whether a Close was delivered or the stream was refused, so that the decoder ignores
    /// everything after it.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        !matches!(self.reading, Reading::Open)
    }

    /// Whether the peer's Close has arrived, even if it was not valid and so not delivered.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.reading, Reading::Closed)
    }

    /// Reads `input`, the next bytes of the stream, and passes each message and control frame that
    /// is whole to `sink`, in order.
    ///
    /// A whole frame is unmasked in place and lent without a copy; partial frames and fragments are
    /// copied out. So the consumed bytes of `input` are meaningless afterwards.
    ///
    /// When `sink` breaks, reading stops after the item it was given. The return value is the
    /// number of bytes consumed: all of them, unless the sink broke. Then the caller passes the
    /// rest again, unchanged. Bytes after a Close count as consumed.
    ///
    /// # Errors
    /// [`DecodeError`] at the first byte that breaks the protocol or a limit, after everything
    /// before it was delivered. From then on the decoder delivers nothing, as with
    /// [`Self::pass_over`].
    pub fn decode(
        &mut self,
        limits: &DecodeLimits,
        input: &mut [u8],
        mut sink: impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<usize, DecodeError> {
        let bytes = input.len();
        let mut rest = input;
        while !rest.is_empty() && self.reading == Reading::Open {
            match self.decode_frame(limits, &mut rest, &mut sink) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(bytes - rest.len()),
                Err(error) => {
                    self.pass_over(rest);
                    return Err(error);
                }
            }
        }
        self.pass_over_if_ended(rest);
        Ok(bytes)
    }

    /// Reads `input` without delivering anything; returns whether the peer's Close has arrived by
    /// now.
    ///
    /// This is for an endpoint that has sent its own Close, or has refused the stream, and waits
    /// for the peer's Close before it ends the connection (RFC 6455, section 7.1.1). It checks
    /// nothing and keeps no payload. If the peer's frames can no longer be told apart, its Close
    /// may never be found, so the caller must limit the time it waits.
    pub fn pass_over(&mut self, input: &[u8]) -> bool {
        if self.reading == Reading::Open {
            self.reading = Reading::Passing;
        }
        self.pass_over_if_ended(input);
        self.is_closed()
    }

    fn pass_over_if_ended(&mut self, input: &[u8]) {
        if self.reading != Reading::Passing {
            return;
        }
        let mut passing =
            self.partial.take().map(|partial| Passing::from(*partial)).unwrap_or_default();
        if passing.pass_over(input) {
            self.reading = Reading::Closed;
        } else if !passing.is_idle() {
            self.partial = Some(Box::new(Partial { passing: Some(passing), ..Partial::default() }));
        }
    }

    /// Takes one frame off the front of `rest`, or as much of it as has arrived.
    fn decode_frame(
        &mut self,
        limits: &DecodeLimits,
        rest: &mut &mut [u8],
        sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        if let Some(frame) = self.partial.as_mut().and_then(|partial| partial.frame.take()) {
            return self.gather(frame, rest, sink);
        }
        let Some(head) = self.decode_head(limits, rest)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let is_message = head.fin == Fin::Last && head.opcode != Opcode::Continuation;
        if is_message && head.payload_len <= rest.len() {
            // The common case, and the only one without a copy.
            let payload = take_front(rest, head.payload_len);
            head.unmask(payload, 0);
            self.settle(head.opcode);
            return Ok(sink(Inbound::read(head.opcode, payload)?));
        }
        let partial = self.partial.get_or_insert_default();
        if !head.opcode.is_control() {
            partial.message.get_or_insert_with(|| Message::new(head.opcode)).fragments += 1;
        }
        self.gather(Frame { head, arrived: 0 }, rest, sink)
    }

    /// Takes a head, which may have begun in earlier input, and checks everything in it. `None`
    /// means that it continues in later input.
    fn decode_head(
        &mut self,
        limits: &DecodeLimits,
        rest: &mut &mut [u8],
    ) -> Result<Option<Head>, DecodeError> {
        let partial = self.partial.as_deref();
        let begun = partial.map_or_else(HeadBytes::default, |partial| partial.head);
        let message = partial.and_then(|partial| partial.message.as_ref());
        let joined;
        let bytes = if begun.is_empty() {
            &**rest
        } else {
            joined = begun.followed_by(rest);
            joined.as_slice()
        };
        let Some((head, head_len)) = Head::parse(bytes, self.role, message, limits)? else {
            let rest = take_front(rest, rest.len());
            self.partial.get_or_insert_default().head = begun.followed_by(rest);
            return Ok(None);
        };
        take_front(rest, head_len - begun.as_slice().len());
        if let Some(partial) = &mut self.partial {
            partial.head = HeadBytes::default();
        }
        Ok(Some(head))
    }

    /// Copies the arrived part of a frame that cannot be lent, and delivers what it completes.
    fn gather(
        &mut self,
        mut frame: Frame,
        rest: &mut &mut [u8],
        sink: &mut impl FnMut(Inbound<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        let partial = self.partial.get_or_insert_default();
        let head = frame.head;
        let missing = head.payload_len - frame.arrived;
        let chunk = take_front(rest, missing.min(rest.len()));
        head.unmask(chunk, frame.arrived);
        frame.arrived += chunk.len();
        let is_whole = frame.arrived == head.payload_len;
        if !is_whole {
            partial.frame = Some(frame);
        }

        if head.opcode.is_control() {
            partial.control.extend_from_slice(chunk);
            if is_whole {
                let payload = mem::take(&mut partial.control);
                self.settle(head.opcode);
                return Ok(sink(Inbound::read(head.opcode, &payload)?));
            }
        } else if let Some(message) = &mut partial.message {
            let is_last = is_whole && head.fin == Fin::Last;
            message.append(chunk, missing);
            message.check_text(is_last)?;
            if is_last && let Some(message) = partial.message.take() {
                let inbound = Inbound::read(message.opcode, &message.payload)?;
                self.settle(message.opcode);
                return Ok(sink(inbound));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Updates the state after a whole message or control frame: a Close ends the stream, and if
    /// nothing is half read, no memory is kept.
    fn settle(&mut self, opcode: Opcode) {
        if opcode == Opcode::Close {
            self.reading = Reading::Closed;
            self.partial = None;
        } else if self.partial.as_ref().is_some_and(|partial| partial.is_idle()) {
            self.partial = None;
        }
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("role", &self.role)
            .field("reading", &self.reading)
            .field("is_partial", &self.is_partial())
            .finish_non_exhaustive()
    }
}

impl<'a> Inbound<'a> {
    /// Interprets a whole, unmasked payload. `opcode` is not a continuation.
    fn read(opcode: Opcode, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let text = |bytes| str::from_utf8(bytes).map_err(|_not_utf8| DecodeError::NotUtf8);
        Ok(match opcode {
            Opcode::Text => Self::Text(text(payload)?),
            Opcode::Binary | Opcode::Continuation => Self::Binary(payload),
            Opcode::Ping => Self::Ping(payload),
            Opcode::Pong => Self::Pong(payload),
            Opcode::Close => match payload.split_first_chunk() {
                None if payload.is_empty() => Self::Close(None),
                None => return Err(DecodeError::CloseTruncated),
                Some((&code, reason)) => {
                    let code = u16::from_be_bytes(code);
                    let known = CloseCode::new(code).ok_or(DecodeError::CloseCodeInvalid(code))?;
                    Self::Close(Some((known, text(reason)?)))
                }
            },
        })
    }
}

/// Takes `len` bytes off the front of `rest`, which has at least that many.
fn take_front<'a>(rest: &mut &'a mut [u8], len: usize) -> &'a mut [u8] {
    let (front, back) = mem::take(rest).split_at_mut(len);
    *rest = back;
    front
}
