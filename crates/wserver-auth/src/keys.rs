//! A fixed list of push keys, the shared secrets of publishers.

use std::fmt;

use async_trait::async_trait;
use subtle::{Choice, ConstantTimeEq};

use crate::digest::SecretDigest;
use crate::identity::{Method, PublisherId};
use crate::push::{Publisher, PushAuthorizer, PushCredentials, PushRefusal};
use crate::visible::invisible_character;

/// The minimum length of a push key, in bytes: 16 random bytes are 128 bits, and a shorter key is
/// probably a word.
pub const PUSH_KEY_BYTES_MIN: usize = 16;

/// A [`PushAuthorizer`] with one or more keys, each of which may push everything.
///
/// A request presents its key as `Authorization: Bearer <key>` or `X-API-Key: <key>`. Several keys
/// allow rotation: add the new key, let the publishers switch, remove the old key.
///
/// # Timing
///
/// The digest of the presented key is compared with the digest of every key, each in constant time,
/// without stopping at a match. The time reveals the number of keys and the length of the presented
/// key, which are not secret, but not which key matched or how much of it was right.
///
/// ```
/// use wserver_auth::StaticPushKeys;
///
/// let keys = StaticPushKeys::new(["shop-6f1e0c2b9a7d", "blog-0d9f3a5c7e1b"])?;
/// # let _ = keys;
/// # Ok::<(), wserver_auth::PushKeyError>(())
/// ```
pub struct StaticPushKeys {
    /// Digests of the keys. They are written only at construction.
    ///
    /// Invariant: never empty.
    keys: Box<[SecretDigest]>,
}

impl StaticPushKeys {
    /// Builds the list.
    ///
    /// # Errors
    ///
    /// If there is no key; if a key is empty or shorter than [`PUSH_KEY_BYTES_MIN`]; or if a header
    /// cannot carry a key unchanged, because it has a control character or a space at an end
    /// (usually the line end of a key file). The error names the position, counted from 1, and no
    /// part of the key.
    pub fn new<I>(keys: I) -> Result<Self, PushKeyError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let keys = keys
            .into_iter()
            .enumerate()
            .map(|(index, key)| accepted(index + 1, key.as_ref()))
            .collect::<Result<Box<[_]>, _>>()?;
        if keys.is_empty() { Err(PushKeyError::NoKeys) } else { Ok(Self { keys }) }
    }
}

/// The digest of `key`, if it is a valid push key.
fn accepted(entry: usize, key: &str) -> Result<SecretDigest, PushKeyError> {
    if key.is_empty() {
        return Err(PushKeyError::Empty { entry });
    }
    if key.trim() != key || key.chars().any(char::is_control) {
        return Err(PushKeyError::Unsendable { entry });
    }
    if let Some(character) = invisible_character(key) {
        return Err(PushKeyError::Invisible { entry, character });
    }
    if key.len() < PUSH_KEY_BYTES_MIN {
        return Err(PushKeyError::TooShort { entry, bytes: key.len() });
    }
    Ok(SecretDigest::of(key))
}

#[async_trait]
impl PushAuthorizer for StaticPushKeys {
    async fn authorize(&self, request: PushCredentials) -> Result<Publisher, PushRefusal> {
        let presented = SecretDigest::of(request.api_key().ok_or(PushRefusal::Missing)?);
        let known =
            self.keys.iter().fold(Choice::from(0), |known, key| known | key.ct_eq(&presented));
        if !bool::from(known) {
            return Err(PushRefusal::Wrong);
        }
        let id = PublisherId::new(Method::Key, [presented.as_bytes()]);
        Ok(Publisher { id: Some(id), ..Publisher::new() })
    }
}

