//! When to ping a silent server, and when to stop waiting for its answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// What the heartbeat requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The server was silent for some time: send a ping.
    Ask,
    /// Nothing arrived after the ping either: the connection is dead.
    Dead,
}

/// The clock of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    silence: Duration,
    patience: Duration,
    /// Whether anything arrived since the timer was set. A message does not reset the timer,
    /// because messages are many and the whole runtime shares the timer.
    heard: bool,
    /// Whether a ping waits for its answer.
    asked: bool,
    timer: Pin<Box<Sleep>>,
}

impl Heartbeat {
    pub(crate) fn new(silence: Duration, patience: Duration) -> Self {
        let timer = Box::pin(sleep(silence));
        Self { silence, patience, heard: false, asked: false, timer }
    }

    /// Notes that something arrived, whatever it was.
    pub(crate) fn handle_sign_of_life(&mut self) {
        self.heard = true;
        if self.asked {
            self.asked = false;
            self.heard = false;
            self.timer.as_mut().reset(Instant::now() + self.silence);
        }
    }

    pub(crate) fn poll_beat(&mut self, cx: &mut Context<'_>) -> Poll<Beat> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.asked {
                return Poll::Ready(Beat::Dead);
            }
            self.asked = !self.heard;
            self.heard = false;
            let pause = if self.asked { self.patience } else { self.silence };
            self.timer.as_mut().reset(Instant::now() + pause);
            if self.asked {
                return Poll::Ready(Beat::Ask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_asked_about_once_and_then_is_death() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(30 * second, 10 * second);
        heartbeat.handle_sign_of_life();
        let mut beats = Vec::new();
        for alive in [true, false, false] {
            beats.push((poll_fn(|cx| heartbeat.poll_beat(cx)).await, start.elapsed().as_secs()));
            if alive {
                heartbeat.handle_sign_of_life();
            }
        }
        // A sign of life at 0 puts the first ping at 60. That ping is answered at once, the next
        // one is not.
        assert_eq!(beats, [(Beat::Ask, 60), (Beat::Ask, 90), (Beat::Dead, 100)]);
    }
}
