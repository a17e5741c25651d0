//! A node's answers over HTTP, and the process table of any process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

/// How long to wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

fn answer(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Whether the server at `address` is ready.
pub(super) fn is_ready(address: &str) -> bool {
    answer(address, "/readyz").is_ok_and(|it| it.starts_with("HTTP/1.1 200 "))
}

/// Reads a metric without labels.
pub(super) fn read(address: &str, name: &str) -> anyhow::Result<f64> {
    let answer = answer(address, "/metrics")?;
    let value = answer.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {name}"))?.trim().parse()?)
}

/// Resident bytes of a process.
pub(super) fn resident(pid: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let field = field.and_then(|it| it.split_whitespace().next()).context("no VmRSS")?;
    Ok(field.parse::<u64>()? * 1024)
}

/// Microseconds of CPU that the threads of a process have used, including the kernel's work.
pub(super) fn cpu_us(pid: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos: f64 = text.split(' ').next().context("an empty line")?.parse()?;
        sum += nanos / 1000.0;
    }
    Ok(sum)
}
