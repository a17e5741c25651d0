//! Flags over environment over file over default: what each says, and which one holds.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::define::{Definition, Record, VARIABLE_PREFIX, variable};
use super::file;
use super::kind::{Kind, Shape};
use super::problem::Problem;
use super::{Limits, Settings, TABLES, definitions};

/// Beyond it what was given is cut off in messages.
pub(crate) const SHOWN_CHARS_MAX: usize = 80;

/// The name of the file's own flag and variable, which is no setting: a file cannot name itself.
pub(crate) const CONFIG: &str = "config";

/// The name of the listening tool's variable, which is no setting either.
const TOKEN: &str = "token";

/// Where an effective value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { path: Arc<Path>, line: usize },
    Environment,
    Flag,
}

impl Origin {
    /// Where a person finds what `definition` was given; `None` for a default.
    pub(crate) fn place(&self, definition: &Definition) -> Option<String> {
        match self {
            Self::Default => None,
            Self::File { path, line } => Some(format!("{}:{line}", path.display())),
            Self::Environment => Some(definition.variable()),
            Self::Flag => Some(format!("--{}", definition.long())),
        }
    }
}

/// One value as one layer gives it.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) texts: Vec<OsString>,
    /// As it stands there, for messages.
    pub(crate) shown: String,
    pub(crate) origin: Origin,
    /// The tables, where it is an array of them.
    pub(crate) records: Option<Vec<Layers>>,
}

impl Given {
    fn new(texts: Vec<OsString>, origin: Origin) -> Self {
        let shown = Shown(&texts.join(",".as_ref()).to_string_lossy()).to_string();
        Self { texts, shown, origin, records: None }
    }

    /// What is said about a value that is not of its kind.
    pub(crate) fn mismatch(&self, definition: &Definition) -> String {
        let place = self.origin.place(definition).unwrap_or_default();
        let Definition { name, form, .. } = definition;
        match form.shape {
            Shape::Secret | Shape::Hidden | Shape::Records => {
                format!("{place}: {name} cannot be used, {}", form.accepted)
            }
            _ => format!("{place}: {name} is {}, {}", self.shown, form.accepted),
        }
    }
}

/// What all layers give, while records are read from it.
#[derive(Debug)]
pub(crate) struct Layers {
    definitions: Vec<&'static Definition>,
    /// By setting, the strongest last.
    given: BTreeMap<&'static str, Vec<Given>>,
    /// What stands before the name of a setting that is missing.
    place: String,
    effective: Vec<Effective>,
    pub(crate) problems: Vec<String>,
}

/// One setting as it holds.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    pub(crate) definition: &'static Definition,
    /// As the file would have it; `None` when it is unset, or a secret.
    pub(crate) shown: Option<String>,
    pub(crate) origin: Origin,
    /// The file, if the setting names one.
    pub(crate) file: Option<PathBuf>,
}

impl Layers {
    /// One table of the file that is a record by itself.
    pub(crate) fn table(
        definitions: Vec<&'static Definition>,
        given: BTreeMap<&'static str, Given>,
        place: String,
    ) -> Self {
        let given = given.into_iter().map(|(name, given)| (name, vec![given])).collect();
        Self { definitions, given, place, effective: Vec::new(), problems: Vec::new() }
    }

    /// The value of the setting `name`. What any layer gives is checked, that of the strongest holds.
    pub(crate) fn read<K: Kind>(&mut self, name: &'static str) -> Option<K::Value> {
        let definition = *self.definitions.iter().find(|it| it.name == name)?;
        let given = self.given.remove(name).unwrap_or_default();
        let default = definition.default.map(|text| Given::new(vec![text.into()], Origin::Default));
        let problems = self.problems.len();
        let mut held = K::unset().map(|value| (value, None));
        let mut origin = Origin::Default;
        let mut file = None;
        for given in default.into_iter().chain(given) {
            origin = given.origin.clone();
            let text = given.texts.last().filter(|_| definition.form.shape == Shape::File);
            file = text.map(PathBuf::from);
            held = K::read(given, definition, &mut self.problems);
        }
        if self.problems.len() > problems {
            return None;
        }
        let Some((value, shown)) = held else {
            let Definition { form, .. } = definition;
            self.problems.push(format!("{}{name} is missing, {}", self.place, form.accepted));
            return None;
        };
        self.effective.push(Effective { definition, shown, origin, file });
        Some(value)
    }

    /// What was read, as an inline table of the file.
    pub(crate) fn shown_inline(&self) -> String {
        let members = self.effective.iter().filter_map(|it| {
            it.shown.as_ref().map(|shown| format!("{} = {shown}", it.definition.name))
        });
        format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
    }
}

/// Text of a stranger to the program, quoted, escaped and cut off.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

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
                    "--{}: {} is a secret, and every user of the machine can read a program's flags: \
                     choose another, and set {}",
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
        let mut layers = Layers {
            definitions: definitions().collect(),
            given,
            place: String::new(),
            effective: Vec::new(),
            problems,
        };
        let settings = Settings::read(&mut layers);
        let limits = Limits::read(&mut layers);
        debug_assert!(layers.given.is_empty(), "every setting is a field of a record");
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
                let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
                format!(
                    "environment variable {} looks like a setting, but there is none of this name{hint}",
                    Shown(name)
                )
            })
            .collect()
    }
}

/// The name that was most likely meant by `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// What strangers' typing errors stay above, and unrelated names below.
    const LIKENESS_MIN: f64 = 0.7;
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

impl Loaded {
    /// Every setting as it is when nothing is given.
    pub(crate) fn defaults() -> Self {
        let nothing =
            Sources { flags: BTreeMap::new(), config: None, environment: BTreeMap::new() };
        nothing.load().expect("the defaults can be read, a test reads them")
    }

    /// `problem`, behind the places where the settings that it is about were given.
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
