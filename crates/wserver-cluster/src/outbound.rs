//! The items that wait for one lane of the broker, by receiver, limited in bytes.
//!
//! While one message is being sent to the broker, more items collect here, and the next message
//! takes them all; so the busier the cluster, the more a message carries. An item for several nodes
//! is stored once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use wserver_node::NodeId;

use crate::broker::To;
use crate::envelope::{self, Item, Part};
use crate::sequence;

/// The most bytes that items fill in one message, unless a single item is larger.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// The most bytes given to the broker at once.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The overhead of an item for each receiver, in a queue and in a message.
const ITEM_BYTES: usize = 64;

/// The queue of one lane.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes_max: usize,
    /// Written by every sender of an item, and by the task that sends.
    queue: Mutex<Queue>,
    pub(crate) is_some: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// The receivers with a non-empty queue; the one that has waited longest comes first.
    turn: VecDeque<To>,
    /// Bounded by the nodes of the cluster.
    channels: HashMap<To, ChannelQueue>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct ChannelQueue {
    /// Encoded items. An item for several receivers is in the queue of each but is one allocation:
    /// it takes room until the last of them is sent.
    items: VecDeque<Bytes>,
    /// The number of the last message.
    sequence: u64,
}

/// The messages given to the broker at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) messages: Vec<(To, Bytes)>,
    /// The number of items in them.
    pub(crate) items: usize,
}

/// The room that an item frees when it is taken from a queue: all of it if no other queue holds it.
fn room(item: &Bytes) -> usize {
    ITEM_BYTES + if item.is_unique() { item.len() } else { 0 }
}

