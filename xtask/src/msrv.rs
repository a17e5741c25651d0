//! The `msrv` section: no dependency requires a newer Rust than we promise.
//!
//! It needs only one toolchain: it compares declarations, and clippy's `incompatible_msrv` ensures
//! that our own code uses no later part of the standard library.

use anyhow::Context as _;

use crate::metadata::Metadata;
use crate::problem::{Problem, report};
use crate::project::Project;

pub(crate) fn run(project: &Project) -> anyhow::Result<()> {
    let problems = problems(&project.metadata)?;
    report("msrv", &problems)
}

fn problems(metadata: &Metadata) -> anyhow::Result<Vec<Problem>> {
    let promised: Vec<&str> =
        metadata.members().filter_map(|member| member.rust_version.as_deref()).collect();
    let oldest = promised
        .iter()
        .copied()
        .min_by_key(|it| version(it))
        .context("no crate of ours declares rust-version")?;
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Some(needed) = &package.rust_version else { continue };
        if version(needed) > version(oldest) {
            problems.push(Problem::new(
                format!("{} {}", package.name, package.version),
                format!("needs Rust {needed}, but we promise {oldest}"),
                "lock an older version of it, or raise rust-version in the root Cargo.toml",
            ));
        }
    }
    Ok(problems)
}

/// `1.89` and `1.89.0` are one version, and 1.9 is older than 1.10.
fn version(text: &str) -> Vec<u64> {
    let mut parts: Vec<u64> = text.split('.').filter_map(|part| part.parse().ok()).collect();
    parts.resize(3, 0);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    #[test]
    fn a_dependency_may_be_as_new_as_we_are_and_no_newer() {
        for (ours, theirs, allowed) in [
            ("1.89", Some("1.89"), true),
            ("1.89", Some("1.89.0"), true),
            ("1.89", Some("1.9"), true),
            ("1.89", Some("1.89.1"), false),
            ("1.89", Some("1.100"), false),
            ("1.89", None, true),
        ] {
            let package = |name: &str, rust_version: Option<&str>, member| Package {
                name: name.to_owned(),
                rust_version: rust_version.map(ToOwned::to_owned),
                member,
                ..Package::default()
            };
            let packages =
                vec![package("ours", Some(ours), true), package("theirs", theirs, false)];
            let problems = problems(&Metadata { packages, ..Metadata::default() }).unwrap();
            assert_eq!(problems.is_empty(), allowed, "{ours} {theirs:?}");
        }
    }
}
