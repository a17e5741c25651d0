//! What waits for one way through the broker, by whom it is for, bounded in bytes.
//!
//! While one message is on its way to the broker, more gather here; the next one takes them all, so
//! the busier the cluster, the more a message carries.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Notify;

use crate::broker::{NodeId, To};
use crate::envelope::{self, Item, Part};

/// A message takes no more than so much, unless one item alone is larger.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// So much is handed to the broker at once.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What an item costs beside what it says, in a queue and in a message.
const ITEM_BYTES: usize = 64;

/// The queue of one lane.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes_max: usize,
    /// Written by whoever has something to say, and by the task that sends it.
    queue: Mutex<Queue>,
    pub(crate) is_some: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// Those with something in their queue, who is longest without a message first.
    turn: VecDeque<To>,
    /// Bounded by the nodes of the cluster.
    channels: HashMap<To, ChannelQueue>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct ChannelQueue {
    items: VecDeque<(Item, usize)>,
    /// Of the last message.
    sequence: u64,
}

/// Where the numbers of a channel begin: a node that was forgotten and came back may remember those
/// of before, and these are beyond them.
const fn first_sequence(sent_ms: u64) -> u64 {
    sent_ms << JUMP.ilog2()
}

/// A gap in the numbers of a channel that is no loss but a new beginning.
pub(crate) const JUMP: u64 = 1 << 16;

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Outbound {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, queue: Mutex::default(), is_some: Notify::new() }
    }

    /// Puts an item behind what waits for the same.
    pub(crate) fn push(&self, to: To, item: Item) -> Result<(), Full> {
        let bytes = item.encoded_len() + ITEM_BYTES;
        let mut guard = self.lock();
        let queue = &mut *guard;
        if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            return Err(Full);
        }
        queue.bytes += bytes;
        let channel = queue.channels.entry(to).or_default();
        if channel.items.is_empty() {
            queue.turn.push_back(to);
        }
        channel.items.push_back((item, bytes));
        drop(guard);
        self.is_some.notify_one();
        Ok(())
    }

    /// Takes what is to be sent next, as messages of at most `message_bytes_max`; nothing if nothing
    /// waits.
    pub(crate) fn take(
        &self,
        origin: NodeId,
        sent_ms: u64,
        message_bytes_max: usize,
    ) -> Vec<(To, Bytes)> {
        let mut taken = Vec::new();
        let mut batch_bytes = 0;
        while batch_bytes < BATCH_BYTES_MAX {
            let mut guard = self.lock();
            let queue = &mut *guard;
            let Some(to) = queue.turn.pop_front() else { break };
            let Some(channel) = queue.channels.get_mut(&to) else { continue };
            let mut items = Vec::new();
            let mut bytes = 0;
            while let Some((_, next)) = channel.items.front()
                && (items.is_empty() || bytes + next <= MESSAGE_BYTES_MAX)
                && let Some((item, item_bytes)) = channel.items.pop_front()
            {
                bytes += item_bytes;
                items.push(item);
            }
            if !channel.items.is_empty() {
                queue.turn.push_back(to);
            }
            queue.bytes -= bytes;
            batch_bytes += bytes;
            if channel.sequence == 0 {
                channel.sequence = first_sequence(sent_ms);
            }
            let mut head = Part {
                origin: origin.as_u64(),
                sequence: channel.sequence,
                sent_ms,
                is_for_all: to == To::All,
                ..Part::default()
            };
            let messages = envelope::write(&mut head, items, message_bytes_max);
            channel.sequence = head.sequence;
            drop(guard);
            taken.extend(messages.into_iter().map(|message| (to, message)));
        }
        taken
    }

    /// Lets go of everything that waits; how many items that was.
    pub(crate) fn clear(&self) -> usize {
        let mut guard = self.lock();
        let queue = &mut *guard;
        queue.turn.clear();
        queue.bytes = 0;
        let items = queue.channels.values_mut().map(|channel| channel.items.drain(..).count());
        items.sum()
    }

    /// A node has gone, and what is for it.
    pub(crate) fn forget(&self, node: NodeId) {
        let mut queue = self.lock();
        let to = To::Node(node);
        queue.turn.retain(|it| *it != to);
        if let Some(channel) = queue.channels.remove(&to) {
            queue.bytes -= channel.items.iter().map(|(_, bytes)| bytes).sum::<usize>();
        }
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock panics half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Body, Content, Event};

    const HERE: NodeId = NodeId::new(9);

    fn item(stream: u64, bytes: usize) -> Item {
        Content::Event(Event { stream, payload: vec![b'x'; bytes].into() }).into()
    }

    fn streams(message: &Bytes) -> Vec<u64> {
        let part = Part::read(message.clone()).unwrap();
        let body = Body::read(part.body).unwrap();
        body.items
            .into_iter()
            .map(|item| match item.content {
                Some(Content::Event(event)) => event.stream,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_gathers_for_one_goes_in_one_message_and_in_order() {
        let outbound = Outbound::new(1 << 20);
        let (one, two) = (To::Node(NodeId::new(1)), To::Node(NodeId::new(2)));
        for number in 1..=3 {
            outbound.push(one, item(number, 10)).unwrap();
            outbound.push(two, item(10 + number, 10)).unwrap();
        }
        outbound.push(one, item(4, 100_000)).unwrap();
        outbound.push(one, item(5, 10)).unwrap();
        let taken = outbound.take(HERE, 0, 1 << 20);
        let taken: Vec<_> = taken.iter().map(|(to, message)| (*to, streams(message))).collect();
        let expected =
            [(one, vec![1, 2, 3]), (two, vec![11, 12, 13]), (one, vec![4]), (one, vec![5])];
        assert_eq!(taken, expected);
        assert_eq!((outbound.bytes(), outbound.take(HERE, 0, 1 << 20)), (0, vec![]));
    }

    #[test]
    fn it_is_bounded_and_what_is_let_go_is_counted() {
        let outbound = Outbound::new(1000);
        let to = To::All;
        outbound.push(to, item(1, 5000)).expect("one is taken, however large");
        assert_eq!(outbound.push(to, item(2, 1)), Err(Full));
        assert_eq!(outbound.clear(), 1);
        assert_eq!(outbound.bytes(), 0);
        for number in 0..10 {
            outbound.push(to, item(number, 10)).unwrap();
        }
        assert_eq!(outbound.push(to, item(2, 900)), Err(Full));
        outbound.forget(NodeId::new(3));
        // The numbers go on, so that nobody takes what comes for old.
        let first = Part::read(outbound.take(HERE, 0, 4096)[0].1.clone()).unwrap();
        assert_eq!(first.sequence, 1);
        outbound.push(to, item(1, 10)).unwrap();
        let next = Part::read(outbound.take(HERE, 0, 4096)[0].1.clone()).unwrap();
        assert_eq!(next.sequence, 2);
    }
}
