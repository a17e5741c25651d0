//! Keys that verify tokens: a secret, a public key, or a set of them; and which of them a token
//! means.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use serde_json::Value;

use crate::jwt::algorithm::{self, JwtAlgorithm};
use crate::jwt::fault::JwtFault;

/// The minimum length of a shared secret, in bytes: that of the hash of HS256 (RFC 7518, section
/// 3.2). An attacker can find a shorter one by trying, from a single token.
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// The lengths of RSA keys that the cryptographic library verifies with, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most keys of one set: an issuer has two or three, and a token without `kid` makes the server
/// consider all of them.
const SET_KEYS_MAX: usize = 100;

/// The most keys that are tried for one token: a stranger can make the server verify this many
/// signatures.
const KEYS_TRIED_MAX: usize = 4;

/// Whether a set may hold shared secrets. A set that anybody can fetch must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secrets {
    Allowed,
    Refused,
}

/// Some keys, at least one.
#[derive(Debug)]
pub(crate) struct KeySet {
    /// Invariant: never empty, and at most [`SET_KEYS_MAX`].
    keys: Vec<Key>,
}

impl KeySet {
    pub(crate) fn one(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads a JSON Web Key Set.
    pub(crate) fn parse(text: &[u8], secrets: Secrets) -> Result<Self, JwtKeyError> {
        let mut json: Value =
            serde_json::from_slice(text).map_err(|error| JwtKeyError::Set(error.to_string()))?;
        let Some(Value::Array(entries)) = json.get_mut("keys").map(Value::take) else {
            return Err(JwtKeyError::Set("it has no list named keys".to_owned()));
        };
        if entries.len() > SET_KEYS_MAX {
            let what =
                format!("it has {} keys, but at most {SET_KEYS_MAX} are allowed", entries.len());
            return Err(JwtKeyError::Set(what));
        }
        let mut keys = Vec::new();
        let mut known: Vec<Jwk> = Vec::new();
        let mut unusable = None;
        for entry in entries {
            let read = read_jwk(entry);
            match read.and_then(|jwk| Ok((Key::from_jwk(&jwk, secrets)?, jwk))) {
                // Issuers that collect keys from several places may list one of them twice.
                Ok((_, jwk)) if known.iter().any(|it| is_same(it, &jwk)) => {}
                Ok((key, jwk)) => {
                    keys.push(key);
                    known.push(jwk);
                }
                Err(error) => unusable = Some(error),
            }
        }
        match (keys.is_empty(), unusable) {
            (false, _) => Ok(Self { keys }),
            (true, Some(error)) => Err(JwtKeyError::NoUsableKey(error.to_string())),
            (true, None) => Err(JwtKeyError::Set("its list of keys is empty".to_owned())),
        }
    }

    /// The keys that a token can mean by its `alg` and `kid`: at least one, and each must be tried.
    ///
    /// A key without a name fits any `kid`, as a single key from a file does: then `kid` is the
    /// issuer's own affair. Keys with exactly that name take precedence. If more keys fit than may
    /// be tried, none is used.
    pub(crate) fn find(
        &self,
        algorithm: JwtAlgorithm,
        kid: Option<&str>,
    ) -> Result<Vec<&Key>, JwtFault> {
        let fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        let named = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let mut chosen: Vec<&Key> = fitting.clone().filter(named).collect();
        if chosen.is_empty() {
            chosen = fitting.filter(|key| kid.is_some() && key.kid.is_none()).collect();
        }
        match chosen.len() {
            1..=KEYS_TRIED_MAX => Ok(chosen),
            0 if self.algorithms().contains(&algorithm) => Err(JwtFault::KeyUnknown),
            0 => Err(JwtFault::AlgorithmNotPermitted),
            _ => Err(JwtFault::KeyAmbiguous),
        }
    }

    /// Their names, for the log.
    #[cfg(feature = "jwks")]
    pub(crate) fn names(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.kid.as_deref().unwrap_or("(nameless)")).collect()
    }

    /// The algorithms that any key of the set permits.
    pub(crate) fn algorithms(&self) -> Vec<JwtAlgorithm> {
        JwtAlgorithm::all()
            .filter(|algorithm| self.keys.iter().any(|key| key.algorithms.contains(algorithm)))
            .collect()
    }
}

/// One key, and what it may verify.
pub(crate) struct Key {
    kid: Option<String>,
    /// Invariant: all of one kind, the kind of the key.
    algorithms: Vec<JwtAlgorithm>,
    decoding: DecodingKey,
}

impl Key {
    fn new(kid: Option<String>, algorithms: &[JwtAlgorithm], decoding: DecodingKey) -> Self {
        Self { kid, algorithms: algorithms.to_vec(), decoding }
    }

    pub(crate) fn secret(secret: &[u8]) -> Result<Self, JwtKeyError> {
        use_one_library();
        if secret.len() < JWT_SECRET_BYTES_MIN {
            return Err(JwtKeyError::SecretTooShort { bytes: secret.len() });
        }
        Ok(Self::new(None, algorithm::HMAC, DecodingKey::from_secret(secret)))
    }

