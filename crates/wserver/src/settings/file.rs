//! The settings file: TOML, read with the line of every value; an unknown key is reported with the
//! key that was probably meant.
//!
//! This module knows neither flags nor the environment, and of a value only which TOML types can
//! hold it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::files;

use super::definition::{Definition, Shape};
use super::layers::{Given, Layers, Origin, SHOWN_CHARS_MAX, Shown, nearest};

/// A larger file was named by mistake.
const BYTES_MAX: u64 = 1024 * 1024;

/// The library's messages about text without quotes, which it takes for the beginning of another
/// value.
const UNQUOTED: [&str; 3] = ["string values must be quoted", "invalid float", "invalid boolean"];

/// The values in the file at `path`, by setting; adds what is wrong with the file to `problems`.
pub(crate) fn read(
    path: &Path,
    definitions: &[&'static Definition],
    tables: &[&str],
    problems: &mut Vec<String>,
) -> BTreeMap<&'static str, Given> {
    match text(path) {
        Ok(text) => parse(path, &text, definitions, tables, problems),
        Err(error) => {
            let what = if path.as_os_str().is_empty() {
                "config is empty: write the path of a file".to_owned()
            } else {
                format!("config {}: {error}", path.display())
            };
            problems.push(what);
            BTreeMap::new()
        }
    }
}

fn text(path: &Path) -> io::Result<String> {
    let bytes = files::read(path, BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|error| {
        let line = line(error.as_bytes(), error.utf8_error().valid_up_to());
        io::Error::other(format!("line {line} is not UTF-8"))
    })
}

