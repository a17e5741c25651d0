//! Checks a token against keys and rules: the one check that clients' and publishers' tokens share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use crate::jwt::algorithm::JwtAlgorithm;
use crate::jwt::claims::{Demands, JwtAudience, Times};
use crate::jwt::fault::{JWT_BYTES_MAX, JwtFault, JwtRefusal};
use crate::jwt::key::{Key, KeySet};
use crate::jwt::keys::JwtKeys;

/// How far the issuer's clock and ours may differ by default.
pub const JWT_LEEWAY_DEFAULT: Duration = Duration::from_secs(30);

/// The maximum of [`JwtSettings::leeway`]. Leeway allows for clocks that differ, and keeps every
/// token valid that much longer.
pub const JWT_LEEWAY_MAX: Duration = Duration::from_secs(5 * 60);

/// The rules for tokens. The audience has no default, because it needs a decision.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JwtSettings {
    /// The keys that verify their signatures.
    pub keys: JwtKeys,
    /// The audience that they must have.
    pub audience: JwtAudience,
    /// The issuers that are allowed in `iss`; empty: `iss` is ignored.
    pub issuers: Vec<String>,
    /// How far the issuer's clock and ours may differ, from zero to [`JWT_LEEWAY_MAX`];
    /// [`JWT_LEEWAY_DEFAULT`] by default. A token is valid until `exp` plus this.
    pub leeway: Duration,
}

impl JwtSettings {
    /// Accepts tokens signed with one of `keys` for one of `audiences`.
    pub fn for_audience<A>(keys: JwtKeys, audiences: impl IntoIterator<Item = A>) -> Self
    where
        A: Into<String>,
    {
        Self::new(keys, JwtAudience::OneOf(audiences.into_iter().map(Into::into).collect()))
    }

    /// Accepts tokens signed with one of `keys` for any audience; see [`JwtAudience::Any`].
    pub fn for_any_audience(keys: JwtKeys) -> Self {
        Self::new(keys, JwtAudience::Any)
    }

    fn new(keys: JwtKeys, audience: JwtAudience) -> Self {
        Self { keys, audience, issuers: Vec::new(), leeway: JWT_LEEWAY_DEFAULT }
    }

    /// Restricts the issuers.
    #[must_use]
    pub fn with_issuers<I>(mut self, issuers: impl IntoIterator<Item = I>) -> Self
    where
        I: Into<String>,
    {
        self.issuers = issuers.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the leeway.
    #[must_use]
    pub fn with_leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }
}

/// Why settings do not make a verifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtSettingsError {
    /// The list of audiences is empty, or one of them is.
    #[error("no audience is set, or an empty one; to accept any audience, say so explicitly")]
    NoAudience,
    /// One of the issuers is empty.
    #[error("an issuer is empty")]
    EmptyIssuer,
    /// The leeway is beyond [`JWT_LEEWAY_MAX`].
    #[error(
        "the leeway is {} s, but must be at most {} s",
        leeway.as_secs(),
        JWT_LEEWAY_MAX.as_secs()
    )]
    Leeway {
        /// The requested leeway.
        leeway: Duration,
    },
}

/// Verifies tokens. Cloning is cheap: clones share the keys.
#[derive(Debug, Clone)]
pub struct JwtVerifier {
    keys: JwtKeys,
    demands: Arc<Demands>,
}

impl JwtVerifier {
    /// A verifier with these settings.
    ///
    /// # Errors
    ///
    /// If the audience is missing, an issuer is empty, or the leeway is too long.
    pub fn new(settings: JwtSettings) -> Result<Self, JwtSettingsError> {
        let JwtSettings { keys, audience, issuers, leeway } = settings;
        if let JwtAudience::OneOf(audiences) = &audience
            && (audiences.is_empty() || audiences.iter().any(String::is_empty))
        {
            return Err(JwtSettingsError::NoAudience);
        }
        if issuers.iter().any(String::is_empty) {
            return Err(JwtSettingsError::EmptyIssuer);
        }
        if leeway > JWT_LEEWAY_MAX {
            return Err(JwtSettingsError::Leeway { leeway });
        }
        Ok(Self { keys, demands: Arc::new(Demands { audience, issuers, leeway }) })
    }

    /// The claims of a token that one of the keys signed and that meets every rule at `now`.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Verified, JwtRefusal> {
        let head = Head::parse(token)?;
        let claims = self.signed_claims(token, &head).await?;
        match self.demands.faults(&claims, now).into_iter().next() {
            Some(fault) => Err(fault.into()),
            None => {
                let void_at = Times::of(&claims)?.void_at(self.demands.leeway);
                Ok(Verified { claims, void_at })
            }
        }
    }

    /// The claims, unchecked, if the signature is right.
    pub(crate) async fn signed_claims(
        &self,
        token: &str,
        head: &Head,
    ) -> Result<Map<String, Value>, JwtRefusal> {
        if !self.keys.permits(head.algorithm) {
            return Err(JwtFault::AlgorithmNotPermitted.into());
        }
        self.keys.judge(head.kid.as_deref(), |set| decode(set, token, head)).await
    }

    pub(crate) fn demands(&self) -> &Demands {
        &self.demands
    }
}

/// The content of a valid token.
pub(crate) struct Verified {
    pub(crate) claims: Map<String, Value>,
    /// Its `exp` and the leeway.
    pub(crate) void_at: SystemTime,
}

/// The parts of a token's header that are used.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) algorithm: JwtAlgorithm,
    pub(crate) kid: Option<String>,
}

impl Head {
    /// Reads the header, which is not verified yet.
    pub(crate) fn parse(token: &str) -> Result<Self, JwtFault> {
        let [header, _, _] = parts(token)?;
        let header = json(header).ok_or(JwtFault::Header)?;
        if header.contains_key("crit") {
            return Err(JwtFault::Critical);
        }
        let algorithm = match header.get("alg") {
            Some(Value::String(name)) => {
                name.parse().map_err(|_unknown| JwtFault::AlgorithmUnknown)?
            }
            _ => return Err(JwtFault::Header),
        };
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(JwtFault::Header),
        };
        Ok(Self { algorithm, kid })
    }
}

/// Header, claims and signature, still in base64url.
pub(crate) fn parts(token: &str) -> Result<[&str; 3], JwtFault> {
    if token.len() > JWT_BYTES_MAX {
        return Err(JwtFault::TooLong { bytes: token.len() });
    }
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None) => Ok([header, claims, signature]),
        _ => Err(JwtFault::Shape),
    }
}

/// The JSON object in a part.
pub(crate) fn json(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok()
}

/// The claims, if the signature over header and claims comes from a key that `head` can mean.
///
/// The library's `decode` would also read the members of the header that must be ignored, and the
/// registered claims with its own types; so we only let it check the signature.
fn decode(set: &KeySet, token: &str, head: &Head) -> Result<Map<String, Value>, JwtFault> {
    let keys = set.find(head.algorithm, head.kid.as_deref())?;
    let (message, signature) = token.rsplit_once('.').ok_or(JwtFault::Shape)?;
    // Key and algorithm are of the same kind: `find` ensures it, and so does the library.
    let is_signed_by = |key: &Key| {
        let algorithm = head.algorithm.library();
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), key.decoding(), algorithm)
            .is_ok_and(|is_signed| is_signed)
    };
    if !keys.into_iter().any(is_signed_by) {
        return Err(JwtFault::Signature);
    }
    let [_, claims, _] = parts(token)?;
    json(claims).ok_or(JwtFault::Claims)
}
