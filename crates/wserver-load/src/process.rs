//! The server in the process table: CPU time, memory, descriptors, threads.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Length of a clock tick in /proc, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// A server: its processes and all their descendants.
#[derive(Debug, Clone, Default)]
pub(crate) struct Process {
    pids: Vec<u32>,
    /// The broker of a cluster.
    broker: Option<Box<Self>>,
}

impl Process {
    /// The processes `roots` and their present descendants.
    pub(crate) fn open(roots: &[u32]) -> Result<Self> {
        if roots.is_empty() {
            return Ok(Self::default());
        }
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").context("no process table")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|it| it.parse().ok()) else {
                continue;
            };
            // The process may have ended since it was listed.
            if let Ok(stat) = stat(pid)
                && let Some(parent) = stat.get(1).and_then(|it| it.parse().ok())
            {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut pids = Vec::new();
        let mut todo = roots.to_vec();
        while let Some(pid) = todo.pop() {
            todo.extend(children.remove(&pid).unwrap_or_default());
            pids.push(pid);
        }
        for root in roots {
            stat(*root).with_context(|| format!("no process {root}"))?;
        }
        Ok(Self { pids, broker: None })
    }

    /// Adds the broker, if it is known.
    pub(crate) fn with_broker(self, broker: Self) -> Self {
        Self { broker: broker.is_known().then(|| Box::new(broker)), ..self }
    }

    pub(crate) fn broker(&self) -> Option<&Self> {
        self.broker.as_deref()
    }

    pub(crate) fn is_known(&self) -> bool {
        !self.pids.is_empty()
    }

    /// CPU time spent so far, including the kernel's work.
    pub(crate) fn cpu(&self) -> Duration {
        self.pids.iter().map(|&pid| cpu(pid).unwrap_or_default()).sum()
    }

    /// Resident bytes of memory.
    pub(crate) fn resident(&self) -> u64 {
        self.sum("VmRSS:").saturating_mul(1024)
    }

    pub(crate) fn threads(&self) -> u64 {
        self.sum("Threads:")
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> u64 {
        let count = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.pids.iter().map(|&pid| count(pid) as u64).sum()
    }

    /// Resident bytes by kind, if the kernel reports them.
    pub(crate) fn rollup(&self) -> Vec<(&'static str, u64)> {
        let kinds = ["Rss:", "Private_Dirty:", "Anonymous:", "Private_Clean:", "Shared_Clean:"];
        kinds.into_iter().map(|kind| (kind, self.sum_of("smaps_rollup", kind) * 1024)).collect()
    }

    fn sum(&self, field: &str) -> u64 {
        self.sum_of("status", field)
    }

    fn sum_of(&self, file: &str, field: &str) -> u64 {
        let value = |pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(field))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        self.pids.iter().filter_map(|&pid| value(pid)).sum()
    }
}

/// Bytes in the kernel's slab caches, which hold sockets, of the whole machine.
pub(crate) fn kernel_slab() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    cpu(std::process::id()).unwrap_or_default()
}

fn cpu(pid: u32) -> Result<Duration> {
    let stat = stat(pid)?;
    let ticks = |at: usize| stat.get(at).and_then(|it| it.parse::<u32>().ok()).unwrap_or(0);
    // The scheduler counts nanoseconds, but without the threads that have ended; the ticks include
    // them.
    Ok((TICK * (ticks(11) + ticks(12))).max(cpu_of_threads(pid).unwrap_or_default()))
}

/// CPU time of the remaining threads according to the scheduler, if the kernel reports it.
fn cpu_of_threads(pid: u32) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // The process may have ended since it was listed.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        sum += Duration::from_nanos(text.split(' ').next()?.parse().ok()?);
    }
    Some(sum)
}

/// The fields of a process, starting with its state, which is field 3 of proc(5).
fn stat(pid: u32) -> Result<Vec<String>> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let text = fs::read_to_string(path)?;
    // The name before it can contain anything, including blanks and brackets.
    let (_, fields) = text.rsplit_once(") ").context("a line without a name")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let process = Process::open(&[std::process::id()]).unwrap();
        assert!(process.is_known());
        assert!(process.resident() > 100_000);
        assert!(process.threads() >= 1);
        assert!(process.descriptors() >= 3);
        assert!(process.rollup().iter().any(|(kind, bytes)| *kind == "Anonymous:" && *bytes > 0));
        assert!(kernel_slab().is_some_and(|bytes| bytes > 100_000));
        assert!(Process::open(&[u32::MAX]).is_err());
        assert!(!Process::open(&[]).unwrap().is_known());
    }
}
