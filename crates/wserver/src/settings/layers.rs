//! The layers of settings: flags override the environment, the environment overrides the file, and
//! the file overrides the default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wserver_warp::LimitSettings;

use super::define::{Definition, Record, VARIABLE_PREFIX, variable};
use super::file;
use super::kind::{Kind, Shape};
use super::{Settings, TABLES, definitions};

/// Maximum length of a value in a message; the rest is cut off.
pub(crate) const SHOWN_CHARS_MAX: usize = 80;

/// The name of the file's own flag and variable. It is not a setting, because a file cannot name
/// itself.
pub(crate) const CONFIG: &str = "config";

/// The name of the variable of `wserver listen`, which is not a setting either.
const TOKEN: &str = "token";

/// The source of an effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { path: Arc<Path>, line: usize },
    Environment,
    Flag,
}

impl Origin {
    /// The place where a person finds the value of `definition`; `None` for a default.
    pub(crate) fn place(&self, definition: &Definition) -> Option<String> {
        match self {
            Self::Default => None,
            Self::File { path, line } => Some(format!("{}:{line}", path.display())),
            Self::Environment => Some(definition.variable()),
            Self::Flag => Some(format!("--{}", definition.long())),
        }
    }
}

/// One value from one layer.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) texts: Vec<OsString>,
    /// As the layer has it, for messages.
    pub(crate) shown: String,
    pub(crate) origin: Origin,
    /// The tables, if the value is an array of tables.
    pub(crate) records: Option<Vec<Layers>>,
}

impl Given {
    fn new(texts: Vec<OsString>, origin: Origin) -> Self {
        let shown = Shown(&texts.join(",".as_ref()).to_string_lossy()).to_string();
        Self { texts, shown, origin, records: None }
    }

    /// The message about a value that is not of its kind.
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

/// The values of all layers, from which records are read.
#[derive(Debug)]
pub(crate) struct Layers {
    definitions: Vec<&'static Definition>,
    /// By setting, with the strongest layer last.
    given: BTreeMap<&'static str, Vec<Given>>,
    /// The prefix of a message about a missing setting.
    place: String,
    effective: Vec<Effective>,
    pub(crate) problems: Vec<String>,
}

/// One setting in force.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    pub(crate) definition: &'static Definition,
    /// In the form of the file; `None` if it is unset or a secret.
    pub(crate) shown: Option<String>,
    pub(crate) origin: Origin,
    /// The file, if the setting names one.
    pub(crate) file: Option<PathBuf>,
}

impl Layers {
    /// One table of the file that is a record of its own.
    pub(crate) fn table(
        definitions: Vec<&'static Definition>,
        given: BTreeMap<&'static str, Given>,
        place: String,
    ) -> Self {
        let given = given.into_iter().map(|(name, given)| (name, vec![given])).collect();
        Self { definitions, given, place, effective: Vec::new(), problems: Vec::new() }
    }

    /// Reads the setting `name`. It checks the value of every layer, and returns the value of the
    /// strongest.
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

    /// The values that were read, as an inline table of the file.
    pub(crate) fn shown_inline(&self) -> String {
        let members = self.effective.iter().filter_map(|it| {
            it.shown.as_ref().map(|shown| format!("{} = {shown}", it.definition.name))
        });
        format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
    }
}

/// Text from outside the program: quoted, escaped and truncated.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// The sources of settings, kept so that a reload can read them again.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The values on the command line, by setting.
    pub(crate) flags: BTreeMap<&'static str, Vec<OsString>>,
    /// The file that the command line names.
    pub(crate) config: Option<PathBuf>,
    /// The variables with our prefix.
    pub(crate) environment: BTreeMap<String, OsString>,
}

/// Settings that were read and are each valid; whether they fit together is not yet known.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) limits: LimitSettings,
    pub(crate) effective: Vec<Effective>,
    /// The file they were read from.
    pub(crate) config: Option<PathBuf>,
    /// What is not wrong, but probably not meant.
    pub(crate) warnings: Vec<String>,
}

impl Sources {
    /// The values on the command line, and the environment of this process.
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

    /// The settings file, from whichever source names it.
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
        let limits = LimitSettings::read(&mut layers);
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

    /// Variables with our prefix that are not ours, and are probably misspelt.
    ///
    /// They are not errors, because service managers set variables named after a service.
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

/// The known name that `name` most probably means.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Typing errors have a higher likeness than this, unrelated names a lower one.
    const LIKENESS_MIN: f64 = 0.7;
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

impl Loaded {
    /// All settings with their defaults.
    pub(crate) fn defaults() -> Self {
        let nothing =
            Sources { flags: BTreeMap::new(), config: None, environment: BTreeMap::new() };
        nothing.load().expect("the defaults can be read, a test reads them")
    }

    /// `problem`, behind the places of the settings that it names.
    pub(crate) fn placed(&self, problem: &str) -> String {
        let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        let mut places = Vec::new();
        for word in problem.split(|letter| !is_name(letter)) {
            let named = self.effective.iter().find(|it| it.definition.name == word);
            let place = named.and_then(|it| it.origin.place(it.definition));
            places.extend(place.filter(|place| !places.contains(place)));
        }
        if places.is_empty() {
            problem.to_owned()
        } else {
            format!("{}: {problem}", places.join(", "))
        }
    }

    /// The effective setting `name`.
    pub(crate) fn effective(&self, name: &str) -> Option<&Effective> {
        self.effective.iter().find(|it| it.definition.name == name)
    }

    /// Every file that the server has read or will read.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let named = self.effective.iter().filter_map(|it| it.file.as_deref());
        self.config.as_deref().into_iter().chain(named)
    }
}
