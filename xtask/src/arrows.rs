//! Which crate may depend on which: the one table of allowed arrows, and its check against `cargo
//! metadata`.
//!
//! A new arrow is a decision, not an accident: the author adds it here and explains it in the
//! commit.

use std::collections::VecDeque;

use crate::metadata::{Dependency, Kind, Metadata, Package};
use crate::problem::Problem;

/// The dependencies that one of our crates may have.
#[derive(Debug)]
struct Room {
    name: &'static str,
    /// Our crates it may use.
    ours: &'static [&'static str],
    /// Our crates that its tests may use as well.
    ours_in_tests: &'static [&'static str],
    /// Crates that are not ours.
    theirs: Theirs,
    /// Crates that must not be a dependency by any path, however long.
    never: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
enum Theirs {
    Only(&'static [&'static str]),
    /// The crates at the top choose freely, because no crate depends on them.
    Any,
}

/// What the tests, benchmarks and examples of any crate may use.
const TEST_TOOLS: &[&str] = &[
    "anyhow",
    "criterion",
    "expect-test",
    "proptest",
    "rcgen",
    "rustls",
    "serde_json",
    "tokio",
    "tokio-rustls",
    "tokio-tungstenite",
    "tracing-subscriber",
    "tungstenite",
];

/// The server's own crates, which a client must not know.
const SERVER: &[&str] = &[
    "wserver",
    "wserver-api",
    "wserver-auth",
    "wserver-cluster-nats",
    "wserver-cluster-redis",
    "wserver-core",
    "wserver-node",
    "wserver-warp",
];

/// The table. It forbids everything that it does not list.
const ROOMS: &[Room] = &[
    Room {
        name: "wserver-core",
        ours: &[],
        ours_in_tests: &[],
        theirs: Theirs::Only(&["hashbrown", "smallvec", "thiserror"]),
        never: &["futures", "serde", "tokio", "tracing", "log", "async-trait"],
    },
    Room {
        name: "wserver-protocol",
        ours: &[],
        ours_in_tests: &[],
        theirs: Theirs::Only(&["bytes", "serde", "serde_json", "serde_path_to_error", "thiserror"]),
        never: &["tokio", "hyper", "warp", "http"],
    },
    Room {
        name: "wserver-tls",
        ours: &[],
        ours_in_tests: &[],
        theirs: Theirs::Only(&["rustls", "rustls-native-certs", "thiserror"]),
        // Brokers, issuers and tools trust alike, whatever they speak.
        never: &["http", "tokio"],
    },
    Room {
        name: "wserver-outgoing",
        ours: &[],
        ours_in_tests: &[],
        theirs: Theirs::Only(&[
            "bytes",
            "futures",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "rustls",
            "thiserror",
            "tokio",
            "tokio-rustls",
        ]),
        // Clients link it too.
        never: SERVER,
    },
    Room {
        name: "wserver-auth",
        // Of the core, the rate of a publisher and the map that forgets the oldest.
        ours: &["wserver-core", "wserver-outgoing", "wserver-tls"],
        ours_in_tests: &[],
        theirs: Theirs::Only(&[
            "async-trait",
            "aws-lc-rs",
            "bytes",
            "data-encoding",
            "form_urlencoded",
            "futures",
            "getrandom",
            "http",
            "jsonwebtoken",
            "serde_json",
            "sha2",
            "subtle",
            "thiserror",
            "tokio",
            "tracing",
        ]),
        // It is a client of other servers (issuers, backends), behind features, and not a server
        // itself.
        never: &["warp"],
    },
    Room {
        name: "wserver-node",
        ours: &["wserver-core", "wserver-protocol"],
        ours_in_tests: &[],
        theirs: Theirs::Only(&["bytes", "thiserror", "tokio", "tokio-util", "tracing"]),
        never: &["http", "hyper", "warp"],
    },
    Room {
        name: "wserver-test-brokers",
        ours: &[],
        ours_in_tests: &[],
        theirs: Theirs::Only(&["tokio"]),
        never: &[],
    },
    Room {
        name: "wserver-cluster-nats",
        ours: &["wserver-cluster", "wserver-tls"],
        ours_in_tests: &["wserver-test-brokers"],
        theirs: Theirs::Only(&["async-nats", "async-trait", "bytes", "futures", "rustls", "tokio"]),
        never: &["warp"],
    },
    Room {
        name: "wserver-cluster-redis",
        ours: &["wserver-cluster", "wserver-tls"],
        ours_in_tests: &["wserver-test-brokers"],
        theirs: Theirs::Only(&[
            "async-trait",
            "bytes",
            "futures",
            "rustls",
            "tokio",
            "tokio-rustls",
        ]),
        never: &["http", "warp"],
    },
    Room {
        name: "wserver-cluster",
        ours: &["wserver-core", "wserver-node"],
        ours_in_tests: &[],
        theirs: Theirs::Only(&[
            "async-trait",
            "bytes",
            "futures",
            "getrandom",
            "hashbrown",
            "prost",
            "siphasher",
            "thiserror",
            "tokio",
            "tokio-util",
            "tracing",
        ]),
        // Only the adapters know what carries its messages.
        never: &["http", "hyper", "warp"],
    },
    Room {
        name: "wserver-api",
        ours: &[
            "wserver-auth",
            "wserver-cluster",
            "wserver-core",
            "wserver-node",
            "wserver-protocol",
        ],
        ours_in_tests: &[],
        theirs: Theirs::Only(&[
            "bytes",
            "data-encoding",
            "form_urlencoded",
            "futures",
            "http",
            "http-body",
            "http-body-util",
            "humantime",
            "percent-encoding",
            "sha2",
            "tokio",
            "tokio-util",
            "tracing",
        ]),
        // It is given a request's parts and gives an answer: what carries them is not its business.
        // hyper and rustls, which it may not use either, come in by authorisers that ask others.
        never: &["warp"],
    },
    Room {
        name: "wserver-warp",
        ours: &[
            "wserver-api",
            "wserver-auth",
            "wserver-cluster",
            "wserver-core",
            "wserver-node",
            "wserver-protocol",
        ],
        // Its library tests act as an embedder's program, with our client at the other end.
        ours_in_tests: &["wserver-client"],
        theirs: Theirs::Only(&[
            "async-trait",
            "bytes",
            "form_urlencoded",
            "futures",
            "headers",
            "http-body-util",
            "httparse",
            "httpdate",
            "hyper",
            "hyper-util",
            "ipnet",
            "memchr",
            // On Linux, for one `send` past tokio.
            "rustix",
            "rustls",
            "rustls-webpki",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-util",
            "tracing",
            "warp",
        ]),
        never: &["clap"],
    },
    Room {
        name: "wserver-client",
        ours: &["wserver-outgoing", "wserver-protocol", "wserver-tls"],
        ours_in_tests: &[],
        theirs: Theirs::Only(&[
            "bytes",
            "futures",
            "http",
            "percent-encoding",
            "rustls",
            "rustls-webpki",
            "thiserror",
            "tokio",
            "tokio-tungstenite",
            "tokio-util",
            "tracing",
        ]),
        never: SERVER,
    },
    Room {
        name: "wserver-load",
        ours: &["wserver-client", "wserver-protocol", "wserver-tls"],
        ours_in_tests: &[],
        theirs: Theirs::Any,
        never: SERVER,
    },
    Room {
        name: "wserver",
        // The client is for its tools, which talk to a server from outside, like any client.
        ours: &[
            "wserver-auth",
            "wserver-client",
            "wserver-cluster-nats",
            "wserver-cluster-redis",
            "wserver-core",
            "wserver-node",
            "wserver-protocol",
            "wserver-warp",
        ],
        // The generator's account of what it was sent is what the server's own is held to.
        ours_in_tests: &["wserver-load", "wserver-test-brokers"],
        theirs: Theirs::Any,
        never: &[],
    },
    Room { name: "xtask", ours: &[], ours_in_tests: &[], theirs: Theirs::Any, never: &["tokio"] },
];

