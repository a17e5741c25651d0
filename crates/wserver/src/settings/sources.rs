//! Flags over environment over file over default: everything that is given, read, and what holds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::definition::{Shape, TABLES, VARIABLE_PREFIX, variable};
use super::file;
use super::layers::{Effective, Given, Layers, Origin, Record, Shown, nearest};
use super::problem::Problem;
use super::table::{Limits, Settings, definitions};

/// The name of the file's own flag and variable, which is no setting: a file cannot name itself.
pub(crate) const CONFIG: &str = "config";

/// The name of the listening tool's variable, which is no setting either.
const TOKEN: &str = "token";

/// Where settings are read from, kept so that they can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The command line, by setting.
    pub(crate) flags: BTreeMap<&'static str, Vec<OsString>>,
    /// The file the command line names.
    pub(crate) config: Option<PathBuf>,
    /// The variables whose names begin as ours do.
    pub(crate) environment: BTreeMap<String, OsString>,
}

/// Settings that were read, each of which may be; whether they fit together is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) effective: Vec<Effective>,
    /// The file they were read from.
    pub(crate) config: Option<PathBuf>,
    /// What is not wrong, and most likely not meant.
    pub(crate) warnings: Vec<String>,
}

impl Sources {
    /// The command line's part, and the environment of this process.
    pub(crate) fn new(
        flags: BTreeMap<&'static str, Vec<OsString>>,
        config: Option<PathBuf>,
    ) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect();
        Self { flags, config, environment }
    }

    /// The settings file, wherever it is named.
    pub(crate) fn config(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| self.environment.get(&variable(CONFIG)).map(PathBuf::from))
    }

    /// Reads every layer.
    ///
    /// # Errors
    /// All problems, not only the first.
    pub(crate) fn load(&self) -> Result<Loaded, Vec<String>> {
        let mut given: BTreeMap<&'static str, Vec<Given>> = BTreeMap::new();
        let mut problems = Vec::new();
        let config = self.config();
        if let Some(path) = &config {
            for (name, value) in
                file::read(path, &definitions().collect::<Vec<_>>(), TABLES, &mut problems)
            {
                given.entry(name).or_default().push(value);
            }
        }
        for definition in definitions() {
            let variable = self.environment.get(&definition.variable());
            let flag = self.flags.get(definition.name);
            if flag.is_some() && definition.form.shape == Shape::Secret {
                problems.push(format!(
                    "--{}: {} is a secret, and every user of this machine can read a program's \
                     flags: choose another, and set {} in the environment",
                    definition.long(),
                    definition.name,
                    definition.variable()
                ));
                continue;
            }
            let layers = given.entry(definition.name).or_default();
            layers.extend(variable.map(|text| Given::new(vec![text.clone()], Origin::Environment)));
            layers.extend(flag.map(|texts| Given::new(texts.clone(), Origin::Flag)));
        }
        let mut layers = Layers::new(definitions().collect(), given, problems);
        let settings = Settings::read(&mut layers);
        let limits = Limits::read(&mut layers);
        debug_assert!(layers.is_read(), "every setting is a field of a record");
        match (settings, limits) {
            (Some(settings), Some(limits)) if layers.problems.is_empty() => Ok(Loaded {
                settings,
                limits,
                effective: layers.effective,
                config,
                warnings: self.unknown_variables(),
            }),
            _ => Err(layers.problems),
        }
    }

    /// Variables that begin as ours do and are none of ours: misspelt, most likely.
    ///
    /// They are no error, because service managers set variables named after a service.
    pub(super) fn unknown_variables(&self) -> Vec<String> {
        let known: Vec<&str> = definitions().map(|it| it.name).chain([CONFIG, TOKEN]).collect();
        let lower = |variable: &String| variable[VARIABLE_PREFIX.len()..].to_lowercase();
        let unknown =
            self.environment.keys().filter(|variable| !known.contains(&&*lower(variable)));
        unknown
            .map(|name| {
                let meant = nearest(&lower(name), known.iter().copied()).map(variable);
                let hint =
                    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                format!(
                    "environment variable {} looks like a setting, but no setting has this \
                     name{hint}",
                    Shown(name)
                )
            })
            .collect()
    }
}

impl Loaded {
    /// Every setting as it is when nothing is given.
    pub(crate) fn defaults() -> Self {
        let nothing =
            Sources { flags: BTreeMap::new(), config: None, environment: BTreeMap::new() };
        nothing.load().expect("the defaults can be read, a test reads them")
    }

    /// `problem`, behind the places of the settings that it is about.
    pub(crate) fn placed(&self, problem: &Problem) -> String {
        let mut places = Vec::new();
        for name in problem.settings() {
            let named = self.effective(name);
            let place = named.and_then(|it| it.origin.place(it.definition));
            places.extend(place.filter(|place| !places.contains(place)));
        }
        if places.is_empty() {
            problem.to_string()
        } else {
            format!("{}: {problem}", places.join(", "))
        }
    }

    /// Where the setting `name` comes from.
    pub(crate) fn effective(&self, name: &str) -> Option<&Effective> {
        self.effective.iter().find(|it| it.definition.name == name)
    }

    /// Every file that was read or will be.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let named = self.effective.iter().filter_map(|it| it.file.as_deref());
        self.config.as_deref().into_iter().chain(named)
    }
}
