//! One run of the load generator against a server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use super::secured;
use super::server::Server;
use super::setup::{Place, pinned};
use super::subject::Subject;

/// A run under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Load {
    child: Option<Child>,
    json: PathBuf,
    /// Its standard input, which releases a held load.
    input: Option<ChildStdin>,
    /// Its standard output, kept open because the generator can only write its table while a reader
    /// exists.
    output: BufReader<ChildStdout>,
}

/// Starts a load on `server`; the figures go to the file `name`.
pub(super) fn start(
    place: &Place,
    subject: Subject,
    server: &Server,
    words: &[String],
    name: &str,
) -> anyhow::Result<Load> {
    let json = place.home.join(name);
    // The file of an earlier run must not pass for this one's.
    drop(std::fs::remove_file(&json));
    let mut load = pinned(place, 1, &place.dist.join("wserver-load"));
    load.args([
        "--address",
        &server.address(),
        "--pid",
        &server.id(),
        "--target",
        &subject.target(),
    ]);
    load.args(secured::load_flags(subject, place));
    load.arg("--json").arg(&json).args(words);
    load.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = load.spawn().context("cannot run wserver-load")?;
    let input = child.stdin.take();
    let output = BufReader::new(child.stdout.take().context("it has a standard output")?);
    Ok(Load { child: Some(child), json, input, output })
}

impl Load {
    /// Whether the load is over.
    pub(super) fn is_over(&mut self) -> anyhow::Result<bool> {
        let child = self.child.as_mut().context("it is finished once")?;
        Ok(child.try_wait()?.is_some())
    }

    /// Waits until a load that was started with `--hold` has opened all connections.
    pub(super) fn wait_until_open(&mut self, server: &Server) -> anyhow::Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.trim() == "open" { Ok(()) } else { self.ended_early(server) }
    }

    /// Fails if a held load has ended.
    pub(super) fn ensure_held(&mut self, server: &Server) -> anyhow::Result<()> {
        if self.is_over()? { self.ended_early(server) } else { Ok(()) }
    }

    fn ended_early(&mut self, server: &Server) -> anyhow::Result<()> {
        self.end(server)?;
        anyhow::bail!("wserver-load ended before it was told to continue")
    }

    /// Releases a load that was started with `--hold`.
    pub(super) fn let_go(&mut self) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("it is not held")?;
        Ok(input.write_all(b"\n")?)
    }

    /// Waits for the end, and returns the figures.
    pub(super) fn finish(mut self, server: &Server) -> anyhow::Result<Value> {
        self.end(server)
    }

    fn end(&mut self, server: &Server) -> anyhow::Result<Value> {
        let child = self.child.take().context("it is finished once")?;
        let output = child.wait_with_output()?;
        let text = std::fs::read_to_string(&self.json).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().last().unwrap_or("wserver-load said nothing");
            format!("{said}; the server's last words: {}", server.last_words())
        })?;
        Ok(serde_json::from_str(&text)?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It fails only if the process has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
