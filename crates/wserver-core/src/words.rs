//! Closed lists of words for machines: each word is written once, so that none can be forgotten.

/// Defines an enum in which every variant has one fixed word, for counters, logs and settings.
///
/// It has `ALL`, in the order of the declaration, `as_str`, `Into<&str>`, `Display` and
/// `from_word`. Define all other properties of a variant by a `match` without a wildcard, which
/// does not compile if a variant is missing.
///
/// ```
/// wserver_core::words! {
///     /// How it ended.
///     #[derive(Debug, Clone, Copy, PartialEq, Eq)]
///     pub enum End {
///         /// As it should.
///         InOrder = "in_order",
///         /// Another way.
///         Broken = "broken",
///     }
/// }
///
/// assert_eq!(End::ALL.map(End::as_str), ["in_order", "broken"]);
/// assert_eq!(End::from_word("broken"), Some(End::Broken));
/// assert_eq!(End::Broken.to_string(), "broken");
/// ```
#[macro_export]
macro_rules! words {
    (
        $(#[$outer:meta])*
        $vis:vis enum $name:ident {
            $($(#[$inner:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$outer])*
        $vis enum $name {
            $($(#[$inner])* $variant,)+
        }

        impl $name {
            /// All of them, in the order of their declaration.
            $vis const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// Its fixed word.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            /// The variant with this word.
            #[must_use]
            $vis fn from_word(word: &str) -> ::core::option::Option<Self> {
                match word {
                    $($word => ::core::option::Option::Some(Self::$variant),)+
                    _ => ::core::option::Option::None,
                }
            }
        }

        impl ::core::convert::From<$name> for &'static str {
            fn from(it: $name) -> Self {
                it.as_str()
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
