//! The message of a push, encoded once for each protocol that its connections speak.

use std::fmt;

use bytes::Bytes;
use wserver_core::{EventName, Position, PushId};
use wserver_protocol::connection::Head;
use wserver_protocol::{Protocol, events, frame};

use crate::acks::AwaitedPush;

/// One push: its message, event and id.
///
/// It is encoded for the first connection that gets it, once for each protocol.
#[derive(Clone)]
pub struct Message<'a> {
    event: &'a EventName,
    id: PushId,
    text: &'a str,
    /// The position behind it in the log of the user, if it is kept there.
    at: Option<Position>,
    /// What waits for its acknowledgements.
    wait: Option<AwaitedPush>,
    /// By protocol.
    frames: [Option<Bytes>; 3],
}

impl<'a> Message<'a> {
    /// A message that arrives unchanged. Connections of version 2 also get the event and the id.
    #[must_use]
    pub const fn new(event: &'a EventName, id: PushId, text: &'a str) -> Self {
        Self { event, id, text, at: None, wait: None, frames: [const { None }; 3] }
    }

    /// The event of the push.
    #[must_use]
    pub const fn event(&self) -> &'a EventName {
        self.event
    }

    /// The id of the push.
    #[must_use]
    pub const fn id(&self) -> PushId {
        self.id
    }

    /// The text of the message.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// Sets the position in the log of the user that it goes to next. Frames of version 1 do not
    /// have it, so they are not encoded again.
    pub(crate) fn place(&mut self, at: Option<Position>) {
        if self.at != at {
            self.at = at;
            self.frames[Protocol::V2 as usize] = None;
            self.frames[Protocol::Sse as usize] = None;
        }
    }

    /// Has connections of version 2 acknowledge it to `wait`, from its next push on.
    pub fn await_acks(&mut self, wait: AwaitedPush) {
        if self.wait.replace(wait).is_none() {
            // Its head says so, whoever waits.
            self.frames[Protocol::V2 as usize] = None;
        }
    }

    /// What waits for its acknowledgements.
    #[must_use]
    pub const fn wait(&self) -> Option<AwaitedPush> {
        self.wait
    }

    fn head(&self) -> Head<'a, PushId, Position> {
        Head { event: self.event.as_str(), id: self.id, at: self.at, ack: self.wait.is_some() }
    }

    /// Its frame for connections that speak `protocol`.
    pub(crate) fn frame(&mut self, protocol: Protocol) -> &Bytes {
        let (head, text) = (self.head(), self.text);
        self.frames[protocol as usize].get_or_insert_with(|| match protocol {
            Protocol::V1 => frame::text(text),
            Protocol::V2 => head.frame(text),
            Protocol::Sse => events::event(head.event, head.at, text),
        })
    }

    /// Its frames, by protocol, for those that are wanted; the others may be empty.
    pub(crate) fn frames(&mut self, wanted: Wanted) -> [&Bytes; 3] {
        static NONE: Bytes = Bytes::new();
        for protocol in Protocol::ALL {
            if wanted.is(protocol) {
                self.frame(protocol);
            }
        }
        self.frames.each_ref().map(|frame| frame.as_ref().unwrap_or(&NONE))
    }

    /// The length of the longest frame that is wanted.
    pub(crate) fn bytes(&self, wanted: Wanted) -> usize {
        let (head, len) = (self.head(), self.text.len());
        let websocket = if wanted.v2 {
            // The head makes it longer than the frame of version 1.
            head.frame_len(len)
        } else {
            frame::frame_len(len)
        };
        // Each line of a message gets its own head, so only looking at it tells.
        let sse = if wanted.sse { events::event_len(head.event, head.at, self.text) } else { 0 };
        websocket.max(sse)
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("event", self.event)
            .field("id", &self.id)
            .field("bytes", &self.text.len())
            .finish()
    }
}

/// The protocols that the members of a group speak, so that no frame is encoded in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) v1: bool,
    pub(crate) v2: bool,
    pub(crate) sse: bool,
}

impl Wanted {
    pub(crate) const fn is(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::V1 => self.v1,
            Protocol::V2 => self.v2,
            Protocol::Sse => self.sse,
        }
    }
}

/// A push that outlives the values that its caller borrowed.
pub(crate) struct KeptMessage {
    event: EventName,
    id: PushId,
    text: Box<str>,
    wait: Option<AwaitedPush>,
    frames: [Option<Bytes>; 3],
}

impl KeptMessage {
    pub(crate) fn lend(&self) -> Message<'_> {
        let Self { event, id, text, wait, frames } = self;
        Message { event, id: *id, text, at: None, wait: *wait, frames: frames.clone() }
    }
}

impl From<&Message<'_>> for KeptMessage {
    fn from(message: &Message<'_>) -> Self {
        let Message { event, id, text, at, wait, frames } = message;
        let mut frames = frames.clone();
        if at.is_some() {
            // It gets another position when it is accepted.
            frames[Protocol::V2 as usize] = None;
            frames[Protocol::Sse as usize] = None;
        }
        Self { event: (*event).clone(), id: *id, text: (*text).into(), wait: *wait, frames }
    }
}
