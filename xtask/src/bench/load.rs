//! One run of the load generator beside a server.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use super::server::Server;
use super::subject::Subject;
use super::{Place, pinned, secured};

/// A run under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Load {
    child: Option<Child>,
    json: PathBuf,
}

/// Starts a load on `server`, whose figures go to the file `name`.
pub(super) fn start(
    place: &Place,
    subject: Subject,
    server: &Server,
    words: &[String],
    name: &str,
) -> anyhow::Result<Load> {
    let json = place.home.join(name);
    // What an earlier run left must not pass for this one's.
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
    load.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = load.spawn().context("cannot run wserver-load")?;
    Ok(Load { child: Some(child), json })
}

impl Load {
    /// Whether it has come to its end.
    pub(super) fn is_over(&mut self) -> anyhow::Result<bool> {
        let child = self.child.as_mut().context("it is finished once")?;
        Ok(child.try_wait()?.is_some())
    }

    /// Waits for its end and takes the figures.
    pub(super) fn finish(mut self, server: &Server) -> anyhow::Result<Value> {
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
            // It fails only if there is nothing left to end.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
