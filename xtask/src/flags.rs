//! The command line of `cargo xtask`; what each command does is in its own file.

use std::path::PathBuf;

xflags::xflags! {
    /// The project's own commands.
    cmd xtask {
        /// Run everything CI runs, in timed sections.
        cmd ci {
            /// Also run the slow product tests (always on when `CI` is set).
            optional --slow
            /// Run this section alone.
            optional --only section: String
        }
        /// Check the house rules that no compiler knows.
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
            /// Run this client only: go, python, api, node, websocket, tcl, kept, browsers, page, curl, nginx, proxies, pyjwt, jose, prometheus or testssl.
            optional --only client: String
            /// Test this program instead of building ours; it is given `--address`.
            optional --server program: PathBuf
        }
        /// Make what is released: a tarball, a Debian package and their checksums.
        cmd dist {
            /// The profile of the binary; `dist` when left out, whose build takes minutes.
            optional --profile profile: String
            /// Try both: installs the Debian package, pushes a message and purges it (always on when `CI` is set).
            optional --install
        }
        /// Measure the release binary beside the floor and its peers, and write docs/benchmarks.md and docs/benchmarks/cluster.md.
        cmd bench {
            /// One short round that shows whether it works; writes no page.
            optional --quick
            /// Install what is missing (always on when `CI` is set).
            optional --install
            /// How often everything is measured, clusters too: 20 times, and clusters 3 times, when left out.
            optional --rounds rounds: u32
            /// Measure only these, divided by commas: floor, floor-bare, bun, nchan, gorilla, ws, naive-warp.
            optional --peers peers: String
            /// Take only these measures, divided by commas, as `saturated-64,unicast,binder,memory,scaling,cluster`.
            optional --measures measures: String
            /// Compare two builds of wserver with each other and with nobody else, as `BEFORE,AFTER`: two files.
            optional --builds files: String
        }
        /// Count the instructions of the hot paths, and record them in xtask/instructions.tsv.
        cmd instructions {
            /// Hold them against the record instead; fails if one takes 3 % more.
            optional --check
            /// Install valgrind if it is missing (always on when `CI` is set).
            optional --install
        }
        /// Run one fuzz target.
        cmd fuzz {
            /// A file name in some `crates/<crate>/fuzz/fuzz_targets`, without `.rs`.
            required target: String
            /// How long to run; until stopped when left out.
            optional seconds: u64
        }
    }
}
