//! The only place that spawns, so that a drain can wait for every task.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

/// The tasks of one node and of the edge that drives it. A clone is the same set.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    runtime: Handle,
}

impl Tasks {
    /// A set whose tasks run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), runtime }
    }

    /// Starts a task that [`Tasks::finished`] waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn_on(task, &self.runtime);
    }

    /// Runs blocking work outside the runtime's workers; `None` if it panicked, or if the runtime
    /// ends. [`Tasks::finished`] waits for it.
    ///
    /// # Cancel safety
    /// If the future is dropped, the work still runs to its end, and [`Tasks::finished`] waits
    /// for it.
    pub async fn run_blocking<T>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
    {
        self.tracker.spawn_blocking_on(work, &self.runtime).await.ok()
    }

    /// Tells every task that waits for [`Tasks::stopped`] to end now.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for [`Tasks::stop`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Waits until no task is alive, including tasks that are spawned meanwhile.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// The number of live tasks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tracker.len()
    }
}
