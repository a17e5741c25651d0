//! `cargo xtask tidy`: the project's rules that no compiler knows; reports all violations at once.
//!
//! Each rule is a function from text to problems, so that its test can break it. What clippy or
//! rustc can check is left to them (`dbg!`, `todo!`, unsafe code, disallowed methods).

mod circles;
mod purity;
mod scrub;
mod source;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use xshell::{Shell, cmd};

use crate::arrows;
use crate::problem::{Problem, report};
use crate::project::Project;

use source::Source;

/// No larger file belongs in the repository.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A file with more lines says in its head why, in a sentence that begins with these words.
const FILE_LINES_MAX: usize = 500;
const WHY_LONG: &str = "Long because";

/// Crates that write their own lint table because they need unsafe code.
const UNSAFE_ALLOWED: &[&str] = &[];

/// The contracts whose hashes are checked, and the crate whose wire types must follow them.
const PROTOCOLS: [&str; 2] = ["docs/protocol.md", "docs/protocol-v2.md"];
const PROTOCOL_TYPES: &str = "crates/wserver-protocol/src/";
const PROTOCOL_MARK: &str = "// protocol: ";

/// The page of threats, which names the tests that try each.
const SECURITY: &str = "docs/security.md";
/// The folder of a test that the page names without a crate.
const PRODUCT_TESTS: &str = "crates/wserver/tests/it/";

/// Applies every rule to every file that git knows or would add.
pub(crate) fn run(project: &Project) -> anyhow::Result<()> {
    let sh = &project.sh;
    let mut problems = arrows::problems(&project.metadata);
    let mut sources = Vec::new();
    for path in files(sh)? {
        let file = project.root.join(&path);
        // The target of a link is checked on its own; a file that is deleted but not committed is
        // gone.
        let Some(about) = fs::symlink_metadata(&file).ok().filter(fs::Metadata::is_file) else {
            continue;
        };
        problems.extend(size(&path, about.len()));
        if has_extension(&path, "rs") {
            let text = fs::read_to_string(&file).with_context(|| path.clone())?;
            sources.push(Source { path, text });
        }
    }
    problems.extend(sources.iter().flat_map(rules));
    problems.extend(circles::check(&sources));
    for member in project.metadata.members() {
        let manifest = fs::read_to_string(&member.manifest)?;
        problems.extend(lints(&member.name, &member.manifest.display().to_string(), &manifest));
    }
    for path in PROTOCOLS {
        let contract = fs::read(project.root.join(path)).context(path)?;
        problems.extend(protocol(path, &contract, &sources));
    }
    if let Ok(threats) = fs::read_to_string(project.root.join(SECURITY)) {
        problems.extend(named_tests(&threats, &sources));
    }
    if project.in_ci {
        problems.extend(lock_file(sh));
    }
    report("tidy", &problems)
}

fn files(sh: &Shell) -> anyhow::Result<Vec<String>> {
    let list = cmd!(sh, "git ls-files -z --cached --others --exclude-standard").quiet().read()?;
    Ok(list.split('\0').filter(|path| !path.is_empty()).map(ToOwned::to_owned).collect())
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|it| it == extension)
}

/// The rules about one Rust file.
fn rules(source: &Source) -> Vec<Problem> {
    let code = scrub::code(&source.text);
    let mut problems = Vec::new();
    problems.extend(head(source));
    problems.extend(length(source));
    problems.extend(module_file(source));
    problems.extend(test_attributes(source, &code));
    problems.extend(ignored_examples(source));
    problems.extend(purity::check(&source.path, &code));
    problems
}

fn size(path: &str, bytes: u64) -> Option<Problem> {
    let what = format!("is {} KiB, the limit is {} KiB", bytes / 1024, FILE_BYTES_MAX / 1024);
    (bytes > FILE_BYTES_MAX)
        .then(|| Problem::new(path, what, "generate it when it is needed, or split it"))
}

/// A crate may open with a document, whose text is then its `//!`.
fn head(source: &Source) -> Option<Problem> {
    let openings = ["//! ", "#![doc = include_str!("];
    let says_what_it_is = openings.iter().any(|opening| source.text.starts_with(opening));
    (!says_what_it_is).then(|| {
        let fix = "say in `//!` what this file holds and what it does not know";
        Problem::new(format!("{}:1", source.path), "does not open with `//!`", fix)
    })
}

/// One room holds one idea; where that takes more than most, the head says so.
fn length(source: &Source) -> Option<Problem> {
    let lines = source.text.lines().count();
    let mut head = source.text.lines().map_while(|line| line.strip_prefix("//!"));
    let says_why = head.any(|line| line.trim_start().starts_with(WHY_LONG));
    (lines > FILE_LINES_MAX && !says_why).then(|| {
        let fix = format!("split it by an idea, or say in its `//!`: \"{WHY_LONG} …\"");
        Problem::new(&source.path, format!("has {lines} lines"), fix)
    })
}

fn module_file(source: &Source) -> Option<Problem> {
    let mut folders = source.path.rsplit('/');
    let named_so = folders.next() == Some("mod.rs");
    (named_so && !folders.any(|folder| folder == "tests")).then(|| {
        let fix = "name it after the module, beside the module's folder";
        Problem::new(&source.path, "mod.rs outside of tests", fix)
    })
}

