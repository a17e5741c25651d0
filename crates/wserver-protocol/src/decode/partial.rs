//! The state of a frame or message that is half read.

use super::head::{Head, HeadBytes};
use super::message::Message;
use super::passing::Passing;
use crate::frame::Opcode;

/// What the decoder keeps while a frame or message is half read.
#[derive(Default)]
pub(super) struct Partial {
    /// A head that has begun.
    pub(super) head: HeadBytes,
    /// A frame whose head was read and whose payload is not complete.
    pub(super) frame: Option<Frame>,
    /// The payload so far of that frame, if it is a control frame.
    pub(super) control: Vec<u8>,
    /// The fragments so far, including that frame's part unless it is a control frame.
    pub(super) message: Option<Message>,
    /// Replaces all of these when no payload is kept any more.
    pub(super) passing: Option<Passing>,
}

impl Partial {
    /// Whether nothing is half read. It is called between frames, when no head has begun.
    pub(super) fn is_idle(&self) -> bool {
        debug_assert!(self.head.is_empty() && self.control.is_empty());
        self.frame.is_none() && self.message.is_none()
    }
}

/// From where it stands.
impl From<Partial> for Passing {
    fn from(partial: Partial) -> Self {
        match (partial.passing, partial.frame) {
            (Some(passing), _) => passing,
            (None, Some(frame)) => Self {
                head: HeadBytes::default(),
                missing: (frame.head.payload_len - frame.arrived) as u64,
                is_close: frame.head.opcode == Opcode::Close,
            },
            (None, None) => Self { head: partial.head, ..Self::default() },
        }
    }
}

/// A frame that has partly arrived.
pub(super) struct Frame {
    pub(super) head: Head,
    /// How many bytes of its payload have arrived.
    pub(super) arrived: usize,
}
