//! Reads the output of a child program, line by line as it comes, and only for a limited time.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How a child's output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    /// The time limit passed first; the child may still be running.
    Late,
}

/// Gives each line to `each` until the output is closed or the time limit has passed.
///
/// Another thread reads the lines, so that this also notices a child that prints nothing.
pub(crate) fn lines(
    output: impl Read + Send + 'static,
    limit: Duration,
    mut each: impl FnMut(&str),
) -> End {
    let (tx, rx) = sync_channel::<String>(64);
    // The thread ends by itself: when the output is closed, or at the next line after the receiver
    // is gone.
    thread::spawn(move || {
        // Bytes, not lines of text: what a failed test prints need not be UTF-8.
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if tx.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    let start = Instant::now();
    loop {
        match rx.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(line) => each(&line),
            Err(RecvTimeoutError::Disconnected) => return End::Closed,
            Err(RecvTimeoutError::Timeout) => return End::Late,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn lines_come_until_the_end_or_the_limit() {
        let (long, short) = (Duration::from_secs(60), Duration::from_millis(200));
        for (script, limit, lines_wanted, end) in [
            ("printf 'a\\nb\\n'", long, &["a", "b"][..], End::Closed),
            ("printf 'a\\377\\nb'", long, &["a\u{fffd}", "b"], End::Closed),
            ("true", long, &[], End::Closed),
            ("exec sleep 60", short, &[], End::Late),
        ] {
            let mut child =
                Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut got = Vec::new();
            let output = child.stdout.take().unwrap();
            assert_eq!(lines(output, limit, |line| got.push(line.to_owned())), end, "{script}");
            assert_eq!(got, lines_wanted, "{script}");
            drop(child.kill());
            child.wait().unwrap();
        }
    }
}
