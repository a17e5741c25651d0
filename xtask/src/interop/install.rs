//! What the clients lack: programs from the system, libraries of Python and npm under `home`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::client::{Client, has_package, is_npm, stamp, venv};
use crate::tools;

/// All that CI lacks for the clients and for tests, got while it compiles.
#[derive(Debug)]
pub(crate) struct Installation {
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Installation {
    /// Begins; `more` are packages of the system that others than the clients need.
    pub(super) fn begin(sh: Shell, root: PathBuf, home: PathBuf, more: Vec<&'static str>) -> Self {
        let all = move || {
            install(&sh, &home, &Client::ALL, &more)?;
            // Which compiles Go's own library, and takes longer than all that the client does.
            Client::Go.prepare(&sh, &root, &home)?;
            Ok(())
        };
        Self { thread: thread::spawn(all) }
    }

    /// Waits for it.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.thread.join().ok().context("the installation panicked")?
    }
}

/// Gets what these clients lack, each kind of package at one go.
pub(super) fn install(
    sh: &Shell,
    home: &Path,
    clients: &[Client],
    more: &[&'static str],
) -> anyhow::Result<()> {
    sh.create_dir(home)?;
    let lacking = clients.iter().flat_map(|it| it.packages()).copied();
    let lacking: BTreeSet<&str> = lacking.filter(|it| !has_package(home, it)).collect();
    let (npm, pip): (Vec<&str>, Vec<&str>) = lacking.into_iter().partition(|it| is_npm(it));

    let mut system: BTreeSet<&str> = clients.iter().flat_map(|it| it.lacks(sh)).collect();
    system.extend(more);
    if !npm.is_empty() && !tools::found("npm") {
        system.insert("npm");
    }
    if !system.is_empty() {
        tools::apt_install(sh, &Vec::from_iter(system))?;
    }
    if !pip.is_empty() {
        let (folder, program) = (venv(home), venv(home).join("bin").join("pip"));
        if cmd!(sh, "python3 -m venv {folder}").run().is_err() {
            tools::apt_install(sh, &["python3-venv"])?;
            cmd!(sh, "python3 -m venv --clear {folder}").run()?;
        }
        let pip = &pip;
        cmd!(sh, "{program} install --quiet {pip...}").run()?;
    }
    if !npm.is_empty() {
        // All of them: npm takes away what an install does not name.
        let all = Client::ALL.iter().flat_map(|it| it.packages()).copied();
        let all: BTreeSet<&str> = all.filter(|it| is_npm(it)).collect();
        let flags = ["--no-audit", "--no-fund", "--no-save"];
        cmd!(sh, "npm install --prefix {home} {flags...} {all...}").run()?;
    }
    for package in pip.iter().chain(&npm) {
        sh.write_file(stamp(home, package), "")?;
    }
    Ok(())
}
