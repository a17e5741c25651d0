//! Installs what the clients need: programs from the system, libraries of Python and npm under
//! `home`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use super::client::{Client, has_package, is_npm, stamp, venv};
use crate::tools;

/// The installation of everything that the clients and tests need, in a thread beside the compiler.
#[derive(Debug)]
pub(crate) struct Installation {
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Installation {
    /// Starts it. `more` are the system's packages that only tests need.
    pub(super) fn begin(sh: Shell, root: PathBuf, home: PathBuf, more: Vec<&'static str>) -> Self {
        let all = move || {
            install(&sh, &home, &Client::ALL, &more)?;
            // It compiles Go's standard library, which takes longer than running the client.
            Client::Go.prepare(&sh, &root, &home)?;
            Ok(())
        };
        Self { thread: thread::spawn(all) }
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        self.thread.join().ok().context("the installation panicked")?
    }
}

/// Installs what these clients lack: all packages of a kind with one command.
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
        // All at once, because npm removes packages that an install does not name.
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
