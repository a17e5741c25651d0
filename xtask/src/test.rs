//! `cargo xtask test`: the tests of the workspace, and the slow ones on request.

use std::time::Duration;

use xshell::cmd;

use crate::build::CI_PROFILE;
use crate::project::Project;
use crate::section::Report;
use crate::tally::{self, Patience, Tally};
use crate::tools;

/// Far above what they take, so that only a test that hangs reaches it.
const ORDINARY_LIMIT: Duration = Duration::from_secs(20 * 60);
const SLOW_LIMIT: Duration = Duration::from_secs(90 * 60);

/// The module of the slow tests, which are all in `crates/wserver/tests/it`.
const SLOW_MODULE: &str = "slow::";

/// The programs that tests start, and their Debian packages. Without a broker, the tests that need
/// one skip themselves and say so; without `ip`, the test that cuts a node off does it without a
/// real network.
const PROGRAMS: &[(&str, &str)] =
    &[("redis-server", "redis-server"), ("nats-server", "nats-server"), ("ip", "iproute2")];

/// Runs the tests, and the slow ones too if `slow` is set or this is a CI run.
pub(crate) fn run(project: &Project, slow_too: bool, report: &mut Report) -> anyhow::Result<()> {
    let plan = Plan::new(project, slow_too);
    // The ordinary and the slow tests share one build.
    let profile = if plan == Plan::SlowApart { CI_PROFILE } else { "dev" };
    let ordinary = workspace(project, profile, plan, &mut report.tally);
    match plan {
        Plan::SlowApart => slow(project, report)?,
        Plan::SlowLeftOut => report.skip("slow tests", "run `cargo xtask test --slow`"),
    }
    ordinary
}

/// What to do with the slow tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// They skip themselves and say so.
    SlowLeftOut,
    /// They have a separate run, so that the ordinary ones do not disturb what they measure.
    SlowApart,
}

impl Plan {
    pub(crate) fn new(project: &Project, slow_too: bool) -> Self {
        if slow_too || project.in_ci { Self::SlowApart } else { Self::SlowLeftOut }
    }
}

/// Every target of every crate: builds the examples, and runs the benchmarks at their smallest
/// size.
///
/// Doc tests are a separate run, because cargo counts them to no target; so are benchmarks, because
/// their harness does not know `--skip`.
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
    // Without all features, tests behind a feature would silently not run.
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

/// The system's packages that the tests need and this machine lacks.
pub(crate) fn lacks() -> Vec<&'static str> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !tools::found(program));
    missing.map(|(_, package)| *package).collect()
}

/// In CI no test is skipped.
fn install_programs(project: &Project) -> anyhow::Result<()> {
    let missing = lacks();
    if project.in_ci && !missing.is_empty() {
        tools::apt_install(&project.sh, &missing)?;
    }
    Ok(())
}

/// The slow product tests, against the optimised build of the ordinary ones in CI, because their
/// numbers mean nothing in a debug build.
pub(crate) fn slow(project: &Project, report: &mut Report) -> anyhow::Result<()> {
    let sh = &project.sh;
    // The features of the whole workspace select the binaries that are already built. The filter
    // matches nothing in the test binaries of the other crates.
    let all = ["--profile", CI_PROFILE, "--workspace", "--all-features", "--no-fail-fast"];
    let slow = cmd!(sh, "cargo test {all...} --test it {SLOW_MODULE}").env("WSERVER_SLOW", "1");
    install_programs(project)?;
    let before = report.tally;
    tally::cargo_test(slow, patience(project, SLOW_LIMIT), &mut report.tally)?;
    // To cargo, a filter that matches nothing is a success, so a renamed test would silently not
    // run.
    if report.tally == before {
        report.skip("slow tests", "the tests of wserver have no module `slow`");
    }
    Ok(())
}

/// In CI no person can interrupt.
fn patience(project: &Project, limit: Duration) -> Patience {
    if project.in_ci { Patience::Limit(limit) } else { Patience::Endless }
}
