//! The messages between nodes, and their encoding: Protocol Buffers, derived from the types here.
//!
//! Nodes of two releases work side by side while a cluster is upgraded. So fields are only ever
//! added: a node ignores fields it does not know, and takes the default for missing ones. A change
//! that breaks this must raise [`READABLE_FROM`]; older nodes then drop such messages, count them
//! and log it.

mod acks;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;

use crate::sequence;

pub(crate) use acks::{Acks, Wait, WaitOver, Waited};

/// The version that this release writes.
pub(crate) const VERSION: u32 = 1;
/// The oldest version whose readers understand it.
pub(crate) const READABLE_FROM: u32 = 1;

/// A message of the broker: a body, or a part of one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Part {
    #[prost(fixed64, tag = "1")]
    pub(crate) origin: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) readable_from: u32,
    /// The number of the message on this channel of its origin.
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    /// When it was written, in milliseconds, by a clock of its origin that only goes forward.
    #[prost(uint64, tag = "5")]
    pub(crate) sent_ms: u64,
    /// How many parts of the same body follow.
    #[prost(uint32, tag = "6")]
    pub(crate) parts_left: u32,
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) body: Bytes,
    /// Whether it is for every node and not for one: the two are numbered separately.
    #[prost(bool, tag = "8")]
    pub(crate) is_for_all: bool,
    /// How many parts of the same body came before. The parts after a lost one are not a body of
    /// their own, because their content may be a stranger's message.
    #[prost(uint32, tag = "9")]
    pub(crate) parts_before: u32,
}

/// The most bytes that a part has in addition to its body.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 64;

/// The items that one node had for another, or for all, at one time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Body {
    #[prost(message, repeated, tag = "1")]
    pub(crate) items: Vec<Item>,
}

/// One item. `content` is `None` if it comes from a later release.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(oneof = "Content", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(crate) content: Option<Content>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Content {
    #[prost(message, tag = "1")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "2")]
    Leave(Leave),
    #[prost(message, tag = "3")]
    Nonce(Nonce),
    #[prost(message, tag = "4")]
    Interest(Interest),
    #[prost(message, tag = "5")]
    InterestRequest(InterestRequest),
    #[prost(message, tag = "6")]
    InterestSlots(InterestSlots),
    #[prost(message, tag = "7")]
    Request(Request),
    #[prost(message, tag = "8")]
    Reply(Reply),
    #[prost(message, tag = "9")]
    Event(Event),
    #[prost(message, tag = "10")]
    Waited(Waited),
    #[prost(message, tag = "11")]
    WaitOver(WaitOver),
}

/// A sign of life, with the state of the node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Heartbeat {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// The release it runs.
    #[prost(string, tag = "2")]
    pub(crate) release: String,
    /// The sum over the users it has announced.
    #[prost(fixed64, tag = "3")]
    pub(crate) interest_sum: u64,
    /// Whether it has just begun to receive, and asks the others to introduce themselves.
    #[prost(bool, tag = "4")]
    pub(crate) is_new: bool,
    /// Whether it is shutting down.
    #[prost(bool, tag = "5")]
    pub(crate) is_draining: bool,
    /// How many milliseconds after it has vanished it holds no connection, whatever happened to it.
    /// 0 means that it does not say.
    #[prost(uint64, tag = "6")]
    pub(crate) gone_after_ms: u64,
    /// Nodes that it has heard itself and that vanished without a goodbye, for nodes that joined
    /// later.
    #[prost(message, repeated, tag = "7")]
    pub(crate) vanished: Vec<Vanished>,
}

/// A node that has gone silent.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Vanished {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// A node leaves, and its users with it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Leave {}

/// A message of a node to itself, which proves that the broker carries messages.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nonce {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
}

/// Users that a node has gained and lost since the last announcement.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Interest {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) came: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    pub(crate) left: Vec<u64>,
}

/// Asks for users: the sums of the asking node's view of the other node's slots.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterestRequest {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) sums: Vec<u64>,
}

/// Whole slots, for those whose sums differ.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterestSlots {
    #[prost(message, repeated, tag = "1")]
    pub(crate) slots: Vec<InterestSlot>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterestSlot {
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    #[prost(fixed64, repeated, tag = "2")]
    pub(crate) users: Vec<u64>,
}

/// A request to carry out and answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    /// How many milliseconds its origin waits for the answer, minus its own round trip to the
    /// broker.
    #[prost(uint32, tag = "2")]
    pub(crate) budget_ms: u32,
    #[prost(oneof = "Wanted", tags = "3, 4, 5")]
    pub(crate) wanted: Option<Wanted>,
    /// When its origin began to wait, by the clock of [`Part::sent_ms`], because it may have waited
    /// in a queue before it was written. 0 means an older release, which does not say.
    #[prost(uint64, tag = "6")]
    pub(crate) asked_ms: u64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Wanted {
    #[prost(message, tag = "3")]
    Push(Push),
    #[prost(message, tag = "4")]
    Everyone(Push),
    /// A question for the node's [`Answerer`](crate::Answerer), opaque to the cluster.
    #[prost(bytes = "bytes", tag = "5")]
    Query(Bytes),
}

