//! `cargo xtask instructions`: how many instructions the hot paths take, counted under callgrind.
//!
//! A count hardly depends on the state of the machine, so it shows a regression of a few percent
//! that a clock would not show. It does depend on the compiler and, through `malloc` and `memcpy`,
//! on the system's library, so the record contains both, and counts with other versions are printed
//! but not judged. For this reason CI does not run it; a release does, and people review its
//! record.
//!
//! Written by hand and not with gungraun, which would also do: its runner is one more program, in
//! an exact version, to install on every machine, and all we need is one number for one function.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::project::Project;
use crate::section::Report;
use crate::tools;

/// The counts of each release, the newest last.
const RECORD: &str = "xtask/instructions.tsv";
const HEAD: &str = "version\tcase\tinstructions\tsystem";
const PACKAGES: [&str; 3] = ["wserver-core", "wserver-protocol", "wserver-node"];
/// Growth beyond this is not noise: hash keys are random, and counts differ by a hundredth at most.
const GROWTH_MAX: f64 = 1.03;

/// Instructions of one operation.
#[derive(Debug, Clone, PartialEq)]
struct Count {
    version: String,
    case: String,
    instructions: f64,
    /// The system that the count also depends on.
    system: String,
}

/// Counts, and either writes the record or compares the counts with it.
pub(crate) fn run(
    project: &Project,
    is_check: bool,
    install: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let sh = &project.sh;
    if install && !tools::found("valgrind") {
        tools::apt_install(sh, &["valgrind"])?;
    }
    anyhow::ensure!(
        tools::found("valgrind"),
        "no valgrind (Debian package valgrind); `cargo xtask instructions --install` gets it"
    );
    let version = project.metadata.members().next().context("no crate of ours")?.version.clone();
    let home = project.metadata.target.join("bench");
    sh.create_dir(&home)?;
    let system = system(sh)?;
    let mut counts = Vec::new();
    for package in PACKAGES {
        let program = build(sh, package)?;
        for case in cmd!(sh, "{program} --list").quiet().read()?.lines() {
            let instructions = count(sh, &home, &program, case)?;
            let (version, case, system) = (version.clone(), case.to_owned(), system.clone());
            counts.push(Count { version, case, instructions, system });
        }
    }

    let path = project.root.join(RECORD);
    let record = match path.exists() {
        true => parse(&sh.read_file(&path)?)?,
        false => Vec::new(),
    };
    let (table, grown) = compare(&record, &counts);
    println!("\n{table}");
    if is_check {
        let newest = record.last().context("there is no record to compare with")?;
        if newest.system == system {
            anyhow::ensure!(
                grown.is_empty(),
                "more instructions than on record: {}",
                grown.join(", ")
            );
        } else {
            let why = format!("the record is of {}, and this is {system}", newest.system);
            report.skip("the judgement on instructions", &why);
        }
        return Ok(());
    }
    sh.write_file(&path, write(&record, &counts))?;
    println!("written to {}", path.display());
    Ok(())
}

fn system(sh: &Shell) -> anyhow::Result<String> {
    let rustc = cmd!(sh, "rustc --version").quiet().read()?;
    let rustc = rustc.split(" (").next().unwrap_or_default();
    let libc = cmd!(sh, "ldd --version").quiet().ignore_status().ignore_stderr().read()?;
    let libc = libc.lines().next().and_then(|it| it.rsplit(' ').next()).unwrap_or_default();
    let valgrind = cmd!(sh, "valgrind --version").quiet().read()?;
    Ok(format!("{}, {rustc}, libc {libc}, {valgrind}", std::env::consts::ARCH))
}

/// Builds the cases of one crate; returns the path of the program.
fn build(sh: &Shell, package: &str) -> anyhow::Result<PathBuf> {
    let build = cmd!(
        sh,
        "cargo bench --package {package} --bench instructions --no-run --message-format json"
    );
    let program = build.read()?.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == "instructions";
        is_ours.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    program.with_context(|| format!("cargo names no program of {package}"))
}

