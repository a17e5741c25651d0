//! Names that strangers choose: the user of a message, and its event.
//!
//! Both are parsed once at the border; from there on their types are the proof. They know nothing
//! of JSON, of tokens, or of permissions.

use std::fmt;
use std::sync::Arc;

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("is empty")]
    Empty,
    /// The name is longer than the limit.
    #[error("is {bytes} bytes long, the limit is {bytes_max}")]
    TooLong {
        /// Its length in bytes of UTF-8.
        bytes: usize,
        /// The limit (`name_bytes_max`).
        bytes_max: usize,
    },
}

fn check(name: &str, bytes_max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > bytes_max {
        return Err(NameError::TooLong { bytes: name.len(), bytes_max });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Never empty, at most `name_bytes_max` bytes of UTF-8, otherwise any text.
        /// A clone shares the text.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Accepts a name of 1 to `bytes_max` bytes.
            ///
            /// # Errors
            /// [`NameError`] when it is empty or longer.
            pub fn parse(name: &str, bytes_max: usize) -> Result<Self, NameError> {
                check(name, bytes_max)?;
                Ok(Self(Arc::from(name)))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The id of a user, as the backend knows it.
    UserId
}
name! {
    /// The name under which connections of a user ask for messages.
    EventName
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit counts bytes of UTF-8, and is exact.
    #[test]
    fn a_name_has_a_byte_at_least_and_no_more_than_its_limit() {
        for (name, bytes_max, expected) in [
            ("", 3, Err(NameError::Empty)),
            ("", 0, Err(NameError::Empty)),
            ("a", 0, Err(NameError::TooLong { bytes: 1, bytes_max: 0 })),
            ("abc", 3, Ok("abc")),
            ("abcd", 3, Err(NameError::TooLong { bytes: 4, bytes_max: 3 })),
            ("\u{2603}", 3, Ok("\u{2603}")),
            ("\u{2603}", 2, Err(NameError::TooLong { bytes: 3, bytes_max: 2 })),
            (" \0\n", 3, Ok(" \0\n")),
        ] {
            let user = UserId::parse(name, bytes_max);
            assert_eq!(user.as_ref().map(UserId::as_str), expected.as_ref().copied(), "{name:?}");
            let event = EventName::parse(name, bytes_max);
            assert_eq!(event.as_ref().map(EventName::as_str), expected.as_ref().copied());
        }
        let error = NameError::TooLong { bytes: 4, bytes_max: 3 };
        assert_eq!(error.to_string(), "is 4 bytes long, the limit is 3");
    }
}
