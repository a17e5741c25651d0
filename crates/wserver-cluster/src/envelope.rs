//! What nodes say to each other, and how it is written: Protocol Buffers, by hand of their derive.
//!
//! Nodes of two releases work side by side while a cluster is upgraded. So fields are only ever
//! added; what a node does not know it passes over, and what it does not find it takes for the
//! default. Whoever must break that raises [`READABLE_FROM`], and elder nodes then let such messages
//! go, count them and say so.

use bytes::Bytes;
use prost::Message;

use crate::sequence;

/// The form that is written here.
pub(crate) const VERSION: u32 = 1;
/// The eldest form whose readers can make sense of it.
pub(crate) const READABLE_FROM: u32 = 1;

/// What a broker carries: a body, or a part of one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Part {
    #[prost(fixed64, tag = "1")]
    pub(crate) origin: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) version: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) readable_from: u32,
    /// Counts what its origin sent on this channel, from 1.
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    /// When it was written, by a clock of its origin that only goes forward.
    #[prost(uint64, tag = "5")]
    pub(crate) sent_ms: u64,
    /// How many parts of the same body follow.
    #[prost(uint32, tag = "6")]
    pub(crate) parts_left: u32,
    #[prost(bytes = "bytes", tag = "7")]
    pub(crate) body: Bytes,
    /// It is for every node, and not for one: the two are numbered apart.
    #[prost(bool, tag = "8")]
    pub(crate) is_for_all: bool,
    /// How many parts of the same body came before: what follows a lost part is no body of its own,
    /// since what stands in it may be a stranger's message.
    #[prost(uint32, tag = "9")]
    pub(crate) parts_before: u32,
}

/// What a part has beside its body, at most.
pub(crate) const PART_HEAD_BYTES_MAX: usize = 64;

/// Everything that one node had for another, or for all, at one time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Body {
    #[prost(message, repeated, tag = "1")]
    pub(crate) items: Vec<Item>,
}

/// One thing said. `content` is `None` where a later release says something new.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(oneof = "Content", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
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
}

/// A node lives, and what it is like.
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
    /// It has just begun to listen, and would like to hear who else there is.
    #[prost(bool, tag = "4")]
    pub(crate) is_new: bool,
    /// It is shutting down.
    #[prost(bool, tag = "5")]
    pub(crate) is_draining: bool,
    /// How long after it is found to have vanished it holds no connection, whatever became of it. 0 is
    /// that it does not say.
    #[prost(uint64, tag = "6")]
    pub(crate) gone_after_ms: u64,
    /// Nodes that it heard of itself, and that vanished without a goodbye: who came later than that
    /// has to know of them.
    #[prost(message, repeated, tag = "7")]
    pub(crate) vanished: Vec<Vanished>,
}

/// A node that nobody hears of any more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Vanished {
    #[prost(fixed64, tag = "1")]
    pub(crate) id: u64,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// A node goes, and its users with it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Leave {}

/// A message of a node to itself, which shows that the broker carries messages.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Nonce {
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
}

/// Users that a node has since the last one, and those it has no longer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Interest {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) came: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    pub(crate) left: Vec<u64>,
}

/// What the asking node holds of the asked one's users: the sum of each slot.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InterestRequest {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) sums: Vec<u64>,
}

/// Whole slots, where the sums were not the same.
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

/// Something to do, and to answer.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    /// How long its origin waits for the answer, less what its own way to the broker takes.
    #[prost(uint32, tag = "2")]
    pub(crate) budget_ms: u32,
    #[prost(oneof = "Wanted", tags = "3, 4, 5")]
    pub(crate) wanted: Option<Wanted>,
    /// When its origin began to wait, by the clock of [`Part::sent_ms`]: it may have stood in a queue
    /// until it was written. 0 is an elder release, which does not say.
    #[prost(uint64, tag = "6")]
    pub(crate) asked_ms: u64,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Wanted {
    #[prost(message, tag = "3")]
    Push(Push),
    #[prost(message, tag = "4")]
    Everyone(Push),
    /// For whoever answers queries; what it means is not the cluster's business.
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
    /// The connection that is left out; 0 is none.
    #[prost(uint64, tag = "4")]
    pub(crate) exclude: u64,
    /// How long it is worth delivering, from when it was written; without it for ever.
    #[prost(uint64, optional, tag = "5")]
    pub(crate) ttl_ms: Option<u64>,
}

/// What came of a request.
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
    /// It could not be done, and why.
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
    /// The label of the reason; empty is none.
    #[prost(string, tag = "5")]
    pub(crate) reason: String,
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

/// Why what a broker brought was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Nothing that a node writes.
    Malformed,
    /// Of a release that says this one would misunderstand it.
    TooNew,
    /// Nothing that a node can have written.
    Implausible,
}

/// What a node calls itself, and its release: the longest that is believed.
const WORD_BYTES_MAX: usize = 64;

