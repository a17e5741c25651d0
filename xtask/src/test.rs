//! `cargo xtask test`: the tests of the workspace, and the slow ones when asked for.

use std::time::Duration;

use xshell::cmd;

use crate::build::CI_PROFILE;
use crate::project::Project;
use crate::section::Report;
use crate::tally::{self, Patience, Tally};
use crate::tools;

/// Far above what they take, so that only a test which hangs meets them.
const ORDINARY_LIMIT: Duration = Duration::from_secs(20 * 60);
const SLOW_LIMIT: Duration = Duration::from_secs(90 * 60);

/// Where slow tests live, in `crates/wserver/tests/it` and nowhere else.
const SLOW_MODULE: &str = "slow::";

/// What tests start, and their Debian packages. Without a broker those that need it leave themselves
/// out and say so, and without `ip` a node is cut off by less than a network.
const PROGRAMS: &[(&str, &str)] =
    &[("redis-server", "redis-server"), ("nats-server", "nats-server"), ("ip", "iproute2")];

/// Runs the tests, and the slow ones too if `slow` or if CI is asking.
pub(crate) fn run(project: &Project, slow_too: bool, report: &mut Report) -> anyhow::Result<()> {
    let plan = Plan::new(project, slow_too);
    // One build serves both.
    let profile = if plan == Plan::SlowApart { CI_PROFILE } else { "dev" };
    let ordinary = workspace(project, profile, plan, &mut report.tally);
    match plan {
        Plan::SlowApart => slow(project, report)?,
        Plan::SlowLeftOut => report.skip("slow tests", "run `cargo xtask test --slow`"),
    }
    ordinary
}

/// What becomes of the slow tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// They leave themselves out and say so.
    SlowLeftOut,
    /// They have a run of their own: what they measure is not to be disturbed by the ordinary ones.
    SlowApart,
}

impl Plan {
    pub(crate) fn new(project: &Project, slow_too: bool) -> Self {
        if slow_too || project.in_ci { Self::SlowApart } else { Self::SlowLeftOut }
    }
}

/// Every target of every crate: examples are built, benchmarks run at their smallest size.
///
/// Doc tests are a run of their own, since cargo counts them to no target; and so are benchmarks,
/// since theirs is not the harness that knows `--skip`.
pub(crate) fn workspace(
    project: &Project,
    profile: &str,
    plan: Plan,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let sh = &project.sh;
    install_programs(project)?;
    let skip: &[&str] = match plan {
        Plan::SlowLeftOut => &[],
        Plan::SlowApart => &["--", "--skip", SLOW_MODULE],
    };
    let kinds = ["--lib", "--bins", "--tests", "--examples"];
    // A test behind a feature that nobody asks for would be gone without a word.
    let all = ["--profile", profile, "--workspace", "--all-features", "--no-fail-fast"];
    let runs = [
        cmd!(sh, "cargo test {all...} {kinds...} {skip...}"),
        cmd!(sh, "cargo test {all...} --bench *"),
        cmd!(sh, "cargo test {all...} --doc"),
    ];
    let mut outcome = Ok(());
    for run in runs {
        let ran = tally::cargo_test(run, patience(project, ORDINARY_LIMIT), tally);
        outcome = outcome.and(ran);
    }
    outcome
}

/// Packages of the system that tests lack.
pub(crate) fn lacks() -> Vec<&'static str> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !tools::found(program));
    missing.map(|(_, package)| *package).collect()
}

/// In CI nothing is left out.
fn install_programs(project: &Project) -> anyhow::Result<()> {
    let missing = lacks();
    if project.in_ci && !missing.is_empty() {
        tools::apt_install(&project.sh, &missing)?;
    }
    Ok(())
}

/// The slow product tests, in the build of the ordinary ones, which is optimised: their numbers mean
/// nothing in a debug one.
pub(crate) fn slow(project: &Project, report: &mut Report) -> anyhow::Result<()> {
    let sh = &project.sh;
    // With the features of the whole workspace, and so the binaries that are there; in those of the
    // other crates the filter finds nothing.
    let all = ["--profile", CI_PROFILE, "--workspace", "--all-features", "--no-fail-fast"];
    let slow = cmd!(sh, "cargo test {all...} --test it {SLOW_MODULE}").env("WSERVER_SLOW", "1");
    install_programs(project)?;
    let before = report.tally;
    tally::cargo_test(slow, patience(project, SLOW_LIMIT), &mut report.tally)?;
    // A filter that matches nothing is a success to cargo, and a renamed test would be gone.
    if report.tally == before {
        report.skip("slow tests", "the tests of wserver have no module `slow`");
    }
    Ok(())
}

/// In CI nobody sits at a terminal to interrupt.
fn patience(project: &Project, limit: Duration) -> Patience {
    if project.in_ci { Patience::Limit(limit) } else { Patience::Endless }
}
