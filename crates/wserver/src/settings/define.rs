//! The macro that makes a struct and the definitions of its settings out of one list.

/// `struct Name` defines a struct and fills it; `fill Name by parts` fills the fields of the parts of a
/// struct defined elsewhere.
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
                pub(crate) $name: <$kind as $crate::settings::layers::Kind>::Value,
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
        impl $crate::settings::layers::Record for $record {
            const DEFINITIONS: &'static [$crate::settings::definition::Definition] = &[
                $($(
                    $crate::settings::definition::Definition::new(
                        stringify!($name),
                        &[$($doc),+],
                        $heading,
                        settings!(@default $($default)?),
                        <$kind as $crate::settings::layers::Kind>::FORM,
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
    (
        fill $record:ident by parts
        $($heading:literal { $(
            $(#[doc = $doc:literal])+
            $part:ident.$name:ident: $kind:ty $(= $default:expr)? $(, $property:ident($($argument:expr)?))*;
        )+ })+
    ) => {
        impl $crate::settings::layers::Record for $record {
            const DEFINITIONS: &'static [$crate::settings::definition::Definition] = &[
                $($(
                    $crate::settings::definition::Definition::new(
                        stringify!($name),
                        &[$($doc),+],
                        $heading,
                        settings!(@default $($default)?),
                        <$kind as $crate::settings::layers::Kind>::FORM,
                    )$(.$property($($argument)?))*,
                )+)+
            ];

            fn read(layers: &mut $crate::settings::layers::Layers) -> Option<Self> {
                let mut record = Self::default();
                let mut is_whole = true;
                $($(
                    match layers.read::<$kind>(stringify!($name)) {
                        Some(value) => record.$part.$name = value,
                        None => is_whole = false,
                    }
                )+)+
                is_whole.then_some(record)
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

    use crate::settings::definition::Definition;
    use crate::settings::file::parse;
    use crate::settings::kind::{Count, List, Records, Switch, Text};
    use crate::settings::layers::{Kind, Layers};

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
            ("\n[[publisher]]\nadmin = true", &["f:2: name is missing: write text in UTF-8"][..]),
            (
                "[[publisher]]\nnam = 1\nadmin = 1\n[[publisher]]\nname = 3",
                &[
                    "f:2: there is no setting \"nam\"; did you mean name?",
                    "f:3: admin is 1: write true or false",
                    "f:5: name is 3: write text in UTF-8, in quotes",
                    "f:1: name is missing: write text in UTF-8",
                    "f:4: name is missing: write text in UTF-8",
                ],
            ),
            (
                "publisher = 3",
                &["f:1: publisher cannot be used: write each one as a table [[name]] in the \
                     settings file"],
            ),
            (
                "[publisher]",
                &["f:1: publisher cannot be used: write each one as a table [[name]] in the \
                     settings file"],
            ),
            (
                "publisher = ['x']",
                &["f:1: publisher cannot be used: write each one as a table [[name]] in the \
                     settings file"],
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }
}
