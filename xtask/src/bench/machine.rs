//! The machine, the day and the versions, without which a figure means nothing.

use std::env;
use std::fs;

use xshell::{Shell, cmd};

use super::setup::Place;
use super::subject::Subject;

/// How many cores this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Memory that programs can still take; zero if the system does not report it.
pub(super) fn available_bytes() -> u64 {
    let field = read_field("/proc/meminfo", "MemAvailable").unwrap_or_default();
    let kilobytes = field.split(' ').next().and_then(|it| it.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Facts, each with a name and a value.
pub(super) fn describe(
    sh: &Shell,
    subjects: &[Subject],
    place: &Place,
) -> anyhow::Result<Vec<(String, String)>> {
    let cpu = read_field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = read_field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    // A source archive has no history.
    let status = cmd!(sh, "git status --porcelain").quiet().ignore_stderr().read();
    let is_changed = status.is_ok_and(|it| !it.is_empty());
    let commit = cmd!(sh, "git rev-parse --short HEAD").quiet().ignore_stderr().read();
    let commit = commit.unwrap_or_else(|_| "unknown".to_owned());
    let arguments: Vec<String> = env::args().skip(1).collect();
    let mut facts = vec![
        ("run as".to_owned(), format!("`cargo xtask {}`", arguments.join(" "))),
        ("date".to_owned(), cmd!(sh, "date -u +%Y-%m-%d").quiet().read()?),
        ("commit".to_owned(), if is_changed { format!("{commit}, with changes") } else { commit }),
        ("processor".to_owned(), format!("{cpu}, {} cores", cores())),
        ("memory".to_owned(), memory),
        ("Linux".to_owned(), kernel.trim().to_owned()),
        ("load at the end".to_owned(), load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("rustc".to_owned(), cmd!(sh, "rustc --version").quiet().read()?),
    ];
    for subject in subjects {
        if let Some(version) = subject.version(sh, place) {
            facts.push((subject.name(), version));
        }
    }
    Ok(facts)
}

fn read_field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