impl fmt::Debug for StaticPushKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticPushKeys").field("len", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Why a list of push keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushKeyError {
    /// The list is empty: it would refuse everybody, which is probably a mistake.
    #[error("the list of push keys is empty")]
    NoKeys,
    /// A key is empty.
    #[error("push key {entry} is empty")]
    Empty {
        /// Its position, counted from 1.
        entry: usize,
    },
    /// A key is short enough to be guessed.
    #[error("push key {entry} has {bytes} bytes, but needs at least {PUSH_KEY_BYTES_MIN}")]
    TooShort {
        /// Its position, counted from 1.
        entry: usize,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A key contains an invisible character, which nobody would type.
    #[error(
        "push key {entry} contains the invisible character U+{:04X}",
        u32::from(*character)
    )]
    Invisible {
        /// Its position, counted from 1.
        entry: usize,
        /// The character.
        character: char,
    },
    /// A header cannot carry the key unchanged.
    #[error("push key {entry} contains a control character, or begins or ends with white space")]
    Unsendable {
        /// Its position, counted from 1.
        entry: usize,
    },
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::HeaderMap;
    use http::header::{AUTHORIZATION, HeaderValue};

    use super::*;
    use crate::PushScope;
    use crate::testing::answer;

    const FIRST: &str = "canary-first-key";
    const SECOND: &str = "canary-second-key";

    /// The answer to a request with this `Authorization` header.
    fn check(authorization: Option<&str>, expected: &Expect) {
        let keys = StaticPushKeys::new([FIRST, SECOND]).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let request = PushCredentials::new(headers, "10.0.0.1:80".parse().unwrap());
        let shown = match answer(keys.authorize(request)) {
            Ok(publisher) if publisher.scope == PushScope::everything() && !publisher.admin => {
                format!("may push everything, as a {}", publisher.id().method())
            }
            Ok(publisher) => format!("{publisher:?}"),
            Err(refusal) => refusal.as_str().to_owned(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_known_key_opens() {
        check(Some("Bearer canary-first-key"), &expect!["may push everything, as a key"]);
        check(Some("bearer canary-second-key"), &expect!["may push everything, as a key"]);
        check(Some("Bearer canary-third-key"), &expect!["wrong"]);
        check(Some("Bearer canary-first-ke"), &expect!["wrong"]);
        check(Some("Bearer canary-first-key-and-more"), &expect!["wrong"]);
        check(Some("Basic canary-first-key"), &expect!["missing"]);
        check(None, &expect!["missing"]);
    }

    #[test]
    fn unfit_keys_are_refused_by_position() {
        let cases: [(&[&str], Expect); 10] = [
            (
                &["\u{feff}canary-first-key"],
                expect!["push key 1 contains the invisible character U+FEFF"],
            ),
            (
                &[FIRST, "canary\u{a0}second-key"],
                expect!["push key 2 contains the invisible character U+00A0"],
            ),
            (&[], expect!["the list of push keys is empty"]),
            (&[""], expect!["push key 1 is empty"]),
            (
                &[FIRST, "0123456789abcde"],
                expect!["push key 2 has 15 bytes, but needs at least 16"],
            ),
            (
                &["0123456789abcdef\n"],
                expect![
                    "push key 1 contains a control character, or begins or ends with white \
                         space"
                ],
            ),
            (
                &[" 0123456789abcdef"],
                expect![
                    "push key 1 contains a control character, or begins or ends with white \
                         space"
                ],
            ),
            (
                &["01234567\t89abcdef"],
                expect![
                    "push key 1 contains a control character, or begins or ends with white \
                         space"
                ],
            ),
            (&["0123456789abcdef"], expect!["fit"]),
            (&["0123456 89abcdef", SECOND], expect!["fit"]),
        ];
        for (keys, expected) in cases {
            let built = StaticPushKeys::new(keys);
            expected.assert_eq(&built.map_or_else(|error| error.to_string(), |_| "fit".into()));
        }
    }

    #[test]
    fn debug_holds_no_key() {
        let shown = format!("{:?}", StaticPushKeys::new([FIRST]).unwrap());
        assert_eq!(shown, "StaticPushKeys { len: 1, .. }");
    }
}