/// A push to one user, or to everyone if `user` is empty.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Push {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) event: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) message: Bytes,
    /// The excluded connection; 0 is none.
    #[prost(uint64, tag = "4")]
    pub(crate) exclude: u64,
    /// How many milliseconds after it was written it may still be sent; `None` is no limit.
    #[prost(uint64, optional, tag = "5")]
    pub(crate) ttl_ms: Option<u64>,
    /// What the push is known by; both 0 from a release that did not say.
    #[prost(fixed32, tag = "6")]
    pub(crate) id_process: u32,
    #[prost(uint64, tag = "7")]
    pub(crate) id_number: u64,
    /// Asks for acknowledgements. A node that does not know it makes the push without, and tells no
    /// [`Receipt::acks`].
    #[prost(message, optional, tag = "8")]
    pub(crate) wait: Option<Wait>,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reply {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(oneof = "Outcome", tags = "2, 3, 4, 5")]
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Outcome {
    #[prost(message, tag = "2")]
    Pushed(Receipt),
    #[prost(message, tag = "3")]
    PushedToEveryone(EveryoneReceipt),
    #[prost(bytes = "bytes", tag = "4")]
    Answer(Bytes),
    /// Why it could not be carried out.
    #[prost(string, tag = "5")]
    Failed(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Receipt {
    #[prost(uint64, tag = "1")]
    pub(crate) matched: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) written: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) queued: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) dropped: u64,
    /// The label of the reason; empty if there is none.
    #[prost(string, tag = "5")]
    pub(crate) reason: String,
    /// If the push waits: what has come of it so far. If some connection may still acknowledge it, a
    /// [`Waited`] follows.
    #[prost(message, optional, tag = "6")]
    pub(crate) acks: Option<Acks>,
    /// Whether the message is kept for connections that come back.
    #[prost(bool, tag = "7")]
    pub(crate) is_kept: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EveryoneReceipt {
    #[prost(uint64, tag = "1")]
    pub(crate) users: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) total: Option<Receipt>,
}

/// One entry of a stream that the receiving node asked for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Event {
    #[prost(uint64, tag = "1")]
    pub(crate) stream: u64,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) payload: Bytes,
}

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not in the form that nodes write.
    Malformed,
    /// It is from a release that says this one would misunderstand it.
    TooNew,
    /// No node can have written it.
    Implausible,
}

/// The maximum length of a node's name and release that is accepted, in bytes.
const WORD_BYTES_MAX: usize = 64;

impl Part {
    /// Reads a message; its body shares the bytes.
    pub(crate) fn read(payload: Bytes) -> Result<Self, Unreadable> {
        let part = Self::decode(payload).map_err(|_malformed| Unreadable::Malformed)?;
        if part.origin == 0 || part.sequence == 0 {
            return Err(Unreadable::Malformed);
        }
        if part.readable_from > VERSION {
            return Err(Unreadable::TooNew);
        }
        if !sequence::is_plausible(part.sequence, part.sent_ms) {
            return Err(Unreadable::Implausible);
        }
        Ok(part)
    }
}

impl Heartbeat {
    /// Removes a name or a release that would not fit into a header of an answer or a log line,
    /// because no node has such a one.
    pub(crate) fn believed(mut self) -> Self {
        for word in [&mut self.name, &mut self.release] {
            if word.len() > WORD_BYTES_MAX || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
                word.clear();
            }
        }
        self
    }
}

impl Body {
    pub(crate) fn read(body: Bytes) -> Result<Self, Unreadable> {
        Self::decode(body).map_err(|_malformed| Unreadable::Malformed)
    }
}

impl From<Content> for Item {
    fn from(content: Content) -> Self {
        Self { content: Some(content) }
    }
}

/// A body with one item. Several such bodies in a row are a body with all their items.
pub(crate) fn encode(item: Item) -> Bytes {
    Body { items: vec![item] }.encode_to_vec().into()
}

/// Splits a body into messages of at most `bytes_max` bytes, numbered from the `sequence` of
/// `head`; the rest of `head` is copied.
pub(crate) fn write(head: &mut Part, body: Bytes, bytes_max: usize) -> Vec<Bytes> {
    let mut rest = body;
    let part_bytes = bytes_max.saturating_sub(PART_HEAD_BYTES_MAX).max(1024);
    let parts = rest.len().div_ceil(part_bytes).max(1);
    (0..parts)
        .map(|number| {
            head.sequence += 1;
            let part = Part {
                version: VERSION,
                readable_from: READABLE_FROM,
                parts_left: u32::try_from(parts - 1 - number).unwrap_or(u32::MAX),
                parts_before: u32::try_from(number).unwrap_or(u32::MAX),
                body: rest.split_to(part_bytes.min(rest.len())),
                ..head.clone()
            };
            Bytes::from(part.encode_to_vec())
        })
        .collect()
}

/// For the fuzzer: reads any input, as far as possible.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    if let Ok(part) = Part::read(Bytes::copy_from_slice(data)) {
        let _ = Body::read(part.body);
    }
    if let Ok(body) = Body::read(Bytes::copy_from_slice(data)) {
        let again = Body::read(Bytes::from(body.encode_to_vec()));
        // Whatever was read can be written, and is then read as the same.
        assert!(again.as_ref() == Ok(&body), "{body:?} is not {again:?}");
    }
}
