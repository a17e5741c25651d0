//! The definition of one setting, and the macro that makes a struct and its definitions from one
//! list.

use super::TABLES;
use super::kind::Form;
use super::layers::Layers;

/// Everything about one setting except its type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// The lines of its comment, each with the space after the slashes.
    doc: &'static [&'static str],
    /// The heading above it in the help.
    pub(crate) heading: &'static str,
    /// In the form that a flag takes.
    pub(crate) default: Option<&'static str>,
    pub(crate) form: Form,
    pub(crate) short: Option<char>,
    pub(crate) on_reload: OnReload,
}

/// What a reload does with a changed setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnReload {
    Applied,
    /// Applied, unless clients need no authentication before or after the change, which is fixed at
    /// the start.
    AppliedToListeners,
    /// Applied, unless publishers need no authentication before or after the change.
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

    /// Adds a flag of one letter.
    pub(crate) const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// Makes a reload apply it.
    pub(crate) const fn reloads(self) -> Self {
        Self { on_reload: OnReload::Applied, ..self }
    }

    /// Makes a reload apply it together with the other settings for the access of clients.
    pub(crate) const fn reloads_listeners(self) -> Self {
        Self { on_reload: OnReload::AppliedToListeners, ..self }
    }

    /// Makes a reload apply it together with the other settings for the access of publishers.
    pub(crate) const fn reloads_publishers(self) -> Self {
        Self { on_reload: OnReload::AppliedToPublishers, ..self }
    }

    /// Its help text, in one line.
    pub(crate) fn doc(&self) -> String {
        self.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// Its flag, without the two dashes.
    pub(crate) fn long(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its table and key in the file, if the file has the tables `tables`.
    pub(crate) fn key_in<'a>(&self, tables: &[&'a str]) -> (Option<&'a str>, &'static str) {
        let inner = |table: &'a str| {
            let key = self.name.strip_prefix(table)?.strip_prefix('_')?;
            Some((Some(table), key))
        };
        tables.iter().copied().find_map(inner).unwrap_or((None, self.name))
    }

    /// Its full key in the file.
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

/// The prefix of all our environment variables.
pub(crate) const VARIABLE_PREFIX: &str = "WSERVER_";

/// The environment variable of `name`.
pub(crate) fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", name.to_uppercase())
}

/// A struct whose fields are settings.
pub(crate) trait Record: Sized {
    const DEFINITIONS: &'static [Definition];

    /// Reads every field from the layers; `None` if a field could not be read, and the layers then
    /// hold the problem.
    fn read(layers: &mut Layers) -> Option<Self>;
}

/// `struct Name` defines a struct and fills it; `fill Name` fills a struct defined elsewhere.
macro_rules! settings {
    (
        $(#[$outer:meta])* struct $record:ident
        $($heading:literal { $(
            $(#[doc = $doc:literal])+
            $name:ident: $kind:ty $(= $default:expr)? $(, $property:ident($($argument:expr)?))*;
        )+ })+
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone)]
        pub(crate) struct $record {
            $($(
                $(#[doc = $doc])+
                pub(crate) $name: <$kind as $crate::settings::kind::Kind>::Value,
            )+)+
        }

        settings! {
            fill $record
            $($heading { $(
                $(#[doc = $doc])+
                $name: $kind $(= $default)? $(, $property($($argument)?))*;
            )+ })+
        }
    };
    (
        fill $record:ident
        $($heading:literal { $(
            $(#[doc = $doc:literal])+
            $name:ident: $kind:ty $(= $default:expr)? $(, $property:ident($($argument:expr)?))*;
        )+ })+
    ) => {
        impl $crate::settings::define::Record for $record {
            const DEFINITIONS: &'static [$crate::settings::define::Definition] = &[
                $($(
                    $crate::settings::define::Definition::new(
                        stringify!($name),
                        &[$($doc),+],
                        $heading,
                        settings!(@default $($default)?),
                        <$kind as $crate::settings::kind::Kind>::FORM,
                    )$(.$property($($argument)?))*,
                )+)+
            ];

            fn read(layers: &mut $crate::settings::layers::Layers) -> Option<Self> {
                // Read all fields before the first missing one ends this, so that all problems are
                // found.
                $($(
                    let $name = layers.read::<$kind>(stringify!($name));
                )+)+
                Some(Self { $($($name: $name?,)+)+ })
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}
pub(crate) use settings;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::file::parse;
    use crate::settings::kind::{Count, Kind, List, Records, Switch, Text};

    settings! {
        /// A record like `[[publisher]]`.
        struct Publisher

        "Publisher" {
            /// What logs call it
            name: Text;
            /// Which events it may push
            events: Option<List>;
            /// How often it may push
            pushes_per_second: Count<u32> = "10";
            /// Whether it may administer the server
            admin: Switch = "false";
        }
    }

    static PUBLISHER: Definition =
        Definition::new("publisher", &["Publishers"], "", None, Records::<Publisher>::FORM);

    fn read(text: &str) -> Result<(Vec<Publisher>, String), Vec<String>> {
        let mut problems = Vec::new();
        let given = parse(Path::new("f"), text, &[&PUBLISHER], &[], &mut problems);
        let mut layers = Layers::table(vec![&PUBLISHER], given, String::new());
        let publishers = layers.read::<Records<Publisher>>("publisher");
        problems.append(&mut layers.problems);
        match publishers {
            Some(publishers) if problems.is_empty() => Ok((publishers, layers.shown_inline())),
            _ => Err(problems),
        }
    }

    #[test]
    fn records_are_tables_of_one_name() {
        let text = "[[publisher]]\nname = 'shop'\nevents = ['a', 'b']\n\
                    [[publisher]]\nname = 'blog'\npushes_per_second = 5\nadmin = true";
        let (publishers, shown) = read(text).unwrap();
        let [shop, blog] = publishers.try_into().unwrap();
        assert_eq!((shop.name.as_str(), shop.pushes_per_second, shop.admin), ("shop", 10, false));
        assert_eq!(shop.events.unwrap(), ["a", "b"]);
        assert_eq!((blog.name.as_str(), blog.pushes_per_second, blog.admin), ("blog", 5, true));
        assert_eq!(blog.events, None);
        // The shown text reads back as the same value.
        let inner = shown.trim_start_matches("{ ").trim_end_matches(" }");
        assert_eq!(read(inner).unwrap().1, shown, "{shown}");
        assert!(read("").unwrap().0.is_empty());
    }

    #[test]
    fn mistakes_in_records_are_told_with_their_line() {
        for (text, expected) in [
            ("\n[[publisher]]\nadmin = true", &["f:2: name is missing, write text in UTF-8"][..]),
            (
                "[[publisher]]\nnam = 1\nadmin = 1\n[[publisher]]\nname = 3",
                &[
                    "f:2: there is no setting \"nam\"; did you mean name?",
                    "f:3: admin is 1, write true or false",
                    "f:5: name is 3, write text in UTF-8, in quotes",
                    "f:1: name is missing, write text in UTF-8",
                    "f:4: name is missing, write text in UTF-8",
                ],
            ),
            (
                "publisher = 3",
                &[
                    "f:1: publisher cannot be used, write each as a table [[name]] in the settings file",
                ],
            ),
            (
                "[publisher]",
                &[
                    "f:1: publisher cannot be used, write each as a table [[name]] in the settings file",
                ],
            ),
            (
                "publisher = ['x']",
                &[
                    "f:1: publisher cannot be used, write each as a table [[name]] in the settings file",
                ],
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }
}
