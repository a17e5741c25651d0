//! Counts tests by reading the output of their runners, so that one number covers all of them.

use std::ops::AddAssign;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use xshell::Cmd;

use crate::watch::{self, End};

/// Tests that passed and tests that failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Who ends a test that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// The person at the terminal: an interrupt reaches cargo and the test alike.
    Endless,
    /// This program, after this time. Cargo and its tests then have their own process group,
    /// because killing only cargo would leave the hanging test behind.
    Limit(Duration),
}

/// Runs `cargo test …`, shows its output as it comes, and adds its counts to `tally`.
pub(crate) fn cargo_test(
    cmd: Cmd<'_>,
    patience: Patience,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    eprintln!("$ {cmd}");
    let mut command = Command::from(cmd);
    command.stdout(Stdio::piped());
    let limit = match patience {
        Patience::Endless => Duration::MAX,
        Patience::Limit(limit) => {
            command.process_group(0);
            limit
        }
    };
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let end = watch::lines(stdout, limit, |line| {
        println!("{line}");
        if let Some(counted) = parse_test_result(line) {
            *tally += counted;
        }
    });
    if end == End::Late {
        kill_group(&mut child)?;
        anyhow::bail!("still running after {limit:?}; the test that hangs is the last one above");
    }
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "tests failed ({status})");
    Ok(())
}

fn kill_group(leader: &mut Child) -> anyhow::Result<()> {
    let group = format!("-{}", leader.id());
    let killed = Command::new("kill").args(["-KILL", "--", &group]).status()?;
    anyhow::ensure!(killed.success(), "cannot kill process group {group}");
    leader.wait()?;
    Ok(())
}

/// Reads libtest's `test result: ok. 3 passed; 0 failed; …`.
fn parse_test_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        counts.split("; ").find_map(|it| it.strip_suffix(what)?.trim().parse::<u64>().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_result_lines_of_libtest_and_no_other() {
        for (line, counts) in [
            (
                "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
                Some((12, 0)),
            ),
            ("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured", Some((1, 2))),
            ("test result: of another kind", None),
            ("test binder::binds_twice ... ok", None),
            ("", None),
        ] {
            let tally = parse_test_result(line).map(|it| (it.passed, it.failed));
            assert_eq!(tally, counts, "{line}");
        }
    }

    #[test]
    fn a_run_that_hangs_is_ended_with_all_it_started() {
        let sh = xshell::Shell::new().unwrap();
        let script = "echo 'test result: ok. 1 passed; 0 failed; 0 ignored'; sleep 600 & wait";
        let mut tally = Tally::default();
        let limit = Patience::Limit(Duration::from_millis(300));
        let outcome = cargo_test(xshell::cmd!(sh, "sh -c {script}"), limit, &mut tally);
        assert!(outcome.unwrap_err().to_string().starts_with("still running after"));
        assert_eq!(tally, Tally { passed: 1, failed: 0 });
    }
}
