//! Makes tokens by hand, for trying things out. In production, the issuer makes them.

use std::fmt;
use std::time::SystemTime;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use crate::jwt::algorithm::JwtAlgorithm;
use crate::jwt::key::{JWT_SECRET_BYTES_MIN, JwtKeyError, pem_labels, use_one_library};

/// Signs tokens. `Debug` shows no part of the key.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use wserver_auth::{JwtAlgorithm, JwtDraft, JwtSigner};
///
/// let signer =
///     JwtSigner::secret(b"thirty-two bytes at the very least", JwtAlgorithm::HS256)?;
/// let draft = JwtDraft::new(SystemTime::now(), Duration::from_secs(3600))
///     .with_text("sub", "jack")
///     .with_text("aud", "push")
///     .with_list("events", ["order.*"]);
/// let token = signer.sign(&draft)?;
/// # assert_eq!(token.split('.').count(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JwtSigner {
    algorithm: JwtAlgorithm,
    key: EncodingKey,
    kid: Option<String>,
}

impl JwtSigner {
    /// Signs with a shared secret.
    ///
    /// # Errors
    ///
    /// If the secret is shorter than [`JWT_SECRET_BYTES_MIN`], or the algorithm is not HS256, HS384
    /// or HS512.
    pub fn secret(secret: &[u8], algorithm: JwtAlgorithm) -> Result<Self, JwtSignError> {
        if secret.len() < JWT_SECRET_BYTES_MIN {
            return Err(JwtKeyError::SecretTooShort { bytes: secret.len() }.into());
        }
        Self::new(algorithm, EncodingKey::from_secret(secret))
    }

    /// Signs with a private key in PEM form: `BEGIN PRIVATE KEY`, as `openssl genpkey` writes it,
    /// or `BEGIN RSA PRIVATE KEY`. Without an algorithm, the key's usual one is used: RS256, ES256
    /// or ES384 by the curve, or `EdDSA`.
    ///
    /// # Errors
    ///
    /// If the text is something else, or the algorithm does not fit the key.
    pub fn private_key_pem(
        pem: &str,
        algorithm: Option<JwtAlgorithm>,
    ) -> Result<Self, JwtSignError> {
        match pem_labels(pem).find(|label| label.ends_with("PRIVATE KEY")) {
            Some("EC PRIVATE KEY") => return Err(JwtSignError::Sec1),
            Some("ENCRYPTED PRIVATE KEY") => return Err(JwtSignError::Encrypted),
            Some(_) => {}
            None => return Err(JwtSignError::NoPrivateKey),
        }
        use_one_library();
        let pem = pem.as_bytes();
        let key = EncodingKey::from_ed_pem(pem)
            .or_else(|_not_this| EncodingKey::from_ec_pem(pem))
            .or_else(|_not_this| EncodingKey::from_rsa_pem(pem))
            .map_err(|_unknown| JwtSignError::NoPrivateKey)?;
        let algorithm = match algorithm {
            Some(algorithm) => algorithm,
            None => usual(&key).ok_or(JwtSignError::NoPrivateKey)?,
        };
        Self::new(algorithm, key)
    }

    /// Puts this `kid` into the header of each token.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Makes a token with the claims of `draft`.
    ///
    /// # Errors
    ///
    /// If the library cannot sign, for instance because the system has no randomness to give.
    pub fn sign(&self, draft: &JwtDraft) -> Result<String, JwtSignError> {
        let mut header = Header::new(self.algorithm.library());
        header.kid.clone_from(&self.kid);
        jsonwebtoken::encode(&header, &draft.claims, &self.key)
            .map_err(|_error| JwtSignError::Unfit { algorithm: self.algorithm })
    }

    fn new(algorithm: JwtAlgorithm, key: EncodingKey) -> Result<Self, JwtSignError> {
        use_one_library();
        let signer = Self { algorithm, key, kid: None };
        // Signing shows whether key and algorithm fit.
        signer.sign(&JwtDraft { claims: Map::new() })?;
        Ok(signer)
    }
}

/// The algorithm that is usual for a key.
fn usual(key: &EncodingKey) -> Option<JwtAlgorithm> {
    let curve = |algorithm: Algorithm| {
        let jwk = Jwk::from_encoding_key(key, algorithm).ok()?;
        match jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) => Some(key.curve),
            _ => None,
        }
    };
    match key.family() {
        jsonwebtoken::AlgorithmFamily::Hmac => Some(JwtAlgorithm::HS256),
        jsonwebtoken::AlgorithmFamily::Rsa => Some(JwtAlgorithm::RS256),
        jsonwebtoken::AlgorithmFamily::Ed => Some(JwtAlgorithm::EdDSA),
        jsonwebtoken::AlgorithmFamily::Ec => {
            if curve(Algorithm::ES256) == Some(EllipticCurve::P256) {
                Some(JwtAlgorithm::ES256)
            } else if curve(Algorithm::ES384) == Some(EllipticCurve::P384) {
                Some(JwtAlgorithm::ES384)
            } else {
                None
            }
        }
    }
}

impl fmt::Debug for JwtSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSigner")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// The claims of a token to be made.
#[derive(Debug, Clone)]
pub struct JwtDraft {
    claims: Map<String, Value>,
}

impl JwtDraft {
    /// A draft that is issued at `now` and expires after `lifetime`.
    pub fn new(now: SystemTime, lifetime: std::time::Duration) -> Self {
        let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH);
        let now = since_1970(now).unwrap_or_default().as_secs();
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), now.saturating_add(lifetime.as_secs()).into());
        Self { claims }
    }

    /// Puts a text into this claim, such as `sub`, `aud` or `iss`.
    #[must_use]
    pub fn with_text(mut self, claim: impl Into<String>, text: impl Into<String>) -> Self {
        self.claims.insert(claim.into(), Value::String(text.into()));
        self
    }

    /// Puts a list of texts into this claim, such as `events`.
    #[must_use]
    pub fn with_list<T: Into<String>>(
        mut self,
        claim: impl Into<String>,
        list: impl IntoIterator<Item = T>,
    ) -> Self {
        let list = list.into_iter().map(|text| Value::String(text.into())).collect();
        self.claims.insert(claim.into(), Value::Array(list));
        self
    }

    /// Puts a number of seconds since 1970 into this claim, such as `nbf`.
    #[must_use]
    pub fn with_number(mut self, claim: impl Into<String>, number: i64) -> Self {
        self.claims.insert(claim.into(), number.into());
        self
    }
}

/// Why something cannot sign. No variant contains any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtSignError {
    /// The secret cannot serve as a key.
    #[error(transparent)]
    Key(#[from] JwtKeyError),
    /// The text holds no readable private key.
    #[error("it contains no readable private key (RSA, P-256, P-384 or Ed25519)")]
    NoPrivateKey,
    /// The key has the older form for elliptic curves.
    #[error(
        "this is an EC PRIVATE KEY; `openssl pkcs8 -topk8 -nocrypt` converts it to a PRIVATE \
             KEY"
    )]
    Sec1,
    /// The key is encrypted with a passphrase.
    #[error("the private key is encrypted; `openssl pkey` removes the passphrase")]
    Encrypted,
    /// The algorithm does not fit the key.
    #[error("the key cannot sign with {algorithm}")]
    Unfit {
        /// The requested algorithm.
        algorithm: JwtAlgorithm,
    },
}
