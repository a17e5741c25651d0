//! `cargo xtask dist`: what is released, a tarball and a Debian package with their checksums, and
//! a trial of both.
//!
//! By tar and dpkg-deb, which are where such packages are made anyway: to build cargo-deb takes
//! minutes, and the control file below is all it would write.

mod deb;
mod trial;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::cmd;

use crate::project::Project;
use crate::section::Report;

/// What to make, and whether to try it.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The profile of the binary.
    pub(crate) profile: String,
    /// The packages are tried, and the Debian one installed and purged.
    pub(crate) install: bool,
}

/// What both packages are made of.
#[derive(Debug)]
struct Parts<'a> {
    project: &'a Project,
    /// Stripped.
    binary: PathBuf,
    version: String,
    /// As Rust calls the machine: `x86_64-unknown-linux-gnu`.
    target: String,
    /// Seconds since 1970: when the commit was made, so that the same source makes the same package.
    epoch: String,
    /// By file name.
    man: Vec<(String, String)>,
    /// By shell.
    completions: Vec<(&'static str, String)>,
    settings: String,
}

/// What was made.
#[derive(Debug)]
struct Packages {
    folder: PathBuf,
    tarball: PathBuf,
    deb: PathBuf,
}

/// Makes the packages, and tries them if that is wanted.
pub(crate) fn run(project: &Project, choice: &Choice, report: &mut Report) -> anyhow::Result<()> {
    let packages = make(project, &choice.profile)?;
    println!("made {} and {}", packages.tarball.display(), packages.deb.display());
    if choice.install {
        trial::run(project, &packages, &mut report.tally)
    } else {
        report
            .skip("dist trial", "it installs and purges the package; `cargo xtask dist --install`");
        Ok(())
    }
}

fn make(project: &Project, profile: &str) -> anyhow::Result<Packages> {
    let sh = &project.sh;
    let folder = project.metadata.target.join("dist-packages");
    sh.remove_path(&folder)?;
    sh.create_dir(&folder)?;
    let parts = Parts::gather(project, profile, &folder)?;
    let tarball = tarball(&parts, &folder)?;
    let deb = deb::make(&parts, &folder)?;
    let _here = sh.push_dir(&folder);
    let names = [&tarball, &deb].map(|it| it.file_name().unwrap_or_default());
    let sums = cmd!(sh, "sha256sum").args(names).read()?;
    sh.write_file("SHA256SUMS", format!("{sums}\n"))?;
    sh.remove_path(&parts.binary)?;
    Ok(Packages { folder, tarball, deb })
}

impl<'a> Parts<'a> {
    fn gather(project: &'a Project, profile: &str, folder: &Path) -> anyhow::Result<Self> {
        let sh = &project.sh;
        cmd!(sh, "cargo build --profile {profile} --package wserver").run()?;
        let built = project.metadata.target.join(profile).join("wserver");
        let binary = folder.join("wserver");
        // Names of functions are kept in no place that a person reads: reports come with a trace of
        // addresses, and whoever builds the tag again has the symbols.
        cmd!(sh, "strip --strip-unneeded -o {binary} {built}").run()?;
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

    /// Puts a file of the repository there.
    fn copy(&self, from: &str, to: &Path) -> anyhow::Result<()> {
        let from = self.project.root.join(from);
        let text = fs::read(&from).with_context(|| from.display().to_string())?;
        Ok(write(to, text, 0o644)?)
    }

    /// Puts all files of a folder of the repository there, those of folders in it too.
    fn copy_all(&self, from: &str, to: &Path) -> anyhow::Result<()> {
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

/// The commands in the binary's help.
fn commands(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // What goes on from the line above stands further in.
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !matches!(*name, "" | "help"))
}

fn tarball(parts: &Parts<'_>, folder: &Path) -> anyhow::Result<PathBuf> {
    let sh = &parts.project.sh;
    let name = format!("wserver-{}-{}", parts.version, parts.target);
    let root = folder.join(&name);
    write(&root.join("wserver"), fs::read(&parts.binary)?, 0o755)?;
    write(&root.join("wserver.toml"), &parts.settings, 0o644)?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"] {
        parts.copy(file, &root.join(file))?;
    }
    parts.copy_all("docs", &root.join("docs"))?;
    for (file, page) in &parts.man {
        write(&root.join("man").join(file), page, 0o644)?;
    }
    for (shell, script) in &parts.completions {
        write(&root.join("completions").join(format!("wserver.{shell}")), script, 0o644)?;
    }
    let tarball = folder.join(format!("{name}.tar.gz"));
    let mtime = format!("--mtime=@{}", parts.epoch);
    let same = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=go=rX", &mtime];
    cmd!(sh, "tar --create --gzip {same...} --file {tarball} --directory {folder} {name}").run()?;
    sh.remove_path(&root)?;
    Ok(tarball)
}

/// Writes a file and the folders above it.
fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> io::Result<()> {
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
