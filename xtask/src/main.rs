//! The project's own commands, run as `cargo xtask <command>`; one file per command.
//!
//! The program knows the workspace through `cargo metadata`, and drives cargo and the interop
//! clients. None of our crates may depend on it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "talking to the terminal is what these commands are for"
)]

mod flags;
mod metadata;
mod problem;
mod project;
mod section;
mod tally;
mod tools;
mod watch;

mod address;
mod arrows;
mod bench;
mod build;
mod ci;
mod deny;
mod dist;
mod features;
mod fuzz;
mod instructions;
mod interop;
mod msrv;
mod package;
mod test;
mod tidy;

use std::process::ExitCode;

use crate::flags::{Xtask, XtaskCmd};
use crate::project::Project;
use crate::section::Report;

fn main() -> ExitCode {
    let flags = Xtask::from_env_or_exit();
    match run(flags.subcommand) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("xtask: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: XtaskCmd) -> anyhow::Result<ExitCode> {
    let project = Project::open()?;
    let mut report = Report::default();
    match command {
        // It has many outcomes, and prints and judges them itself.
        XtaskCmd::Ci(ci) => return ci::run(&project, ci.slow, ci.only),
        XtaskCmd::Tidy(_) => tidy::run(&project)?,
        XtaskCmd::Test(test) => test::run(&project, test.slow, &mut report)?,
        XtaskCmd::Interop(interop) => {
            let choice = interop::Choice {
                server: interop.server,
                only: interop.only,
                install: project.in_ci || interop.install,
            };
            interop::run(&project, &choice, &mut report)?;
        }
        XtaskCmd::Dist(dist) => {
            let server = build::server(&project, dist.profile.as_deref().unwrap_or("dist"))?;
            let choice = dist::Choice { server, install: project.in_ci || dist.install };
            dist::run(&project, &choice, &mut report)?;
        }
        XtaskCmd::Bench(bench) => {
            let choice = bench::Choice {
                quick: bench.quick,
                rounds: bench.rounds,
                peers: bench.peers,
                measures: bench.measures,
                builds: bench.builds,
                install: project.in_ci || bench.install,
            };
            bench::run(&project, &choice, &mut report)?;
        }
        XtaskCmd::Instructions(it) => {
            instructions::run(&project, it.check, project.in_ci || it.install, &mut report)?;
        }
        XtaskCmd::Fuzz(fuzz) => fuzz::run(&project, &fuzz.target, fuzz.seconds)?,
    }
    report.print();
    Ok(ExitCode::SUCCESS)
}
