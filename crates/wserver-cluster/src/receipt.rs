//! What became of a push in the whole cluster.

use std::fmt;
use std::sync::Arc;

use wserver_node::{EveryoneReceipt, NoDelivery, PushReceipt};

use crate::broker::NodeId;
use crate::envelope;

/// A node, with its name in answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeName {
    /// Its id.
    pub id: NodeId,
    /// Its own name, or its id.
    pub name: Arc<str>,
}

impl NodeName {
    /// The node with this id, by its own name.
    #[must_use]
    pub fn new(id: NodeId, name: &str) -> Self {
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

    /// The result of every node that answered: first this one, without a name, then the others.
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

/// The count, limited to what a node can have, so that sums never overflow, whatever other nodes
/// say.
fn number(count: u64) -> usize {
    u32::try_from(count).unwrap_or(u32::MAX) as usize
}

fn sum(receipts: impl Iterator<Item = PushReceipt>) -> PushReceipt {
    let mut total = PushReceipt::default();
    for receipt in receipts {
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

impl From<PushReceipt> for envelope::Receipt {
    fn from(receipt: PushReceipt) -> Self {
        Self {
            matched: receipt.matched as u64,
            written: receipt.written as u64,
            queued: receipt.queued as u64,
            dropped: receipt.dropped as u64,
            reason: receipt.reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        }
    }
}

impl From<envelope::Receipt> for PushReceipt {
    fn from(told: envelope::Receipt) -> Self {
        let mut receipt = Self::default();
        receipt.matched = number(told.matched);
        receipt.written = number(told.written);
        receipt.queued = number(told.queued);
        receipt.dropped = number(told.dropped);
        // A later release may have reasons that this one does not know.
        let known = NoDelivery::from_word(&told.reason);
        receipt.reason = match known {
            None if !told.reason.is_empty() => Some(NoDelivery::UserOffline),
            known => known,
        };
        receipt
    }
}

impl From<EveryoneReceipt> for envelope::EveryoneReceipt {
    fn from(receipt: EveryoneReceipt) -> Self {
        Self { users: receipt.users as u64, total: Some(receipt.total.into()) }
    }
}

impl From<envelope::EveryoneReceipt> for EveryoneReceipt {
    fn from(told: envelope::EveryoneReceipt) -> Self {
        let mut receipt = Self::default();
        receipt.users = number(told.users);
        receipt.total = told.total.unwrap_or_default().into();
        receipt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(matched: usize, queued: usize, reason: Option<NoDelivery>) -> PushReceipt {
        let mut receipt = PushReceipt::default();
        (receipt.matched, receipt.queued) = (matched, queued);
        (receipt.dropped, receipt.reason) = (matched - queued, reason);
        receipt
    }

    fn name(number: u64) -> NodeName {
        NodeName { id: NodeId::new(number), name: "b".into() }
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

    #[test]
    fn counts_that_no_node_can_have_harm_nobody() {
        let most = u64::MAX;
        let told =
            envelope::Receipt { matched: most, written: most, queued: most, ..Default::default() };
        let everyone = envelope::EveryoneReceipt { users: most, total: Some(told.clone()) };
        let mut gathered = Gathered::alone(receipt(1, 1, None));
        let mut of_everyone = Gathered::alone(EveryoneReceipt::default());
        for number in 2..5 {
            gathered.others.push((name(number), told.clone().into()));
            of_everyone.others.push((name(number), everyone.clone().into()));
        }
        assert!(gathered.total().delivered() > gathered.total().matched);
        assert!(of_everyone.total().users > 0);
    }

    #[test]
    fn receipts_arrive_as_they_are() {
        for reason in NoDelivery::ALL.map(Some).into_iter().chain([None]) {
            let receipt = receipt(3, 0, reason);
            assert_eq!(PushReceipt::from(envelope::Receipt::from(receipt)), receipt);
        }
        let later = envelope::Receipt { reason: "bored".to_owned(), ..Default::default() };
        assert_eq!(PushReceipt::from(later).reason, Some(NoDelivery::UserOffline));
    }
}
