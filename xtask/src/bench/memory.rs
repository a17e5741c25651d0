//! The parts of an idle connection's memory: valgrind's account of every allocation of our binary,
//! by call stack. Valgrind knows only the system's allocator, so the binary is built with that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;
use xshell::{Shell, cmd};

use super::load;
use super::runs::{Series, figure};
use super::server::Server;
use super::setup::{Effort, Place};
use super::subject::Subject;

/// One part of a connection: the call stacks of its allocations contain all of `frames`.
struct Part {
    name: &'static str,
    frames: &'static [&'static str],
}

/// The first part that fits counts.
const PARTS: &[Part] = &[
    Part {
        name: "the socket's registration in tokio (`ScheduledIo`)",
        frames: &["tokio::runtime::io::registration_set"],
    },
    Part {
        name: "the connection's task: `Driver` with its session and decoder, after tokio's own header",
        frames: &["tokio::runtime::task::core::Cell<", "wserver_warp::connection::driver::Driver"],
    },
    Part {
        name: "outbox, including the socket",
        frames: &["ArcInner<wserver_node::outbox::Outbox"],
    },
    Part {
        name: "binder: what each connection is bound to",
        frames: &["wserver_core::binder", "(connections.rs:"],
    },
    Part { name: "binder: names of events", frames: &["wserver_core::binder", "(events.rs:"] },
    Part {
        name: "binder: users with their names and members, and their index",
        frames: &["wserver_core::binder", "(table.rs:"],
    },
    Part {
        name: "the node's table of connections",
        frames: &["hashbrown", "wserver_core::id::ConnectionId"],
    },
];

/// The bytes that the program had requested at the peak, by part.
#[derive(Debug, Default)]
pub(super) struct Memory {
    connections: u32,
    parts: BTreeMap<&'static str, u64>,
    /// Single allocations, and handshakes under way.
    rest: u64,
}

/// Counts the allocations of a server with idle connections.
pub(super) fn run(sh: &Shell, place: &Place, effort: Effort) -> anyhow::Result<Memory> {
    let connections = effort.idle_connections.min(8000);
    let target = place.home.join("system-allocator");
    cmd!(sh, "cargo build --release --package wserver --no-default-features --target-dir {target}")
        .run()?;
    println!("memory by part: {connections} connections under valgrind");
    let profile = place.home.join("dhat.json");
    // Valgrind slows it down, so it does not share a core with the generator if there is another.
    let free = Place { is_pinned: false, ours: target.join("release/wserver"), ..place.clone() };
    let mut server = Server::start(&place.home.join("valgrind.log"), |address| {
        let ours = Subject::ours(&free, address, "60s");
        let mut command = Command::new("valgrind");
        command.args(["--tool=dhat", "--read-inline-info=yes"]);
        command.arg(format!("--dhat-out-file={}", profile.display()));
        command.arg(ours.get_program()).args(ours.get_args());
        Ok(command)
    })?;
    // One handshake after the other, so that the peak of memory comes when all are open.
    let words =
        format!("idle --connections {connections} --heartbeats 0 --opening-max 1 --sources 16");
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    load::start(&free, Subject::Ours, &server, &words, "memory.json")?.finish(&server)?;
    server.stop()?;
    let text = std::fs::read_to_string(&profile).context("valgrind wrote no profile")?;
    let memory = Memory::read(&serde_json::from_str(&text)?, connections)?;
    let is_seen =
        memory.parts.values().all(|&bytes| bytes > 0) && memory.parts.len() == PARTS.len();
    anyhow::ensure!(is_seen, "valgrind saw nothing of a part: {:?}", memory.parts);
    Ok(memory)
}

impl Memory {
    /// Sorts the allocations of a profile, format 2 of valgrind's `dh_view.js`.
    fn read(profile: &Value, connections: u32) -> anyhow::Result<Self> {
        let frames = profile["ftbl"].as_array().context("a profile without frames")?;
        let mut memory = Self { connections, ..Self::default() };
        for site in profile["pps"].as_array().context("a profile without allocations")? {
            let bytes = site["gb"].as_u64().unwrap_or(0);
            let stack: Vec<&str> = site["fs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|at| frames.get(usize::try_from(at.as_u64()?).ok()?)?.as_str())
                .collect();
            let is_of = |part: &&Part| {
                part.frames.iter().all(|wanted| stack.iter().any(|frame| frame.contains(wanted)))
            };
            match PARTS.iter().find(is_of) {
                Some(part) => *memory.parts.entry(part.name).or_default() += bytes,
                None => memory.rest += bytes,
            }
        }
        Ok(memory)
    }

    /// A Markdown table; `resident` is the measured total of an idle connection.
    pub(super) fn table(&self, resident: Option<Series>) -> String {
        if self.connections == 0 {
            return "Not measured in this run: it takes valgrind.\n".to_owned();
        }
        let each = |bytes: u64| bytes as f64 / f64::from(self.connections);
        let mut out = "| part | bytes per connection |\n|---|---|\n".to_owned();
        for Part { name, .. } in PARTS {
            let bytes = self.parts.get(name).copied().unwrap_or(0);
            let _ = writeln!(out, "| {name} | {} |", figure(each(bytes)));
        }
        let asked: f64 = each(self.parts.values().sum());
        let _ = writeln!(out, "| **allocated, in all** | {} |", figure(asked));
        if let Some(resident) = resident {
            let above = figure(resident.median - asked);
            let _ = writeln!(
                out,
                "| allocator overhead: rounded sizes, its own headers, partly filled pages; and what heartbeats left behind | {above} |\n\
                 | **resident, as measured above** | {} |",
                figure(resident.median)
            );
        }
        let _ = writeln!(
            out,
            "\nAllocations that are made once, or for a handshake in progress, take {} KB in all and are not included.",
            self.rest / 1000
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn allocations_are_sorted_by_their_stacks() {
        let profile = json!({
            "ftbl": ["[root]", "0x1: malloc", "0x2: tokio::runtime::io::registration_set::x (a.rs:1)",
                "0x3: put<wserver_core::binder::table::User> (slab.rs:3)", "0x4: bind (table.rs:4)", "0x5: main"],
            "pps": [
                { "gb": 2560, "fs": [1, 2, 5] },
                { "gb": 1000, "fs": [1, 3, 4] },
                { "gb": 440, "fs": [1, 3, 4, 5] },
                { "gb": 9000, "fs": [1, 5] },
            ],
        });
        let memory = Memory::read(&profile, 10).unwrap();
        let table = memory.table(Series::of(vec![500.0]));
        for row in [
            "| the socket's registration in tokio (`ScheduledIo`) | 256 |",
            "| binder: users with their names and members, and their index | 144 |",
            "| **allocated, in all** | 400 |",
            "left behind | 100 |",
            "take 9 KB in all",
        ] {
            assert!(table.contains(row), "{table}");
        }
        assert!(Memory::default().table(None).contains("Not measured"));
    }
}
