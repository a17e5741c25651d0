//! A fixed list of tokens with their users, from code or from the text of a file.
//!
//! The caller reads the file; this code gets its text.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use async_trait::async_trait;

use crate::digest::SecretDigest;
use crate::listen::{Authenticator, Credentials, Identity, Refusal};
use crate::visible::{invisible_character, without_byte_order_mark};

/// An [`Authenticator`] with a list of tokens and their users.
///
/// A user may have many tokens. The list keeps only digests, not the tokens.
///
/// # Timing
///
/// The time of a lookup must not tell an attacker how close a guess was. The map is keyed by the
/// SHA-256 digest of the presented token, hashed again with the map's own random SipHash key. So
/// nobody outside can steer or predict the bucket, or the short tag that decides whether an entry
/// is compared, and the entry itself is compared in constant time. The time still shows whether the
/// token is known, but so does the answer.
pub struct StaticTokens {
    /// Digest of the token → user. Written only at construction.
    users: HashMap<SecretDigest, Box<str>>,
}

impl StaticTokens {
    /// Builds the list from pairs of token and user. An empty list refuses everybody.
    ///
    /// ```
    /// use wserver_auth::StaticTokens;
    ///
    /// let tokens = StaticTokens::new([("aaa", "jack"), ("bbb", "jack"), ("ccc", "rose")])?;
    /// assert_eq!(tokens.len(), 3);
    /// # Ok::<(), wserver_auth::TokenListError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a token or a user is empty, or a token appears twice. The error names the position,
    /// counted from 1.
    pub fn new<I, T, U>(pairs: I) -> Result<Self, TokenListError>
    where
        I: IntoIterator<Item = (T, U)>,
        T: AsRef<str>,
        U: Into<String>,
    {
        let mut tokens = Self { users: HashMap::new() };
        for (index, (token, user)) in pairs.into_iter().enumerate() {
            tokens
                .insert(token.as_ref(), user.into())
                .map_err(|problem| TokenListError::Entry { entry: index + 1, problem })?;
        }
        Ok(tokens)
    }

    /// Reads a list from the text of a file: on each line a token, white space, and its user.
    ///
    /// Blank lines and lines that begin with `#` are skipped. There are no quotes, and no comments
    /// after an entry; a user id with spaces cannot be written this way.
    ///
    /// ```
    /// use wserver_auth::StaticTokens;
    ///
    /// let tokens = StaticTokens::parse("# token  user\naaa  jack\n\nccc  rose\n")?;
    /// assert_eq!(tokens.len(), 2);
    /// # Ok::<(), wserver_auth::TokenListError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a line is not a token and a user, or its token is on an earlier line. The error names the
    /// line, counted from 1, and none of its content.
    pub fn parse(text: &str) -> Result<Self, TokenListError> {
        // Some editors put a byte order mark in front; as part of the first token it would
        // invisibly lock one user out.
        let text = without_byte_order_mark(text);
        let mut tokens = Self { users: HashMap::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            tokens
                .insert_line(line)
                .map_err(|problem| TokenListError::Line { line: index + 1, problem })?;
        }
        Ok(tokens)
    }

    /// How many tokens the list holds.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether the list holds no token and so refuses everybody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn insert_line(&mut self, line: &str) -> Result<(), TokenProblem> {
        // Other white space does not look like a space, or is invisible.
        let mut fields = line.split_ascii_whitespace();
        if let Some(character) = fields.clone().find_map(invisible_character) {
            return Err(TokenProblem::Invisible { character });
        }
        match (fields.next(), fields.next(), fields.next()) {
            (Some(token), Some(user), None) => self.insert(token, user.to_owned()),
            (_, None, _) => Err(TokenProblem::UserMissing),
            (_, _, _) => Err(TokenProblem::FieldsTooMany),
        }
    }

    fn insert(&mut self, token: &str, user: String) -> Result<(), TokenProblem> {
        if token.is_empty() {
            return Err(TokenProblem::TokenEmpty);
        }
        if user.is_empty() {
            return Err(TokenProblem::UserMissing);
        }
        match self.users.entry(SecretDigest::of(token)) {
            Entry::Vacant(vacant) => {
                vacant.insert(user.into_boxed_str());
                Ok(())
            }
            Entry::Occupied(_) => Err(TokenProblem::TokenRepeated),
        }
    }
}

