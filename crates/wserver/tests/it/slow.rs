//! Tests that take long or much: they run when `WSERVER_SLOW` or `CI` is set.

mod abuse;
mod account;
mod cluster;
mod drain;
mod fanout;

use std::io::{Write, stderr};

/// Whether slow tests are left out, which is said aloud.
pub(crate) fn is_left_out(test: &str) -> bool {
    let is_asked_for = ["WSERVER_SLOW", "CI"].iter().any(|name| std::env::var_os(name).is_some());
    if !is_asked_for {
        // Past the capture of what a passing test prints.
        let _ = writeln!(stderr(), "LEFT OUT: {test} is slow, set WSERVER_SLOW=1 to run it");
    }
    !is_asked_for
}
