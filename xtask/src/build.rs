//! The builds that several commands share.

use std::path::PathBuf;

use xshell::cmd;

use crate::project::Project;

/// The profile of everything in `cargo xtask ci`: optimised enough for tests that measure, with the
/// assertions of a debug build. `.cargo/config.toml` defines it.
pub(crate) const CI_PROFILE: &str = "ci";

/// Builds the server with a profile, and with the features that users get.
pub(crate) fn server(project: &Project, profile: &str) -> anyhow::Result<PathBuf> {
    let sh = &project.sh;
    cmd!(sh, "cargo build --profile {profile} --package wserver").run()?;
    Ok(binary(project, profile))
}

/// Builds the server that the tests of the workspace run. With other features than theirs, cargo
/// would compile it and its dependencies once more.
pub(crate) fn tested_server(project: &Project) -> anyhow::Result<PathBuf> {
    let sh = &project.sh;
    let all = ["--workspace", "--all-features", "--bin", "wserver", "--tests"];
    cmd!(sh, "cargo build --profile {CI_PROFILE} {all...}").run()?;
    Ok(binary(project, CI_PROFILE))
}

fn binary(project: &Project, profile: &str) -> PathBuf {
    project.metadata.target.join(profile).join("wserver")
}
