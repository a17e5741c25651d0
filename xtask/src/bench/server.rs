//! One server under load: it gets an address of its own, and is never left behind.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::address::free_address;

const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Long enough to end its own children and to close thousands of connections under valgrind; after
/// that the server is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts the command that `command` makes for an address, and waits until it accepts
    /// connections.
    pub(super) fn start(
        log: &Path,
        command: impl FnOnce(SocketAddr) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let output = File::create(log)?;
        let mut command = command(address)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Its defaults are measured, not what the caller's shell happens to set.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("WSERVER_") {
                command.env_remove(name);
            }
        }
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let mut server = Self { child, address, log: log.to_path_buf() };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = server.child.try_wait()?;
            anyhow::ensure!(
                ended.is_none() && began.elapsed() < START_TIMEOUT,
                "nothing accepts on {address}: {}",
                server.last_words()
            );
            pause();
        }
        Ok(server)
    }

    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// Asks the server to end, because some have children to end; kills it if it does not.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        Command::new("kill").args(["-TERM", &self.id()]).status()?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > STOP_TIMEOUT {
                self.child.kill()?;
            }
            pause();
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only if the process has ended already.
        drop(self.stop());
    }
}

fn pause() {
    #[expect(clippy::disallowed_methods, reason = "there is no runtime here to block")]
    thread::sleep(Duration::from_millis(20));
}
