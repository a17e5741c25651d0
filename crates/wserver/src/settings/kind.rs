//! Kinds of values: how flags, environment and file write each kind, and how the program shows it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use wserver_auth::PublisherKeyHash;
use wserver_warp::{ConnectionsPerUserPolicy, Patterns, TokenSource};

use super::definition::{Definition, Form, Shape, form};
use super::layers::{Given, Kind, Record};

const STRING: &str = "string";
const INTEGER: &str = "integer";
const BOOLEAN: &str = "boolean";
const ARRAY: &str = "array";

fn one(texts: &[OsString]) -> Option<&OsStr> {
    texts.last().map(OsString::as_os_str)
}

fn one_str(texts: &[OsString]) -> Option<&str> {
    one(texts)?.to_str()
}

/// A TOML basic string on one line, whatever the text contains.
fn quoted(text: impl AsRef<str>) -> Option<String> {
    let mut quoted = String::from('"');
    for letter in text.as_ref().chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    Some(quoted)
}

/// A setting that can be unset.
impl<K: Kind> Kind for Option<K> {
    type Value = Option<K::Value>;
    const FORM: Form = K::FORM;

    fn parse(texts: &[OsString]) -> Option<Self::Value> {
        K::parse(texts).map(Some)
    }

    fn unset() -> Option<Self::Value> {
        Some(None)
    }

    fn show(value: &Self::Value) -> Option<String> {
        value.as_ref().and_then(K::show)
    }

    fn read(
        given: Given,
        definition: &Definition,
        problems: &mut Vec<String>,
    ) -> Option<(Self::Value, Option<String>)> {
        K::read(given, definition, problems).map(|(value, shown)| (Some(value), shown))
    }
}

/// Any text.
pub(crate) struct Text;

impl Kind for Text {
    type Value = String;
    const FORM: Form = form("text", "write text in UTF-8", Shape::One);

    fn parse(texts: &[OsString]) -> Option<String> {
        one_str(texts).map(str::to_owned)
    }

    fn show(value: &String) -> Option<String> {
        quoted(value)
    }
}

/// The path of a URL; the server checks it.
pub(crate) struct WebPath;

impl Kind for WebPath {
    type Value = String;
    const FORM: Form = form("path", "write a path such as /ws", Shape::One);

    fn parse(texts: &[OsString]) -> Option<String> {
        Text::parse(texts)
    }

    fn show(value: &String) -> Option<String> {
        Text::show(value)
    }
}

/// Texts separated by commas; in the file also a list of strings.
pub(crate) struct List;

impl Kind for List {
    type Value = Vec<String>;
    const FORM: Form = form("list", "write a list, separated by commas", Shape::List)
        .in_toml(&[STRING, ARRAY])
        .like("[\"…\", \"…\"]");

    fn parse(texts: &[OsString]) -> Option<Vec<String>> {
        let mut list = Vec::new();
        for text in texts {
            list.extend(text.to_str()?.split(',').map(|item| item.trim().to_owned()));
        }
        Some(list)
    }

    fn show(value: &Vec<String>) -> Option<String> {
        Some(format!("[{}]", value.iter().filter_map(quoted).collect::<Vec<_>>().join(", ")))
    }
}

/// Names of events and beginnings of names, separated by commas; in the file also a list of strings.
pub(crate) struct EventPatterns;

impl Kind for EventPatterns {
    type Value = Patterns;
    const FORM: Form = List::FORM;

    fn parse(texts: &[OsString]) -> Option<Patterns> {
        let patterns = List::parse(texts)?.into_iter().filter(|pattern| !pattern.is_empty());
        Some(patterns.collect())
    }

    fn show(value: &Patterns) -> Option<String> {
        List::show(&value.iter().map(str::to_owned).collect())
    }
}

/// A file that the server reads.
pub(crate) struct File;

impl Kind for File {
    type Value = PathBuf;
    const FORM: Form = form("file", "write the path of a file", Shape::File);

    fn parse(texts: &[OsString]) -> Option<PathBuf> {
        one(texts).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn show(value: &PathBuf) -> Option<String> {
        quoted(value.to_string_lossy())
    }
}

/// On or off.
pub(crate) struct Switch;

impl Kind for Switch {
    type Value = bool;
    const FORM: Form =
        form("true|false", "write true or false", Shape::Switch).in_toml(&[BOOLEAN]).like("true");

    fn parse(texts: &[OsString]) -> Option<bool> {
        one_str(texts)?.parse().ok()
    }

