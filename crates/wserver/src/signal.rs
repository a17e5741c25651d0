//! SIGTERM and ctrl-c: the first asks for a shutdown in order, the second ends at once. SIGHUP reloads.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The signals that end the server.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on.
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
        info!(signal = name, "shutting down; a second signal ends at once");
    }

    /// Waits for the second signal.
    pub(crate) async fn abort(&mut self) {
        let name = self.next().await;
        warn!(signal = name, "ending at once");
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Listens for SIGHUP from now on.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