/// The line, counted from 1, of the byte at `offset`.
fn line(text: &[u8], offset: usize) -> usize {
    1 + text.iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// Like [`read`], for text that was already read.
pub(crate) fn parse(
    path: &Path,
    text: &str,
    definitions: &[&'static Definition],
    tables: &[&str],
    problems: &mut Vec<String>,
) -> BTreeMap<&'static str, Given> {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    let mut reader =
        Reader { path: path.into(), text, definitions, tables, given: BTreeMap::new(), problems };
    if errors.is_empty() {
        reader.table(None, document.get_ref());
    }
    // Anything else that a broken file seems to say is guesswork. Show only the errors' own words,
    // because the line might contain a secret.
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    for error in errors {
        let mut what = error.message().replace('\n', ", ");
        if UNQUOTED.iter().any(|words| what.starts_with(words)) {
            "this is not a value: text, times, and sizes with a unit must be in quotes"
                .clone_into(&mut what);
        }
        reader.problem(error.span().unwrap_or_default(), &what);
    }
    reader.given
}

struct Reader<'a> {
    path: Arc<Path>,
    text: &'a str,
    definitions: &'a [&'static Definition],
    tables: &'a [&'a str],
    given: BTreeMap<&'static str, Given>,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// Takes the keys of a table, in the order of the file.
    fn table(&mut self, name: Option<&str>, table: &DeTable<'_>) {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in keys {
            match (name, value.get_ref()) {
                (None, DeValue::Table(inner)) if self.tables.contains(&&**key.get_ref()) => {
                    self.table(Some(key.get_ref()), inner);
                }
                _ => self.key(name, key, value),
            }
        }
    }

    fn key(
        &mut self,
        table: Option<&str>,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let known =
            self.definitions.iter().find(|it| it.key_in(self.tables) == (table, &**key.get_ref()));
        let Some(definition) = known.copied() else {
            return self.unknown(table, key, value);
        };
        let Definition { name, form, .. } = definition;
        if form.shape == Shape::Secret {
            let variable = definition.variable();
            let file = format!("{name}_file");
            let file = self.definitions.iter().find(|it| it.name == file);
            let file = file.map_or_else(String::new, |it| {
                format!("put it into a separate file and name that file with {}, or ", it.name)
            });
            return self.problem(
                key.span(),
                &format!(
                    "{name} is a secret and must not be in this file: {file}set {variable} in \
                          the environment"
                ),
            );
        }
        let type_name = value.get_ref().type_str();
        let shown = literal(self.text.get(value.span()).unwrap_or_default());
        let origin = Origin::File { path: Arc::clone(&self.path), line: self.line(&key.span()) };
        if form.shape == Shape::Records
            && let Some(records) = self.records(form.members, value.get_ref())
        {
            let given = Given { texts: Vec::new(), shown, origin, records: Some(records) };
            self.given.insert(name, given);
            return;
        }
        let is_fit = form.toml.contains(&type_name) && form.shape != Shape::Records;
        if let Some(texts) = texts(value.get_ref()).filter(|_| is_fit) {
            self.given.insert(name, Given { texts, shown, origin, records: None });
            return;
        }
        let quotes = match (type_name, form.toml.contains(&"string")) {
            ("string", false) => ", without quotes",
            ("integer" | "float" | "boolean" | "datetime", true) => ", in quotes",
            _ => "",
        };
        let what = match form.shape {
            // The value could be a key.
            Shape::Hidden | Shape::Records => format!("{name} cannot be used: {}", form.accepted),
            _ => format!("{name} is {shown}: {}{quotes}", form.accepted),
        };
        self.problem(key.span(), &what);
    }

    /// The tables of an array that contains only tables.
    fn records(
        &mut self,
        members: &'static [Definition],
        value: &DeValue<'_>,
    ) -> Option<Vec<Layers>> {
        let tables = value.as_array()?.iter();
        let tables = tables.map(|item| Some((item.span(), item.get_ref().as_table()?)));
        let tables: Vec<_> = tables.collect::<Option<_>>()?;
        let mut records = Vec::new();
        for (span, table) in tables {
            let definitions: Vec<&Definition> = members.iter().collect();
            let mut reader = Reader {
                path: Arc::clone(&self.path),
                text: self.text,
                definitions: &definitions,
                tables: &[],
                given: BTreeMap::new(),
                problems: self.problems,
            };
            reader.table(None, table);
            let given = reader.given;
            let place = format!("{}:{}: ", self.path.display(), self.line(&span));
            records.push(Layers::table(definitions, given, place));
        }
        Some(records)
    }

    /// Reports a key that is not a setting. It does not show the value, because nobody knows what
    /// the value was meant to be.
    fn unknown(
        &mut self,
        table: Option<&str>,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let name = &**key.get_ref();
        let full = table.map_or_else(|| name.to_owned(), |table| format!("{table}_{name}"));
        // A name without `_file` is often meant as the setting of the file.
        let file = format!("{full}_file");
        let by_name = |name: &str| self.definitions.iter().find(|it| it.name == name).copied();
        let meant = [name, &full, &file].into_iter().find_map(by_name).or_else(|| {
            by_name(nearest(&full.to_lowercase(), self.definitions.iter().map(|it| it.name))?)
        });
        let inner = value.get_ref().as_table().filter(|_| table.is_none());
        let what = match (inner, meant.map(|it| it.key_in(self.tables))) {
            (Some(_), _) => {
                let tables = match self.tables {
                    [] => "all settings must be at the top, outside any table".to_owned(),
                    tables => format!("the tables are {}", tables.join(", ")),
                };
                format!("there is no table {}; {tables}", Shown(name))
            }
            _ if table.is_none() && self.tables.contains(&name) => {
                format!("{name} is a table: write [{name}], and its settings below it")
            }
            (None, Some((Some(table), meant))) => {
                format!(
                    "there is no setting {}; did you mean {meant} in the table [{table}]?",
                    Shown(name)
                )
            }
            (None, Some((None, meant))) if table.is_some() => format!(
                "there is no setting {} in this table; did you mean {meant}, which must be above \
                 all tables?",
                Shown(name)
            ),
            (None, Some((None, meant))) => {
                format!("there is no setting {}; did you mean {meant}?", Shown(name))
            }
            (None, None) => {
                let table =
                    table.map_or_else(String::new, |table| format!(" in the table [{table}]"));
                format!(
                    "there is no setting {}{table}; `wserver config` shows them all",
                    Shown(name)
                )
            }
        };
        self.problem(key.span(), &what);
    }

    fn line(&self, span: &Range<usize>) -> usize {
        line(self.text.as_bytes(), span.start)
    }

    fn problem(&mut self, span: Range<usize>, what: &str) {
        self.problems.push(format!("{}:{}: {what}", self.path.display(), self.line(&span)));
    }
}

/// A value as the file has it, on one line and truncated.
fn literal(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars().take(SHOWN_CHARS_MAX) {
        match letter {
            control if control.is_control() => shown.extend(control.escape_debug()),
            letter => shown.push(letter),
        }
    }
    shown.extend(text.chars().nth(SHOWN_CHARS_MAX).map(|_| '…'));
    shown
}

