//! The sources of the keys that verify tokens: a secret, a file, a URL.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "jwks")]
use crate::BackendError;
use crate::jwt::algorithm::{self, JwtAlgorithm};
use crate::jwt::fault::{JwtFault, JwtRefusal};
use crate::jwt::key::{JwtKeyError, Key, KeySet, Secrets};
#[cfg(feature = "jwks")]
use crate::jwt::remote::{JwksUrl, RemoteKeys};

/// The keys that verify tokens. Cloning is cheap because clones share the keys.
///
/// Each key permits only the algorithms of its kind, so that nobody can pass off a public key as a
/// shared secret. `Debug` shows no secret.
#[derive(Clone)]
pub struct JwtKeys {
    source: Source,
    /// The algorithms given to [`only`](Self::only); empty: all that the keys permit.
    only: Arc<[JwtAlgorithm]>,
}

impl JwtKeys {
    /// One shared secret, for HS256, HS384 and HS512. `secret` is its raw bytes: decode base64 or
    /// hexadecimal first.
    ///
    /// # Errors
    ///
    /// If it is shorter than [`JWT_SECRET_BYTES_MIN`](crate::JWT_SECRET_BYTES_MIN).
    pub fn secret(secret: &[u8]) -> Result<Self, JwtKeyError> {
        Ok(Self::fixed(KeySet::one(Key::secret(secret)?)))
    }

    /// One public key in PEM form, as OpenSSL writes it: `BEGIN PUBLIC KEY`, or
    /// `BEGIN RSA PUBLIC KEY`. It can be RSA of 2048 to 8192 bits, P-256, P-384, or Ed25519.
    ///
    /// # Errors
    ///
    /// If it is something else, such as a certificate or, by mistake, the private key.
    pub fn public_key_pem(pem: &str) -> Result<Self, JwtKeyError> {
        Ok(Self::fixed(KeySet::one(Key::from_pem(pem)?)))
    }

    /// The keys of a JSON Web Key Set (RFC 7517).
    ///
    /// Keys of unknown kinds, and keys that are not for signatures, are skipped, as the RFC asks. A
    /// set may hold shared secrets, so treat its text as a secret.
    ///
    /// # Errors
    ///
    /// If the text is not such a set, or no key of it can be used; the error says why the last one
    /// cannot.
    pub fn jwks(text: &str) -> Result<Self, JwtKeyError> {
        Ok(Self::fixed(KeySet::parse(text.as_bytes(), Secrets::Allowed)?))
    }

    /// The keys of an issuer's JSON Web Key Set. They are fetched when first needed, and renewed
    /// when they are old or a token names an unknown key.
    ///
    /// A set from a URL must not hold a shared secret, because anybody who can fetch it could make
    /// tokens. While the issuer is unreachable the keys stay in use, up to [`JwksUrl::stale_max`];
    /// without any keys, registrations are refused as unavailable.
    #[cfg(feature = "jwks")]
    pub fn jwks_url(url: JwksUrl) -> Self {
        Self { source: Source::Url(RemoteKeys::new(url)), only: Arc::default() }
    }

    /// Fetches the keys from a URL if there are none yet, so that a program can report at start-up
    /// whether they are available. Keys from other sources are always available.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time. The fetch that it waited for continues with the next
    /// caller that needs the keys.
    ///
    /// # Errors
    ///
    /// If they cannot be fetched. The next use tries again.
    #[cfg(feature = "jwks")]
    pub async fn prefetch(&self) -> Result<(), BackendError> {
        match &self.source {
            Source::Fixed(_) => Ok(()),
            Source::Url(keys) => match keys.keys().await {
                Ok(_keys) => Ok(()),
                Err(why) => Err(BackendError::from(&*why)),
            },
        }
    }

    /// Restricts the keys to these algorithms. Each key still permits only its own kind.
    ///
    /// # Errors
    ///
    /// If the list is empty, or if an algorithm in it fits none of the keys, a mistake that would
    /// otherwise show only later.
    pub fn only(
        mut self,
        algorithms: impl IntoIterator<Item = JwtAlgorithm>,
    ) -> Result<Self, JwtKeyError> {
        let only: Arc<[JwtAlgorithm]> = algorithms.into_iter().collect();
        if only.is_empty() {
            return Err(JwtKeyError::NoAlgorithms);
        }
        let permitted = match &self.source {
            Source::Fixed(set) => set.algorithms(),
            #[cfg(feature = "jwks")]
            Source::Url(_) => {
                JwtAlgorithm::all().filter(|it| !algorithm::HMAC.contains(it)).collect()
            }
        };
        if let Some(unfit) = only.iter().find(|it| !permitted.contains(it)) {
            let permitted = algorithm::list(&permitted);
            return Err(JwtKeyError::AlgorithmUnfit { algorithm: *unfit, permitted });
        }
        self.only = only;
        Ok(self)
    }

    fn fixed(set: KeySet) -> Self {
        Self { source: Source::Fixed(Arc::new(set)), only: Arc::default() }
    }

    /// Applies `verdict` to the current keys.
    #[cfg_attr(
        not(feature = "jwks"),
        expect(clippy::unused_async, unused_variables, reason = "keys from a URL are waited for")
    )]
    pub(crate) async fn judge<T>(
        &self,
        kid: Option<&str>,
        verdict: impl Fn(&KeySet) -> Result<T, JwtFault> + Send + Sync,
    ) -> Result<T, JwtRefusal> {
        match &self.source {
            Source::Fixed(set) => Ok(verdict(set)?),
            #[cfg(feature = "jwks")]
            Source::Url(keys) => keys.judge(kid, verdict).await,
        }
    }

    /// Whether `algorithm` is allowed at all.
    pub(crate) fn permits(&self, algorithm: JwtAlgorithm) -> bool {
        self.only.is_empty() || self.only.contains(&algorithm)
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKeys").field("source", &self.source).field("only", &self.only).finish()
    }
}

#[derive(Debug, Clone)]
enum Source {
    Fixed(Arc<KeySet>),
    #[cfg(feature = "jwks")]
    Url(Arc<RemoteKeys>),
}