/// Instructions of one operation of `case`.
fn count(sh: &Shell, home: &Path, program: &Path, case: &str) -> anyhow::Result<f64> {
    let out = home.join("callgrind.out");
    let operations = cmd!(
        sh,
        "valgrind --tool=callgrind --callgrind-out-file={out} --collect-atstart=no
        --toggle-collect=*measured* {program} {case}"
    );
    let operations = operations.ignore_stderr().read()?;
    let operations: f64 =
        operations.trim().parse().with_context(|| format!("{case} printed {operations:?}"))?;
    let profile = sh.read_file(&out)?;
    let summary = profile.lines().find_map(|line| line.strip_prefix("summary: "));
    let sum: f64 = summary.context("a profile without a summary")?.trim().parse()?;
    anyhow::ensure!(sum > 0.0, "{case}: nothing was counted; was `measured` inlined?");
    Ok(sum / operations)
}

fn parse(text: &str) -> anyhow::Result<Vec<Count>> {
    let mut lines = text.lines();
    anyhow::ensure!(lines.next() == Some(HEAD), "{RECORD} must begin with {HEAD:?}");
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [version, case, instructions, system] = fields[..] else {
            anyhow::bail!("{RECORD}: {line:?} does not have four fields");
        };
        Ok(Count {
            version: version.to_owned(),
            case: case.to_owned(),
            instructions: instructions.parse().with_context(|| format!("{RECORD}: {line:?}"))?,
            system: system.to_owned(),
        })
    };
    lines.map(line).collect()
}

/// The record with `counts` in place of its earlier counts for the same version.
fn write(record: &[Count], counts: &[Count]) -> String {
    let mut out = format!("{HEAD}\n");
    let is_old = |it: &&Count| counts.iter().all(|count| count.version != it.version);
    for Count { version, case, instructions, system } in record.iter().filter(is_old).chain(counts)
    {
        let _ = writeln!(out, "{version}\t{case}\t{instructions:.0}\t{system}");
    }
    out
}

/// All counts next to the newest record, and those that grew too much.
fn compare(record: &[Count], counts: &[Count]) -> (String, Vec<String>) {
    let mut table = format!("{:<16} {:>12} {:>12}\n", "case", "instructions", "on record");
    let mut grown = Vec::new();
    for Count { case, instructions, .. } in counts {
        let old = record.iter().rev().find(|it| it.case == *case).map(|it| it.instructions);
        let change = old.map_or_else(
            || format!("{:>12}", "–"),
            |old| format!("{old:>12.0} {:>+6.1} %", (instructions / old - 1.0) * 100.0),
        );
        let _ = writeln!(table, "{case:<16} {instructions:>12.0} {change}");
        if let Some(old) = old.filter(|old| *instructions > old * GROWTH_MAX) {
            grown.push(format!("{case} {instructions:.0} instead of {old:.0}"));
        }
    }
    (table, grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(version: &str, case: &str, instructions: f64) -> Count {
        let [version, case, system] = [version, case, "x86_64, rustc 1.0"].map(str::to_owned);
        Count { version, case, instructions, system }
    }

    #[test]
    fn a_record_keeps_other_releases() {
        let record = [counted("0.1.0", "bind", 900.0), counted("0.2.0", "bind", 800.0)];
        let text =
            write(&record, &[counted("0.2.0", "bind", 700.0), counted("0.2.0", "find", 9.0)]);
        let read = parse(&text).unwrap();
        assert_eq!(read[0], record[0]);
        assert_eq!(read.iter().map(|it| it.instructions).collect::<Vec<_>>(), [900.0, 700.0, 9.0]);
        assert!(parse("version\n").is_err() && parse(&format!("{HEAD}\n1\t2\n")).is_err());
    }

    #[test]
    fn growth_is_judged_by_the_newest() {
        let record = [counted("0.1.0", "bind", 100.0), counted("0.2.0", "bind", 200.0)];
        for (instructions, is_grown) in [(150.0, false), (205.0, false), (207.0, true)] {
            let (table, grown) = compare(&record, &[counted("0.3.0", "bind", instructions)]);
            assert_eq!(!grown.is_empty(), is_grown, "{table}");
        }
        let (table, grown) = compare(&record, &[counted("0.3.0", "find", 1.0)]);
        assert!(grown.is_empty() && table.contains('–'), "{table}");
    }
}
