//! Receipts and acknowledgements as other nodes are told them.

use wserver_node::{Acks, EveryoneReceipt, NoDelivery, PushReceipt};

use crate::envelope;

/// The count, limited to what a node can have, so that sums never overflow, whatever other nodes
/// say.
fn number(count: u64) -> usize {
    u32::try_from(count).unwrap_or(u32::MAX) as usize
}

impl From<PushReceipt> for envelope::Receipt {
    fn from(receipt: PushReceipt) -> Self {
        Self {
            matched: receipt.matched as u64,
            written: receipt.written as u64,
            queued: receipt.queued as u64,
            dropped: receipt.dropped as u64,
            reason: receipt.reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
            is_kept: receipt.is_kept,
            acks: None,
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
        receipt.is_kept = told.is_kept;
        // A later release may have reasons that this one does not know.
        let known = NoDelivery::from_word(&told.reason);
        receipt.reason = match known {
            None if !told.reason.is_empty() => Some(NoDelivery::UserOffline),
            known => known,
        };
        receipt
    }
}

impl From<Acks> for envelope::Acks {
    fn from(acks: Acks) -> Self {
        Self {
            acked: acks.acked as u64,
            waiting: acks.waiting as u64,
            unable: acks.unable as u64,
            lost: acks.lost as u64,
        }
    }
}

impl From<envelope::Acks> for Acks {
    fn from(told: envelope::Acks) -> Self {
        Self {
            acked: number(told.acked),
            waiting: number(told.waiting),
            unable: number(told.unable),
            lost: number(told.lost),
        }
    }
}

impl envelope::Receipt {
    /// The acknowledgements of a push that waits. A node that does not ask for any, because it is of
    /// an older release or cannot keep them, has connections that cannot acknowledge.
    pub(crate) fn acks(&self) -> Acks {
        let unable = Acks { unable: number(self.matched), ..Acks::default() };
        self.acks.map_or(unable, Acks::from)
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
    use wserver_node::{Gathered, NodeId, NodeName};

    use super::*;

    fn receipt(matched: usize, queued: usize, reason: Option<NoDelivery>) -> PushReceipt {
        let mut receipt = PushReceipt::default();
        (receipt.matched, receipt.queued) = (matched, queued);
        (receipt.dropped, receipt.reason) = (matched - queued, reason);
        receipt.is_kept = reason.is_some();
        receipt
    }

    fn name(number: u64) -> NodeName {
        NodeName::new(NodeId::new(number), "b")
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
    fn acknowledgements_arrive_as_they_are() {
        let acks = Acks { acked: 1, waiting: 2, unable: 3, lost: 4 };
        assert_eq!(Acks::from(envelope::Acks::from(acks)), acks);
        let most = envelope::Acks { acked: u64::MAX, waiting: u64::MAX, ..Default::default() };
        let mut sum = Acks::from(most);
        sum += Acks::from(most);
        let mut told = envelope::Receipt::from(receipt(3, 3, None));
        assert_eq!(told.acks(), Acks { unable: 3, ..Acks::default() }, "an older node");
        told.acks = Some(acks.into());
        assert_eq!(told.acks(), acks);
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
