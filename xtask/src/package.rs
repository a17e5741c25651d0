//! The `package` section: every crate that we publish is ready for it.
//!
//! `cargo package` resolves the crates among themselves, so it works before the first of them is
//! published. It would verify each crate with a separate build of everything that the crate depends
//! on; instead, this unpacks the packed crates into one workspace and checks them together, with
//! the dependencies that other sections have already checked.

use std::fmt::Write as _;

use xshell::cmd;

use crate::build::CI_PROFILE;
use crate::metadata::{Metadata, Package};
use crate::problem::{Problem, report};
use crate::project::Project;

pub(crate) fn run(project: &Project) -> anyhow::Result<()> {
    let sh = &project.sh;
    report("package", &incomplete(&project.metadata))?;

    let mut package = cmd!(sh, "cargo package --workspace --no-verify --allow-dirty");
    for kept in project.metadata.members().filter(|member| !member.publish) {
        package = package.arg("--exclude").arg(&kept.name);
    }
    package.run()?;

    let packed = project.metadata.target.join("package");
    let unpacked = packed.join("unpacked");
    sh.remove_path(&unpacked)?;
    sh.create_dir(&unpacked)?;
    for member in published(&project.metadata) {
        let archive = packed.join(format!("{}.crate", folder(member)));
        cmd!(sh, "tar --extract --gzip --file {archive} --directory {unpacked}").run()?;
    }
    sh.write_file(unpacked.join("Cargo.toml"), workspace(&project.metadata)?)?;
    sh.copy_file(project.root.join("Cargo.lock"), unpacked.join("Cargo.lock"))?;
    let (manifest, target) = (unpacked.join("Cargo.toml"), &project.metadata.target);
    let check = cmd!(sh, "cargo check --profile {CI_PROFILE} --target-dir {target}");
    Ok(check.arg("--workspace").arg("--manifest-path").arg(manifest).run()?)
}

fn published(metadata: &Metadata) -> impl Iterator<Item = &Package> {
    metadata.members().filter(|member| member.publish)
}

/// The folder name of a package.
fn folder(package: &Package) -> String {
    format!("{}-{}", package.name, package.version)
}

/// The manifest over the unpacked crates: each finds the others here and not at a registry.
fn workspace(metadata: &Metadata) -> anyhow::Result<String> {
    let mut manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"*-*\"]\n".to_owned();
    manifest.push_str("\n[patch.crates-io]\n");
    for package in published(metadata) {
        writeln!(manifest, "{} = {{ path = {:?} }}", package.name, folder(package))?;
    }
    Ok(manifest)
}

/// Missing fields that a registry requires, or that its page needs.
fn incomplete(metadata: &Metadata) -> Vec<Problem> {
    let field = |package: &Package, name: &str, value: &Option<String>| {
        let missing = value.as_deref().is_none_or(str::is_empty);
        missing.then(|| {
            Problem::new(
                package.manifest.display().to_string(),
                format!("{name} is missing"),
                "write one, or say `publish = false`",
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
    use super::*;

    #[test]
    fn packed_crates_find_each_other() {
        let package = |name: &str, publish| Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            member: true,
            publish,
            ..Package::default()
        };
        let packages = vec![package("wserver-core", true), package("xtask", false)];
        let metadata = Metadata { packages, ..Metadata::default() };
        let manifest = workspace(&metadata).unwrap();
        assert!(
            manifest.contains("wserver-core = { path = \"wserver-core-0.1.0\" }"),
            "{manifest}"
        );
        assert!(!manifest.contains("xtask"), "{manifest}");
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
