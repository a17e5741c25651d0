//! The key of a publisher and its hash: the key is made here and shown once, and only the hash is
//! kept.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::digest::SecretDigest;

/// The number of random bytes in a key.
const RANDOM_BYTES: usize = 32;

/// The prefix of a generated key, by which anybody who finds one in a log or a repository
/// recognises it.
const KEY_PREFIX: &str = "wsk_";

/// The prefix of the text of a hash.
const HASH_PREFIX: &str = "sha256:";

/// A publisher's key: `wsk_` and 43 characters of base64url, which are 256 random bits.
///
/// It is made once, handed to the publisher, and forgotten; the server gets only its
/// [hash](Self::hash). A plain SHA-256 is enough for that, because nobody can try 2^256 keys: slow
/// hashes are for passwords, which people choose. `Debug` shows no part of it.
///
/// ```
/// use wserver_auth::PublisherKey;
///
/// let key = PublisherKey::generate()?;
/// assert!(key.as_str().starts_with("wsk_"));
/// assert!(key.hash().to_string().starts_with("sha256:"));
/// # Ok::<(), wserver_auth::NoRandomness>(())
/// ```
#[derive(Clone)]
pub struct PublisherKey(String);

impl PublisherKey {
    /// A new key from the system's source of randomness.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give, which a running system always has.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(NoRandomness::new)?;
        Ok(Self(format!("{KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&random))))
    }

    /// The key itself: a secret to show to its publisher and nobody else.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash, which the server keeps.
    pub fn hash(&self) -> PublisherKeyHash {
        PublisherKeyHash::of(&self.0)
    }
}

impl fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublisherKey(..)")
    }
}

/// The system gave no random bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(String);

impl NoRandomness {
    pub(crate) fn new(error: getrandom::Error) -> Self {
        Self(error.to_string())
    }
}

/// The SHA-256 of a publisher's key, in text `sha256:` and 64 hexadecimal digits.
///
/// It may be in a configuration file, because nobody can recover a key of 256 random bits from it.
/// For a key that a person made up, it is as sensitive as the key. `Debug` shows no part of it;
/// `Display` is the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublisherKeyHash(SecretDigest);

impl PublisherKeyHash {
    /// The hash of this key.
    pub fn of(key: &str) -> Self {
        Self(SecretDigest::of(key))
    }

    pub(crate) fn digest(&self) -> &SecretDigest {
        &self.0
    }
}

impl FromStr for PublisherKeyHash {
    type Err = KeyHashError;

    /// Reads `sha256:` and 64 hexadecimal digits of either case.
    ///
    /// # Errors
    ///
    /// If the text is anything else, in particular the key itself. The error contains no part of
    /// the text.
    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        if text.starts_with(KEY_PREFIX) {
            return Err(KeyHashError::Key);
        }
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(KeyHashError::Prefix)?;
        let bytes = HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_not_hexadecimal| KeyHashError::Digits { characters: digits.len() })?;
        let digest = bytes
            .try_into()
            .map_err(|_wrong_length| KeyHashError::Digits { characters: digits.len() })?;
        Ok(Self(SecretDigest::from_bytes(digest)))
    }
}

impl fmt::Display for PublisherKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH_PREFIX}{}", HEXLOWER.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublisherKeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublisherKeyHash(..)")
    }
}

/// Why a text is not the hash of a key. No variant contains any part of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyHashError {
    /// The text is a key instead of its hash.
    #[error(
        "this is a key, but its hash belongs here; make a new key, because this one has been \
         written down"
    )]
    Key,
    /// It does not begin with the name of the hash function.
    #[error("a key hash must begin with sha256:")]
    Prefix,
    /// What follows is not 64 hexadecimal digits.
    #[error(
        "sha256: must be followed by 64 hexadecimal digits, not by these {characters} \
             characters"
    )]
    Digits {
        /// How many bytes follow the prefix.
        characters: usize,
    },
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn keys_are_long_and_differ() {
        let (first, second) =
            (PublisherKey::generate().unwrap(), PublisherKey::generate().unwrap());
        assert_ne!(first.as_str(), second.as_str());
        for key in [first, second] {
            assert_eq!(key.as_str().len(), "wsk_".len() + 43);
            let random = BASE64URL_NOPAD.decode(&key.as_str().as_bytes()[4..]).unwrap();
            assert_eq!(random.len(), 32);
            assert_eq!(format!("{key:?}"), "PublisherKey(..)");
            assert_eq!(format!("{:?}", key.hash()), "PublisherKeyHash(..)");
        }
    }

    /// The text is that of `printf %s abc | sha256sum`.
    #[test]
    fn a_hash_is_what_other_programs_make() {
        let hash = PublisherKeyHash::of("abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(text.to_uppercase().replace("SHA", "sha").parse(), Ok(hash));
    }

    #[test]
    fn other_texts_are_refused_and_never_quoted() {
        let check = |text: &str, expected: Expect| {
            expected.assert_eq(&text.parse::<PublisherKeyHash>().unwrap_err().to_string());
        };
        check("", expect!["a key hash must begin with sha256:"]);
        check("md5:canary", expect!["a key hash must begin with sha256:"]);
        check(
            "wsk_canary",
            expect![
                "this is a key, but its hash belongs here; make a new key, because this one has \
                 been written down"
            ],
        );
        check(
            "sha256:canary",
            expect!["sha256: must be followed by 64 hexadecimal digits, not by these 6 characters"],
        );
        check(
            "sha256:00ff",
            expect!["sha256: must be followed by 64 hexadecimal digits, not by these 4 characters"],
        );
    }
}
