//! Programs that are not ours: whether they are installed, and how to install them.

use std::env;
use std::path::PathBuf;

use anyhow::Context as _;
use xshell::{Shell, cmd};

/// Whether the program is on the path.
pub(crate) fn found(program: &str) -> bool {
    path_of(program).is_some()
}

/// The path of the program.
pub(crate) fn path_of(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|it| it.is_file())
}

/// Installs packages of the system, as root or through `sudo`.
pub(crate) fn apt_install(sh: &Shell, packages: &[&str]) -> anyhow::Result<()> {
    anyhow::ensure!(found("apt-get"), "no apt-get here to install {}", packages.join(", "));
    let apt = |arguments: &[&str]| {
        let words = [&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
        as_root(sh, &words)
    };
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--quiet", "--yes", "--no-install-recommends"], packages].concat())
}

/// Runs a command as root, through `sudo` if necessary.
pub(crate) fn as_root(sh: &Shell, command: &[&str]) -> anyhow::Result<()> {
    let is_root = cmd!(sh, "id -u").quiet().read()? == "0";
    let sudo: &[&str] = if is_root { &[] } else { &["sudo", "--non-interactive"] };
    let words = [sudo, command].concat();
    let (program, words) = words.split_first().context("the command has a first word")?;
    Ok(cmd!(sh, "{program} {words...}").run()?)
}
