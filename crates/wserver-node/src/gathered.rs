//! The results of one request on several nodes that appear to clients as one server.
//!
//! It does not know how nodes find and ask each other; a node without others has only its own
//! result.

use std::fmt;
use std::sync::Arc;

use crate::receipt::{EveryoneReceipt, PushReceipt};

/// The id of a node while its process lives: a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the id.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A node, with its name in answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeName {
    /// Its id.
    pub id: NodeId,
    /// Its configured name, or its id.
    pub name: Arc<str>,
}

impl NodeName {
    /// The node with this id and its configured name.
    #[must_use]
    pub fn new(id: NodeId, name: impl Into<Arc<str>>) -> Self {
        Self { id, name: name.into() }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The results of a request to several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gathered<T> {
    /// The result of this node.
    pub here: T,
    /// The results of the other nodes that were asked and answered in time.
    pub others: Vec<(NodeName, T)>,
    /// Nodes that were asked but did not answer in time, so that the request may or may not be done
    /// there; and silent nodes that could not be asked, may be concerned, and are not known to be
    /// gone.
    pub missing: Vec<NodeName>,
    /// Whether the broker carries no messages, or did not a moment ago: there may be nodes, or
    /// users of nodes, that this node does not know of.
    pub is_cut_off: bool,
}

impl<T> Gathered<T> {
    /// A result of this node only.
    #[must_use]
    pub const fn alone(here: T) -> Self {
        Self { here, others: Vec::new(), missing: Vec::new(), is_cut_off: false }
    }

    /// Whether all nodes concerned have answered, as far as this node knows.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && !self.is_cut_off
    }

    /// The results of all nodes that answered: first this one, without a name, then the others.
    pub fn all(&self) -> impl Iterator<Item = (Option<&NodeName>, &T)> {
        let others = self.others.iter().map(|(name, said)| (Some(name), said));
        std::iter::once((None, &self.here)).chain(others)
    }
}

impl Gathered<PushReceipt> {
    /// The sum of the receipts of all nodes, with a reason only if no connection on any node got
    /// the message.
    #[must_use]
    pub fn total(&self) -> PushReceipt {
        sum(self.all().map(|(_, receipt)| *receipt))
    }
}

impl Gathered<EveryoneReceipt> {
    /// The sum of the receipts of all nodes. A user with connections to two nodes counts twice.
    #[must_use]
    pub fn total(&self) -> EveryoneReceipt {
        let mut total = EveryoneReceipt::default();
        total.users = self.all().map(|(_, receipt)| receipt.users).sum();
        total.total = sum(self.all().map(|(_, receipt)| receipt.total));
        total
    }
}

fn sum(receipts: impl Iterator<Item = PushReceipt>) -> PushReceipt {
    let mut total = PushReceipt::default();
    for receipt in receipts {
        total.is_kept |= receipt.is_kept;
        total.matched += receipt.matched;
        total.written += receipt.written;
        total.queued += receipt.queued;
        total.dropped += receipt.dropped;
        total.reason = total.reason.max(receipt.reason);
    }
    if total.delivered() > 0 {
        total.reason = None;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::NoDelivery;

    fn receipt(matched: usize, queued: usize, reason: Option<NoDelivery>) -> PushReceipt {
        let mut receipt = PushReceipt::default();
        (receipt.matched, receipt.queued) = (matched, queued);
        (receipt.dropped, receipt.reason) = (matched - queued, reason);
        receipt
    }

    fn name(number: u64) -> NodeName {
        NodeName::new(NodeId::new(number), "b")
    }

    #[test]
    fn a_reason_is_told_if_nobody_got_it_anywhere_and_it_is_the_one_to_act_on() {
        let slow = Some(NoDelivery::SlowConsumer);
        let offline = Some(NoDelivery::UserOffline);
        for (here, there, expected) in [
            (receipt(0, 0, offline), receipt(2, 2, None), receipt(2, 2, None)),
            (receipt(0, 0, offline), receipt(1, 0, slow), receipt(1, 0, slow)),
            (receipt(2, 1, None), receipt(1, 0, slow), receipt(3, 1, None)),
            (receipt(0, 0, offline), receipt(0, 0, offline), receipt(0, 0, offline)),
        ] {
            let mut gathered = Gathered::alone(here);
            gathered.others.push((name(2), there));
            assert_eq!(gathered.total(), expected);
        }
    }
}