/// A test that never runs, or that any panic satisfies, proves nothing.
fn test_attributes(source: &Source, code: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let text: String = text.split_whitespace().collect();
        let attribute = |name: &str| {
            text.contains(&format!("#[{name}"))
                || text.contains("cfg_attr(") && text.contains(&format!(",{name}"))
        };
        let place = format!("{}:{line}", source.path);
        if attribute("ignore") {
            let fix = "run it, or skip it with a message, by an environment variable that CI sets";
            problems.push(Problem::new(&place, "a test is ignored", fix));
        }
        if attribute("should_panic") {
            let fix = "catch the panic and check its message, or return an error";
            problems.push(Problem::new(&place, "any panic satisfies a test", fix));
        }
    }
    problems
}

/// An example that is not compiled is an ignored test under another name.
fn ignored_examples(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        let text = text.trim_start();
        let doc = text.strip_prefix("//!").or_else(|| text.strip_prefix("///")).unwrap_or_default();
        let fence = doc.trim_start().strip_prefix("```").unwrap_or_default();
        if fence.split(',').any(|word| word.trim() == "ignore") {
            let fix = "compile it (`no_run` if it must not run), or mark it `text`";
            let place = format!("{}:{line}", source.path);
            problems.push(Problem::new(place, "an example is ignored", fix));
        }
    }
    problems
}

/// The workspace's lints forbid unsafe code, but only for crates that inherit them.
fn lints(name: &str, manifest_path: &str, manifest: &str) -> Option<Problem> {
    let mut lines = manifest.lines().map(str::trim);
    let asks = lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true");
    (!asks && !UNSAFE_ALLOWED.contains(&name)).then(|| {
        let fix = "write `[lints]` / `workspace = true`, or add it to UNSAFE_ALLOWED in xtask/src/tidy.rs and say why";
        Problem::new(manifest_path, "does not take the workspace's lints", fix)
    })
}

/// A contract and its types change together: the hash next to the types names the text that they
/// follow.
fn protocol(path: &str, contract: &[u8], sources: &[Source]) -> Option<Problem> {
    let line = format!("{PROTOCOL_MARK}{:016x}", hash(contract));
    let mut types = sources.iter().filter(|source| source.path.starts_with(PROTOCOL_TYPES));
    let agrees = types.any(|source| source.text.lines().any(|it| it.trim() == line));
    (!agrees).then(|| {
        let fix =
            format!("change the types in {PROTOCOL_TYPES} accordingly, then write there: {line}");
        Problem::new(path, "has changed, or its hash is missing", fix)
    })
}

/// A threat is met only as long as a test tries it: each `file.rs::test` must exist.
fn named_tests(threats: &str, sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut named = 0;
    for (line, text) in (1..).zip(threats.lines()) {
        // Every second part is between backticks.
        for name in text.split('`').skip(1).step_by(2) {
            let Some((file, test)) = name.split_once(".rs::") else { continue };
            named += 1;
            let path = match file.split('/').next() {
                Some("xtask") => format!("{file}.rs"),
                Some(first) if first.starts_with("wserver") => format!("crates/{file}.rs"),
                _ => format!("{PRODUCT_TESTS}{file}.rs"),
            };
            let function = format!("fn {test}(");
            let source = sources.iter().find(|source| source.path == path);
            if !source.is_some_and(|source| source.text.contains(&function)) {
                let what = format!("names a test that is not in {path}: {test}");
                let fix = "name the test that tries it, or write one";
                problems.push(Problem::new(format!("{SECURITY}:{line}"), what, fix));
            }
        }
    }
    if named == 0 {
        problems.push(Problem::new(SECURITY, "names no test", "write `file.rs::test` in its rows"));
    }
    problems
}