/// A value in the form of flags; `None` for a value that no flag can express.
fn texts(value: &DeValue<'_>) -> Option<Vec<OsString>> {
    Some(match value {
        DeValue::String(text) => vec![OsString::from(&**text)],
        DeValue::Integer(number) => {
            // A number that is too large for any setting is as wrong as no number.
            let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
            vec![number.to_string().into()]
        }
        DeValue::Boolean(is_on) => vec![is_on.to_string().into()],
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(OsString::from))
            .collect::<Option<_>>()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::definitions;

    /// The values in a file, or its problems, with `push_…` in a table [push].
    fn read(text: &str) -> Result<Vec<(&'static str, String)>, Vec<String>> {
        let definitions: Vec<_> = definitions().collect();
        let mut problems = Vec::new();
        let given = parse(Path::new("f"), text, &definitions, &["push"], &mut problems);
        let shown = |(name, given): (_, Given)| (name, given.shown);
        if problems.is_empty() { Ok(given.into_iter().map(shown).collect()) } else { Err(problems) }
    }

    #[test]
    fn a_table_is_a_part_of_the_name() {
        let expected = vec![("log", "'info'".to_owned()), ("push_path", "\"/x\"".to_owned())];
        for text in ["log = 'info'\n[push]\npath = \"/x\"", "push.path = \"/x\"\nlog = 'info'"] {
            assert_eq!(read(text).as_ref(), Ok(&expected), "{text}");
        }
        for (text, problem) in [
            (
                "push_path = '/x'",
                "f:1: there is no setting \"push_path\"; did you mean path in the table [push]?",
            ),
            (
                "[push]\npush_path = '/x'",
                "f:2: there is no setting \"push_path\"; did you mean path in the table [push]?",
            ),
            (
                "[push]\n\npaht = '/x'",
                "f:3: there is no setting \"paht\"; did you mean path in the table [push]?",
            ),
            (
                "[push]\nlog = 'info'",
                "f:2: there is no setting \"log\" in this table; did you mean log, which must be \
                 above all tables?",
            ),
            ("[pusj]\npath = '/x'", "f:1: there is no table \"pusj\"; the tables are push"),
            (
                "[push]\ncolour = 'x'",
                "f:2: there is no setting \"colour\" in the table [push]; `wserver config` shows them all",
            ),
            ("[push.path]", "f:1: push_path is [push.path]: write a path such as /ws"),
            (
                "[[push]]\npath = '/x'",
                "f:1: push is a table: write [push], and its settings below it",
            ),
        ] {
            assert_eq!(read(text), Err(vec![problem.to_owned()]), "{text}");
        }
    }

    /// Words that occur in settings files, so that nonsense looks like one.
    const WORDS: [&str; 20] = [
        "ping_interval",
        "origin",
        "push.path",
        "push",
        "log",
        "=",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        "\n",
        "\"x\"",
        "'''",
        "0x1F",
        "-1.5",
        "true",
        "# ä",
    ];

    proptest! {
        /// Whatever a file contains, each problem names its line and takes one line.
        #[test]
        fn any_text_is_read_or_told(
            words in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..30),
            noise in any::<String>(),
            at in any::<proptest::sample::Index>(),
        ) {
            let mut words = words.into_iter().map(str::to_owned).collect::<Vec<_>>();
            let _ = read(&words.join(" "));
            words.insert(at.index(words.len() + 1), noise);
            for text in [words.join(" "), words.join("\n")] {
                let Err(problems) = read(&text) else { continue };
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    let line = problem.strip_prefix("f:").and_then(|it| it.split(':').next()).unwrap();
                    prop_assert!((1..=text.matches('\n').count() + 1).contains(&line.parse().unwrap()));
                    prop_assert!(!problem.contains(char::is_control), "{:?}", problem);
                }
            }
        }
    }

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        assert_eq!(literal("\"\"\"a\nb\"\"\""), "\"\"\"a\\nb\"\"\"");
        let long = "ä".repeat(SHOWN_CHARS_MAX);
        assert_eq!(literal(&long), long);
        assert_eq!(literal(&format!("{long}ä")), format!("{long}…"));
    }
}
