//! The command line of `cargo xtask`; each command is in its own file.

use std::path::PathBuf;

xflags::xflags! {
    /// The project's own commands.
    cmd xtask {
        /// Run everything that CI runs, in timed sections.
        cmd ci {
            /// Also run the slow product tests (always on when `CI` is set).
            optional --slow
            /// Run only this section.
            optional --only section: String
        }
        /// Check the project's rules that no compiler knows.
        cmd tidy {}
        /// Run the tests of the workspace, doc tests included.
        cmd test {
            /// Also run the slow product tests, against a release build.
            optional --slow
        }
        /// Run foreign clients and a browser against the release binary.
        cmd interop {
            /// Install what is missing (always on when `CI` is set).
            optional --install
            /// Run only this client: go, python, api, node, websocket, tcl, kept, browsers, page, curl, nginx, proxies, pyjwt, jose, prometheus or testssl.
            optional --only client: String
            /// Test this program instead of building ours; it gets the flag `--address`.
            optional --server program: PathBuf
        }
        /// Make the release: a tarball, a Debian package and their checksums.
        cmd dist {
            /// The profile of the binary; by default `dist`, whose build takes minutes.
            optional --profile profile: String
            /// Try both: install the Debian package, push a message and purge it (always on when `CI` is set).
            optional --install
        }
        /// Measure the release binary next to the floor and its peers, and write docs/benchmarks.md and docs/benchmarks/cluster.md.
        cmd bench {
            /// One short round that shows whether everything works; writes no page.
            optional --quick
            /// Install what is missing (always on when `CI` is set).
            optional --install
            /// Number of rounds, for clusters too: by default 20, and 3 for clusters.
            optional --rounds rounds: u32
            /// Measure only these peers, separated by commas: floor, floor-bare, bun, nchan, gorilla, ws, naive-warp.
            optional --peers peers: String
            /// Take only these measures, separated by commas, such as `saturated-64,unicast,binder,memory,scaling,cluster`.
            optional --measures measures: String
            /// Compare two builds of wserver only with each other, as `BEFORE,AFTER`: two files.
            optional --builds files: String
        }
        /// Count the instructions of the hot paths, and record them in xtask/instructions.tsv.
        cmd instructions {
            /// Compare them with the record instead; fails if one has grown by more than 3 %.
            optional --check
            /// Install valgrind if it is missing (always on when `CI` is set).
            optional --install
        }
        /// Run one fuzz target.
        cmd fuzz {
            /// Name of a file in some `crates/<crate>/fuzz/fuzz_targets`, without `.rs`.
            required target: String
            /// How long to run; by default until it is stopped.
            optional seconds: u64
        }
    }
}