/// Every arrow that the table does not allow.
pub(crate) fn problems(metadata: &Metadata) -> Vec<Problem> {
    check(metadata, ROOMS)
}

fn check(metadata: &Metadata, rooms: &[Room]) -> Vec<Problem> {
    let ours: Vec<&str> = metadata.members().map(|member| member.name.as_str()).collect();
    let mut problems = Vec::new();
    for (at, member) in metadata.packages.iter().enumerate().filter(|(_, it)| it.member) {
        let Some(room) = rooms.iter().find(|room| room.name == member.name) else {
            problems.push(problem(member, "is not in the table of arrows".to_owned()));
            continue;
        };
        for dependency in &member.dependencies {
            if !room.allows(dependency, ours.contains(&dependency.name.as_str())) {
                let tests = if dependency.kind == Kind::Dev { " (in tests)" } else { "" };
                let arrow = format!("{} → {}{tests} is not allowed", member.name, dependency.name);
                problems.push(problem(member, arrow));
            }
        }
        for banned in room.never {
            if let Some(path) = path_to(metadata, at, banned) {
                problems
                    .push(problem(member, format!("{banned} is banned, but comes in by {path}")));
            }
        }
    }
    for room in rooms.iter().filter(|room| !ours.contains(&room.name)) {
        problems.push(Problem::new(TABLE, format!("{} is not a crate of ours", room.name), FIX));
    }
    problems
}

const TABLE: &str = "xtask/src/arrows.rs";
const FIX: &str = "remove the dependency, or allow it in xtask/src/arrows.rs and say why";

