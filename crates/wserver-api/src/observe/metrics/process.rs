//! The process as the kernel sees it, under the names that all Prometheus client libraries use.
//!
//! Without `/proc` there are no such metrics.

use std::fs;
use std::io;
use std::sync::OnceLock;

use super::page::Page;

/// The unit in which the kernel shows the time of a process: the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes everything that can be read.
pub(super) fn write(page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        page.one_gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes);
    }
    if let Some(stat) = stat() {
        let seconds = stat.cpu_ticks / TICKS_PER_SECOND;
        page.one_counter("process_cpu_seconds_total", "User and system CPU time spent.", seconds);
        if let Some(booted) = booted() {
            let started = booted + stat.started_ticks / TICKS_PER_SECOND;
            page.one_gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
                started,
            );
        }
    }
    if let Ok(count) = open_descriptors() {
        page.one_gauge("process_open_fds", "Number of open file descriptors.", count);
    }
    if let Some(max) = descriptors_max() {
        page.one_gauge("process_max_fds", "Maximum number of open file descriptors.", max);
    }
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some(number_behind(&status, "VmRSS:")? * 1024.0)
}

struct Stat {
    cpu_ticks: f64,
    started_ticks: f64,
}

fn stat() -> Option<Stat> {
    parse_stat(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_stat(stat: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The numbers of proc(5), which counts from 1; the first field here is its third.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(Stat { cpu_ticks: field(14)? + field(15)?, started_ticks: field(22)? })
}

/// When the machine was started, in seconds of Unix time. Read only once, because the file is long
/// on a machine with many processors.
fn booted() -> Option<f64> {
    static BOOTED: OnceLock<Option<f64>> = OnceLock::new();
    *BOOTED.get_or_init(|| number_behind(&fs::read_to_string("/proc/stat").ok()?, "btime "))
}

fn open_descriptors() -> io::Result<u64> {
    // Since Linux 6.2 the size of this folder is the number of its entries; before, it was zero.
    match fs::metadata("/proc/self/fd")?.len() {
        0 => Ok(fs::read_dir("/proc/self/fd")?.count() as u64),
        count => Ok(count),
    }
}

fn descriptors_max() -> Option<f64> {
    number_behind(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

/// The first number in the line that begins with `name`.
fn number_behind(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// The time in the kernel counts too, and the program's name may look like fields.
    #[test]
    fn the_time_is_that_of_the_program_and_of_the_kernel_for_it() {
        let stat = parse_stat(
            "4242 (a) b 1 2) S 1 4242 4242 0 -1 4194560 901 0 3 0 250 130 7 8 20 0 9 0 77123 1 2",
        )
        .unwrap();
        assert_eq!((stat.cpu_ticks, stat.started_ticks), (380.0, 77123.0));
    }

    #[test]
    fn every_figure_can_be_read_here() {
        let mut page = Page::default();
        write(&mut page);
        let page = page.into_text();
        let values: Vec<f64> = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert_eq!(values.len(), 5, "{page}");
        assert!(resident_bytes().unwrap() > 1e5);
        assert!(open_descriptors().unwrap() >= 3);
        assert!(booted().unwrap() > 1e9);
    }
}
