//! The signature algorithms by their names in tokens, and the kind of key that each needs.

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::Algorithm;

/// A signature algorithm of JSON Web Tokens, by its name in RFC 7518 and RFC 8037.
///
/// ES512 and ES256K are missing: the cryptographic library does not have them, or not in this form,
/// and issuers hardly use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is documented by its name in RFC 7518 and RFC 8037")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// The algorithms for a shared secret.
pub(crate) const HMAC: &[JwtAlgorithm] =
    &[JwtAlgorithm::HS256, JwtAlgorithm::HS384, JwtAlgorithm::HS512];

/// The algorithms for an RSA key.
pub(crate) const RSA: &[JwtAlgorithm] = &[
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
];

const TABLE: &[(JwtAlgorithm, &str, Algorithm)] = &[
    (JwtAlgorithm::HS256, "HS256", Algorithm::HS256),
    (JwtAlgorithm::HS384, "HS384", Algorithm::HS384),
    (JwtAlgorithm::HS512, "HS512", Algorithm::HS512),
    (JwtAlgorithm::RS256, "RS256", Algorithm::RS256),
    (JwtAlgorithm::RS384, "RS384", Algorithm::RS384),
    (JwtAlgorithm::RS512, "RS512", Algorithm::RS512),
    (JwtAlgorithm::PS256, "PS256", Algorithm::PS256),
    (JwtAlgorithm::PS384, "PS384", Algorithm::PS384),
    (JwtAlgorithm::PS512, "PS512", Algorithm::PS512),
    (JwtAlgorithm::ES256, "ES256", Algorithm::ES256),
    (JwtAlgorithm::ES384, "ES384", Algorithm::ES384),
    (JwtAlgorithm::EdDSA, "EdDSA", Algorithm::EdDSA),
];

impl JwtAlgorithm {
    /// Every supported algorithm.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(algorithm, _, _)| *algorithm)
    }

    /// Its name in the `alg` of a token's header.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn library(self) -> Algorithm {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, Algorithm) {
        TABLE.iter().find(|(algorithm, _, _)| *algorithm == self).expect("each stands in the table")
    }
}

impl FromStr for JwtAlgorithm {
    type Err = UnknownAlgorithm;

    /// The algorithm of this name; case matters.
    ///
    /// # Errors
    ///
    /// If there is no such algorithm; there is no `none`.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let row = TABLE.iter().find(|(_, known, _)| *known == name);
        row.map(|(algorithm, _, _)| *algorithm).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `HS256, HS384` and so on.
pub(crate) fn list(algorithms: &[JwtAlgorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().join(", ")
}

/// There is no such algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown algorithm; the known ones are HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, \
     PS512, ES256, ES384 and EdDSA"
)]
pub struct UnknownAlgorithm;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_librarys_too() {
        for algorithm in JwtAlgorithm::all() {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(format!("{:?}", algorithm.library()), algorithm.as_str());
            assert!(UnknownAlgorithm.to_string().contains(algorithm.as_str()));
        }
        for name in ["none", "None", "", "hs256", "HS256 ", "ES512", "ES256K"] {
            assert_eq!(name.parse::<JwtAlgorithm>(), Err(UnknownAlgorithm), "{name}");
        }
    }
}
