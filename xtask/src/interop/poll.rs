//! Waiting for what another program does.

use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take to be there.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Looks again and again until there is something; `None` when the time is over.
pub(super) fn poll<T>(
    timeout: Duration,
    mut check: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let start = Instant::now();
    loop {
        if let Some(found) = check()? {
            return Ok(Some(found));
        }
        if start.elapsed() > timeout {
            return Ok(None);
        }
        #[expect(clippy::disallowed_methods, reason = "there is no runtime here to block")]
        thread::sleep(Duration::from_millis(20));
    }
}
