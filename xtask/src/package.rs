//! The `package` section: every crate we publish is ready for it.
//!
//! `cargo package` resolves the set among itself, so it works before the first of them is
//! published.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context as _;
use xshell::cmd;

use crate::metadata::{Metadata, Package};
use crate::project::Project;
use crate::tidy::{Problem, report};

pub(crate) fn run(project: &Project) -> anyhow::Result<()> {
    let sh = &project.sh;
    report("package", &incomplete(&project.metadata))?;
    forget_unpacked(&cargo_home()?.join("registry/src"), &project.metadata)?;
    let mut built = cmd!(sh, "cargo clean --quiet");
    for member in project.metadata.members() {
        built = built.arg("--package").arg(&member.name);
    }
    built.run()?;
    let mut package = cmd!(sh, "cargo package --workspace --allow-dirty");
    for kept in project.metadata.members().filter(|member| !member.publish) {
        package = package.arg("--exclude").arg(&kept.name);
    }
    Ok(package.run()?)
}

/// Removes what an earlier run unpacked of our crates in cargo's cache.
///
/// To verify a crate, cargo unpacks those it depends on there, from a registry that it makes in the
/// target directory. What comes from a registry never changes, so it believes, neither sources nor
/// what was built of them: without this, and without `cargo clean`, a crate would be verified
/// against those of an earlier run in the same folder for as long as no version changes.
fn forget_unpacked(cache: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    let Ok(registries) = fs::read_dir(cache) else {
        return Ok(()); // Nothing was ever unpacked.
    };
    for registry in registries {
        let registry = registry?;
        // A registry's folder is named host-hash, and one made of files has no host.
        if !registry.file_name().to_string_lossy().starts_with('-') {
            continue;
        }
        for member in metadata.members() {
            let unpacked = registry.path().join(format!("{}-{}", member.name, member.version));
            if unpacked.is_dir() {
                fs::remove_dir_all(&unpacked)
                    .with_context(|| format!("cannot remove {}", unpacked.display()))?;
            }
        }
    }
    Ok(())
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = env::home_dir().context("neither CARGO_HOME nor a home directory")?;
    Ok(home.join(".cargo"))
}

/// What a registry refuses, or its page looks bare without.
fn incomplete(metadata: &Metadata) -> Vec<Problem> {
    let field = |package: &Package, name: &str, value: &Option<String>| {
        let missing = value.as_deref().is_none_or(str::is_empty);
        missing.then(|| {
            Problem::new(
                package.manifest.display().to_string(),
                format!("{name} is missing"),
                "write it, or say `publish = false`",
            )
        })
    };
    let published = metadata.members().filter(|member| member.publish);
    published
        .flat_map(|package| {
            [
                field(package, "description", &package.description),
                field(package, "license", &package.license),
                field(package, "repository", &package.repository),
            ]
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use xshell::Shell;

    use super::*;

    #[test]
    fn what_an_earlier_run_unpacked_is_not_built_against() {
        let sh = Shell::new().unwrap();
        let cache = sh.create_temp_dir().unwrap();
        let package = Package {
            name: "wserver-core".to_owned(),
            version: "0.1.0".to_owned(),
            member: true,
            ..Package::default()
        };
        let metadata = Metadata { packages: vec![package], ..Metadata::default() };
        let ours = cache.path().join("-14cd/wserver-core-0.1.0");
        let kept = [
            cache.path().join("-14cd/wserver-core-0.2.0"),
            cache.path().join("-14cd/another-0.1.0"),
            cache.path().join("registry.example-9f/wserver-core-0.1.0"),
        ];
        for folder in kept.iter().chain([&ours]) {
            fs::create_dir_all(folder.join("src")).unwrap();
        }
        forget_unpacked(cache.path(), &metadata).unwrap();
        assert!(!ours.exists());
        assert!(kept.iter().all(|folder| folder.exists()), "{kept:?}");
        forget_unpacked(&cache.path().join("none"), &metadata).unwrap();
    }

    #[test]
    fn a_published_crate_describes_itself() {
        for (description, publish, told) in
            [(None, true, 1), (Some(""), true, 1), (Some("it pushes"), true, 0), (None, false, 0)]
        {
            let package = Package {
                member: true,
                publish,
                description: description.map(ToOwned::to_owned),
                license: Some("MIT".to_owned()),
                repository: Some("here".to_owned()),
                ..Package::default()
            };
            let metadata = Metadata { packages: vec![package], ..Metadata::default() };
            assert_eq!(incomplete(&metadata).len(), told, "{description:?}");
        }
    }
}
