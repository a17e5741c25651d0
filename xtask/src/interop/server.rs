//! The server under test. It gets an address of its own and the setup of its stage, stops as an
//! operator would stop it, and is never left behind.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::poll::{START_TIMEOUT, poll};
use super::stage::Scene;
use crate::address::free_address;

/// A drain may take 30 seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
const LAST_WORDS_LINES: usize = 30;

/// A running server; dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
    https: bool,
    log: PathBuf,
}

impl Server {
    /// Starts `program` and waits until it accepts connections.
    pub(super) fn start(program: &Path, scene: &Scene, log: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let output = File::create(log)?;
        let mut command = Command::new(program);
        command.arg("--address").arg(address.to_string()).args(&scene.flags);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Its flags and defaults are under test, not what the caller's shell happens to set.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("WSERVER_") {
                command.env_remove(name);
            }
        }
        command.env("WSERVER_ALLOW_OPEN_PUSH", scene.has_open_push.to_string());
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let mut server = Self { child, address, https: scene.https, log: log.to_path_buf() };
        let accepts = poll(START_TIMEOUT, || {
            if let Some(status) = server.child.try_wait()? {
                anyhow::bail!("the server ended at once ({status}):\n{}", server.last_words());
            }
            Ok(TcpStream::connect(address).ok())
        })?;
        accepts
            .with_context(|| format!("nothing accepts on {address}: {}", server.last_words()))?;
        Ok(server)
    }

    /// The address where it listens, as `host:port`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The address where it listens, as a page would write it.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.address)
    }

    /// Asks the server to end, and expects it to end in time and successfully.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status()?;
        anyhow::ensure!(asked.success(), "it is gone already");
        let child = &mut self.child;
        let status: Option<ExitStatus> = poll(STOP_TIMEOUT, || Ok(child.try_wait()?))?;
        let status =
            status.with_context(|| format!("still runs {STOP_TIMEOUT:?} after SIGTERM"))?;
        anyhow::ensure!(status.success(), "ended with {status} after SIGTERM");
        Ok(())
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