/// FNV-1a: it must detect an edit, not withstand an attack.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// In CI nobody edits, so a lock file that cargo had to change was out of date when it was
/// committed.
fn lock_file(sh: &Shell) -> Option<Problem> {
    // Before the first commit there is nothing to compare with.
    cmd!(sh, "git rev-parse --verify --quiet HEAD:Cargo.lock")
        .quiet()
        .ignore_stdout()
        .run()
        .ok()?;
    let differs = cmd!(sh, "git diff --quiet HEAD -- Cargo.lock").quiet().run().is_err();
    differs.then(|| {
        Problem::new("Cargo.lock", "is not up to date", "commit the file that cargo writes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        rules(&source).into_iter().map(|it| format!("{}: {}", it.place, it.what)).collect()
    }

    #[test]
    fn a_long_file_says_why() {
        let file = |head: &str, lines: usize| format!("{head}\n{}", "\n".repeat(lines - 1));
        for (path, text, expected) in [
            ("a/src/lib.rs", file("//! A room.", 500), None),
            ("a/src/lib.rs", file("//! A room.", 501), Some("a/src/lib.rs: has 501 lines")),
            (
                "a/src/lib.rs",
                file("//! A room.\n//!\n//! Long because it is one table.", 501),
                None,
            ),
        ] {
            assert_eq!(told(path, &text), Vec::from_iter(expected), "{path}");
        }
    }

    #[test]
    fn each_broken_rule_about_a_file_is_told() {
        for (path, text, problems) in [
            ("a/src/lib.rs", "//! A room.\nfn f() {}\n", &[][..]),
            ("a/src/lib.rs", "#![doc = include_str!(\"../a.md\")]\n", &[]),
            ("a/src/lib.rs", "fn f() {}\n", &["a/src/lib.rs:1: does not open with `//!`"]),
            ("a/src/lib.rs", "\n//! A room.\n", &["a/src/lib.rs:1: does not open with `//!`"]),
            ("a/src/b/mod.rs", "//! A room.\n", &["a/src/b/mod.rs: mod.rs outside of tests"]),
            ("a/tests/it/mod.rs", "//! A room.\n", &[]),
            ("a/src/x.rs", "//! X.\n#[test]\n#[ignore]\n", &["a/src/x.rs:3: a test is ignored"]),
            (
                "a/src/x.rs",
                "//! X.\n# [ ignore = \"why\" ]\n",
                &["a/src/x.rs:2: a test is ignored"],
            ),
            (
                "a/src/x.rs",
                "//! X.\n#[cfg_attr(miri, ignore)]\n",
                &["a/src/x.rs:2: a test is ignored"],
            ),
            (
                "a/src/x.rs",
                "//! X.\n#[should_panic(expected = \"x\")]\n",
                &["a/src/x.rs:2: any panic satisfies a test"],
            ),
            ("a/src/x.rs", "//! No #[ignore] here.\nlet s = \"#[should_panic]\";\n", &[]),
            ("a/src/x.rs", "//! X.\n//! ```ignore\n", &["a/src/x.rs:2: an example is ignored"]),
            (
                "a/src/x.rs",
                "//! X.\n/// ```rust,ignore\n",
                &["a/src/x.rs:2: an example is ignored"],
            ),
            ("a/src/x.rs", "//! X.\n/// ```no_run\n", &[]),
        ] {
            assert_eq!(told(path, text), problems, "{path}\n{text}");
        }
    }

    #[test]
    fn big_files_are_told() {
        assert!(size("a", FILE_BYTES_MAX).is_none());
        assert!(size("a", FILE_BYTES_MAX + 1).is_some());
    }

    #[test]
    fn a_crate_takes_the_lints_of_the_workspace() {
        for (manifest, ok) in [
            ("[package]\n\n[lints]\nworkspace = true\n\n[dependencies]", true),
            ("[package]\n\n[dependencies]\nworkspace = true\n", false),
            ("[lints]\nrust.unsafe_code = \"allow\"\n", false),
        ] {
            assert_eq!(lints("a", "a/Cargo.toml", manifest).is_none(), ok, "{manifest}");
        }
    }

    #[test]
    fn tests_that_are_named_exist() {
        let source = |path: &str| Source {
            path: path.to_owned(),
            text: "//! Tests.\n#[test]\nfn it_holds() {}\n".to_owned(),
        };
        let sources = [
            source("crates/wserver/tests/it/guard.rs"),
            source("crates/wserver/tests/it/slow/abuse.rs"),
            source("crates/wserver-auth/src/keys.rs"),
            source("xtask/src/tidy.rs"),
        ];
        let told = |threats: &str| {
            let problems = named_tests(threats, &sources);
            problems.into_iter().map(|it| format!("{}: {}", it.place, it.what)).collect::<Vec<_>>()
        };
        for good in [
            "`guard.rs::it_holds`",
            "a | `origin` | `slow/abuse.rs::it_holds`, `wserver-auth/src/keys.rs::it_holds`",
            "`xtask/src/tidy.rs::it_holds`",
        ] {
            assert!(told(good).is_empty(), "{good}: {:?}", told(good));
        }
        for (bad, what) in [
            (
                "`guard.rs::it`",
                "1: names a test that is not in crates/wserver/tests/it/guard.rs: it",
            ),
            (
                "x\n`x` `keys.rs::it_holds`",
                "2: names a test that is not in crates/wserver/tests/it/keys.rs: it_holds",
            ),
            ("guard.rs::it_holds", " names no test"),
        ] {
            assert_eq!(told(bad), [format!("docs/security.md:{what}")], "{bad}");
        }
    }

    #[test]
    fn the_contract_and_its_types_name_the_same_hash() {
        let source =
            |text: &str| Source { path: format!("{PROTOCOL_TYPES}lib.rs"), text: text.to_owned() };
        let right = format!("//! Wire.\n\n{PROTOCOL_MARK}{:016x}\n", hash(b"contract"));
        assert!(protocol("docs/protocol.md", b"contract", &[source(&right)]).is_none());
        let problem = protocol("docs/protocol.md", b"new contract", &[source(&right)]).unwrap();
        assert!(problem.fix.contains(&format!("{:016x}", hash(b"new contract"))));
        let elsewhere = Source { path: "crates/wserver/src/main.rs".to_owned(), text: right };
        assert!(protocol("docs/protocol.md", b"contract", &[elsewhere]).is_some());
    }
}