fn problem(member: &Package, what: String) -> Problem {
    Problem::new(member.manifest.display().to_string(), what, FIX)
}

impl Room {
    fn allows(&self, dependency: &Dependency, is_ours: bool) -> bool {
        let name = dependency.name.as_str();
        let in_tests = dependency.kind == Kind::Dev;
        if is_ours {
            return self.ours.contains(&name) || in_tests && self.ours_in_tests.contains(&name);
        }
        match self.theirs {
            Theirs::Any => true,
            Theirs::Only(theirs) => {
                theirs.contains(&name) || in_tests && TEST_TOOLS.contains(&name)
            }
        }
    }
}

/// The shortest path from a crate to one that it must not reach, without dev dependencies.
///
/// Cargo unites features over the workspace before it reports the edges. If one crate turns on an
/// optional dependency, the edge therefore shows for all crates that share the package.
fn path_to(metadata: &Metadata, from: usize, banned: &str) -> Option<String> {
    let mut came_from = vec![None; metadata.packages.len()];
    let mut todo = VecDeque::from([from]);
    while let Some(at) = todo.pop_front() {
        if at != from && metadata.packages[at].name == banned {
            let steps = std::iter::successors(Some(at), |at| came_from[*at]);
            let mut names: Vec<&str> =
                steps.map(|at| metadata.packages[at].name.as_str()).collect();
            names.reverse();
            return Some(names.join(" → "));
        }
        for &next in &metadata.packages[at].links {
            if next != from && came_from[next].is_none() {
                came_from[next] = Some(at);
                todo.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: Room = Room {
        name: "top",
        ours: &["low"],
        ours_in_tests: &["side"],
        theirs: Theirs::Any,
        never: &[],
    };
    const SIDE: Room =
        Room { name: "side", ours: &[], ours_in_tests: &[], theirs: Theirs::Any, never: &[] };
    const LOW: Room = Room {
        name: "low",
        ours: &[],
        ours_in_tests: &[],
        theirs: Theirs::Only(&["bytes"]),
        never: &["tokio"],
    };

    /// Reads lines such as `low > bytes, dev proptest`; a name that starts no line is a crate that
    /// is not ours.
    fn workspace(lines: &str) -> Metadata {
        let mut packages: Vec<Package> = Vec::new();
        let mut edges = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, dependencies) = line.split_once('>').unwrap();
            let (name, member) = match name.trim().strip_prefix("their ") {
                Some(name) => (name, false),
                None => (name.trim(), true),
            };
            let dependencies = dependencies.split(',').map(str::trim).filter(|it| !it.is_empty());
            let dependencies: Vec<Dependency> = dependencies
                .map(|it| {
                    let (kind, name) = match it.strip_prefix("dev ") {
                        Some(name) => (Kind::Dev, name),
                        None => (Kind::Normal, it),
                    };
                    Dependency { name: name.to_owned(), kind, registry: None }
                })
                .collect();
            for dependency in dependencies.iter().filter(|it| it.kind != Kind::Dev) {
                edges.push((packages.len(), dependency.name.clone()));
            }
            let name = name.to_owned();
            packages.push(Package { name, member, dependencies, ..Package::default() });
        }
        for (from, to) in edges {
            if let Some(to) = packages.iter().position(|package| package.name == to) {
                packages[from].links.push(to);
            }
        }
        Metadata { packages, ..Metadata::default() }
    }

    #[test]
    fn each_broken_arrow_is_told() {
        for (lines, told) in [
            ("top > low, anything \n low > bytes, dev proptest \n side >", &[][..]),
            ("top > low, dev side \n low > \n side >", &[]),
            ("top > side \n low > \n side >", &["top → side is not allowed"]),
            ("top > \n low > serde \n side >", &["low → serde is not allowed"]),
            ("top > \n low > dev serde \n side >", &["low → serde (in tests) is not allowed"]),
            ("top > \n low > proptest \n side >", &["low → proptest is not allowed"]),
            ("top > \n low > top \n side >", &["low → top is not allowed"]),
            (
                "top > \n low > bytes \n side > \n their bytes > io \n their io > tokio \n their tokio >",
                &["tokio is banned, but comes in by low → bytes → io → tokio"],
            ),
            ("top > \n low > \n side > \n new >", &["is not in the table of arrows"]),
            ("top > \n low >", &["side is not a crate of ours"]),
        ] {
            let problems = check(&workspace(lines), &[TOP, LOW, SIDE]);
            let problems: Vec<&str> = problems.iter().map(|it| it.what.as_str()).collect();
            assert_eq!(problems, told, "{lines}");
        }
    }

    #[test]
    fn the_table_allows_nobody_above() {
        for room in ROOMS {
            for above in ["wserver", "xtask"] {
                let arrows = [room.ours, room.ours_in_tests].concat();
                assert!(!arrows.contains(&above), "{} → {above}", room.name);
            }
        }
    }
}
