//! What the sections of `cargo xtask ci` build with, so that each takes what another has compiled.

use std::path::PathBuf;

use xshell::cmd;

use crate::project::Project;

/// Optimised enough for tests that measure, and with the assertions of a debug build; it is in
/// `.cargo/config.toml`.
pub(crate) const CI_PROFILE: &str = "ci";

/// The server with this profile and the features that users get.
pub(crate) fn server(project: &Project, profile: &str) -> anyhow::Result<PathBuf> {
    let sh = &project.sh;
    cmd!(sh, "cargo build --profile {profile} --package wserver").run()?;
    Ok(binary(project, profile))
}

/// The server that the tests of the workspace have started: with their features, which a second
/// build would have to leave out.
pub(crate) fn tested_server(project: &Project) -> anyhow::Result<PathBuf> {
    let sh = &project.sh;
    let all = ["--workspace", "--all-features", "--bin", "wserver", "--tests"];
    cmd!(sh, "cargo build --profile {CI_PROFILE} {all...}").run()?;
    Ok(binary(project, CI_PROFILE))
}

fn binary(project: &Project, profile: &str) -> PathBuf {
    project.metadata.target.join(profile).join("wserver")
}
