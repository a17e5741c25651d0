//! A request that waits, until its deadline or until it is dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::acks::counts::{Acks, AwaitedPush, TooManyWaits, WaitFor, Waited};
use crate::acks::table::{AckTable, Expected};

/// A request that waits for acknowledgements of its pushes. Dropping it ends all waiting, and frees
/// what was kept for it.
pub struct AckWait {
    table: Arc<AckTable>,
    request: u64,
    changed: Arc<Notify>,
}

impl fmt::Debug for AckWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckWait").field("request", &self.request).finish_non_exhaustive()
    }
}

impl AckWait {
    /// Begins a request.
    pub(crate) fn begin(table: &Arc<AckTable>) -> Result<Self, TooManyWaits> {
        let (request, changed) = table.begin()?;
        Ok(Self { table: Arc::clone(table), request, changed })
    }

    /// Begins to wait for one push to one user, which is not made yet.
    #[must_use]
    pub fn expect(&self, until: WaitFor, deadline: Instant) -> AwaitedPush {
        let index = self.table.expect(self.request, until);
        AwaitedPush { request: self.request, index, until, deadline }
    }

    /// How many more connections it may wait for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.table.room(self.request)
    }

    /// The acknowledgements of a push that have come so far.
    #[must_use]
    pub fn acks(&self, push: AwaitedPush) -> Acks {
        self.table.read(push, Expected::waited).unwrap_or_default().acks
    }

    /// Waits until a push that has been made got what it waits for, or cannot get it any more, or
    /// its deadline is over.
    ///
    /// # Cancel safety
    /// A dropped future has changed nothing.
    pub async fn waited(&self, push: AwaitedPush) -> Waited {
        while !self.table.read(push, Expected::is_finished).unwrap_or(true) {
            // Whatever finishes leaves a permit, so nothing is missed between the two lines.
            let changed = self.changed.notified();
            if tokio::time::timeout_at(push.deadline.into(), changed).await.is_err() {
                break;
            }
        }
        self.table.read(push, Expected::waited).unwrap_or_default()
    }
}

impl Drop for AckWait {
    fn drop(&mut self) {
        self.table.end(self.request);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wserver_core::{ConnectionId, LimitSettings, PushId};

    use super::*;
    use crate::acks::table::Fate;

    const PUSH: PushId = PushId::new(1, 1);

    fn table(waits_max: usize, wait_connections_max: usize) -> Arc<AckTable> {
        let limits = LimitSettings { waits_max, wait_connections_max, ..LimitSettings::default() };
        Arc::new(AckTable::new(&limits.build().unwrap()))
    }

    fn connections(numbers: std::ops::Range<u64>) -> impl Iterator<Item = (ConnectionId, Fate)> {
        numbers.map(|number| (ConnectionId::new(number), Fate::Able))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn requests_are_bounded_and_leave_nothing() {
        let table = table(2, 10);
        let (one, two) = (AckWait::begin(&table).unwrap(), AckWait::begin(&table).unwrap());
        assert_eq!(AckWait::begin(&table).unwrap_err(), TooManyWaits { max: 2 });
        for wait in [&one, &two] {
            let push = wait.expect(WaitFor::All, soon());
            table.given(push, PUSH, connections(0..3));
        }
        assert_eq!((one.room(), table.waiting()), (7, 2));
        drop(one);
        // What the others wait for stays.
        assert!(table.acknowledged(ConnectionId::new(0), PUSH));
        assert!(!table.acknowledged(ConnectionId::new(0), PUSH), "once");
        assert!(AckWait::begin(&table).is_ok());
        drop(two);
        assert!(table.is_empty());
        assert!(!table.acknowledged(ConnectionId::new(1), PUSH));
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_not_waited_for_but_told() {
        let table = table(1, 2);
        let wait = AckWait::begin(&table).unwrap();
        let push = wait.expect(WaitFor::All, Instant::now());
        table.given(push, PUSH, connections(0..3));
        for number in 0..3 {
            assert_eq!(table.acknowledged(ConnectionId::new(number), PUSH), number < 2);
        }
        let acks = Acks { acked: 2, waiting: 1, ..Acks::default() };
        assert_eq!(wait.waited(push).await, Waited { acks, ..Waited::default() });
    }

    /// The same push to a user who is named twice: what a connection says holds for both.
    #[tokio::test]
    async fn one_acknowledgement_counts_wherever_it_was_given() {
        let table = table(1, 10);
        let wait = AckWait::begin(&table).unwrap();
        let pushes = [(); 2].map(|()| wait.expect(WaitFor::First, soon()));
        for push in pushes {
            table.given(push, PUSH, connections(0..1));
        }
        let elsewhere = wait.expect(WaitFor::First, Instant::now());
        table.given(elsewhere, PushId::new(1, 2), connections(0..1));
        assert!(table.acknowledged(ConnectionId::new(0), PUSH));
        for push in pushes {
            assert_eq!(wait.waited(push).await.acks.acked, 1);
        }
        assert_eq!(wait.waited(elsewhere).await.acks.acked, 0, "another push");
        table.ended(ConnectionId::new(0));
        assert_eq!(wait.waited(elsewhere).await.acks.lost, 1);
    }
}
