//! `cargo metadata`, reduced to what our checks need.
//!
//! Read from JSON by hand, because a dozen fields do not justify another dependency.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use xshell::{Shell, cmd};

/// Every package of the lock file, ours and others, with the edges between them.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One package.
#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether it is one of ours.
    pub(crate) member: bool,
    pub(crate) publish: bool,
    pub(crate) manifest: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) rust_version: Option<String>,
    /// Its source; `None` means a path.
    pub(crate) source: Option<String>,
    pub(crate) features: Vec<String>,
    /// The dependencies in its manifest.
    pub(crate) dependencies: Vec<Dependency>,
    /// The packages that the resolver gave it, without dev dependencies: indices into
    /// [`Metadata::packages`].
    pub(crate) links: Vec<usize>,
}

/// One line of a manifest's dependency tables.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// A registry other than the default one.
    pub(crate) registry: Option<String>,
}

/// The table of a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

impl Metadata {
    /// Runs cargo.
    pub(crate) fn load(sh: &Shell) -> anyhow::Result<Self> {
        let json = cmd!(sh, "cargo metadata --format-version 1").quiet().read()?;
        Self::parse(&json).context("cargo metadata has an unexpected shape")
    }

    /// Our own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.member)
    }

    fn parse(json: &str) -> anyhow::Result<Self> {
        let json: Value = serde_json::from_str(json)?;
        let members: Vec<&str> = strings(&json["workspace_members"]);
        let packages = json["packages"].as_array().context("no packages")?;
        let place: HashMap<&str, usize> = packages
            .iter()
            .enumerate()
            .filter_map(|(at, it)| Some((it["id"].as_str()?, at)))
            .collect();
        let mut links: HashMap<&str, Vec<usize>> = HashMap::new();
        for node in json["resolve"]["nodes"].as_array().context("no resolve")? {
            let id = node["id"].as_str().context("a node without id")?;
            let package = place.get(id).map(|at| &packages[*at]).context("a node of no package")?;
            links.insert(id, links_of(node, package, &packages[..], &place));
        }
        let packages = packages
            .iter()
            .map(|it| {
                let id = it["id"].as_str().context("a package without id")?;
                Package::parse(it, members.contains(&id), links.remove(id).unwrap_or_default())
            })
            .collect::<anyhow::Result<_>>()?;
        let target = json["target_directory"].as_str().context("no target directory")?;
        Ok(Self { target: PathBuf::from(target), packages })
    }
}

impl Package {
    /// The folder of its manifest.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest.parent().unwrap_or_else(|| Path::new(""))
    }

    fn parse(json: &Value, member: bool, links: Vec<usize>) -> anyhow::Result<Self> {
        let text = |key: &str| json[key].as_str().map(ToOwned::to_owned);
        let dependencies = json["dependencies"].as_array().context("no dependencies")?;
        Ok(Self {
            name: text("name").context("a package without name")?,
            version: text("version").context("a package without version")?,
            member,
            publish: json["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            manifest: text("manifest_path").map(PathBuf::from).context("no manifest path")?,
            description: text("description"),
            license: text("license"),
            repository: text("repository"),
            rust_version: text("rust_version"),
            source: text("source"),
            features: json["features"]
                .as_object()
                .map(|it| it.keys().cloned().collect())
                .unwrap_or_default(),
            dependencies: dependencies
                .iter()
                .map(Dependency::parse)
                .collect::<anyhow::Result<_>>()?,
            links,
        })
    }
}

impl Dependency {
    fn parse(json: &Value) -> anyhow::Result<Self> {
        let kind = match json["kind"].as_str() {
            None => Kind::Normal,
            Some("dev") => Kind::Dev,
            Some("build") => Kind::Build,
            Some(other) => anyhow::bail!("unknown kind of dependency: {other}"),
        };
        let name = json["name"].as_str().context("a dependency without name")?.to_owned();
        Ok(Self { name, kind, registry: json["registry"].as_str().map(ToOwned::to_owned) })
    }
}

fn links_of(
    node: &Value,
    package: &Value,
    packages: &[Value],
    place: &HashMap<&str, usize>,
) -> Vec<usize> {
    let deps = node["deps"].as_array().map(Vec::as_slice).unwrap_or_default();
    deps.iter()
        .filter(|dep| {
            let kinds = dep["dep_kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
            kinds.iter().any(|kind| kind["kind"].as_str() != Some("dev"))
        })
        .filter_map(|dep| place.get(dep["pkg"].as_str()?).copied())
        .filter(|at| is_turned_on(&packages[*at]["name"], node, package))
        .collect()
}

/// Whether a feature that is on asks for a dependency that may be optional.
///
/// Cargo's metadata also has an edge for `ring?/alloc`, which applies only if ring is used anyway.
fn is_turned_on(name: &Value, node: &Value, package: &Value) -> bool {
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let features = strings(&node["features"]);
    let mut asked: Vec<&str> =
        features.iter().flat_map(|on| strings(&package["features"][*on])).collect();
    // A dependency that no feature names is a feature itself.
    asked.extend(&features);
    dependencies.iter().filter(|it| it["name"] == *name).any(|it| {
        let key = it["rename"].as_str().or_else(|| it["name"].as_str()).unwrap_or_default();
        it["optional"].as_bool() != Some(true)
            || asked.iter().any(|asked| {
                let asked = asked.strip_prefix("dep:").unwrap_or(asked);
                asked.split('/').next() == Some(key)
            })
    })
}

fn strings(json: &Value) -> Vec<&str> {
    json.as_array().map(|it| it.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_dependencies_are_links_when_a_feature_asks_for_them() {
        let package: Value = serde_json::from_str(
            r#"{"dependencies": [
                {"name": "always"}, {"name": "ring", "optional": true},
                {"name": "rustls-pki-types", "rename": "pki", "optional": true}],
              "features": {"ring": ["dep:ring"], "alloc": ["ring?/alloc", "pki?/alloc"],
                "more": ["pki/std"], "all": ["ring", "more"]}}"#,
        )
        .unwrap();
        for (features, on) in [
            ("[]", [true, false, false]),
            (r#"["alloc"]"#, [true, false, false]),
            (r#"["alloc", "ring"]"#, [true, true, false]),
            (r#"["more"]"#, [true, false, true]),
            (r#"["all", "ring", "more"]"#, [true, true, true]),
        ] {
            let node: Value =
                serde_json::from_str(&format!(r#"{{"features": {features}}}"#)).unwrap();
            let found = ["always", "ring", "rustls-pki-types"]
                .map(|name| is_turned_on(&Value::from(name), &node, &package));
            assert_eq!(found, on, "{features}");
        }
    }
}