    fn show(value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// A time with its unit; zero needs no unit.
pub(crate) struct Time;

impl Kind for Time {
    type Value = Duration;
    const FORM: Form = form("time", "write a time such as 500ms, 30s or 5m", Shape::One)
        .in_toml(&[STRING, INTEGER])
        .like("\"30s\"");

    fn parse(texts: &[OsString]) -> Option<Duration> {
        match one_str(texts)? {
            "0" => Some(Duration::ZERO),
            text => humantime::parse_duration(text).ok(),
        }
    }

    fn show(value: &Duration) -> Option<String> {
        quoted(humantime::format_duration(*value).to_string())
    }
}

/// A number of bytes, with or without a unit.
pub(crate) struct Size;

impl Kind for Size {
    type Value = usize;
    const FORM: Form = form("size", "write a size such as 4096, 64KiB or 1MiB", Shape::One)
        .in_toml(&[STRING, INTEGER])
        .like("\"1MiB\"");

    fn parse(texts: &[OsString]) -> Option<usize> {
        let size: bytesize::ByteSize = one_str(texts)?.parse().ok()?;
        usize::try_from(size.as_u64()).ok()
    }

    fn show(value: &usize) -> Option<String> {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| *value > 0 && value.is_multiple_of(*unit)) {
            Some((unit, name)) => quoted(format!("{}{name}", value / unit)),
            None => Some(value.to_string()),
        }
    }
}

/// A number of things.
pub(crate) struct Count<T>(PhantomData<T>);

impl<T: FromStr + fmt::Display> Kind for Count<T> {
    type Value = T;
    const FORM: Form = form(
        "number",
        if size_of::<T>() == 4 {
            "write a whole number from 0 to 4294967295"
        } else {
            "write a whole number, 0 or more"
        },
        Shape::One,
    )
    .in_toml(&[INTEGER])
    .like("100");

    fn parse(texts: &[OsString]) -> Option<T> {
        one_str(texts)?.parse().ok()
    }

    fn show(value: &T) -> Option<String> {
        Some(value.to_string())
    }
}

/// One of a few words.
pub(crate) struct Choice<T>(PhantomData<T>);

/// The words of a [`Choice`].
pub(crate) trait Words: Copy + PartialEq + 'static {
    /// How to write these words.
    const ACCEPTED: &'static str;
    const VALUE_NAME: &'static str;
    const ALL: &'static [(&'static str, Self)];
}

impl<T: Words> Kind for Choice<T> {
    type Value = T;
    const FORM: Form = form(T::VALUE_NAME, T::ACCEPTED, Shape::One);

    fn parse(texts: &[OsString]) -> Option<T> {
        let text = one_str(texts)?;
        T::ALL.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }

    fn show(value: &T) -> Option<String> {
        T::ALL.iter().find(|(_, known)| known == value).and_then(|(word, _)| quoted(*word))
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Words for LogFormat {
    const ACCEPTED: &'static str = "write human or json";
    const VALUE_NAME: &'static str = "human|json";
    const ALL: &'static [(&'static str, Self)] = &[("human", Self::Human), ("json", Self::Json)];
}

impl Words for ConnectionsPerUserPolicy {
    const ACCEPTED: &'static str = "write refuse_new or close_oldest";
    const VALUE_NAME: &'static str = "policy";
    const ALL: &'static [(&'static str, Self)] =
        &[("refuse_new", Self::RefuseNew), ("close_oldest", Self::CloseOldest)];
}

/// Where a handshake carries the token.
pub(crate) struct TokenFrom;

impl Kind for TokenFrom {
    type Value = TokenSource;
    const FORM: Form =
        form("source", "write message, authorization, cookie:NAME or query:NAME", Shape::One);

    fn parse(texts: &[OsString]) -> Option<TokenSource> {
        one_str(texts)?.parse().ok()
    }

    fn show(value: &TokenSource) -> Option<String> {
        quoted(value.to_string())
    }
}

/// The hash of a publisher's key.
pub(crate) struct KeyHash;

impl Kind for KeyHash {
    type Value = PublisherKeyHash;
    const FORM: Form = form(
        "hash",
        "write sha256: and 64 hexadecimal digits, as `wserver key` prints them, not the key itself",
        Shape::Hidden,
    )
    .like("\"sha256:…\"");

    fn parse(texts: &[OsString]) -> Option<PublisherKeyHash> {
        one_str(texts)?.parse().ok()
    }