    pub(crate) fn from_pem(pem: &str) -> Result<Self, JwtKeyError> {
        use_one_library();
        let mut labels = pem_labels(pem);
        let label = labels.next().ok_or(JwtKeyError::PemMissing)?;
        if labels.next().is_some() {
            return Err(JwtKeyError::PemSeveral);
        }
        if label.ends_with("PRIVATE KEY") {
            return Err(JwtKeyError::PemPrivate);
        }
        if label == "CERTIFICATE" {
            return Err(JwtKeyError::PemCertificate);
        }
        if !["PUBLIC KEY", "RSA PUBLIC KEY"].contains(&label) {
            return Err(JwtKeyError::PemLabel { label: label.escape_debug().to_string() });
        }
        let pem = pem.as_bytes();
        // The readers of the three kinds refuse each other's keys, except that the reader for RSA
        // takes any, so it comes last.
        let decoding = DecodingKey::from_ed_pem(pem)
            .or_else(|_not_this| DecodingKey::from_ec_pem(pem))
            .or_else(|_not_this| DecodingKey::from_rsa_pem(pem))
            .map_err(|_unknown| JwtKeyError::Unusable("the PEM block cannot be read".to_owned()))?;
        let jwk = Jwk::from_decoding_key(&decoding, None).map_err(|_unknown| {
            let what = "it is not an RSA, P-256, P-384 or Ed25519 key";
            JwtKeyError::Unusable(what.to_owned())
        })?;
        Self::from_jwk(&jwk, Secrets::Allowed)
    }

    fn from_jwk(jwk: &Jwk, secrets: Secrets) -> Result<Self, JwtKeyError> {
        use_one_library();
        let unusable = |what: &str| Err(JwtKeyError::Unusable(what.to_owned()));
        let common = &jwk.common;
        if !matches!(common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return unusable("its use is not sig");
        }
        let operations = common.key_operations.as_deref();
        if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
            return unusable("its key_ops do not include verify");
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) if secrets == Secrets::Refused => {
                return unusable("it is a shared secret, which a set from a URL must not contain");
            }
            AlgorithmParameters::OctetKey(key) => {
                let bytes = decoded_bytes(&key.value)?;
                if bytes < JWT_SECRET_BYTES_MIN {
                    return Err(JwtKeyError::SecretTooShort { bytes });
                }
                algorithm::HMAC.to_vec()
            }
            AlgorithmParameters::RSA(key) => {
                let bits = modulus_bits(&key.n)?;
                if !RSA_BITS.contains(&bits) {
                    return Err(JwtKeyError::RsaLength { bits });
                }
                algorithm::RSA.to_vec()
            }
            AlgorithmParameters::EllipticCurve(key) => {
                let (algorithm, bytes) = match key.curve {
                    EllipticCurve::P256 => (JwtAlgorithm::ES256, 32),
                    EllipticCurve::P384 => (JwtAlgorithm::ES384, 48),
                    _ => return unusable("its curve is neither P-256 nor P-384"),
                };
                if decoded_bytes(&key.x)? != bytes || decoded_bytes(&key.y)? != bytes {
                    return unusable("its coordinates have the wrong length for its curve");
                }
                vec![algorithm]
            }
            AlgorithmParameters::OctetKeyPair(key) => {
                if key.curve != EllipticCurve::Ed25519 || decoded_bytes(&key.x)? != 32 {
                    return unusable("it is not on the curve Ed25519");
                }
                vec![JwtAlgorithm::EdDSA]
            }
            _ => {
                return unusable(
                    "its kty is not RSA, EC, OKP or oct, or one of its members is \
                                 missing",
                );
            }
        };
        if let Some(algorithm) = common.key_algorithm {
            algorithms.retain(|it| KeyAlgorithm::from(it.library()) == algorithm);
            if algorithms.is_empty() {
                return unusable("its alg is unknown or does not match its key type");
            }
        }
        let decoding = DecodingKey::from_jwk(jwk)
            .map_err(|_error| JwtKeyError::Unusable("it is not valid base64url".to_owned()))?;
        let point = match algorithms.as_slice() {
            [JwtAlgorithm::ES256] => Some(&ECDSA_P256_SHA256_FIXED),
            [JwtAlgorithm::ES384] => Some(&ECDSA_P384_SHA384_FIXED),
            _ => None,
        };
        if let (Some(curve), Ok(point)) = (point, decoding.try_get_as_bytes())
            && ParsedPublicKey::new(curve, point).is_err()
        {
            return unusable("its coordinates are not a point on its curve");
        }
        Ok(Self::new(common.key_id.clone(), &algorithms, decoding))
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// Makes aws-lc verify and sign, even in a program that links a second cryptographic library into
/// `jsonwebtoken`, where it would otherwise have to be chosen by hand.
pub(crate) fn use_one_library() {
    // An error means that a library was chosen before.
    let _chosen_before = aws_lc::DEFAULT_PROVIDER.install_default();
}