impl Part {
    /// Reads what a broker brought; its body shares the bytes.
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
    /// Without a name or a release that would not fit into an answer's head or a line of a log: no
    /// node has one.
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

/// A body with one item. Such bodies one behind the other are a body with all their items.
pub(crate) fn encode(item: Item) -> Bytes {
    Body { items: vec![item] }.encode_to_vec().into()
}

/// A body on its way out becomes messages of at most `bytes_max`, numbered on from the `sequence` of
/// `head`, of which the rest is as it stands.
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

/// For the fuzzer: reads whatever it is given, as far as it can be read.
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    if let Ok(part) = Part::read(Bytes::copy_from_slice(data)) {
        let _ = Body::read(part.body);
    }
    if let Ok(body) = Body::read(Bytes::copy_from_slice(data)) {
        let again = Body::read(Bytes::from(body.encode_to_vec()));
        // What is read can be written and is read as the same.
        assert!(again.as_ref() == Ok(&body), "{body:?} is not {again:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(message: &[u8]) -> Item {
        let push = Push {
            user: "jack".to_owned(),
            event: "news".to_owned(),
            message: Bytes::copy_from_slice(message),
            exclude: 7,
            ttl_ms: Some(0),
        };
        let wanted = Some(Wanted::Push(push));
        Content::Request(Request { id: 3, budget_ms: 1000, wanted, asked_ms: 7 }).into()
    }

    fn read_all(messages: &[Bytes]) -> Body {
        let mut body = Vec::new();
        let mut left = messages.len();
        for message in messages {
            let part = Part::read(message.clone()).unwrap();
            left -= 1;
            assert_eq!(part.parts_left as usize, left);
            body.extend_from_slice(&part.body);
        }
        Body::read(body.into()).unwrap()
    }

    #[test]
    fn what_is_too_large_for_a_broker_is_cut_into_parts() {
        let item = request(&[b'x'; 10_000]);
        for (bytes_max, count) in [(1 << 20, 1), (4096, 3), (10_100, 1), (10_090, 2)] {
            let mut head = Part { origin: 1, sequence: 5, sent_ms: 9, ..Part::default() };
            let messages = write(&mut head, encode(item.clone()), bytes_max);
            assert_eq!(messages.len(), count, "{bytes_max}");
            assert_eq!(head.sequence, 5 + count as u64);
            assert!(messages.iter().all(|message| message.len() <= bytes_max));
            assert_eq!(read_all(&messages).items, std::slice::from_ref(&item));
        }
    }

    #[test]
    fn a_message_of_a_later_release_is_read_as_far_as_it_is_known() {
        /// As it may look one day.
        #[derive(Clone, PartialEq, Message)]
        struct LaterHeartbeat {
            #[prost(string, tag = "1")]
            name: String,
            #[prost(uint64, tag = "90")]
            temperature: u64,
        }
        #[derive(Clone, PartialEq, Message)]
        struct LaterItem {
            #[prost(message, optional, tag = "1")]
            heartbeat: Option<LaterHeartbeat>,
            #[prost(message, optional, tag = "99")]
            novelty: Option<LaterHeartbeat>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct LaterBody {
            #[prost(message, repeated, tag = "1")]
            items: Vec<LaterItem>,
        }
        let later = LaterHeartbeat { name: "b".to_owned(), temperature: 40 };
        let body = LaterBody {
            items: vec![
                LaterItem { heartbeat: None, novelty: Some(later.clone()) },
                LaterItem { heartbeat: Some(later), novelty: None },
            ],
        };
        let read = Body::read(Bytes::from(body.encode_to_vec())).unwrap();
        assert_eq!(read.items[0].content, None, "what is new is passed over");
        let heartbeat = Heartbeat { name: "b".to_owned(), ..Heartbeat::default() };
        assert_eq!(read.items[1].content, Some(Content::Heartbeat(heartbeat)));
    }

    #[test]
    fn what_says_that_it_would_be_misunderstood_is_let_go() {
        let part = Part { origin: 1, sequence: 1, readable_from: VERSION + 1, ..Part::default() };
        let encoded = Bytes::from(part.encode_to_vec());
        assert_eq!(Part::read(encoded), Err(Unreadable::TooNew));
        for malformed in [&b""[..], b"\x00", b"hello", &[0xff; 40]] {
            let read = Part::read(Bytes::copy_from_slice(malformed));
            assert_eq!(read, Err(Unreadable::Malformed), "{malformed:?}");
        }
    }

    #[test]
    fn a_number_that_no_node_can_have_reached_is_implausible() {
        let read = |sequence, sent_ms| {
            let part = Part { origin: 1, sequence, sent_ms, ..Part::default() };
            Part::read(part.encode_to_vec().into()).map(|part| part.sequence)
        };
        // A channel that began a moment ago, and one that has had a million messages a second since
        // its node began.
        for (sequence, sent_ms) in [((5000 << 16) + 1, 5000), (5_000_000, 5000), (7, 0)] {
            assert_eq!(read(sequence, sent_ms), Ok(sequence));
        }
        for (sequence, sent_ms) in
            [(1 << 62, 5000), (5002 << 16, 5000), (1 << 62, 1 << 46), (u64::MAX, u64::MAX)]
        {
            assert_eq!(read(sequence, sent_ms), Err(Unreadable::Implausible), "{sequence}");
        }
    }

    #[test]
    fn a_name_that_no_node_may_have_is_not_believed() {
        let believed = |name: &str| Heartbeat { name: name.to_owned(), ..Heartbeat::default() };
        assert_eq!(believed("web-1").believed().name, "web-1");
        let long = "x".repeat(65);
        for name in ["two words", "line\nline", "caf\u{e9}", "\u{202e}x", &long] {
            assert_eq!(believed(name).believed().name, "", "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz(&bytes);
        }
    }
}
