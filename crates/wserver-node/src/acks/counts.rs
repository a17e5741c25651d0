//! What a push waits for, and what came of it.

use std::ops::AddAssign;
use std::time::Instant;

use crate::gathered::NodeId;

/// Which acknowledgements a push to one user waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// The first.
    First,
    /// Those of every connection that can acknowledge.
    All,
}

/// How many connections have acknowledged a push, and what keeps the others from it. The four add up
/// to the connections that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acks {
    /// Connections that have acknowledged it.
    pub acked: usize,
    /// Connections that have not, and still may.
    pub waiting: usize,
    /// Connections that cannot, because they speak version 1, or because their node did not ask.
    pub unable: usize,
    /// Connections that ended without acknowledging it.
    pub lost: usize,
}

impl AddAssign for Acks {
    fn add_assign(&mut self, other: Self) {
        self.acked += other.acked;
        self.waiting += other.waiting;
        self.unable += other.unable;
        self.lost += other.lost;
    }
}

/// Why a request cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{max} requests already wait for acknowledgements (waits_max)")]
pub struct TooManyWaits {
    /// The limit.
    pub max: usize,
}

/// One push to one user by a request that waits: what [`Message::await_acks`] takes.
///
/// [`Message::await_acks`]: crate::Message::await_acks
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitedPush {
    pub(super) request: u64,
    pub(super) index: usize,
    pub(super) until: WaitFor,
    pub(super) deadline: Instant,
}

impl AwaitedPush {
    /// The number of its request in this process.
    #[must_use]
    pub const fn request(&self) -> u64 {
        self.request
    }

    /// Its number in its request.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// What it waits for.
    #[must_use]
    pub const fn until(&self) -> WaitFor {
        self.until
    }

    /// How long it waits.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// What came of a push that waited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Waited {
    /// The acknowledgements, over all nodes.
    pub acks: Acks,
    /// Nodes that have not said what came of theirs, although the wait has lasted to its deadline.
    pub silent: Vec<NodeId>,
    /// Nodes that still wait for their part, although nobody needs it any more.
    pub unneeded: Vec<NodeId>,
}
