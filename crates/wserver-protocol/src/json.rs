//! Reads string members of one JSON object, by the rules of the Go ancestor.
//!
//! This file knows how to match and when to refuse; the caller names the members it wants. Other
//! members are checked and dropped, never kept.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};

use crate::JsonError;

/// Reads the members called `names` from the first JSON value of `input`.
///
/// A member that is absent or `null` is the empty string. Names match in any case, the last of
/// duplicates wins, and a `null` leaves an earlier value in place. Everything after the object is
/// ignored. A string without escapes is borrowed from `input`. `names` are lower-case ASCII or
/// match as if they were; errors spell them as given.
pub(crate) fn read_strings<'a, const N: usize>(
    input: &'a [u8],
    names: &[&'static str; N],
) -> Result<[Cow<'a, str>; N], JsonError> {
    if !is_object(input) {
        return Err(JsonError::NotAnObject);
    }
    let mut members =
        Members { names, texts: [const { Cow::Borrowed("") }; N], not_a_string: None };
    // There is no call to `end`, because only the first value of the input counts. UTF-8 is checked
    // once for the whole input, and not again for each string.
    let read = match std::str::from_utf8(input) {
        Ok(text) => serde_json::Deserializer::from_str(text).deserialize_map(&mut members),
        Err(_) => serde_json::Deserializer::from_slice(input).deserialize_map(&mut members),
    };
    read.map_err(|error| syntax(input, &error))?;
    match members.not_a_string {
        Some(field) => Err(JsonError::NotAString { field }),
        None => Ok(members.texts),
    }
}

/// Whether the first thing that is not white space opens an object.
pub(crate) fn is_object(input: &[u8]) -> bool {
    let first = input.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    first == Some(&b'{')
}

/// Turns the parser's line and column into a byte position, and strips them from its words.
///
/// The words are fixed texts of the parser: no visitor here raises an error, which would be the
/// only way for input to get into them.
fn syntax(input: &[u8], error: &serde_json::Error) -> JsonError {
    let (byte, problem) = place(input, error);
    JsonError::Syntax { byte, problem: problem.into() }
}

/// The position of the byte where the parser noticed a problem, counted from 1, and its words.
pub(crate) fn place(input: &[u8], error: &serde_json::Error) -> (usize, String) {
    let line_ends = input.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let mut line_starts = std::iter::once(0).chain(line_ends.map(|(at, _)| at + 1));
    let line_start = line_starts.nth(error.line().saturating_sub(1)).unwrap_or(0);
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" at line ") {
        text.truncate(at);
    }
    (line_start + error.column(), text)
}

/// Whether `key` is `name` under Unicode's simple case folding, as Go's `encoding/json` matches.
///
/// Only two characters beyond ASCII fold into it: U+017F to `s` and U+212A to `k`.
fn matches(key: &str, name: &str) -> bool {
    if key.eq_ignore_ascii_case(name) {
        return true;
    }
    // Only what is not ASCII can still fold into it.
    if key.is_ascii() {
        return false;
    }
    let mut folded = key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        _ => c.to_ascii_lowercase(),
    });
    name.chars().all(|c| folded.next() == Some(c.to_ascii_lowercase())) && folded.next().is_none()
}

/// The wanted members found so far.
struct Members<'n, 'a, const N: usize> {
    names: &'n [&'static str; N],
    texts: [Cow<'a, str>; N],
    /// The first member of a wrong type. The object is still read to its end, so that input that is
    /// not JSON at all is reported as such.
    not_a_string: Option<&'static str>,
}

impl<'a, const N: usize> Visitor<'a> for &mut Members<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(wanted) = map.next_key_seed(Key(self.names))? {
            let value = map.next_value_seed(match wanted {
                Some(_) => Value::Keep,
                None => Value::Skip,
            })?;
            match (wanted, value) {
                (None, _) | (_, Read::Null) => {}
                (Some(at), Read::Text(text)) => self.texts[at] = text,
                (Some(at), Read::Other) => {
                    self.not_a_string.get_or_insert(self.names[at]);
                }
            }
        }
        Ok(())
    }
}

/// Reads a key as its place among the names, without keeping it.
struct Key<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, de: D) -> Result<Option<usize>, D::Error> {
        de.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        // Nearly every key is spelled as it is in the documentation.
        let exactly = self.0.iter().position(|name| *name == key);
        Ok(exactly.or_else(|| self.0.iter().position(|name| matches(key, name))))
    }
}

/// Reads any value, to keep it if it is a string or only to pass it.
///
/// Passing reads in full as well, so that nesting is bounded and UTF-8 and surrogates are checked
/// in what is ignored too; `serde::de::IgnoredAny` would do neither.
#[derive(Clone, Copy)]
enum Value {
    Keep,
    Skip,
}

enum Read<'a> {
    Text(Cow<'a, str>),
    Null,
    Other,
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Read<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, de: D) -> Result<Read<'de>, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Read<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Read<'de>, E> {
        Ok(Read::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Read<'de>, E> {
        Ok(match self {
            Self::Keep => Read::Text(Cow::Owned(text.to_owned())),
            Self::Skip => Read::Other,
        })
    }

    fn visit_unit<E>(self) -> Result<Read<'de>, E> {
        Ok(Read::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read<'de>, E> {
        Ok(Read::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Read<'de>, A::Error> {
        while seq.next_element_seed(Self::Skip)?.is_some() {}
        Ok(Read::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read<'de>, A::Error> {
        while map.next_key_seed(Key(&[]))?.is_some() {
            map.next_value_seed(Self::Skip)?;
        }
        Ok(Read::Other)
    }
}
