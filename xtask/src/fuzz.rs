//! `cargo xtask fuzz` runs one fuzz target; the `fuzz` section checks that all of them still
//! compile.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::cmd;

use crate::build::CI_PROFILE;
use crate::project::Project;
use crate::section::Report;
use crate::tools;

/// Runs a target until it finds something, or for this many seconds.
pub(crate) fn run(project: &Project, target: &str, seconds: Option<u64>) -> anyhow::Result<()> {
    let sh = &project.sh;
    let folders = folders(project);
    let folder = folders
        .iter()
        .find(|folder| folder.join("fuzz_targets").join(target).with_extension("rs").is_file())
        .with_context(|| format!("no crate has a fuzz target {target}"))?;
    if !tools::found("cargo-fuzz") {
        anyhow::ensure!(project.in_ci, "cargo-fuzz is missing: cargo install --locked cargo-fuzz");
        cmd!(sh, "cargo install --locked cargo-fuzz").run()?;
    }
    // What the fuzzer finds interesting goes to the first folder; the committed seeds are only
    // read.
    let corpus = folder.join("corpus").join(target);
    sh.create_dir(&corpus)?;
    let seeds = Some(folder.join("seeds").join(target)).filter(|seeds| seeds.is_dir());
    let seconds = seconds.map(|seconds| format!("-max_total_time={seconds}"));
    let built = project.metadata.target.join("fuzz");
    // No sanitizer: our crates forbid unsafe code, and without one the fuzzer tries twice as many
    // inputs. RUSTC_BOOTSTRAP lets the stable compiler use the flags for coverage.
    let fuzz = cmd!(sh, "cargo fuzz run --sanitizer none --target-dir {built}");
    fuzz.args(["--fuzz-dir".as_ref(), folder.as_os_str(), target.as_ref(), corpus.as_os_str()])
        .args(seeds)
        .arg("--")
        .args(seconds)
        .env("RUSTC_BOOTSTRAP", "1")
        .run()?;
    Ok(())
}

/// Fuzz crates are separate workspaces, which no other section sees.
pub(crate) fn check(project: &Project, report: &mut Report) -> anyhow::Result<()> {
    let sh = &project.sh;
    let folders = folders(project);
    if folders.is_empty() {
        report.skip("fuzz", "no crate has fuzz targets");
    }
    let target = &project.metadata.target;
    for folder in folders {
        let manifest = folder.join("Cargo.toml");
        cmd!(sh, "cargo fmt --check --manifest-path {manifest}").run()?;
        // In the workspace's folder and with its profile, because most dependencies are there.
        let check = cmd!(sh, "cargo check --profile {CI_PROFILE} --target-dir {target}");
        // A check links nothing, so libfuzzer-sys need not compile the fuzzer itself, in C++.
        let check = check.env("CUSTOM_LIBFUZZER_PATH", target.join("libfuzzer.a"));
        check.arg("--manifest-path").arg(manifest).run()?;
    }
    Ok(())
}

fn folders(project: &Project) -> Vec<PathBuf> {
    let members = project.metadata.members().map(|member| member.folder().join("fuzz"));
    members.filter(|folder: &PathBuf| Path::new(folder).join("Cargo.toml").is_file()).collect()
}
