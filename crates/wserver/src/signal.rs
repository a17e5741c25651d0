//! SIGTERM and ctrl-c: the first starts a shutdown, another ends the process at once. SIGHUP
//! reloads.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A signal that follows the first one this soon is a repetition of it: some supervisors signal a
/// process and also its group.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The signals that end the server.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Registers the handlers.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first signal.
    pub(crate) async fn shutdown(&mut self) {
        let name = self.next().await;
        info!(signal = name, "shutting down; a second signal ends the process at once");
    }

    /// Waits for another signal that comes more than a moment after the first.
    pub(crate) async fn abort(&mut self) {
        let counts_from = Instant::now() + SAME_SIGNAL;
        loop {
            let name = self.next().await;
            if Instant::now() >= counts_from {
                warn!(signal = name, "ending the process at once");
                return;
            }
            debug!(signal = name, "taken for the first one, said twice");
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Registers a handler for SIGHUP.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
