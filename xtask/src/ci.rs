//! `cargo xtask ci`: everything that must hold, in timed sections, the same on any machine and in
//! CI.
//!
//! Cheap sections come first, so that common mistakes show within a minute. The sections that only
//! compile follow, while CI installs what the last ones need: those that run programs. All sections
//! share one profile, so that none compiles what another has compiled.

use std::process::ExitCode;

use xshell::cmd;

use crate::build::{self, CI_PROFILE};
use crate::interop::Choice;
use crate::project::Project;
use crate::section::Sections;
use crate::test::Plan;
use crate::{deny, dist, features, fuzz, interop, msrv, package, test, tidy};

/// Runs all sections and prints the summary; its last line is only the count of tests.
pub(crate) fn run(project: &Project, slow: bool, only: Option<String>) -> anyhow::Result<ExitCode> {
    let sh = &project.sh;
    // A section that runs alone installs what it needs by itself.
    let begins = project.in_ci && only.is_none();
    let installation = begins.then(|| interop::install(project, test::lacks()));
    let mut sections = Sections::new(only);
    let plan = Plan::new(project, slow);

    sections.run("fmt", |_| Ok(cmd!(sh, "cargo fmt --all --check").run()?));
    sections.run("tidy", |_| tidy::run(project));
    sections.run("deny", |_| deny::run(project));
    sections.run("msrv", |_| msrv::run(project));
    sections.run("clippy", |_| {
        let all = ["--profile", CI_PROFILE, "--workspace", "--all-targets", "--all-features"];
        Ok(cmd!(sh, "cargo clippy {all...} -- -D warnings").run()?)
    });
    sections.run("features", |_| features::run(project));
    sections.run("doc", |_| {
        let doc = cmd!(sh, "cargo doc --profile {CI_PROFILE} --workspace --no-deps --all-features");
        Ok(doc.env("RUSTDOCFLAGS", "-D warnings").run()?)
    });
    sections.run("package", |_| package::run(project));
    sections.run("fuzz", |report| fuzz::check(project, report));
    if let Some(installation) = installation {
        sections.run("install", |_| installation.end());
    }
    sections.run("test", |report| test::workspace(project, CI_PROFILE, plan, &mut report.tally));
    sections.run("interop", |report| {
        let server = Some(build::tested_server(project)?);
        let choice = Choice { server, only: None, install: project.in_ci };
        interop::run(project, &choice, report)
    });
    sections.run("dist", |report| {
        let server = build::tested_server(project)?;
        dist::run(project, &dist::Choice { server, install: project.in_ci }, report)
    });
    if plan == Plan::SlowApart {
        sections.run("slow", |report| test::slow(project, report));
    }

    anyhow::ensure!(!sections.is_empty(), "no such section");

    println!("\n{sections}");
    let tally = sections.tally();
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if sections.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
