//! The content of the packages, gathered once for both.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::cmd;

use crate::project::Project;

/// The content of both packages.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) project: &'a Project,
    /// Stripped.
    pub(super) binary: PathBuf,
    pub(super) version: String,
    /// Rust's name of the machine: `x86_64-unknown-linux-gnu`.
    pub(super) target: String,
    /// Seconds since 1970 at the time of the commit, so that the same source makes the same
    /// package.
    pub(super) epoch: String,
    /// Manual pages, by file name.
    pub(super) man: Vec<(String, String)>,
    /// Completions, by shell.
    pub(super) completions: Vec<(&'static str, String)>,
    pub(super) settings: String,
}

/// The finished packages.
#[derive(Debug)]
pub(super) struct Packages {
    pub(super) folder: PathBuf,
    pub(super) tarball: PathBuf,
    pub(super) deb: PathBuf,
}

impl<'a> Parts<'a> {
    pub(super) fn gather(
        project: &'a Project,
        server: &Path,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let sh = &project.sh;
        let binary = folder.join("wserver");
        // Nobody reads function names in the binary: reports contain a trace of addresses, and a
        // new build of the tag has the symbols.
        cmd!(sh, "strip --strip-unneeded -o {binary} {server}").run()?;
        let version = project.metadata.members().find(|it| it.name == "wserver");
        let version = version.context("no package wserver")?.version.clone();
        let about = cmd!(sh, "rustc --version --verbose").quiet().read()?;
        let target = about.lines().find_map(|it| it.strip_prefix("host: "));
        let ask = |arguments: &[&str]| cmd!(sh, "{binary}").args(arguments).quiet().read();
        let mut man = vec![("wserver.1".to_owned(), ask(&["man"])?)];
        for command in commands(&ask(&["-h"])?) {
            man.push((format!("wserver-{command}.1"), ask(&["man", command])?));
        }
        let completions = ["bash", "fish", "zsh"].map(|it| Ok((it, ask(&["completions", it])?)));
        Ok(Self {
            project,
            version,
            target: target.context("rustc names no host")?.to_owned(),
            epoch: cmd!(sh, "git log -1 --format=%ct").quiet().read()?,
            man,
            completions: completions.into_iter().collect::<xshell::Result<_>>()?,
            settings: format!("{}\n", ask(&["config"])?),
            binary,
        })
    }

    /// Copies a file of the repository to `to`.
    pub(super) fn copy(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        let from = self.project.root.join(from);
        let text = fs::read(&from).with_context(|| from.display().to_string())?;
        Ok(write(to, text, 0o644)?)
    }

    /// Copies all files of a folder of the repository to `to`, including those in subfolders.
    pub(super) fn copy_all(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.project.root.join(from))? {
            let entry = entry?;
            let name = entry.file_name();
            let inner = format!("{from}/{}", name.to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.copy_all(&inner, &to.join(name))?;
            } else {
                self.copy(&inner, &to.join(name))?;
            }
        }
        Ok(())
    }
}

/// The commands in the binary's help text.
fn commands(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // Continuation lines are indented further.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !matches!(*name, "" | "help"))
}

/// Writes a file, and makes the folders above it.
pub(super) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let help = "About\n\nUsage: wserver\n\nCommands:\n  check   Check\n  push    Push\n          on\n  help    Print\n\nOptions:\n  -h\n";
        assert_eq!(commands(help).collect::<Vec<_>>(), ["check", "push"]);
        assert_eq!(commands("Options:\n").count(), 0);
    }
}
