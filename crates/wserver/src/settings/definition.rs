//! What one setting is, but for its type: its name in each place, its help, how it is written.

/// The tables of the file: `NAME_KEY` is the setting `KEY` in the table `[NAME]`. All others stand
/// at the top, because a table for the sake of order would give a setting a second name.
pub(crate) const TABLES: &[&str] = &["callback", "cluster", "jwt", "push_jwt"];

/// All there is to know about one setting, but its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// Its lines, each with the space behind the slashes.
    doc: &'static [&'static str],
    /// What it is shown under.
    pub(crate) heading: &'static str,
    /// As a flag would have it.
    pub(crate) default: Option<&'static str>,
    pub(crate) form: Form,
    pub(crate) short: Option<char>,
    pub(crate) on_reload: OnReload,
}

/// What a reload does about a setting that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnReload {
    Applied,
    /// Applied, unless everybody may listen before or after: that is decided at the start.
    AppliedToListeners,
    /// Applied, unless everybody may push before or after.
    AppliedToPublishers,
    NeedsRestart,
}

impl Definition {
    pub(crate) const fn new(
        name: &'static str,
        doc: &'static [&'static str],
        heading: &'static str,
        default: Option<&'static str>,
        form: Form,
    ) -> Self {
        Self { name, doc, heading, default, form, short: None, on_reload: OnReload::NeedsRestart }
    }

    /// The same, with a flag of one letter.
    pub(crate) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// The same, applied by a reload.
    pub(crate) const fn reloads(self) -> Self {
        Self { on_reload: OnReload::Applied, ..self }
    }

    /// The same, one of those that say who may listen, applied by a reload.
    pub(crate) const fn reloads_listeners(self) -> Self {
        Self { on_reload: OnReload::AppliedToListeners, ..self }
    }

    /// The same, one of those that say who may push, applied by a reload.
    pub(crate) const fn reloads_publishers(self) -> Self {
        Self { on_reload: OnReload::AppliedToPublishers, ..self }
    }

    /// What it is, in one line.
    pub(crate) fn doc(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// Its flag, without the two dashes.
    pub(crate) fn long(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its key in the file, where `tables` are the tables of the file.
    pub(crate) fn key_in<'a>(&self, tables: &[&'a str]) -> (Option<&'a str>, &'static str) {
        let inner = |table: &'a str| {
            let key = self.name.strip_prefix(table)?.strip_prefix('_')?;
            Some((Some(table), key))
        };
        tables.iter().copied().find_map(inner).unwrap_or((None, self.name))
    }

    /// Its key in the file, from the top.
    pub(crate) fn key(&self) -> String {
        match self.key_in(TABLES) {
            (Some(table), key) => format!("{table}.{key}"),
            (None, key) => key.to_owned(),
        }
    }

    /// Its environment variable.
    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// What every environment variable of ours begins with.
pub(crate) const VARIABLE_PREFIX: &str = "WSERVER_";

/// The environment variable of `name`.
pub(crate) fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", name.to_uppercase())
}

/// A kind without its type: what flags, file and documentation need to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// What stands for a value in the help.
    pub(crate) value_name: &'static str,
    /// How to write it, as an imperative.
    pub(crate) accepted: &'static str,
    pub(crate) shape: Shape,
    /// Which types of TOML may hold it, by the names the library gives them.
    pub(crate) toml: &'static [&'static str],
    /// What the default file shows where there is no default.
    pub(crate) example: &'static str,
    /// What a record is made of; nothing for all other shapes.
    pub(crate) members: &'static [Definition],
}

/// What flags and the reload make of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    One,
    List,
    /// A flag alone means true.
    Switch,
    /// A file whose changes are waited for.
    File,
    /// In the environment only, and never shown.
    Secret,
    /// What might be a key by mistake, and is never repeated to whoever gave it.
    Hidden,
    /// Tables of one name, in the file only.
    Records,
}

/// One with a line of text in the file, and nothing else.
pub(crate) const fn form(value_name: &'static str, accepted: &'static str, shape: Shape) -> Form {
    Form { value_name, accepted, shape, toml: &["string"], example: "\"…\"", members: &[] }
}

impl Form {
    pub(crate) const fn in_toml(self, toml: &'static [&'static str]) -> Self {
        Self { toml, ..self }
    }

    pub(crate) const fn like(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}
