//! Reads request bodies strictly, with errors that say which field is wrong and where.
//!
//! An error repeats no part of the body except the name of an unknown field, escaped and truncated:
//! a value may be a secret, and the parser's own words would quote it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};

use crate::json;

/// The most items of a list in a request, whatever the settings: it limits a list before its items
/// are known.
pub const LIST_ITEMS_MAX: usize = 65_536;

/// The most bytes of a field's name that an error repeats.
const FIELD_BYTES_MAX: usize = 100;

/// Why a body is refused, as one line of visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {problem}", .field.as_deref().unwrap_or("the body"))]
#[non_exhaustive]
pub struct BodyError {
    /// The field that is wrong, for example `users[2]`; `None` if the body as a whole is.
    pub field: Option<String>,
    /// What is wrong with it, for example `is empty`.
    pub problem: String,
}

impl BodyError {
    /// An error for `field` with this problem, for example `is empty`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: Some(field.into()), problem: problem.into() }
    }

    pub(super) fn whole(problem: impl Into<String>) -> Self {
        Self { field: None, problem: problem.into() }
    }

    /// The same error for a field that is inside `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        let field = match self.field {
            Some(field) => format!("{outer}.{field}"),
            None => outer.to_owned(),
        };
        Self { field: Some(field), ..self }
    }
}

/// Reads the whole of `input` as one object.
pub(super) fn parse<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, BodyError> {
    // serde would also accept a list of values in the order of the fields.
    if !json::is_object(input) {
        return Err(BodyError::whole("must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(input);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| refused(input, &error.path().to_string(), error.inner()))?;
    deserializer.end().map_err(|error| refused(input, ".", &error))?;
    Ok(value)
}

fn refused(input: &[u8], path: &str, error: &serde_json::Error) -> BodyError {
    let (byte, words) = json::place(input, error);
    if !error.is_data() {
        return BodyError::whole(format!("is not JSON, at byte {byte}: {words}"));
    }
    let field = (path != ".").then(|| visible(path));
    // Only our own part of the words is repeated, which says what was expected and comes last.
    let quoted = |prefix: &str| {
        let rest = words.strip_prefix(prefix)?;
        rest.rsplit_once('`').map(|(name, _)| name).or(Some(rest))
    };
    if words.starts_with("unknown field `") {
        let known = words.rsplit_once("`, expected ").map_or("none", |(_, known)| known);
        return BodyError {
            field,
            problem: format!(
                "is not a known field, at byte {byte}: expected {}",
                known.replace('`', "")
            ),
        };
    }
    if let Some(name) = quoted("missing field `") {
        let name = match field {
            Some(outer) => format!("{outer}.{name}"),
            None => name.to_owned(),
        };
        return BodyError::new(name, "is missing");
    }
    if let Some(name) = quoted("duplicate field `") {
        return BodyError::new(name, format!("comes twice, at byte {byte}"));
    }
    let expected = match words.rsplit_once(", expected ") {
        Some((_, "f64")) => "a number",
        Some((_, expected)) => expected,
        None => "something else",
    };
    BodyError { field, problem: format!("must be {expected}, at byte {byte}") }
}

/// The text as one line of visible ASCII, truncated.
fn visible(text: &str) -> String {
    let mut shown = text.escape_default().to_string();
    if shown.len() > FIELD_BYTES_MAX {
        shown.truncate(FIELD_BYTES_MAX);
        shown.push_str("...");
    }
    shown
}

/// A field that may be absent, but not `null`.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The same for a list of at most [`LIST_ITEMS_MAX`] items.
pub(super) fn present_list<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    list(deserializer).map(Some)
}

/// A list of at most [`LIST_ITEMS_MAX`] items.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {LIST_ITEMS_MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == LIST_ITEMS_MAX {
                return Err(serde::de::Error::invalid_length(items.len() + 1, &self));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// Reads an answer leniently, as a client does.
pub(super) fn parse_answer<T: DeserializeOwned>(input: &[u8]) -> Result<T, BodyError> {
    parse(input)
}
