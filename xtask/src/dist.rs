//! `cargo xtask dist`: the release, a tarball and a Debian package with their checksums, and a
//! trial of both.
//!
//! It uses tar and dpkg-deb, which exist on machines that make such packages: building cargo-deb
//! takes minutes, and it would only write the control file that we have here.

mod parts;
mod deb;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use xshell::cmd;

use crate::project::Project;
use crate::section::Report;

use parts::{Packages, Parts, write};

/// What to make, and whether to try it.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The binary to pack.
    pub(crate) server: PathBuf,
    /// Whether to try the packages, and install and purge the Debian one.
    pub(crate) install: bool,
}

/// Makes the packages, and tries them if `choice` says so.
pub(crate) fn run(project: &Project, choice: &Choice, report: &mut Report) -> anyhow::Result<()> {
    let packages = make(project, &choice.server)?;
    println!("made {} and {}", packages.tarball.display(), packages.deb.display());
    if choice.install {
        trial::run(project, &packages, &mut report.tally)
    } else {
        report
            .skip("dist trial", "it installs and purges the package; `cargo xtask dist --install`");
        Ok(())
    }
}

fn make(project: &Project, server: &Path) -> anyhow::Result<Packages> {
    let sh = &project.sh;
    let folder = project.metadata.target.join("dist-packages");
    sh.remove_path(&folder)?;
    sh.create_dir(&folder)?;
    let parts = Parts::gather(project, server, &folder)?;
    let tarball = tarball(&parts, &folder)?;
    let deb = deb::make(&parts, &folder)?;
    let _here = sh.push_dir(&folder);
    let names = [&tarball, &deb].map(|it| it.file_name().unwrap_or_default());
    let sums = cmd!(sh, "sha256sum").args(names).read()?;
    sh.write_file("SHA256SUMS", format!("{sums}\n"))?;
    sh.remove_path(&parts.binary)?;
    Ok(Packages { folder, tarball, deb })
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