/// The label after each `-----BEGIN `, even in the middle of a line: somebody who joined two files
/// without a line end between them meant both.
pub(crate) fn pem_labels(pem: &str) -> impl Iterator<Item = &str> {
    let behind = pem.split("-----BEGIN ").skip(1);
    behind.filter_map(|rest| Some(rest.lines().next()?.split_once("-----")?.0))
}

/// One key of a set, with its numbers in the form of RFC 7518.
fn read_jwk(json: Value) -> Result<Jwk, JwtKeyError> {
    // The library's error would quote the value, which may be a secret.
    let mut jwk: Jwk = serde_json::from_value(json).map_err(|_error| {
        JwtKeyError::Unusable("one of its members has the wrong type".to_owned())
    })?;
    match &mut jwk.algorithm {
        AlgorithmParameters::RSA(key) => {
            key.n = number(&key.n, 0)?;
            key.e = number(&key.e, 0)?;
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let bytes = match key.curve {
                EllipticCurve::P256 => 32,
                EllipticCurve::P384 => 48,
                _ => return Ok(jwk),
            };
            key.x = number(&key.x, bytes)?;
            key.y = number(&key.y, bytes)?;
        }
        _ => {}
    }
    Ok(jwk)
}

/// A number without the leading zeros that some issuers add, such as the sign that Java's
/// `BigInteger` writes, and with those that others leave out where the length is fixed.
fn number(base64url: &str, bytes_min: usize) -> Result<String, JwtKeyError> {
    let bytes = decoded(base64url)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = &bytes[zeros..];
    let mut number = vec![0; bytes_min.saturating_sub(digits.len())];
    number.extend_from_slice(digits);
    Ok(BASE64URL_NOPAD.encode(&number))
}

/// Whether two entries are the same key, with the same name and use.
fn is_same(one: &Jwk, other: &Jwk) -> bool {
    one.algorithm == other.algorithm
        && one.common.key_id == other.common.key_id
        && one.common.key_algorithm == other.common.key_algorithm
}

fn decoded(base64url: &str) -> Result<Vec<u8>, JwtKeyError> {
    BASE64URL_NOPAD
        .decode(base64url.as_bytes())
        .map_err(|_error| JwtKeyError::Unusable("it is not valid base64url".to_owned()))
}

fn decoded_bytes(base64url: &str) -> Result<usize, JwtKeyError> {
    Ok(decoded(base64url)?.len())
}

fn modulus_bits(base64url: &str) -> Result<usize, JwtKeyError> {
    let modulus = decoded(base64url)?;
    let leading: usize = modulus.iter().take_while(|byte| **byte == 0).count();
    let first_bits = modulus.get(leading).map_or(0, |first| first.leading_zeros() as usize);
    Ok((modulus.len() - leading) * 8 - first_bits)
}

/// Why something cannot serve as a key. No variant contains any part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtKeyError {
    /// The secret is so short that an attacker can find it by trying.
    #[error("the secret has {bytes} bytes, but needs at least {JWT_SECRET_BYTES_MIN}")]
    SecretTooShort {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The library does not verify with RSA keys of this length.
    #[error("the RSA key has {bits} bits, but must have 2048 to 8192")]
    RsaLength {
        /// Its length in bits.
        bits: usize,
    },
    /// The text holds no PEM block.
    #[error("it contains no PEM block; a public key begins with -----BEGIN PUBLIC KEY-----")]
    PemMissing,
    /// The text holds more than one PEM block.
    #[error("it contains several PEM blocks; to give several keys, use a JWKS")]
    PemSeveral,
    /// The text is a private key, which verifying does not need and which should not be lying
    /// around.
    #[error(
        "this is a private key; give only its public half, which `openssl pkey -pubout` prints"
    )]
    PemPrivate,
    /// The text is a certificate, which holds a key among other things.
    #[error("this is a certificate; `openssl x509 -pubkey -noout` prints its public key")]
    PemCertificate,
    /// The text is some other PEM block.
    #[error("this PEM block is a {label}, not a PUBLIC KEY")]
    PemLabel {
        /// The label of the block.
        label: String,
    },
    /// The key cannot be used, and why.
    #[error("the key cannot be used: {0}")]
    Unusable(String),
    /// The text is not a JSON Web Key Set.
    #[error("this is not a JWKS: {0}")]
    Set(String),
    /// No key of the set can be used, and why the last one cannot.
    #[error("none of the keys in the JWKS can be used; the last one was rejected because {0}")]
    NoUsableKey(String),
    /// The list of algorithms is empty.
    #[error("no algorithm is configured")]
    NoAlgorithms,
    /// None of the keys is for this algorithm.
    #[error("none of the keys fits {algorithm}; they permit {permitted}")]
    AlgorithmUnfit {
        /// The algorithm that does not fit.
        algorithm: JwtAlgorithm,
        /// The algorithms that would fit.
        permitted: String,
    },
}
