//! The core has no clock, socket, thread, environment or file, and never waits; a search proves it.
//!
//! Its tests are exempt.

use super::scrub;
use crate::problem::Problem;

const CORE: &str = "crates/wserver-core/src/";

/// What the core must not name, and why.
const BANNED: &[(&str, &str)] = &[
    ("Barrier", "waits"),
    ("Condvar", "waits"),
    ("Instant::now", "reads a clock"),
    ("SystemTime::now", "reads a clock"),
    (".elapsed", "reads a clock"),
    ("async", "needs a runtime"),
    (".await", "needs a runtime"),
    ("option_env!", "reads the environment"),
    ("std::env", "reads the environment"),
    ("std::fs", "touches files"),
    ("std::io", "does I/O"),
    ("std::net", "does I/O"),
    ("std::os", "knows the system"),
    ("std::process", "knows the system"),
    ("std::thread", "knows threads"),
    ("thread::sleep", "waits"),
    ("thread::spawn", "starts a thread"),
    ("mpsc", "waits"),
];

/// The forbidden names in the core's code; `code` is already scrubbed.
pub(super) fn check(path: &str, code: &str) -> Vec<Problem> {
    let Some(file) = path.strip_prefix(CORE) else { return Vec::new() };
    if file.split('/').any(|part| part == "tests" || part == "tests.rs") {
        return Vec::new();
    }
    let code = spelled_out(&scrub::without_tests(code));
    let mut problems = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        for (banned, why) in BANNED {
            if names(text, banned) {
                let what = format!("the core names `{banned}`, which {why}");
                let fix = "take it as a parameter, or do it in wserver-node or wserver-warp";
                problems.push(Problem::new(format!("{path}:{line}"), what, fix));
            }
        }
    }
    problems
}

/// Expands `std::{fs, net::IpAddr}` to `std::{std::fs, std::net::IpAddr}`, for the search.
fn spelled_out(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("std::{") {
        let (before, group) = rest.split_at(start + "std::{".len());
        out.push_str(before);
        let mut depth = 1_usize;
        let mut item_begins = true;
        let mut length = group.len();
        for (at, it) in group.char_indices() {
            match it {
                '{' => depth += 1,
                '}' if depth == 1 => {
                    length = at;
                    break;
                }
                '}' => depth -= 1,
                ',' => item_begins = depth == 1,
                _ if item_begins && it.is_alphabetic() => {
                    out.push_str("std::");
                    item_begins = false;
                }
                _ => {}
            }
            out.push(it);
        }
        rest = &group[length..];
    }
    out + rest
}

/// Whether the words occur, and not as part of longer words.
fn names(text: &str, words: &str) -> bool {
    let part = |it: char| it.is_alphanumeric() || it == '_';
    text.match_indices(words).any(|(at, _)| {
        let before = text[..at].ends_with(part) && words.starts_with(part);
        let after = text[at + words.len()..].starts_with(part);
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_core_must_not_name_is_told() {
        for (text, told) in [
            ("use std::time::{Duration, Instant};\nfn f(now: Instant) {}", &[][..]),
            ("fn f() {\n    Instant::now()\n}", &["2: Instant::now"]),
            ("fn f(wall: SystemTime) {\n    SystemTime::now()\n}", &["2: SystemTime::now"]),
            ("fn f(then: Instant) { then.elapsed(); }", &["1: .elapsed"]),
            ("use std::net::TcpStream;", &["1: std::net"]),
            (
                "use std::{\n    fmt,\n    fs,\n    net::{IpAddr, fmt},\n};",
                &["3: std::fs", "4: std::net"],
            ),
            ("use std::collections::{env, fs};", &[]),
            ("std::thread::spawn(f);", &["1: std::thread", "1: thread::spawn"]),
            ("async fn f() { g().await }", &["1: async", "1: .await"]),
            ("fn asynchronous() { my_mpsc() }", &[]),
            ("// Instant::now\nlet x = \"std::fs\";", &[]),
            ("#[cfg(test)]\nmod tests { use std::fs; }", &[]),
        ] {
            let problems = check(&format!("{CORE}x.rs"), &scrub::code(text));
            let mut problems: Vec<String> = problems
                .iter()
                .map(|it| {
                    let line = it.place.rsplit(':').next().unwrap();
                    format!("{line}: {}", it.what.split('`').nth(1).unwrap())
                })
                .collect();
            let mut told: Vec<&str> = told.to_vec();
            problems.sort_unstable();
            told.sort_unstable();
            assert_eq!(problems, told, "{text}");
        }
    }

    #[test]
    fn others_and_the_tests_of_the_core_may() {
        for path in ["crates/wserver-node/src/node.rs", "crates/wserver-core/src/binder/tests.rs"] {
            assert!(check(path, "Instant::now()").is_empty(), "{path}");
        }
        assert!(!check("crates/wserver-core/src/binder.rs", "Instant::now()").is_empty());
    }
}