#[async_trait]
impl Authenticator for StaticTokens {
    async fn authenticate(&self, credentials: Credentials) -> Result<Identity, Refusal> {
        let user = self.users.get(&SecretDigest::of(&credentials.token));
        user.map(|user| Identity::new(&**user)).ok_or(Refusal::Unknown)
    }
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticTokens").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Where a list of tokens is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenListError {
    /// An entry given to [`StaticTokens::new`].
    #[error("token list, entry {entry}: {problem}")]
    Entry {
        /// Its position, counted from 1.
        entry: usize,
        /// What is wrong with it.
        problem: TokenProblem,
    },
    /// A line of the text given to [`StaticTokens::parse`].
    #[error("token list, line {line}: {problem}")]
    Line {
        /// Its number, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: TokenProblem,
    },
}

/// What is wrong with one entry of a list of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenProblem {
    /// The token is empty.
    #[error("the token is empty")]
    TokenEmpty,
    /// The token is already in the list.
    #[error("the token is already in the list")]
    TokenRepeated,
    /// The user is empty or missing.
    #[error("the user is missing")]
    UserMissing,
    /// The line has an invisible character, which nobody would type.
    #[error("it contains the invisible character U+{:04X}", u32::from(*character))]
    Invisible {
        /// The character.
        character: char,
    },
    /// The line holds more than a token and a user.
    #[error("there is more than a token and a user")]
    FieldsTooMany,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::answer;

    /// What the list answers for each of these tokens, or why it could not be built.
    fn check(list: Result<StaticTokens, TokenListError>, tokens: &[&str], expected: &Expect) {
        let shown = match list {
            Err(error) => format!("error: {error}"),
            Ok(list) => {
                let answers = tokens.iter().map(|token| {
                    let credentials = Credentials::new(*token, "10.0.0.1:80".parse().unwrap());
                    match answer(list.authenticate(credentials)) {
                        Ok(identity) => format!("{token}={}", identity.user),
                        Err(refusal) => format!("{token}:{}", refusal.as_str()),
                    }
                });
                answers.collect::<Vec<_>>().join(" ")
            }
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn tokens_stand_for_users() {
        let none: [(&str, &str); 0] = [];
        check(StaticTokens::new(none), &["", "aaa"], &expect![":unknown aaa:unknown"]);
        check(
            StaticTokens::new([("aaa", "jack"), ("bbb", "jack"), ("c c", "ro se")]),
            &["aaa", "bbb", "c c", "AAA", "aa", "aaaa", ""],
            &expect!["aaa=jack bbb=jack c c=ro se AAA:unknown aa:unknown aaaa:unknown :unknown"],
        );
    }

    #[test]
    fn wrong_entries_are_named_by_position() {
        check(
            StaticTokens::new([("", "u")]),
            &[],
            &expect!["error: token list, entry 1: the token is empty"],
        );
        check(
            StaticTokens::new([("a", "u"), ("b", "")]),
            &[],
            &expect!["error: token list, entry 2: the user is missing"],
        );
        check(
            StaticTokens::new([("a", "u"), ("a", "u")]),
            &[],
            &expect!["error: token list, entry 2: the token is already in the list"],
        );
    }

    #[test]
    fn a_file_is_lines_of_token_and_user() {
        check(
            StaticTokens::parse(
                "\u{feff}aaa jack\r\n\n  # a comment: with words\n\t#\n  b#b \t rose  \n",
            ),
            &["aaa", "b#b", "#"],
            &expect!["aaa=jack b#b=rose #:unknown"],
        );
        check(StaticTokens::parse(""), &["aaa"], &expect!["aaa:unknown"]);
    }

    #[test]
    fn wrong_lines_are_named_by_number_and_never_quoted() {
        check(
            StaticTokens::parse("aaa jack\ncanary\n"),
            &[],
            &expect!["error: token list, line 2: the user is missing"],
        );
        check(
            StaticTokens::parse("#\n\ncanary jack # no\n"),
            &[],
            &expect!["error: token list, line 3: there is more than a token and a user"],
        );
        check(
            StaticTokens::parse("canary a\ncanary b\n"),
            &[],
            &expect!["error: token list, line 2: the token is already in the list"],
        );
    }

    #[test]
    fn debug_holds_no_token() {
        let shown = format!("{:?}", StaticTokens::new([("canary", "jack")]).unwrap());
        assert_eq!(shown, "StaticTokens { len: 1, .. }");
    }
}