/// Joins items into one body; a single item is not copied.
fn joined(mut items: Vec<Bytes>) -> Bytes {
    if items.len() == 1 {
        return items.remove(0);
    }
    let mut body = BytesMut::with_capacity(items.iter().map(Bytes::len).sum());
    items.iter().for_each(|item| body.extend_from_slice(item));
    body.freeze()
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Outbound {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, queue: Mutex::default(), is_some: Notify::new() }
    }

    /// Appends an item to its receiver's queue.
    pub(crate) fn add(&self, to: To, item: Item) -> Result<(), Full> {
        self.add_for_each(&[to], item)
    }

    /// Appends an item to the queue of each receiver, or to none if there is no room.
    pub(crate) fn add_for_each(&self, whom: &[To], item: Item) -> Result<(), Full> {
        if whom.is_empty() {
            return Ok(());
        }
        let item = envelope::encode(item);
        let bytes = item.len() + whom.len() * ITEM_BYTES;
        let mut guard = self.lock();
        let queue = &mut *guard;
        if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            return Err(Full);
        }
        queue.bytes += bytes;
        for &to in whom {
            let channel = queue.channels.entry(to).or_default();
            if channel.items.is_empty() {
                queue.turn.push_back(to);
            }
            channel.items.push_back(item.clone());
        }
        // Dropped under the lock, so that the last queue that holds the item sees itself as the
        // only one.
        drop(item);
        drop(guard);
        self.is_some.notify_one();
        Ok(())
    }

    /// Takes the next messages to send, of at most `message_bytes_max` bytes each; none if nothing
    /// waits.
    pub(crate) fn take(&self, origin: NodeId, sent_ms: u64, message_bytes_max: usize) -> Batch {
        let mut taken = Batch::default();
        let mut batch_bytes = 0;
        while batch_bytes < BATCH_BYTES_MAX {
            let mut guard = self.lock();
            let queue = &mut *guard;
            let Some(to) = queue.turn.pop_front() else { break };
            let Some(channel) = queue.channels.get_mut(&to) else { continue };
            let mut items = Vec::new();
            let mut bytes = 0;
            while let Some(next) = channel.items.front()
                && (items.is_empty() || bytes + next.len() + ITEM_BYTES <= MESSAGE_BYTES_MAX)
                && let Some(item) = channel.items.pop_front()
            {
                bytes += item.len() + ITEM_BYTES;
                queue.bytes -= room(&item);
                items.push(item);
            }
            if !channel.items.is_empty() {
                queue.turn.push_back(to);
            }
            batch_bytes += bytes;
            taken.items += items.len();
            if channel.sequence == 0 {
                channel.sequence = sequence::first(sent_ms);
            }
            let mut head = Part {
                origin: origin.as_u64(),
                sequence: channel.sequence,
                sent_ms,
                is_for_all: to == To::All,
                ..Part::default()
            };
            let messages = envelope::write(&mut head, joined(items), message_bytes_max);
            channel.sequence = head.sequence;
            drop(guard);
            taken.messages.extend(messages.into_iter().map(|message| (to, message)));
        }
        taken
    }

    /// Drops everything that waits; returns how many items that was.
    pub(crate) fn clear(&self) -> usize {
        let mut guard = self.lock();
        let queue = &mut *guard;
        queue.turn.clear();
        queue.bytes = 0;
        let items = queue.channels.values_mut().map(|channel| channel.items.drain(..).count());
        items.sum()
    }

    /// Drops what waits for a node that has gone; returns how many items that was.
    pub(crate) fn forget(&self, node: NodeId) -> usize {
        let mut queue = self.lock();
        let to = To::Node(node);
        queue.turn.retain(|it| *it != to);
        let Some(channel) = queue.channels.remove(&to) else { return 0 };
        // One after the other: of two identical items, the second is the last one.
        channel.items.into_iter().map(|item| queue.bytes -= room(&item)).count()
    }

    /// Waiting bytes.
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
            outbound.add(one, item(number, 10)).unwrap();
            outbound.add(two, item(10 + number, 10)).unwrap();
        }
        outbound.add(one, item(4, 100_000)).unwrap();
        outbound.add(one, item(5, 10)).unwrap();
        let taken = outbound.take(HERE, 0, 1 << 20);
        assert_eq!(taken.items, 8);
        let taken: Vec<_> =
            taken.messages.iter().map(|(to, message)| (*to, streams(message))).collect();
        let expected =
            [(one, vec![1, 2, 3]), (two, vec![11, 12, 13]), (one, vec![4]), (one, vec![5])];
        assert_eq!(taken, expected);
        assert_eq!((outbound.bytes(), outbound.take(HERE, 0, 1 << 20)), (0, Batch::default()));
    }

    #[test]
    fn it_is_bounded_and_what_is_let_go_is_counted() {
        let outbound = Outbound::new(1000);
        let to = To::All;
        outbound.add(to, item(1, 5000)).expect("one is taken, however large");
        assert_eq!(outbound.add(to, item(2, 1)), Err(Full));
        assert_eq!(outbound.clear(), 1);
        assert_eq!(outbound.bytes(), 0);
        for number in 0..10 {
            outbound.add(to, item(number, 10)).unwrap();
        }
        assert_eq!(outbound.add(to, item(2, 900)), Err(Full));
        assert_eq!(outbound.forget(NodeId::new(3)), 0);
        // The numbers go on, so that nobody takes what comes for old.
        let first = Part::read(outbound.take(HERE, 0, 4096).messages[0].1.clone()).unwrap();
        assert_eq!(first.sequence, 1);
        outbound.add(to, item(1, 10)).unwrap();
        let next = Part::read(outbound.take(HERE, 0, 4096).messages[0].1.clone()).unwrap();
        assert_eq!(next.sequence, 2);
    }

    #[test]
    fn a_body_for_several_nodes_takes_its_room_once_until_the_last_has_it() {
        const BODY: usize = 900_000;
        let whom = [1, 2, 3, 4].map(|number| To::Node(NodeId::new(number)));
        let outbound = Outbound::new(BODY + 1000);
        outbound.add_for_each(&whom, item(1, BODY)).unwrap();
        assert!((BODY..BODY + 1000).contains(&outbound.bytes()), "{}", outbound.bytes());
        assert_eq!(outbound.add_for_each(&whom, item(2, BODY)), Err(Full));
        // Who goes takes nothing with it that others still wait for.
        assert_eq!(outbound.forget(NodeId::new(2)), 1);
        assert!(outbound.bytes() > BODY);
        let mut told = Vec::new();
        while told.len() < 3 {
            assert!(outbound.bytes() > BODY, "the last one has not been taken");
            let batch = outbound.take(HERE, 0, 2 << 20);
            told.extend(batch.messages.into_iter().map(|(to, message)| (to, streams(&message))));
        }
        assert_eq!(told, [0, 2, 3].map(|at| (whom[at], vec![1])));
        assert_eq!(outbound.bytes(), 0);
        // What is let go leaves no room behind that is never free again.
        outbound.add_for_each(&whom, item(4, BODY)).unwrap();
        assert_eq!((outbound.clear(), outbound.bytes()), (4, 0));
        outbound.add_for_each(&whom[..1], item(5, BODY)).unwrap();
        outbound.forget(NodeId::new(1));
        assert_eq!(outbound.bytes(), 0);
    }

    #[test]
    fn it_holds_as_much_as_its_limit_and_no_more() {
        let one = Outbound::new(1);
        one.add(To::All, item(1, 100)).unwrap();
        let outbound = Outbound::new(2 * one.bytes());
        for _ in 0..2 {
            outbound.add(To::All, item(1, 100)).unwrap();
        }
        assert_eq!(outbound.add(To::All, item(1, 0)), Err(Full));
    }

    #[test]
    fn the_broker_is_given_no_more_at_once_than_it_can_take() {
        let outbound = Outbound::new(1 << 30);
        for number in 0..5 {
            outbound.add(To::All, item(number, 600_000)).unwrap();
        }
        let items = [(); 4].map(|()| outbound.take(HERE, 0, 1 << 20).items);
        assert_eq!(items, [2, 2, 1, 0]);
    }

    #[test]
    fn a_node_that_comes_back_has_one_turn() {
        let outbound = Outbound::new(1000);
        let to = To::Node(NodeId::new(1));
        outbound.add(to, item(1, 10)).unwrap();
        assert_eq!(outbound.forget(NodeId::new(1)), 1);
        outbound.add(to, item(2, 10)).unwrap();
        assert_eq!(outbound.take(HERE, 0, 4096).messages.len(), 1);
    }
}
