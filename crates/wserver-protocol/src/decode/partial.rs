//! What is half read, and how much room it takes.

use super::head::{Head, HeadBytes};
use super::message::Message;
use super::passing::Passing;
use crate::frame::Opcode;

/// What is kept of a stream while something is half read.
#[derive(Default)]
pub(super) struct Partial {
    /// A head that has begun.
    pub(super) head: HeadBytes,
    /// A frame whose head was read and whose payload goes on.
    pub(super) frame: Option<Frame>,
    /// The payload so far of that frame, if it is a control frame.
    pub(super) control: Vec<u8>,
    /// The fragments so far, that frame's part included unless it is a control frame.
    pub(super) message: Option<Message>,
    /// Instead of all of these, when nothing is kept any more.
    pub(super) passing: Option<Passing>,
}

impl Partial {
    /// Whether nothing is half read. Asked between frames, so a head has not begun.
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

/// A frame under way.
pub(super) struct Frame {
    pub(super) head: Head,
    /// How much of its payload was read.
    pub(super) arrived: usize,
}
