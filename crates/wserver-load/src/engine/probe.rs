//! Pushes that find out how many listen, before anything is measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Engine;
use crate::stamp::{PROBE_STREAM, first_of};

/// How long an answer to a probe may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

impl Engine {
    /// Pushes once to `user` through the first pusher, which is idle, waits for the answer and tells
    /// the count.
    pub(crate) fn probe(&mut self, user: u32) -> Result<u64> {
        self.probe_by(0, user)
    }

    fn probe_by(&mut self, pusher: usize, user: u32) -> Result<u64> {
        self.open_pushers(pusher + 1)?;
        let sent = self.now();
        // A connection of several users is known by the number of its group.
        let first = first_of(user / self.registered_users);
        self.send(pusher, user, 0, (PROBE_STREAM, first), sent)?;
        loop {
            self.turn(Some(Duration::from_millis(100)))?;
            if let Some(answer) = self.answers.pop() {
                ensure!(
                    self.target.is_accepted(answer.status),
                    "the server answered a push with {}",
                    answer.status
                );
                return answer.count.context("the answer to a push has no count");
            }
            let waited = Duration::from_micros(self.now() - sent);
            ensure!(waited < PROBE_PATIENCE, "the server did not answer a push");
        }
    }

    /// Pushes to `user` until so many take it, wherever it is pushed; tells how many took the probes
    /// in all.
    pub(crate) fn probe_until(&mut self, user: u32, expected: u64) -> Result<u64> {
        let servers = 0..self.pusher_addresses.len();
        servers.map(|pusher| self.probe_by_until(pusher, user, expected)).sum()
    }

    fn probe_by_until(&mut self, pusher: usize, user: u32, expected: u64) -> Result<u64> {
        let began = Instant::now();
        let mut sum = 0;
        loop {
            let count = self.probe_by(pusher, user)?;
            sum += count;
            if count == expected {
                return Ok(sum);
            }
            ensure!(
                began.elapsed() < PROBE_PATIENCE,
                "{count} connections took a message, instead of {expected}"
            );
            self.turn(Some(Duration::from_millis(20)))?;
        }
    }

    /// Pushes to `user` until so many take it or `deadline` has passed; tells how many took the
    /// probes in all, and how many the last one.
    pub(crate) fn probe_before(
        &mut self,
        user: u32,
        expected: u64,
        deadline: Instant,
    ) -> Result<(u64, u64)> {
        let mut sum = 0;
        loop {
            let count = self.probe(user)?;
            sum += count;
            if count == expected || Instant::now() > deadline {
                return Ok((sum, count));
            }
            self.turn(Some(Duration::from_millis(20)))?;
        }
    }
}
