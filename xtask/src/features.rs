//! The `features` section: each crate compiles alone, with none, each and all of its features.
//!
//! Alone matters even without a feature: in a build of the whole workspace, cargo unites the
//! features of shared dependencies, and a crate that forgot to ask for one compiles by luck. A loop
//! over `cargo check` is all that cargo-hack would do for us here.

use xshell::cmd;

use crate::build::CI_PROFILE;
use crate::metadata::Package;
use crate::project::Project;

pub(crate) fn run(project: &Project) -> anyhow::Result<()> {
    let sh = &project.sh;
    let mut broken = Vec::new();
    for package in project.metadata.members() {
        let name = &package.name;
        for flags in combinations(package) {
            if cmd!(sh, "cargo check --profile {CI_PROFILE} --package {name}")
                .args(&flags)
                .run()
                .is_err()
            {
                broken.push(format!("{name} {}", flags.join(" ")).trim().to_owned());
            }
        }
    }
    anyhow::ensure!(broken.is_empty(), "does not compile alone: {}", broken.join(", "));
    Ok(())
}

/// The flags of each build. The default set needs no build here, because clippy and the tests use
/// it.
fn combinations(package: &Package) -> Vec<Vec<String>> {
    let features: Vec<&str> =
        package.features.iter().map(String::as_str).filter(|it| *it != "default").collect();
    if features.is_empty() {
        return vec![vec![]];
    }
    let none = vec!["--no-default-features".to_owned()];
    let mut all = vec![none.clone()];
    // With a single feature, "each" is "all".
    if features.len() > 1 {
        for feature in features {
            all.push([none.clone(), vec!["--features".to_owned(), feature.to_owned()]].concat());
        }
    }
    all.push(vec!["--all-features".to_owned()]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_each_and_all() {
        for (features, flags) in [
            (&[][..], &[""][..]),
            (&["default"], &[""]),
            (&["redis"], &["--no-default-features", "--all-features"]),
            (
                &["default", "nats", "redis"],
                &[
                    "--no-default-features",
                    "--no-default-features --features nats",
                    "--no-default-features --features redis",
                    "--all-features",
                ],
            ),
        ] {
            let features = features.iter().map(|it| (*it).to_owned()).collect();
            let package = Package { features, ..Package::default() };
            let combinations: Vec<String> =
                combinations(&package).iter().map(|it| it.join(" ")).collect();
            assert_eq!(combinations, flags);
        }
    }
}
