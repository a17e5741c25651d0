//! How a setting is read from what the layers give: the strongest holds, every one is checked.
//!
//! It knows neither where a layer comes from nor which settings and kinds there are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::definition::{Definition, Form, Shape};

/// Maximum length of a value in a message; the rest is cut off.
pub(crate) const SHOWN_CHARS_MAX: usize = 80;

/// Where an effective value comes from.
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
    pub(crate) fn new(texts: Vec<OsString>, origin: Origin) -> Self {
        let shown = Shown(&texts.join(",".as_ref()).to_string_lossy()).to_string();
        Self { texts, shown, origin, records: None }
    }

    /// The message about a value that is not of its kind.
    pub(crate) fn mismatch(&self, definition: &Definition) -> String {
        let place = self.origin.place(definition).unwrap_or_default();
        let Definition { name, form, .. } = definition;
        match form.shape {
            Shape::Secret | Shape::Hidden | Shape::Records => {
                format!("{place}: {name} cannot be used: {}", form.accepted)
            }
            _ => format!("{place}: {name} is {}: {}", self.shown, form.accepted),
        }
    }
}

/// How the values of one setting are written.
pub(crate) trait Kind {
    /// What the program gets.
    type Value;
    /// What a person is told.
    const FORM: Form;

    /// The value of these texts: one, or for a [`Shape::List`] any number. `None` when they are not of this kind.
    fn parse(texts: &[OsString]) -> Option<Self::Value>;

    /// The value where nothing is given and there is no default.
    fn unset() -> Option<Self::Value> {
        None
    }

    /// The value as the file has it; `None` when it is unset or a secret.
    fn show(value: &Self::Value) -> Option<String>;

    /// The value of what one layer gives, and how it is shown; `None` when that is a problem.
    fn read(
        given: Given,
        definition: &Definition,
        problems: &mut Vec<String>,
    ) -> Option<(Self::Value, Option<String>)> {
        let Some(value) = Self::parse(&given.texts) else {
            problems.push(given.mismatch(definition));
            return None;
        };
        let shown = Self::show(&value);
        Some((value, shown))
    }
}

/// A struct whose fields are settings.
pub(crate) trait Record: Sized {
    const DEFINITIONS: &'static [Definition];

    /// Takes every field from the layers; `None` when one of them could not be read, which they keep as a problem.
    fn read(layers: &mut Layers) -> Option<Self>;
}

/// What all layers give, while records are read from it.
#[derive(Debug)]
pub(crate) struct Layers {
    definitions: Vec<&'static Definition>,
    /// By setting, with the strongest layer last.
    given: BTreeMap<&'static str, Vec<Given>>,
    /// The prefix of a message about a missing setting.
    place: String,
    pub(crate) effective: Vec<Effective>,
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
    /// What all of them give for these settings, the strongest last; with what is known to be wrong.
    pub(crate) fn new(
        definitions: Vec<&'static Definition>,
        given: BTreeMap<&'static str, Vec<Given>>,
        problems: Vec<String>,
    ) -> Self {
        Self { definitions, given, place: String::new(), effective: Vec::new(), problems }
    }

    /// One table of the file that is a record by itself.
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
            self.problems.push(format!("{}{name} is missing: {}", self.place, form.accepted));
            return None;
        };
        self.effective.push(Effective { definition, shown, origin, file });
        Some(value)
    }

    /// Whether every setting that was given has been asked for.
    pub(crate) fn is_read(&self) -> bool {
        self.given.is_empty()
    }

    /// What was read, as an inline table of the file.
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

/// The name that was most likely meant by `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Typing errors have a higher likeness than this, unrelated names a lower one.
    const LIKENESS_MIN: f64 = 0.7;
    known
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}