    fn show(value: &PublisherKeyHash) -> Option<String> {
        quoted(value.to_string())
    }
}

/// A moment in time, in UTC.
pub(crate) struct Moment;

impl Kind for Moment {
    type Value = SystemTime;
    const FORM: Form = form("moment", "write a time such as 2027-01-31T18:00:00Z", Shape::One)
        .like("\"2027-01-31T18:00:00Z\"");

    fn parse(texts: &[OsString]) -> Option<SystemTime> {
        humantime::parse_rfc3339(one_str(texts)?).ok()
    }

    fn show(value: &SystemTime) -> Option<String> {
        quoted(humantime::format_rfc3339_seconds(*value).to_string())
    }
}

/// Any number of tables `[[name]]`, each of them a record.
pub(crate) struct Records<R>(PhantomData<R>);

impl<R: Record> Kind for Records<R> {
    type Value = Vec<R>;
    const FORM: Form = Form {
        members: R::DEFINITIONS,
        ..form("tables", "write each one as a table [[name]] in the settings file", Shape::Records)
            .in_toml(&[ARRAY])
            .like("[{ name = \"…\", key_hash = \"sha256:…\" }]")
    };

    fn parse(_: &[OsString]) -> Option<Vec<R>> {
        None
    }

    fn unset() -> Option<Vec<R>> {
        Some(Vec::new())
    }

    /// Only [`Self::read`] knows how the members were given.
    fn show(_: &Vec<R>) -> Option<String> {
        None
    }

    fn read(
        given: Given,
        definition: &Definition,
        problems: &mut Vec<String>,
    ) -> Option<(Vec<R>, Option<String>)> {
        let Some(tables) = given.records else {
            problems.push(given.mismatch(definition));
            return None;
        };
        let (mut values, mut shown) = (Vec::new(), Vec::new());
        let count = tables.len();
        for mut layers in tables {
            values.extend(R::read(&mut layers));
            shown.push(layers.shown_inline());
            problems.append(&mut layers.problems);
        }
        (values.len() == count).then(|| (values, Some(format!("[{}]", shown.join(", ")))))
    }
}

/// A value that only its holder may know. `Debug` shows nothing of it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself, for the code that checks it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Kind for Secret {
    type Value = Self;
    const FORM: Form = form("secret", "write text in UTF-8", Shape::Secret).in_toml(&[]);

    fn parse(texts: &[OsString]) -> Option<Self> {
        one_str(texts).map(|text| Self(text.to_owned()))
    }

    fn show(_: &Self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<K: Kind>(text: &str) -> Option<String> {
        K::parse(&[OsString::from(text)]).and_then(|value| K::show(&value))
    }

    #[test]
    fn what_is_shown_is_read_as_the_same() {
        for (text, expected) in [
            ("0", "\"0s\""),
            ("1m 30s", "\"1m 30s\""),
            ("90s", "\"1m 30s\""),
            ("250ms", "\"250ms\""),
        ] {
            assert_eq!(shown::<Time>(text).as_deref(), Some(expected));
            assert_eq!(shown::<Time>(expected.trim_matches('"')).as_deref(), Some(expected));
        }
        for (text, expected) in
            [("0", "0"), ("4096", "\"4KiB\""), ("1MiB", "\"1MiB\""), ("1000", "1000")]
        {
            assert_eq!(shown::<Size>(text).as_deref(), Some(expected));
            assert_eq!(shown::<Size>(expected.trim_matches('"')).as_deref(), Some(expected));
        }
        assert_eq!(shown::<List>("a, b").as_deref(), Some(r#"["a", "b"]"#));
        assert_eq!(shown::<Choice<LogFormat>>("json").as_deref(), Some(r#""json""#));
        assert_eq!(shown::<Text>("a\"\\\n\0").as_deref(), Some(r#""a\"\\\u000A\u0000""#));
    }

    #[test]
    fn what_is_of_another_kind_is_no_value() {
        assert_eq!(shown::<Time>("30"), None);
        assert_eq!(shown::<Size>("many"), None);
        assert_eq!(shown::<Count<u32>>("4294967296"), None);
        assert_eq!(shown::<Count<usize>>("-1"), None);
        assert_eq!(shown::<Switch>("yes"), None);
        assert_eq!(shown::<File>(""), None);
        assert_eq!(shown::<Choice<LogFormat>>("Json"), None);
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::parse(&[OsString::from("canary")]).unwrap();
        assert_eq!(Secret::show(&secret), None);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "canary");
    }
}
